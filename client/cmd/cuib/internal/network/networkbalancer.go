package network

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

var balancerColumns = []output.Column[api.NetworkLoadBalancer]{
	{Key: 'l', Name: "LISTEN ADDRESS", Value: func(b api.NetworkLoadBalancer) string { return b.ListenAddress }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(b api.NetworkLoadBalancer) string { return b.Description }},
	{Key: 'p', Name: "PORTS", Value: func(b api.NetworkLoadBalancer) string {
		var all []string
		for _, p := range b.Ports {
			all = append(all, p.Protocol+" "+p.ListenPort+" -> "+strings.Join(p.TargetBackend, ","))
		}
		return strings.Join(all, "\n")
	}},
	{Key: 'L', Name: "LOCATION", Value: func(b api.NetworkLoadBalancer) string { return b.Location }},
}

func newBalancer(e *env) *cobra.Command {
	return kit.Group("load-balancer", "Have instances take turns in what comes for an address",
		"  cuib network load-balancer create cuibbr0 192.0.2.11 healthcheck=true\n"+
			"  cuib network load-balancer backend add cuibbr0 192.0.2.11 web1 10.1.2.3 8080\n"+
			"  cuib network load-balancer port add cuibbr0 192.0.2.11 tcp 80 web1,web2",
		newBalancerBackend(e), newBalancerCreate(e), newBalancerDelete(e), kit.NewEdit(e.Env, balancerKind(e)), kit.NewKeyGet(e.Env, balancerKind(e)),
		newBalancerInfo(e), newBalancerList(e), newBalancerPort(e), kit.NewKeySet(e.Env, balancerKind(e)), newBalancerShow(e), kit.NewKeyUnset(e.Env, balancerKind(e)))
}

func balancerKind(e *env) kit.Kind[api.NetworkLoadBalancer, api.NetworkLoadBalancerPut] {
	return publishedKind(kit.Kind[api.NetworkLoadBalancer, api.NetworkLoadBalancerPut]{
		Command: "network load-balancer", What: "a load balancer", Pair: "cuibbr0 192.0.2.11 healthcheck=true", Names: balancerNames, Keys: balancerKeys, All: balancerSettings,
		Put:    func(b *api.NetworkLoadBalancer) *api.NetworkLoadBalancerPut { return &b.NetworkLoadBalancerPut },
		Config: func(b *api.NetworkLoadBalancerPut) *api.ConfigMap { return &b.Config },
	}, e.Client().NetworkLoadBalancer, e.Client().UpdateNetworkLoadBalancer)
}

// balancerNames completes addresses of load balancers of the network that is
// the first argument.
func balancerNames(ctx context.Context, e *kit.Env, args []string) ([]string, error) {
	all, err := e.Client().NetworkLoadBalancers(ctx, args[0])
	return kit.NamesOf(all, func(b api.NetworkLoadBalancer) string { return b.ListenAddress }), err
}

// balancerKeys completes keys of the load balancer that the first two arguments
// name.
func balancerKeys(ctx context.Context, e *kit.Env, args []string) ([]string, error) {
	b, _, err := e.Client().NetworkLoadBalancer(ctx, client.Published{Network: args[0], Address: args[1]})
	return kit.KeysOf(b.Config), err
}

// balancerSettings completes keys that a load balancer can have.
func balancerSettings(context.Context, *kit.Env, []string) ([]string, error) {
	return []string{
		"balance=", "expose=", "healthcheck=", "healthcheck.failure_count=", "healthcheck.interval=", "healthcheck.path=", "healthcheck.success_count=",
		"healthcheck.timeout=", "user.",
	}, nil
}

// backendNames completes back ends of the load balancer that the first two
// arguments name.
func backendNames(ctx context.Context, e *kit.Env, args []string) ([]string, error) {
	b, _, err := e.Client().NetworkLoadBalancer(ctx, client.Published{Network: args[0], Address: args[1]})
	return kit.NamesOf(b.Backends, func(backend api.NetworkLoadBalancerBackend) string { return backend.Name }), err
}

const balancerCreateLong = `Create a load balancer: what comes for ports of the address, which is the host's
own or is routed to it, goes to its back ends in turn; with balance=source a client
comes to the same each time. With healthcheck=true those that do not answer are left
out: by TCP, or by HTTP if healthcheck.path is given.

Ports that the host's own firewall refuses are not let in by a load balancer
either, unless the key expose is public.

YAML on the standard input, in the form that "cuib network load-balancer show"
has, is what it begins with.`

func newBalancerCreate(e *env) *cobra.Command {
	return e.createPublished("load-balancer", balancerCreateLong, balancerSettings, func(ctx context.Context, network string, c creation) error {
		req := api.NetworkLoadBalancersPost{ListenAddress: c.address}
		if err := kit.CreateConfig[api.NetworkLoadBalancer](e.Env, c.pairs, &req.NetworkLoadBalancerPut, &req.Config); err != nil {
			return err
		}
		req.Description = cmp.Or(c.description, req.Description)
		return e.Client().CreateNetworkLoadBalancer(ctx, network, req)
	})
}

func newBalancerDelete(e *env) *cobra.Command {
	return e.deletePublished("load-balancer", balancerNames, e.Client().DeleteNetworkLoadBalancer)
}

func newBalancerList(e *env) *cobra.Command {
	return kit.ListPartsCommand(e.Env, kit.PartLister[api.NetworkLoadBalancer]{
		Use: "list NETWORK", Short: "List the load balancers of a network", Example: "  cuib network load-balancer list cuibbr0",
		Of: kit.Networks, Columns: balancerColumns, Usual: "ldp", Read: e.Client().NetworkLoadBalancers,
	})
}

func newBalancerShow(e *env) *cobra.Command {
	return showPublished(e, "load-balancer", balancerNames, e.Client().NetworkLoadBalancer)
}

func newBalancerInfo(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "info NETWORK ADDRESS", Short: "Show whether the back ends answer, if they are checked",
		Example: "  cuib network load-balancer info cuibbr0 192.0.2.11",
		Args:    kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.Networks, balancerNames, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			st, err := e.Client().NetworkLoadBalancerState(cmd.Context(), client.Published{Network: args[0], Address: args[1]})
			if err != nil {
				return err
			}
			if len(st.BackendHealth) == 0 {
				fmt.Fprintln(e.Out, "Back ends are not checked: set healthcheck to true.")
				return nil
			}
			for _, name := range slices.Sorted(maps.Keys(st.BackendHealth)) {
				b := st.BackendHealth[name]
				fmt.Fprintf(e.Out, "%s (%s):\n", name, b.Address)
				for _, p := range b.Ports {
					fmt.Fprintf(e.Out, "  %s %d: %s\n", p.Protocol, p.Port, p.Status)
				}
			}
			return nil
		}),
	}
}

func newBalancerBackend(e *env) *cobra.Command {
	return kit.Group("backend", "Add and remove back ends of a load balancer", "  cuib network load-balancer backend add cuibbr0 192.0.2.11 web1 10.1.2.3 8080",
		newBackendAdd(e), newBackendRemove(e))
}

func newBackendAdd(e *env) *cobra.Command {
	var b api.NetworkLoadBalancerBackend
	cmd := &cobra.Command{
		Use: "add NETWORK ADDRESS BACKEND TARGET [TARGET-PORTS]", Short: "Add a back end",
		Long:    "Add a back end: an instance that can take turns. It gets connections at the ports\nthat they come for, or at one other, or at as many as a port of the load balancer\nhas.",
		Example: "  cuib network load-balancer backend add cuibbr0 192.0.2.11 web1 10.1.2.3 8080",
		Args:    kit.Needs(4, 5), ValidArgsFunction: e.Complete(kit.Networks, balancerNames, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			b.Name, b.TargetAddress = args[2], args[3]
			if len(args) > 4 {
				b.TargetPort = args[4]
			}
			return balancerKind(e).Change(cmd.Context(), args[0]+"/"+args[1], func(put *api.NetworkLoadBalancerPut) error {
				put.Backends = append(put.Backends, b)
				return nil
			})
		}),
	}
	cmd.Flags().StringVar(&b.Description, "description", "", "text that describes the back end")
	return cmd
}

func newBackendRemove(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "remove NETWORK ADDRESS BACKEND", Aliases: []string{"rm"}, Short: "Remove a back end that no port names",
		Example: "  cuib network load-balancer backend remove cuibbr0 192.0.2.11 web1",
		Args:    kit.Needs(3, 3), ValidArgsFunction: e.Complete(kit.Networks, balancerNames, backendNames, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			return balancerKind(e).Change(cmd.Context(), args[0]+"/"+args[1], func(put *api.NetworkLoadBalancerPut) error {
				before := len(put.Backends)
				put.Backends = slices.DeleteFunc(put.Backends, func(b api.NetworkLoadBalancerBackend) bool { return b.Name == args[2] })
				if len(put.Backends) == before {
					return errs.NotFoundf("load balancer %s has no back end %q", args[1], args[2])
				}
				return nil
			})
		}),
	}
}

func newBalancerPort(e *env) *cobra.Command {
	return kit.Group("port", "Add and remove ports of a load balancer", "  cuib network load-balancer port add cuibbr0 192.0.2.11 tcp 80 web1,web2",
		newBalancerPortAdd(e), newBalancerPortRemove(e))
}

func newBalancerPortAdd(e *env) *cobra.Command {
	var port api.NetworkLoadBalancerPort
	cmd := &cobra.Command{
		Use: "add NETWORK ADDRESS PROTOCOL PORTS BACKEND[,BACKEND...]", Short: "Have back ends take turns at ports",
		Example: "  cuib network load-balancer port add cuibbr0 192.0.2.11 tcp 80,443 web1,web2",
		Args:    kit.Needs(5, 5), ValidArgsFunction: e.Complete(kit.Networks, balancerNames, protocols, kit.None, backendNames, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			port.Protocol, port.ListenPort, port.TargetBackend = args[2], args[3], strings.Split(args[4], ",")
			return balancerKind(e).Change(cmd.Context(), args[0]+"/"+args[1], func(put *api.NetworkLoadBalancerPut) error {
				put.Ports = append(put.Ports, port)
				return nil
			})
		}),
	}
	cmd.Flags().StringVar(&port.Description, "description", "", "text that describes the ports")
	return cmd
}

func newBalancerPortRemove(e *env) *cobra.Command {
	return e.removePorts("load-balancer", balancerNames, func(ctx context.Context, name string, m portMatch) error {
		return balancerKind(e).Change(ctx, name, func(put *api.NetworkLoadBalancerPut) (err error) {
			put.Ports, err = removeMatching(m, put.Ports, func(p api.NetworkLoadBalancerPort) (protocol, ports string) { return p.Protocol, p.ListenPort })
			return err
		})
	})
}
