package network

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

var forwardColumns = []output.Column[api.NetworkForward]{
	{Key: 'l', Name: "LISTEN ADDRESS", Value: func(f api.NetworkForward) string { return f.ListenAddress }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(f api.NetworkForward) string { return f.Description }},
	{Key: 'D', Name: "DEFAULT TARGET ADDRESS", Value: func(f api.NetworkForward) string { return f.Config["target_address"] }},
	{Key: 'p', Name: "PORTS", Value: func(f api.NetworkForward) string {
		var all []string
		for _, p := range f.Ports {
			all = append(all, portText(p))
		}
		return strings.Join(all, "\n")
	}},
	{Key: 'L', Name: "LOCATION", Value: func(f api.NetworkForward) string { return f.Location }},
}

func portText(p api.NetworkForwardPort) string {
	to := p.TargetAddress
	if p.TargetPort != "" {
		to += ":" + p.TargetPort
	}
	return p.Protocol + " " + p.ListenPort + " -> " + to
}

func newForward(e *env) *cobra.Command {
	return kit.Group("forward", "Lead addresses and ports of the host to instances",
		"  cuib network forward create cuibbr0 192.0.2.10\n  cuib network forward port add cuibbr0 192.0.2.10 tcp 80,443 10.1.2.3",
		newForwardCreate(e), newForwardDelete(e), kit.NewEdit(e.Env, forwardKind(e)), kit.NewKeyGet(e.Env, forwardKind(e)), newForwardList(e),
		newForwardPort(e), kit.NewKeySet(e.Env, forwardKind(e)), newForwardShow(e), kit.NewKeyUnset(e.Env, forwardKind(e)))
}

// publishedOf is what a name NETWORK/ADDRESS means. No network has a slash.
func publishedOf(name string) client.Published {
	network, address, _ := strings.Cut(name, "/")
	return client.Published{Network: network, Address: address}
}

// publishedKind completes a kind of what leads from addresses into networks.
func publishedKind[T, P any](
	k kit.Kind[T, P], read func(ctx context.Context, of client.Published) (T, string, error),
	update func(ctx context.Context, of client.Published, put P, etag string) error,
) kit.Kind[T, P] {
	k.Arg, k.Within = "NETWORK ADDRESS", kit.Networks
	k.Read = func(ctx context.Context, name string) (T, string, error) { return read(ctx, publishedOf(name)) }
	k.Update = func(ctx context.Context, name string, put P, etag string) error {
		return update(ctx, publishedOf(name), put, etag)
	}
	return k
}

func forwardKind(e *env) kit.Kind[api.NetworkForward, api.NetworkForwardPut] {
	return publishedKind(kit.Kind[api.NetworkForward, api.NetworkForwardPut]{
		Command: "network forward", What: "a forward", Pair: "cuibbr0 192.0.2.10 target_address=10.1.2.3", Names: forwardNames, Keys: forwardKeys, All: forwardSettings,
		Put:    func(f *api.NetworkForward) *api.NetworkForwardPut { return &f.NetworkForwardPut },
		Config: func(f *api.NetworkForwardPut) *api.ConfigMap { return &f.Config },
	}, e.Client().NetworkForward, e.Client().UpdateNetworkForward)
}

// forwardNames completes addresses of forwards of the network that is the
// first argument.
func forwardNames(ctx context.Context, e *kit.Env, args []string) ([]string, error) {
	all, err := e.Client().NetworkForwards(ctx, args[0])
	return kit.NamesOf(all, func(f api.NetworkForward) string { return f.ListenAddress }), err
}

// forwardKeys completes keys of the forward that the first two arguments name.
func forwardKeys(ctx context.Context, e *kit.Env, args []string) ([]string, error) {
	f, _, err := e.Client().NetworkForward(ctx, client.Published{Network: args[0], Address: args[1]})
	return kit.KeysOf(f.Config), err
}

// forwardSettings completes keys that a forward can have.
func forwardSettings(context.Context, *kit.Env, []string) ([]string, error) {
	return []string{"expose=", "target_address=", "user."}, nil
}

const forwardCreateLong = `Create a forward: what comes for the address, which is the host's own or is
routed to it, goes on to instances. The key target_address says where to all of it
goes, and ports what comes for single ports; 0.0.0.0 and :: are all addresses of
the host, of which only ports can be forwarded.

Ports that the host's own firewall refuses are not let in by a forward either,
unless the key expose is public.

YAML on the standard input, in the form that "cuib network forward show" has, is
what it begins with.`

func newForwardCreate(e *env) *cobra.Command {
	return e.createPublished("forward", forwardCreateLong, forwardSettings, func(ctx context.Context, network string, c creation) error {
		req := api.NetworkForwardsPost{ListenAddress: c.address}
		if err := kit.CreateConfig[api.NetworkForward](e.Env, c.pairs, &req.NetworkForwardPut, &req.Config); err != nil {
			return err
		}
		req.Description = cmp.Or(c.description, req.Description)
		return e.Client().CreateNetworkForward(ctx, network, req)
	})
}

// A creation is what a command that creates says.
type creation struct {
	address, description string
	pairs                []string
}

// createPublished returns the command that creates what leads from an address
// into a network.
func (e *env) createPublished(kind, long string, settings kit.Completer, create func(ctx context.Context, network string, c creation) error) *cobra.Command {
	var c creation
	what := strings.ReplaceAll(kind, "-", " ")
	cmd := &cobra.Command{
		Use: "create NETWORK ADDRESS [KEY=VALUE...]", Short: "Create a " + what, Long: long,
		Example: "  cuib network " + kind + " create cuibbr0 192.0.2.10\n  cuib network " + kind + " create cuibbr0 192.0.2.10 expose=public",
		Args:    kit.Needs(2, -1), ValidArgsFunction: e.Complete(kit.Networks, kit.None, settings),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			c.address, c.pairs = args[1], args[2:]
			if err := create(cmd.Context(), args[0], c); err != nil {
				return err
			}
			e.Say("Network %s %s created", what, args[1])
			return nil
		}),
	}
	cmd.Flags().StringVar(&c.description, "description", "", "text that describes the "+what)
	return cmd
}

func newForwardDelete(e *env) *cobra.Command {
	return e.deletePublished("forward", forwardNames, e.Client().DeleteNetworkForward)
}

// deletePublished returns the command that deletes what leads from addresses
// into a network.
func (e *env) deletePublished(kind string, names kit.Completer, remove func(ctx context.Context, of client.Published) error) *cobra.Command {
	what := strings.ReplaceAll(kind, "-", " ")
	return &cobra.Command{
		Use: "delete NETWORK ADDRESS...", Aliases: []string{"rm"}, Short: "Delete " + what + "s; connections that are open go on",
		Example: "  cuib network " + kind + " delete cuibbr0 192.0.2.10",
		Args:    kit.Needs(2, -1), ValidArgsFunction: e.Complete(kit.Networks, names),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			for _, address := range args[1:] {
				if err := remove(cmd.Context(), client.Published{Network: args[0], Address: address}); err != nil {
					return err
				}
				e.Say("Network %s %s deleted", what, address)
			}
			return nil
		}),
	}
}

func newForwardList(e *env) *cobra.Command {
	return kit.ListPartsCommand(e.Env, kit.PartLister[api.NetworkForward]{
		Use: "list NETWORK", Short: "List the forwards of a network", Example: "  cuib network forward list cuibbr0",
		Of: kit.Networks, Columns: forwardColumns, Usual: "ldDp", Read: e.Client().NetworkForwards,
	})
}

func newForwardShow(e *env) *cobra.Command {
	return showPublished(e, "forward", forwardNames, e.Client().NetworkForward)
}

// showPublished returns the command that shows what leads from an address into
// a network.
func showPublished[T any](e *env, kind string, names kit.Completer, read func(ctx context.Context, of client.Published) (T, string, error)) *cobra.Command {
	var v kit.ObjectView
	cmd := &cobra.Command{
		Use: "show NETWORK ADDRESS", Short: "Show all of a " + strings.ReplaceAll(kind, "-", " "), Example: "  cuib network " + kind + " show cuibbr0 192.0.2.10",
		Args: kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.Networks, names, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			object, _, err := read(cmd.Context(), client.Published{Network: args[0], Address: args[1]})
			return v.Show(e.Env, object, err)
		}),
	}
	v.Flags(cmd)
	return cmd
}

func newForwardPort(e *env) *cobra.Command {
	return kit.Group("port", "Add and remove ports of a forward", "  cuib network forward port add cuibbr0 192.0.2.10 tcp 8080 10.1.2.3 80",
		newForwardPortAdd(e), newForwardPortRemove(e))
}

func protocols(context.Context, *kit.Env, []string) ([]string, error) {
	return []string{"tcp", "udp"}, nil
}

func newForwardPortAdd(e *env) *cobra.Command {
	var port api.NetworkForwardPort
	cmd := &cobra.Command{
		Use: "add NETWORK ADDRESS PROTOCOL PORTS TARGET [TARGET-PORTS]", Short: "Forward ports to an instance",
		Long:    "Forward ports, such as 80 or 80,443,8000-8010, to the address of an instance: to\nthe same ports, or to as many others, or all to one.",
		Example: "  cuib network forward port add cuibbr0 192.0.2.10 tcp 80,443 10.1.2.3\n  cuib network forward port add cuibbr0 192.0.2.10 udp 5300 10.1.2.3 53",
		Args:    kit.Needs(5, 6), ValidArgsFunction: e.Complete(kit.Networks, forwardNames, protocols, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			port.Protocol, port.ListenPort, port.TargetAddress = args[2], args[3], args[4]
			if len(args) > 5 {
				port.TargetPort = args[5]
			}
			return forwardKind(e).Change(cmd.Context(), args[0]+"/"+args[1], func(put *api.NetworkForwardPut) error {
				put.Ports = append(put.Ports, port)
				return nil
			})
		}),
	}
	cmd.Flags().StringVar(&port.Description, "description", "", "text that describes the ports")
	cmd.Flags().BoolVar(&port.SNAT, "snat", false, "what the target begins from its ports leaves with the address and ports of the forward")
	return cmd
}

func newForwardPortRemove(e *env) *cobra.Command {
	return e.removePorts("forward", forwardNames, func(ctx context.Context, name string, m portMatch) error {
		return forwardKind(e).Change(ctx, name, func(put *api.NetworkForwardPut) (err error) {
			put.Ports, err = removeMatching(m, put.Ports, func(p api.NetworkForwardPort) (protocol, ports string) { return p.Protocol, p.ListenPort })
			return err
		})
	})
}

// A portMatch says which ports are meant.
type portMatch struct {
	protocol, ports string // Empty for all.
	all             bool   // Several may be meant.
}

// removePorts returns the command that removes ports.
func (e *env) removePorts(kind string, names kit.Completer, remove func(ctx context.Context, name string, m portMatch) error) *cobra.Command {
	var m portMatch
	cmd := &cobra.Command{
		Use: "remove NETWORK ADDRESS [PROTOCOL [PORTS]]", Aliases: []string{"rm"}, Short: "Remove ports; connections that are open go on",
		Example: "  cuib network " + kind + " port remove cuibbr0 192.0.2.10 tcp 8080\n  cuib network " + kind + " port remove cuibbr0 192.0.2.10 --force",
		Args:    kit.Needs(2, 4), ValidArgsFunction: e.Complete(kit.Networks, names, protocols, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			if len(args) > 2 {
				m.protocol = args[2]
			}
			if len(args) > 3 {
				m.ports = args[3]
			}
			return remove(cmd.Context(), args[0]+"/"+args[1], m)
		}),
	}
	cmd.Flags().BoolVar(&m.all, "force", false, "remove all that match, not just one")
	return cmd
}

// removeMatching returns what is left of ports, of which of says the protocol
// and the numbers.
func removeMatching[T any](m portMatch, ports []T, of func(p T) (protocol, numbers string)) ([]T, error) {
	matches := func(p T) bool {
		protocol, numbers := of(p)
		return (m.protocol == "" || m.protocol == protocol) && (m.ports == "" || m.ports == numbers)
	}
	left := slices.DeleteFunc(slices.Clone(ports), matches)
	switch n := len(ports) - len(left); {
	case n == 0:
		return nil, errs.NotFoundf("there are no such ports")
	case n > 1 && !m.all:
		return nil, errs.Invalidf("%d ports match: say which, or use --force for all", n)
	}
	return left, nil
}
