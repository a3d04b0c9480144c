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

var addressSetColumns = []output.Column[api.NetworkAddressSet]{
	{Key: 'n', Name: "NAME", Value: func(a api.NetworkAddressSet) string { return a.Name }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(a api.NetworkAddressSet) string { return a.Description }},
	{Key: 'a', Name: "ADDRESSES", Value: func(a api.NetworkAddressSet) string { return strings.Join(a.Addresses, "\n") }},
	{Key: 'u', Name: "USED BY", Value: func(a api.NetworkAddressSet) string { return kit.Count(a.UsedBy) }},
	{Key: 'e', Name: "PROJECT", Value: func(a api.NetworkAddressSet) string { return a.Project }},
}

func newAddressSet(e *env) *cobra.Command {
	return kit.Group("address-set", "Manage address sets, which rules of ACLs name as $NAME",
		"  cuib network address-set create office\n  cuib network address-set add office 192.0.2.0/24 2001:db8::7\n  cuib network acl rule add web ingress action=allow 'source=$office'",
		newAddressSetAdd(e), newAddressSetCreate(e), newAddressSetDelete(e), kit.NewEdit(e.Env, addressSetKind(e)), kit.NewKeyGet(e.Env, addressSetKind(e)),
		newAddressSetList(e), newAddressSetRemove(e), newAddressSetRename(e), kit.NewKeySet(e.Env, addressSetKind(e)), kit.NewShow(e.Env, addressSetKind(e)),
		kit.NewKeyUnset(e.Env, addressSetKind(e)))
}

func addressSetKind(e *env) kit.Kind[api.NetworkAddressSet, api.NetworkAddressSetPut] {
	return kit.Kind[api.NetworkAddressSet, api.NetworkAddressSetPut]{
		Command: "network address-set", What: "an address set", Arg: "SET", Pair: "office user.owner=ann", Names: addressSetNames, Keys: addressSetKeys, All: userKeys,
		Read: e.Client().NetworkAddressSet, Update: e.Client().UpdateNetworkAddressSet,
		Put:    func(a *api.NetworkAddressSet) *api.NetworkAddressSetPut { return &a.NetworkAddressSetPut },
		Config: func(a *api.NetworkAddressSetPut) *api.ConfigMap { return &a.Config },
	}
}

// addressSetNames completes names of address sets.
func addressSetNames(ctx context.Context, e *kit.Env, _ []string) ([]string, error) {
	return e.Client().NetworkAddressSetNames(ctx)
}

// addressSetKeys completes the keys that an address set has.
func addressSetKeys(ctx context.Context, e *kit.Env, args []string) ([]string, error) {
	a, _, err := e.Client().NetworkAddressSet(ctx, args[0])
	return kit.KeysOf(a.Config), err
}

// addressesOf completes the addresses in the set that is the first argument.
func addressesOf(ctx context.Context, e *kit.Env, args []string) ([]string, error) {
	a, _, err := e.Client().NetworkAddressSet(ctx, args[0])
	return a.Addresses, err
}

func newAddressSetCreate(e *env) *cobra.Command {
	return e.creation(&cobra.Command{
		Use: "create SET [KEY=VALUE...]", Short: "Create an address set",
		Long:    "Create an address set, which has no addresses yet. YAML on the standard input, in\nthe form that \"cuib network address-set show\" has, is what it begins with.",
		Example: "  cuib network address-set create office\n  cuib network address-set create office < office.yaml",
	}, "Network address set", func(ctx context.Context, args []string, description string) error {
		req := api.NetworkAddressSetsPost{Name: args[0]}
		if err := kit.CreateConfig[api.NetworkAddressSet](e.Env, args[1:], &req.NetworkAddressSetPut, &req.Config); err != nil {
			return err
		}
		req.Description = cmp.Or(description, req.Description)
		return e.Client().CreateNetworkAddressSet(ctx, req)
	})
}

func newAddressSetDelete(e *env) *cobra.Command {
	return e.DeleteCommand("Network address set", kit.Use("SET", "address sets that no ACL names", "  cuib network address-set delete office"), addressSetNames,
		e.Client().DeleteNetworkAddressSet)
}

func newAddressSetRename(e *env) *cobra.Command {
	return e.RenameCommand(kit.Use("SET", "an address set that no ACL names", "  cuib network address-set rename office work"), addressSetNames, e.Client().RenameNetworkAddressSet)
}

func newAddressSetList(e *env) *cobra.Command {
	return kit.ListCommand(e.Env, kit.Lister[api.NetworkAddressSet]{
		What: "address sets", Columns: addressSetColumns, Usual: "ndau", Example: "  cuib network address-set list",
		Read: (*client.Client).NetworkAddressSets,
	})
}

func newAddressSetAdd(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "add SET ADDRESS...", Short: "Add addresses, networks and ranges to an address set",
		Example: "  cuib network address-set add office 192.0.2.7 2001:db8::/64 192.0.2.10-192.0.2.20",
		Args:    kit.Needs(2, -1), ValidArgsFunction: e.Complete(addressSetNames, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			return addressSetKind(e).Change(cmd.Context(), args[0], func(put *api.NetworkAddressSetPut) error {
				put.Addresses = append(put.Addresses, args[1:]...)
				return nil
			})
		}),
	}
}

func newAddressSetRemove(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "remove SET ADDRESS...", Aliases: []string{"rm"}, Short: "Remove addresses from an address set",
		Example: "  cuib network address-set remove office 192.0.2.7",
		Args:    kit.Needs(2, -1), ValidArgsFunction: e.Complete(addressSetNames, addressesOf),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			return addressSetKind(e).Change(cmd.Context(), args[0], func(put *api.NetworkAddressSetPut) error {
				for _, a := range args[1:] {
					i := slices.Index(put.Addresses, a)
					if i < 0 {
						return errs.NotFoundf("network address set %q has no address %q", args[0], a)
					}
					put.Addresses = slices.Delete(put.Addresses, i, i+1)
				}
				return nil
			})
		}),
	}
}
