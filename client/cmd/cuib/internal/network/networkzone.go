package network

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
)

var zoneColumns = []output.Column[api.NetworkZone]{
	{Key: 'n', Name: "NAME", Value: func(z api.NetworkZone) string { return z.Name }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(z api.NetworkZone) string { return z.Description }},
	{Key: 'u', Name: "USED BY", Value: func(z api.NetworkZone) string { return kit.Count(z.UsedBy) }},
	{Key: 'e', Name: "PROJECT", Value: func(z api.NetworkZone) string { return z.Project }},
}

func newZone(e *env) *cobra.Command {
	return kit.Group("zone", "Manage zones of DNS",
		"  cuib network zone create c.example.org peers.ns1.address=192.0.2.53\n  cuib network set cuibbr0 dns.zone.forward=c.example.org",
		newZoneCreate(e), newZoneDelete(e), kit.NewEdit(e.Env, zoneKind(e)), kit.NewKeyGet(e.Env, zoneKind(e)), newZoneList(e), newZoneRecord(e),
		kit.NewKeySet(e.Env, zoneKind(e)), kit.NewShow(e.Env, zoneKind(e)), kit.NewKeyUnset(e.Env, zoneKind(e)))
}

func zoneKind(e *env) kit.Kind[api.NetworkZone, api.NetworkZonePut] {
	return kit.Kind[api.NetworkZone, api.NetworkZonePut]{
		Command: "network zone", What: "a network zone", Arg: "ZONE", Pair: "c.example.org dns.nameservers=ns1.example.org", Names: zoneNames, Keys: zoneKeys, All: zoneSettings,
		Read: e.Client().NetworkZone, Update: e.Client().UpdateNetworkZone,
		Put:    func(z *api.NetworkZone) *api.NetworkZonePut { return &z.NetworkZonePut },
		Config: func(z *api.NetworkZonePut) *api.ConfigMap { return &z.Config },
	}
}

// zoneNames completes names of zones.
func zoneNames(ctx context.Context, e *kit.Env, _ []string) ([]string, error) {
	return e.Client().NetworkZoneNames(ctx)
}

// zoneKeys completes the keys that a zone has.
func zoneKeys(ctx context.Context, e *kit.Env, args []string) ([]string, error) {
	z, _, err := e.Client().NetworkZone(ctx, args[0])
	return kit.KeysOf(z.Config), err
}

// zoneSettings completes keys that a zone can have.
func zoneSettings(context.Context, *kit.Env, []string) ([]string, error) {
	return []string{"dns.contact=", "dns.nameservers=", "network.nat=", "peers.", "user."}, nil
}

const zoneCreateLong = `Create a zone of DNS, which has the names of the instances of those networks
whose key dns.zone.forward, dns.zone.reverse.ipv4 or dns.zone.reverse.ipv6 is its
name. Servers that are its peers may have it by zone transfer, once the server's
key core.dns_address says where it is served.

YAML on the standard input, in the form that "cuib network zone show" has, is
what it begins with.`

func newZoneCreate(e *env) *cobra.Command {
	var description string
	cmd := &cobra.Command{
		Use: "create ZONE [KEY=VALUE...]", Short: "Create a zone", Long: zoneCreateLong,
		Example: "  cuib network zone create c.example.org peers.ns1.address=192.0.2.53\n  cuib network zone create 2.0.192.in-addr.arpa",
		Args:    kit.Needs(1, -1), ValidArgsFunction: e.Complete(kit.None, zoneSettings),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			req := api.NetworkZonesPost{Name: args[0]}
			if err := kit.CreateConfig[api.NetworkZone](e.Env, args[1:], &req.NetworkZonePut, &req.Config); err != nil {
				return err
			}
			if description != "" {
				req.Description = description
			}
			if err := e.Client().CreateNetworkZone(cmd.Context(), req); err != nil {
				return err
			}
			e.Say("Network zone %s created", args[0])
			return nil
		}),
	}
	cmd.Flags().StringVar(&description, "description", "", "text that describes the zone")
	return cmd
}

func newZoneDelete(e *env) *cobra.Command {
	return e.DeleteCommand("Network zone", kit.Use("ZONE", "zones that no network uses, with their records", "  cuib network zone delete c.example.org"), zoneNames,
		e.Client().DeleteNetworkZone)
}

func newZoneList(e *env) *cobra.Command {
	return kit.ListCommand(e.Env, kit.Lister[api.NetworkZone]{
		What: "zones of DNS", Columns: zoneColumns, Usual: "ndu", Example: "  cuib network zone list",
		Read: (*client.Client).NetworkZones,
	})
}
