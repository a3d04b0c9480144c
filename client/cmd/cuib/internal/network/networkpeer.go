package network

import (
	"cmp"
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/project"
)

var peerColumns = []output.Column[api.NetworkPeer]{
	{Key: 'n', Name: "NAME", Value: func(p api.NetworkPeer) string { return p.Name }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(p api.NetworkPeer) string { return p.Description }},
	{Key: 'p', Name: "PEER", Value: peerTarget},
	{Key: 't', Name: "TYPE", Value: func(p api.NetworkPeer) string { return p.Type }},
	{Key: 's', Name: "STATE", Value: func(p api.NetworkPeer) string { return strings.ToUpper(p.Status) }},
}

// peerTarget is the other network, with its project if that is not the default
// one.
func peerTarget(p api.NetworkPeer) string {
	if p.TargetProject == "" || p.TargetProject == project.Default {
		return p.TargetNetwork
	}
	return p.TargetProject + "/" + p.TargetNetwork
}

func newPeer(e *env) *cobra.Command {
	return kit.Group("peer", "Route between two networks as they are, without NAT",
		"  cuib network peer create lab to-test test\n  cuib network peer create test to-lab lab",
		newPeerCreate(e), newPeerDelete(e), kit.NewEdit(e.Env, peerKind(e)), kit.NewKeyGet(e.Env, peerKind(e)), newPeerList(e),
		kit.NewKeySet(e.Env, peerKind(e)), newPeerShow(e), kit.NewKeyUnset(e.Env, peerKind(e)))
}

// peerOf is what a name NETWORK/PEER means. No network has a slash.
func peerOf(name string) client.Peer {
	network, peer, _ := strings.Cut(name, "/")
	return client.Peer{Network: network, Name: peer}
}

func peerKind(e *env) kit.Kind[api.NetworkPeer, api.NetworkPeerPut] {
	return kit.Kind[api.NetworkPeer, api.NetworkPeerPut]{
		Command: "network peer", What: "a peer", Pair: "lab to-test user.owner=me", Arg: "NETWORK PEER", Within: kit.Networks,
		Names: peerNames, Keys: peerKeys, All: peerSettings,
		Read: func(ctx context.Context, name string) (api.NetworkPeer, string, error) {
			return e.Client().NetworkPeer(ctx, peerOf(name))
		},
		Update: func(ctx context.Context, name string, put api.NetworkPeerPut, etag string) error {
			return e.Client().UpdateNetworkPeer(ctx, peerOf(name), put, etag)
		},
		Put:    func(p *api.NetworkPeer) *api.NetworkPeerPut { return &p.NetworkPeerPut },
		Config: func(p *api.NetworkPeerPut) *api.ConfigMap { return &p.Config },
	}
}

// peerNames completes peers of the network that is the first argument.
func peerNames(ctx context.Context, e *kit.Env, args []string) ([]string, error) {
	all, err := e.Client().NetworkPeers(ctx, args[0])
	return kit.NamesOf(all, func(p api.NetworkPeer) string { return p.Name }), err
}

// peerKeys completes keys of the peer that the first two arguments name.
func peerKeys(ctx context.Context, e *kit.Env, args []string) ([]string, error) {
	p, _, err := e.Client().NetworkPeer(ctx, client.Peer{Network: args[0], Name: args[1]})
	return kit.KeysOf(p.Config), err
}

// peerSettings completes keys that a peer can have.
func peerSettings(context.Context, *kit.Env, []string) ([]string, error) {
	return []string{"user."}, nil
}

func newPeerCreate(e *env) *cobra.Command {
	var typ, description string
	cmd := &cobra.Command{
		Use: "create NETWORK PEER TARGET [KEY=VALUE...]", Short: "Make another network a peer of a network",
		Long: `Make another network of this host a peer of a network. Both networks have to say
so; until then the peer is pending. Packets between peers keep their addresses, and
the names of each are known in the other if they have different domains. TARGET is
a network, or PROJECT/NETWORK for one of another project.

YAML on the standard input, in the form that "cuib network peer show" has, is what
it begins with.`,
		Example: "  cuib network peer create lab to-test test\n  cuib network peer create test to-lab lab",
		Args:    kit.Needs(3, -1), ValidArgsFunction: e.Complete(kit.Networks, kit.None, kit.Networks, peerSettings),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			req := api.NetworkPeersPost{Name: args[1], TargetNetwork: args[2], Type: typ}
			if in, network, ok := strings.Cut(args[2], "/"); ok {
				req.TargetProject, req.TargetNetwork = in, network
			}
			if err := kit.CreateConfig[api.NetworkPeer](e.Env, args[3:], &req.NetworkPeerPut, &req.Config); err != nil {
				return err
			}
			req.Description = cmp.Or(description, req.Description)
			if err := e.Client().CreateNetworkPeer(cmd.Context(), args[0], req); err != nil {
				return err
			}
			p, _, err := e.Client().NetworkPeer(cmd.Context(), client.Peer{Network: args[0], Name: args[1]})
			if err != nil {
				return err
			}
			if p.Status == api.PeerPending {
				e.Say("Network peer %s is pending: network %s has to have a peer %s too", args[1], args[2], args[0])
				return nil
			}
			e.Say("Network peer %s created", args[1])
			return nil
		}),
	}
	cmd.Flags().StringVar(&typ, "type", "local", "the only type is local: another network of this host")
	cmd.Flags().StringVar(&description, "description", "", "text that describes the peer")
	e.CompleteFlag(cmd, "type", func(context.Context, *kit.Env, []string) ([]string, error) { return []string{"local"}, nil })
	return cmd
}

func newPeerDelete(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "delete NETWORK PEER...", Aliases: []string{"rm"}, Short: "Have networks be no peers any more",
		Example: "  cuib network peer delete lab to-test",
		Args:    kit.Needs(2, -1), ValidArgsFunction: e.Complete(kit.Networks, peerNames),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			for _, name := range args[1:] {
				if err := e.Client().DeleteNetworkPeer(cmd.Context(), client.Peer{Network: args[0], Name: name}); err != nil {
					return err
				}
				e.Say("Network peer %s deleted", name)
			}
			return nil
		}),
	}
}

func newPeerList(e *env) *cobra.Command {
	return kit.ListPartsCommand(e.Env, kit.PartLister[api.NetworkPeer]{
		Use: "list NETWORK", Short: "List the peers of a network", Example: "  cuib network peer list lab",
		Of: kit.Networks, Columns: peerColumns, Usual: "ndpts", Read: e.Client().NetworkPeers,
	})
}

func newPeerShow(e *env) *cobra.Command {
	var v kit.ObjectView
	cmd := &cobra.Command{
		Use: "show NETWORK PEER", Short: "Show all of a peer", Example: "  cuib network peer show lab to-test",
		Args: kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.Networks, peerNames, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			p, _, err := e.Client().NetworkPeer(cmd.Context(), client.Peer{Network: args[0], Name: args[1]})
			return v.Show(e.Env, p, err)
		}),
	}
	v.Flags(cmd)
	return cmd
}
