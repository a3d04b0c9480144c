// Package network has the commands that are about networks, and what belongs
// to them.
package network

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
)

var columns = []output.Column[api.Network]{
	{Key: 'n', Name: "NAME", Value: func(n api.Network) string { return n.Name }},
	{Key: 't', Name: "TYPE", Value: func(n api.Network) string { return n.Type }},
	{Key: 'm', Name: "MANAGED", Value: func(n api.Network) string { return kit.YesNo(n.Managed) }},
	{Key: '4', Name: "IPV4", Value: func(n api.Network) string { return n.Config["ipv4.address"] }},
	{Key: '6', Name: "IPV6", Value: func(n api.Network) string { return n.Config["ipv6.address"] }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(n api.Network) string { return n.Description }},
	{Key: 'u', Name: "USED BY", Value: func(n api.Network) string { return kit.Count(n.UsedBy) }},
	{Key: 's', Name: "STATE", Value: state},
	{Key: 'e', Name: "PROJECT", Value: func(n api.Network) string { return n.Project }},
}

// state is that of a network. One whose packets the host's firewall drops is of
// little use, whatever else it is; one lacks an interface that is to be a port.
func state(n api.Network) string {
	if len(n.Obstacles) > 0 && n.Status == "Created" {
		return "BLOCKED"
	}
	if len(n.MissingInterfaces) > 0 && n.Status == "Created" {
		return "INCOMPLETE"
	}
	return strings.ToUpper(n.Status)
}

var leaseColumns = []output.Column[api.NetworkLease]{
	{Key: 'h', Name: "HOSTNAME", Value: func(l api.NetworkLease) string { return l.Hostname }},
	{Key: 'm', Name: "MAC ADDRESS", Value: func(l api.NetworkLease) string { return l.Hwaddr }},
	{Key: 'i', Name: "IP ADDRESS", Value: func(l api.NetworkLease) string { return l.Address }},
	{Key: 't', Name: "TYPE", Value: func(l api.NetworkLease) string { return l.Type }},
	{Key: 'L', Name: "LOCATION", Value: func(l api.NetworkLease) string { return l.Location }},
}

// env is what a command has of the world.
type env struct {
	*kit.Env
}

// New returns the group of commands. Those that change instances and profiles
// come from elsewhere.
func New(k *kit.Env, attach ...*cobra.Command) *cobra.Command {
	e := &env{k}
	cmd := kit.Group("network", "Manage networks, and what is in them",
		"  cuib network create lab ipv4.address=10.77.0.1/24\n  cuib network list-leases cuibbr0",
		newACL(e), newAddressSet(e), newCreate(e), newDelete(e), newDoctor(e), kit.NewEdit(k, kind(e)), kit.NewKeyGet(k, kind(e)), newGraph(e), newInfo(e), newList(e),
		newAllocations(e), newLeases(e), newRename(e), kit.NewKeySet(k, kind(e)), kit.NewShow(k, kind(e)), kit.NewKeyUnset(k, kind(e)),
		newZone(e), newForward(e), newBalancer(e), newPeer(e),
	)
	cmd.AddCommand(attach...)
	return cmd
}

func kind(e *env) kit.Kind[api.Network, api.NetworkPut] {
	return kit.Kind[api.Network, api.NetworkPut]{
		Command: "network", What: "a network", Arg: "NETWORK", Pair: "cuibbr0 ipv6.address=none", Names: kit.Networks, Keys: kit.NetworkKeys, All: kit.NetworkSettings,
		Read: e.Client().Network, Update: e.Client().UpdateNetwork,
		Put:    func(n *api.Network) *api.NetworkPut { return &n.NetworkPut },
		Config: func(n *api.NetworkPut) *api.ConfigMap { return &n.Config },
	}
}

func newCreate(e *env) *cobra.Command {
	var typ, description string
	cmd := &cobra.Command{
		Use: "create NETWORK [KEY=VALUE...]", Short: "Create a network",
		Long:    "Create a network. YAML on the standard input, in the form that \"cuib network\nshow\" has, is what it begins with.",
		Example: "  cuib network create lab\n  cuib network create lab ipv4.address=10.77.0.1/24 ipv6.address=none\n  cuib network create up --type macvlan parent=eth0",
		Args:    kit.Needs(1, -1),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			req := api.NetworksPost{Name: args[0], Type: typ}
			if err := kit.CreateConfig[api.Network](e.Env, args[1:], &req.NetworkPut, &req.Config); err != nil {
				return err
			}
			if description != "" {
				req.Description = description
			}
			if err := e.Client().CreateNetwork(cmd.Context(), req); err != nil {
				return err
			}
			e.Say("Network %s created", args[0])
			return nil
		}),
	}
	cmd.Flags().StringVarP(&typ, "type", "t", "bridge", "bridge, macvlan, physical or vxlan")
	e.CompleteFlag(cmd, "type", kit.NetworkTypes)
	cmd.ValidArgsFunction = e.Complete(kit.None, func(ctx context.Context, k *kit.Env, args []string) ([]string, error) {
		return kit.NewNetworkSettings(typ)(ctx, k, args)
	})
	cmd.Flags().StringVar(&description, "description", "", "text that describes the network")
	return cmd
}

func newDelete(e *env) *cobra.Command {
	return e.DeleteCommand("Network", kit.Use("NETWORK", "networks", "  cuib network delete lab"), kit.Networks,
		e.Client().DeleteNetwork)
}

func newRename(e *env) *cobra.Command {
	return e.RenameCommand(kit.Use("NETWORK", "an unused network", "  cuib network rename lab test"), kit.Networks, e.Client().RenameNetwork)
}

func newList(e *env) *cobra.Command {
	return kit.ListCommand(e.Env, kit.Lister[api.Network]{
		What: "networks", Columns: columns, Usual: "ntm46dus", Example: "  cuib network list",
		Read: (*client.Client).Networks,
	})
}

func newLeases(e *env) *cobra.Command {
	return kit.ListPartsCommand(e.Env, kit.PartLister[api.NetworkLease]{
		Use: "list-leases NETWORK", Short: "List the addresses that a network has given out", Example: "  cuib network list-leases cuibbr0",
		Of: kit.Networks, Columns: leaseColumns, Usual: "hmit", Read: e.Client().NetworkLeases,
	})
}

func newInfo(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "info NETWORK", Short: "Show the state of a network's interface",
		Example: "  cuib network info cuibbr0",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(kit.Networks, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			s, err := e.Client().NetworkState(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			e.write(args[0], s)
			return nil
		}),
	}
}

func (e *env) write(name string, s api.NetworkState) {
	fmt.Fprintf(e.Out, "Name: %s\nMAC address: %s\nMTU: %d\nState: %s\nType: %s\n", name, s.Hwaddr, s.Mtu, s.State, s.Type)
	if len(s.Addresses) > 0 {
		fmt.Fprint(e.Out, "\nAddresses:\n")
	}
	for _, a := range s.Addresses {
		fmt.Fprintf(e.Out, "  %s: %s/%s (%s)\n", a.Family, a.Address, a.Netmask, a.Scope)
	}
	if c := s.Counters; c != nil {
		fmt.Fprintf(e.Out, "\nTraffic:\n  Received: %s in %d packets\n  Sent: %s in %d packets\n",
			kit.Size(c.BytesReceived), c.PacketsReceived, kit.Size(c.BytesSent), c.PacketsSent)
	}
	if len(s.Obstacles) > 0 {
		fmt.Fprint(e.Out, "\nDropped by the host's firewall:\n")
	}
	for _, o := range s.Obstacles {
		fmt.Fprintf(e.Out, "  %s: table %s, chain %s: %s\n    Remedy: %s\n", o.What, o.Table, o.Chain, o.Rule, o.Remedy)
	}
	if len(s.ObstaclesUnread) > 0 {
		fmt.Fprintf(e.Out, "\nNot read of the host's firewall: the tables of iptables-legacy, for want of %s\n", strings.Join(s.ObstaclesUnread, " and "))
	}
	if len(s.MissingInterfaces) > 0 {
		fmt.Fprintf(e.Out, "\nMissing interfaces of the host (bridge.external_interfaces): %s\n", strings.Join(s.MissingInterfaces, ", "))
	}
	if s.Bridge != nil {
		fmt.Fprintf(e.Out, "\nBridge:\n  ID: %s\n  STP: %t\n", s.Bridge.ID, s.Bridge.STP)
		for _, d := range s.Bridge.UpperDevices {
			fmt.Fprintf(e.Out, "  Interface: %s\n", d)
		}
	}
}
