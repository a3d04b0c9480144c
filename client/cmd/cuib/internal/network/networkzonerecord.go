package network

import (
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

var recordColumns = []output.Column[api.NetworkZoneRecord]{
	{Key: 'n', Name: "NAME", Value: func(r api.NetworkZoneRecord) string { return r.Name }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(r api.NetworkZoneRecord) string { return r.Description }},
	{Key: 'e', Name: "ENTRIES", Value: entries},
}

func entries(r api.NetworkZoneRecord) string {
	var all []string
	for _, e := range r.Entries {
		all = append(all, e.Type+" "+e.Value)
	}
	return strings.Join(all, "\n")
}

func newZoneRecord(e *env) *cobra.Command {
	return kit.Group("record", "Give zones names of your own",
		"  cuib network zone record create c.example.org www\n  cuib network zone record entry add c.example.org www CNAME web.c.example.org.",
		newRecordCreate(e), newRecordDelete(e), kit.NewEdit(e.Env, recordKind(e)), newRecordEntry(e), kit.NewKeyGet(e.Env, recordKind(e)), newRecordList(e),
		kit.NewKeySet(e.Env, recordKind(e)), newRecordShow(e), kit.NewKeyUnset(e.Env, recordKind(e)))
}

// recordOf is the record that a name ZONE/RECORD means. No zone has a slash.
func recordOf(name string) client.ZoneRecord {
	zone, record, _ := strings.Cut(name, "/")
	return client.ZoneRecord{Zone: zone, Name: record}
}

func recordKind(e *env) kit.Kind[api.NetworkZoneRecord, api.NetworkZoneRecordPut] {
	return kit.Kind[api.NetworkZoneRecord, api.NetworkZoneRecordPut]{
		Command: "network zone record", What: "a record of a zone", Arg: "ZONE RECORD", Pair: "c.example.org www user.owner=ann", Within: zoneNames, Names: recordNames, Keys: recordKeys,
		Read: func(ctx context.Context, name string) (api.NetworkZoneRecord, string, error) {
			of := recordOf(name)
			return e.Client().NetworkZoneRecord(ctx, of.Zone, of.Name)
		},
		Update: func(ctx context.Context, name string, put api.NetworkZoneRecordPut, etag string) error {
			return e.Client().UpdateNetworkZoneRecord(ctx, recordOf(name), put, etag)
		},
		Put:    func(r *api.NetworkZoneRecord) *api.NetworkZoneRecordPut { return &r.NetworkZoneRecordPut },
		Config: func(r *api.NetworkZoneRecordPut) *api.ConfigMap { return &r.Config },
	}
}

// recordNames completes records of the zone that is the first argument.
func recordNames(ctx context.Context, e *kit.Env, args []string) ([]string, error) {
	all, err := e.Client().NetworkZoneRecords(ctx, args[0])
	return kit.NamesOf(all, func(r api.NetworkZoneRecord) string { return r.Name }), err
}

// recordKeys completes keys of the record that the first two arguments name.
func recordKeys(ctx context.Context, e *kit.Env, args []string) ([]string, error) {
	r, _, err := e.Client().NetworkZoneRecord(ctx, args[0], args[1])
	return kit.KeysOf(r.Config), err
}

func newRecordCreate(e *env) *cobra.Command {
	var description string
	cmd := &cobra.Command{
		Use: "create ZONE RECORD [KEY=VALUE...]", Short: "Give a zone a record",
		Long:    "Give a zone a record, which has no entries yet. Its name is without the zone's;\n\"@\" is the zone itself. YAML on the standard input, in the form that \"cuib\nnetwork zone record show\" has, is what it begins with.",
		Example: "  cuib network zone record create c.example.org www\n  cuib network zone record create c.example.org @ --description \"mail\"",
		Args:    kit.Needs(2, -1), ValidArgsFunction: e.Complete(zoneNames, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			req := api.NetworkZoneRecordsPost{Name: args[1]}
			if err := kit.CreateConfig[api.NetworkZoneRecord](e.Env, args[2:], &req.NetworkZoneRecordPut, &req.Config); err != nil {
				return err
			}
			if description != "" {
				req.Description = description
			}
			if err := e.Client().CreateNetworkZoneRecord(cmd.Context(), args[0], req); err != nil {
				return err
			}
			e.Say("Network zone record %s created", args[1])
			return nil
		}),
	}
	cmd.Flags().StringVar(&description, "description", "", "text that describes the record")
	return cmd
}

func newRecordDelete(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "delete ZONE RECORD...", Aliases: []string{"rm"}, Short: "Take records from a zone", Example: "  cuib network zone record delete c.example.org www",
		Args: kit.Needs(2, -1), ValidArgsFunction: e.Complete(zoneNames, recordNames),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			for _, name := range args[1:] {
				if err := e.Client().DeleteNetworkZoneRecord(cmd.Context(), client.ZoneRecord{Zone: args[0], Name: name}); err != nil {
					return err
				}
				e.Say("Network zone record %s deleted", name)
			}
			return nil
		}),
	}
}

func newRecordList(e *env) *cobra.Command {
	return kit.ListPartsCommand(e.Env, kit.PartLister[api.NetworkZoneRecord]{
		Use: "list ZONE", Short: "List the records that a zone was given", Example: "  cuib network zone record list c.example.org",
		Of: zoneNames, Columns: recordColumns, Usual: "nde", Read: e.Client().NetworkZoneRecords,
	})
}

func newRecordShow(e *env) *cobra.Command {
	var v kit.ObjectView
	cmd := &cobra.Command{
		Use: "show ZONE RECORD", Short: "Show all of a record", Example: "  cuib network zone record show c.example.org www",
		Args: kit.Needs(2, 2), ValidArgsFunction: e.Complete(zoneNames, recordNames, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			r, _, err := e.Client().NetworkZoneRecord(cmd.Context(), args[0], args[1])
			return v.Show(e.Env, r, err)
		}),
	}
	v.Flags(cmd)
	return cmd
}

func newRecordEntry(e *env) *cobra.Command {
	return kit.Group("entry", "Add and remove values of a record", "  cuib network zone record entry add c.example.org www A 192.0.2.7", newEntryAdd(e), newEntryRemove(e))
}

// entryCommand completes a command on an entry of a record; args are ZONE
// RECORD TYPE VALUE.
func (e *env) entryCommand(cmd *cobra.Command, run func(ctx context.Context, name string, entry api.NetworkZoneRecordEntry) error) *cobra.Command {
	cmd.Args, cmd.ValidArgsFunction = kit.Needs(4, 4), e.Complete(zoneNames, recordNames, recordTypes, kit.None)
	cmd.RunE = kit.Named(1, func(cmd *cobra.Command, args []string) error {
		return run(cmd.Context(), args[0]+"/"+args[1], api.NetworkZoneRecordEntry{Type: strings.ToUpper(args[2]), Value: args[3]})
	})
	return cmd
}

// recordTypes completes the usual types of records.
func recordTypes(context.Context, *kit.Env, []string) ([]string, error) {
	return []string{"A", "AAAA", "CAA", "CNAME", "MX", "NS", "PTR", "SRV", "SSHFP", "TLSA", "TXT"}, nil
}

func newEntryAdd(e *env) *cobra.Command {
	var ttl uint64
	cmd := e.entryCommand(&cobra.Command{
		Use: "add ZONE RECORD TYPE VALUE", Short: "Add a value to a record",
		Long:    "Add a value to a record, in the form that zone files have it. Names in it are\nwhole ones, with or without a dot at their end.",
		Example: "  cuib network zone record entry add c.example.org www A 192.0.2.7\n  cuib network zone record entry add c.example.org @ MX \"10 mail.example.org.\" --ttl 3600",
	}, func(ctx context.Context, name string, entry api.NetworkZoneRecordEntry) error {
		entry.TTL = ttl
		return recordKind(e).Change(ctx, name, func(put *api.NetworkZoneRecordPut) error {
			put.Entries = append(put.Entries, entry)
			return nil
		})
	})
	cmd.Flags().Uint64Var(&ttl, "ttl", 0, "seconds for which others may keep it; 300 if none are given")
	return cmd
}

func newEntryRemove(e *env) *cobra.Command {
	return e.entryCommand(&cobra.Command{
		Use: "remove ZONE RECORD TYPE VALUE", Aliases: []string{"rm"}, Short: "Remove a value from a record",
		Example: "  cuib network zone record entry remove c.example.org www A 192.0.2.7",
	}, func(ctx context.Context, name string, entry api.NetworkZoneRecordEntry) error {
		return recordKind(e).Change(ctx, name, func(put *api.NetworkZoneRecordPut) error {
			before := len(put.Entries)
			put.Entries = slices.DeleteFunc(put.Entries, func(o api.NetworkZoneRecordEntry) bool { return o.Type == entry.Type && o.Value == entry.Value })
			if len(put.Entries) == before {
				of := recordOf(name)
				return errs.NotFoundf("record %q of network zone %q has no entry %s %q", of.Name, of.Zone, entry.Type, entry.Value)
			}
			return nil
		})
	})
}
