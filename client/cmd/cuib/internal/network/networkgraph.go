package network

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/netgraph"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

func newGraph(e *env) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "graph", Short: "Draw instances, networks, what is published and the host's interfaces",
		Long: "Draw what is connected with what: the host's interfaces with its default routes,\n" +
			"networks, forwards, load balancers and proxies, and instances with their\n" +
			"addresses. The formats are a tree as text, dot for Graphviz, and svg, which needs\n" +
			"no other program.",
		Example: "  cuib network graph\n  cuib network graph --format svg >networks.svg\n  cuib network graph --format dot | dot -Tpdf >networks.pdf",
		Args:    kit.Needs(0, 0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return e.graph(cmd.Context(), format) },
	}
	cmd.Flags().StringVarP(&format, "format", "f", "text", "text, dot or svg")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"text", "dot", "svg"}, cobra.ShellCompDirectiveNoFileComp)) // The flag exists.
	return cmd
}

func (e *env) graph(ctx context.Context, format string) error {
	draw := map[string]func(netgraph.Graph) string{"text": netgraph.Graph.Text, "dot": netgraph.Graph.DOT, "svg": netgraph.Graph.SVG}[format]
	if draw == nil {
		return errs.Invalidf("--format: got %q, want text, dot or svg", format)
	}
	source, err := e.graphSource(ctx)
	if err != nil {
		return err
	}
	_, err = e.Out.Write([]byte(draw(netgraph.New(source))))
	return err
}

// graphSource asks for all that there is. What goes meanwhile is not drawn.
func (e *env) graphSource(ctx context.Context) (netgraph.Source, error) {
	c := e.Client()
	s := netgraph.Source{
		States: map[string]api.NetworkState{}, Forwards: map[string][]api.NetworkForward{},
		Balancers: map[string][]api.NetworkLoadBalancer{}, Peers: map[string][]string{},
	}
	var err error
	if s.Networks, err = c.Networks(ctx); err != nil {
		return s, err
	}
	if s.Instances, err = c.InstancesFull(ctx); err != nil {
		return s, err
	}
	for _, n := range s.Networks {
		s.States[n.Name], err = c.NetworkState(ctx, n.Name)
		if err != nil && !errs.Is(err, errs.NotFound) {
			return s, err
		}
		if !bridged(n) {
			continue
		}
		peers, err := c.NetworkPeers(ctx, n.Name)
		if err != nil && !errs.Is(err, errs.NotFound) {
			return s, err
		}
		for _, p := range peers {
			s.Peers[n.Name] = append(s.Peers[n.Name], peerTarget(p))
		}
		if s.Forwards[n.Name], err = c.NetworkForwards(ctx, n.Name); err != nil && !errs.Is(err, errs.NotFound) {
			return s, err
		}
		if s.Balancers[n.Name], err = c.NetworkLoadBalancers(ctx, n.Name); err != nil && !errs.Is(err, errs.NotFound) {
			return s, err
		}
	}
	return s, nil
}
