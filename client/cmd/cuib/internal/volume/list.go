package volume

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// An entry is a volume in a list. Its state is looked for only if a column
// shows it.
type entry struct {
	api.StorageVolume

	State *api.StorageVolumeState `json:"state,omitempty"`
}

var columns = []output.Column[entry]{
	{Key: 'p', Name: "POOL", Value: func(v entry) string { return v.Pool }},
	{Key: 't', Name: "TYPE", Value: typeOf},
	{Key: 'n', Name: "NAME", Value: func(v entry) string { return v.Name }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(v entry) string { return v.Description }},
	{Key: 'c', Name: "CONTENT TYPE", Value: func(v entry) string { return v.ContentType }},
	{Key: 'u', Name: "USED BY", Value: func(v entry) string { return kit.Count(v.UsedBy) }},
	{Key: 'U', Name: "DISK USAGE", Value: usage},
	{Key: 'S', Name: "SIZE", Value: func(v entry) string { return v.Config["size"] }},
	{Key: 'C', Name: "CREATED AT", Value: func(v entry) string { return kit.Date(v.CreatedAt) }},
	{Key: 'e', Name: "PROJECT", Value: func(v entry) string { return v.Project }},
	{Key: 'L', Name: "LOCATION", Value: func(v entry) string { return v.Location }},
}

func typeOf(v entry) string {
	if strings.Contains(v.Name, "/") {
		return v.Type + " (snapshot)"
	}
	return v.Type
}

func usage(v entry) string {
	if v.State == nil || v.State.Usage == nil {
		return ""
	}
	return kit.Size(v.State.Usage.Used)
}

const listLong = `List the volumes of a pool, or of all pools, that fit every one of the filters:

  data                 names that begin with "data"
  type=custom          type; also name=, content_type= and pool=
  user.owner=ann       a key of the configuration

Columns:

`

func newList(e *env) *cobra.Command {
	var v kit.ListView
	var projects kit.AllProjects
	cmd := &cobra.Command{
		Use: "list [POOL [FILTER...]]", Aliases: []string{"ls"}, Short: "List volumes",
		Long:    listLong + output.Describe(columns),
		Example: "  cuib storage volume list\n  cuib storage volume list default type=custom --columns nuU\n  cuib storage volume list default --format json",
		Args:    kit.Needs(0, -1), ValidArgsFunction: e.Complete(kit.Pools, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			var pool string
			var filters []string
			if len(args) > 0 {
				pool, filters = args[0], args[1:]
			}
			if pool != "" && !cmd.Flag("columns").Changed {
				v.Columns = strings.TrimPrefix(v.Columns, "p")
			}
			kit.AddColumn(projects, cmd, columns, &v)
			c, err := projects.Client(e.Env)
			if err != nil {
				return err
			}
			all, err := e.list(cmd.Context(), c, pool, filters)
			if err != nil {
				return err
			}
			if strings.ContainsRune(v.Columns, 'U') {
				if err := e.addStates(cmd.Context(), projects, all); err != nil {
					return err
				}
			}
			return kit.Show(e.Env, v, columns, all)
		}),
	}
	v.Flags(cmd, "ptndcu")
	projects.Flag(cmd)
	return cmd
}

// list returns the volumes of a pool, or of all pools that can be reached.
func (e *env) list(ctx context.Context, c *client.Client, pool string, filters []string) ([]entry, error) {
	pools := []string{pool}
	if pool == "" {
		var err error
		if pools, err = e.Client().StoragePoolNames(ctx); err != nil {
			return nil, err
		}
		slices.Sort(pools)
	}
	var out []entry
	for _, p := range pools {
		some, err := c.StorageVolumes(ctx, p)
		if errs.Is(err, errs.Unavailable) && pool == "" {
			e.Warn("Pool %s: %v", p, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, v := range some {
			v.Pool = p
			if fits(v, filters) {
				out = append(out, entry{StorageVolume: v})
			}
		}
	}
	return out, nil
}

func fits(v api.StorageVolume, filters []string) bool {
	for _, f := range filters {
		key, value, ok := strings.Cut(f, "=")
		if !ok && !strings.HasPrefix(v.Name, f) || ok && attribute(v, key) != value {
			return false
		}
	}
	return true
}

func attribute(v api.StorageVolume, key string) string {
	switch key {
	case "name":
		return v.Name
	case "type":
		return v.Type
	case "content_type":
		return v.ContentType
	case "pool":
		return v.Pool
	}
	return v.Config[strings.TrimPrefix(key, "config.")]
}

// addStates adds how much room the volumes take, which lists leave out: the
// daemon may have to look through all files for it.
func (e *env) addStates(ctx context.Context, projects kit.AllProjects, all []entry) error {
	for i, v := range all {
		if strings.Contains(v.Name, "/") || v.Type == "image" {
			continue // These have no state.
		}
		s, err := projects.Of(e.Env, v.Project).StorageVolumeState(ctx, client.Volume{Pool: v.Pool, Type: v.Type, Name: v.Name})
		switch {
		case errs.Is(err, errs.NotFound) || errs.Is(err, errs.Unsupported): // Deleted meanwhile, or nobody knows.
		case err != nil:
			return err
		default:
			all[i].State = &s
		}
	}
	return nil
}

func newInfo(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "info " + volumeArg, Short: "Show how much room a volume takes, who uses it, and its snapshots",
		Example: "  cuib storage volume info default data\n  cuib storage volume info default container/web",
		Args:    kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.Pools, kit.AllVolumes, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			v, err := volume(args[0], args[1])
			if err != nil {
				return err
			}
			return e.info(cmd.Context(), v)
		}),
	}
}

func (e *env) info(ctx context.Context, v client.Volume) error {
	now, _, err := e.Client().StorageVolume(ctx, v)
	if err != nil {
		return err
	}
	state, err := e.Client().StorageVolumeState(ctx, v)
	if err != nil && !errs.Is(err, errs.Unsupported) {
		return err
	}
	fmt.Fprintf(e.Out, "Name: %s\nPool: %s\n", now.Name, v.Pool)
	if now.Description != "" {
		fmt.Fprintf(e.Out, "Description: %s\n", output.Plain(now.Description))
	}
	fmt.Fprintf(e.Out, "Type: %s\nContent type: %s\n", now.Type, now.ContentType)
	if at := kit.Date(now.CreatedAt); at != "" {
		fmt.Fprintf(e.Out, "Created: %s\n", at)
	}
	if u := state.Usage; u != nil {
		fmt.Fprintf(e.Out, "Usage: %s%s\n", kit.Size(u.Used), ofTotal(u.Used, u.Total))
	}
	if u := state.Usage; u != nil && u.Total > 0 {
		fmt.Fprintf(e.Out, "Total: %s\n", kit.Size(u.Total))
	}
	e.WriteUsers(now.UsedBy)
	if v.Type == "image" {
		return nil // It has no snapshots.
	}
	all, err := snapshots(ctx, e.Client(), v)
	if err != nil || len(all) == 0 {
		return err
	}
	fmt.Fprint(e.Out, "\nSnapshots:\n")
	view := kit.ListView{Columns: usualSnapshotColumns, Format: "table"}
	return kit.Show(e.Env, view, snapshotColumns, all)
}

func ofTotal(used uint64, total int64) string {
	if total <= 0 {
		return ""
	}
	return " (" + kit.Percent(used, uint64(total)) + ")"
}
