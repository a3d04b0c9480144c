package configure

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/network"
	"github.com/cuib/cuib/shared/api"
)

// newNetwork returns the commands of networks, with those that change
// instances and profiles.
func newNetwork(e *env) *cobra.Command {
	return network.New(e.Env, newNetworkAttach(e), newNetworkAttachProfile(e), newNetworkDetach(e), newNetworkDetachProfile(e))
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
	name, owner := args[0], args[1]
	device := name
	if len(args) > 2 {
		device = args[2]
	}
	nic := api.ConfigMap{"type": "nic", "network": name}
	if len(args) > 3 {
		nic["name"] = args[3]
	}
	n, _, err := e.Client().Network(ctx, name)
	if err != nil {
		return err
	}
	if !n.Managed { // It is an interface of the host.
		delete(nic, "network")
		nic["parent"], nic["nictype"] = name, "macvlan"
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
	name, owner, device := args[0], args[1], strings.Join(args[2:], "")
	return o.remove(ctx, owner, device, fmt.Sprintf("interface in network %q", name), func(d api.ConfigMap) bool {
		return d["type"] == "nic" && (d["network"] == name || d["parent"] == name)
	})
}
