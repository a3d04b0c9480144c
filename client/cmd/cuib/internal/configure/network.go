package configure

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
)

var networkColumns = []output.Column[api.Network]{
	{Key: 'n', Name: "NAME", Value: func(n api.Network) string { return n.Name }},
	{Key: 't', Name: "TYPE", Value: func(n api.Network) string { return n.Type }},
	{Key: 'm', Name: "MANAGED", Value: func(n api.Network) string { return kit.YesNo(n.Managed) }},
	{Key: '4', Name: "IPV4", Value: func(n api.Network) string { return n.Config["ipv4.address"] }},
	{Key: '6', Name: "IPV6", Value: func(n api.Network) string { return n.Config["ipv6.address"] }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(n api.Network) string { return n.Description }},
	{Key: 'u', Name: "USED BY", Value: func(n api.Network) string { return kit.Count(n.UsedBy) }},
	{Key: 's', Name: "STATE", Value: func(n api.Network) string { return strings.ToUpper(n.Status) }},
	{Key: 'e', Name: "PROJECT", Value: func(n api.Network) string { return n.Project }},
}

var leaseColumns = []output.Column[api.NetworkLease]{
	{Key: 'h', Name: "HOSTNAME", Value: func(l api.NetworkLease) string { return l.Hostname }},
	{Key: 'm', Name: "MAC ADDRESS", Value: func(l api.NetworkLease) string { return l.Hwaddr }},
	{Key: 'i', Name: "IP ADDRESS", Value: func(l api.NetworkLease) string { return l.Address }},
	{Key: 't', Name: "TYPE", Value: func(l api.NetworkLease) string { return l.Type }},
	{Key: 'L', Name: "LOCATION", Value: func(l api.NetworkLease) string { return l.Location }},
}

func newNetwork(e *env) *cobra.Command {
	return kit.Group("network", "Manage networks, and what is in them",
		"  cuib network create lab ipv4.address=10.77.0.1/24\n  cuib network list-leases cuibbr0",
		newNetworkAttach(e), newNetworkAttachProfile(e), newNetworkCreate(e), newNetworkDelete(e), newNetworkDetach(e),
		newNetworkDoctor(e), newNetworkDetachProfile(e), kit.NewEdit(e.Env, networkKind(e)), kit.NewKeyGet(e.Env, networkKind(e)), newNetworkInfo(e), newNetworkList(e),
		newNetworkLeases(e), newNetworkRename(e), kit.NewKeySet(e.Env, networkKind(e)), kit.NewShow(e.Env, networkKind(e)), kit.NewKeyUnset(e.Env, networkKind(e)),
	)
}

func networkKind(e *env) kit.Kind[api.Network, api.NetworkPut] {
	return kit.Kind[api.Network, api.NetworkPut]{
		Command: "network", Arg: "NETWORK", Pair: "cuibbr0 ipv6.address=none", Names: kit.Networks, Keys: kit.NetworkKeys,
		Read: e.Client().Network, Update: e.Client().UpdateNetwork,
		Put:    func(n *api.Network) *api.NetworkPut { return &n.NetworkPut },
		Config: func(n *api.NetworkPut) *api.ConfigMap { return &n.Config },
	}
}

func newNetworkCreate(e *env) *cobra.Command {
	var typ, description string
	cmd := &cobra.Command{
		Use: "create NETWORK [KEY=VALUE...]", Short: "Create a network",
		Long:    "Create a network. YAML on the standard input, in the form that \"cuib network\nshow\" has, is what it begins with.",
		Example: "  cuib network create lab\n  cuib network create lab ipv4.address=10.77.0.1/24 ipv6.address=none\n  cuib network create up --type macvlan parent=eth0",
		Args:    kit.Needs(1, -1), ValidArgsFunction: e.Complete(kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			req := api.NetworksPost{Name: args[0], Type: typ}
			if err := e.CreateConfig(args[1:], &req.NetworkPut, &req.Config); err != nil {
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
	cmd.Flags().StringVarP(&typ, "type", "t", "bridge", "bridge or macvlan")
	cmd.Flags().StringVar(&description, "description", "", "text that describes the network")
	return cmd
}

func newNetworkDelete(e *env) *cobra.Command {
	return e.DeleteCommand("Network", kit.Use("NETWORK", "networks", "  cuib network delete lab"), kit.Networks,
		e.Client().DeleteNetwork)
}

func newNetworkRename(e *env) *cobra.Command {
	return e.RenameCommand(kit.Use("NETWORK", "an unused network", "  cuib network rename lab test"), kit.Networks, e.Client().RenameNetwork)
}

func newNetworkList(e *env) *cobra.Command {
	return kit.ListCommand(e.Env, kit.Lister[api.Network]{
		What: "networks", Columns: networkColumns, Usual: "ntm46dus", Example: "  cuib network list",
		Read: e.Client().Networks,
	})
}

func newNetworkLeases(e *env) *cobra.Command {
	return kit.ListPartsCommand(e.Env, kit.PartLister[api.NetworkLease]{
		Use: "list-leases NETWORK", Short: "List the addresses that a network has given out", Example: "  cuib network list-leases cuibbr0",
		Of: kit.Networks, Columns: leaseColumns, Usual: "hmit", Read: e.Client().NetworkLeases,
	})
}

func newNetworkInfo(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "info NETWORK", Short: "Show the state of a network's interface",
		Example: "  cuib network info cuibbr0",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(kit.Networks, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			s, err := e.Client().NetworkState(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			e.writeNetwork(args[0], s)
			return nil
		}),
	}
}

func (e *env) writeNetwork(name string, s api.NetworkState) {
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
	if s.Bridge != nil {
		fmt.Fprintf(e.Out, "\nBridge:\n  ID: %s\n  STP: %t\n", s.Bridge.ID, s.Bridge.STP)
		for _, d := range s.Bridge.UpperDevices {
			fmt.Fprintf(e.Out, "  Interface: %s\n", d)
		}
	}
}

const attachUsage = " [DEVICE [INTERFACE]]"

// onOwner completes a command that does run with a network and an object that
// has devices, and maybe more arguments, most in all.
func (e *env) onOwner(cmd *cobra.Command, o deviceOwner, most int, run func(ctx context.Context, o deviceOwner, args []string) error) *cobra.Command {
	cmd.Args, cmd.ValidArgsFunction = kit.Needs(2, most), e.Complete(kit.Networks, o.names, kit.None)
	cmd.RunE = kit.Named(2, func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), o, args) })
	return cmd
}

func newNetworkAttach(e *env) *cobra.Command {
	return e.onOwner(&cobra.Command{
		Use: "attach NETWORK INSTANCE" + attachUsage, Short: "Give an instance an interface in a network",
		Example: "  cuib network attach lab web eth1",
	}, instanceDeviceOwner(e), 4, e.attach)
}

func newNetworkAttachProfile(e *env) *cobra.Command {
	return e.onOwner(&cobra.Command{
		Use: "attach-profile NETWORK PROFILE" + attachUsage, Short: "Give a profile an interface in a network",
		Example: "  cuib network attach-profile lab small eth1",
	}, profileDeviceOwner(e), 4, e.attach)
}

// attach adds a NIC; args are NETWORK, its owner, and maybe the names of the
// device and of the interface in the guest.
func (e *env) attach(ctx context.Context, o deviceOwner, args []string) error {
	network, owner := args[0], args[1]
	device := network
	if len(args) > 2 {
		device = args[2]
	}
	nic := api.ConfigMap{"type": "nic", "network": network}
	if len(args) > 3 {
		nic["name"] = args[3]
	}
	n, _, err := e.Client().Network(ctx, network)
	if err != nil {
		return err
	}
	if !n.Managed { // It is an interface of the host.
		delete(nic, "network")
		nic["parent"], nic["nictype"] = network, "macvlan"
		if n.Type == "bridge" {
			nic["nictype"] = "bridged"
		}
	}
	return o.add(ctx, owner, device, nic)
}

func newNetworkDetach(e *env) *cobra.Command {
	return e.onOwner(&cobra.Command{
		Use: "detach NETWORK INSTANCE [DEVICE]", Short: "Take an interface away from an instance",
		Example: "  cuib network detach lab web",
	}, instanceDeviceOwner(e), 3, e.detach)
}

func newNetworkDetachProfile(e *env) *cobra.Command {
	return e.onOwner(&cobra.Command{
		Use: "detach-profile NETWORK PROFILE [DEVICE]", Short: "Take an interface away from a profile",
		Example: "  cuib network detach-profile lab small",
	}, profileDeviceOwner(e), 3, e.detach)
}

// detach removes the NIC that is in a network; args are NETWORK, its owner,
// and the device if there are several.
func (e *env) detach(ctx context.Context, o deviceOwner, args []string) error {
	network, owner, device := args[0], args[1], strings.Join(args[2:], "")
	return o.remove(ctx, owner, device, fmt.Sprintf("interface in network %q", network), func(d api.ConfigMap) bool {
		return d["type"] == "nic" && (d["network"] == network || d["parent"] == network)
	})
}
