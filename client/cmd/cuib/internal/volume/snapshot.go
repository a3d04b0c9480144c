package volume

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// A snapshotEntry is a snapshot in a list. Its project is said only if the list
// is of all of them.
type snapshotEntry struct {
	api.StorageVolumeSnapshot

	Project string `json:"project,omitempty"`
}

var snapshotColumns = []output.Column[snapshotEntry]{
	{Key: 'n', Name: "NAME", Value: func(s snapshotEntry) string { return kit.SnapshotName(s.Name) }},
	{Key: 'T', Name: "TAKEN AT", Value: func(s snapshotEntry) string { return kit.Date(s.CreatedAt) }},
	{Key: 'E', Name: "EXPIRES AT", Value: expiry},
	{Key: 'd', Name: "DESCRIPTION", Value: func(s snapshotEntry) string { return s.Description }},
	{Key: 'e', Name: "PROJECT", Value: func(s snapshotEntry) string { return s.Project }},
}

const usualSnapshotColumns = "nTE"

func expiry(s snapshotEntry) string {
	if s.ExpiresAt == nil {
		return ""
	}
	return kit.Date(*s.ExpiresAt)
}

// snapshots returns the snapshots of a volume.
func snapshots(ctx context.Context, c *client.Client, v client.Volume) ([]snapshotEntry, error) {
	all, err := c.StorageVolumeSnapshots(ctx, v)
	out := make([]snapshotEntry, len(all))
	for i, s := range all {
		out[i].StorageVolumeSnapshot = s
	}
	return out, err
}

// listSnapshots returns the snapshots of a volume, or of the volumes of that name
// in all projects.
func (e *env) listSnapshots(ctx context.Context, projects kit.AllProjects, v client.Volume) ([]snapshotEntry, error) {
	c, err := projects.Client(e.Env)
	if err != nil {
		return nil, err
	}
	if !projects.Set {
		return snapshots(ctx, c, v)
	}
	volumes, err := c.StorageVolumes(ctx, v.Pool)
	if err != nil {
		return nil, err
	}
	var out []snapshotEntry
	for _, one := range volumes {
		if one.Name != v.Name || one.Type != v.Type {
			continue
		}
		some, err := snapshots(ctx, projects.Of(e.Env, one.Project), v)
		if err != nil && !errs.Is(err, errs.NotFound) { // Deleted meanwhile.
			return nil, err
		}
		for i := range some {
			some[i].Project = one.Project
		}
		out = append(out, some...)
	}
	slices.SortStableFunc(out, func(a, b snapshotEntry) int { return strings.Compare(a.Project, b.Project) })
	return out, nil
}

func newSnapshot(e *env) *cobra.Command {
	return kit.Group("snapshot", "Keep and restore states of custom volumes",
		"  cuib storage volume snapshot create default data before\n  cuib storage volume snapshot restore default data before",
		newSnapshotCreate(e), newSnapshotDelete(e), newSnapshotDiff(e), newSnapshotEdit(e), newSnapshotList(e), newSnapshotRename(e), newRestore(e, "storage volume snapshot restore"),
		newSnapshotShow(e))
}

type snapshotOptions struct {
	noExpiry, reuse      bool
	expires, description string
}

func newSnapshotCreate(e *env) *cobra.Command {
	var o snapshotOptions
	cmd := &cobra.Command{
		Use: "create POOL VOLUME [SNAPSHOT]", Short: "Make a snapshot of a volume",
		Long:    "Make a snapshot of a volume, which can be in use. Without a name the pattern\nsnapshots.pattern of the volume names it.",
		Example: "  cuib storage volume snapshot create default data before\n  cuib storage volume snapshot create default data --expires 2w",
		Args:    kit.Needs(2, 3), ValidArgsFunction: e.Complete(kit.Pools, kit.Volumes, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error { return e.createSnapshot(cmd.Context(), o, args) }),
	}
	f := cmd.Flags()
	f.BoolVar(&o.noExpiry, "no-expiry", false, "keep it for ever, whatever the volume's configuration says")
	f.BoolVar(&o.reuse, "reuse", false, "replace a snapshot of that name")
	kit.ExpiryFlag(f, &o.expires)
	f.StringVar(&o.description, "description", "", "text that describes the snapshot")
	return cmd
}

func (e *env) createSnapshot(ctx context.Context, o snapshotOptions, args []string) error {
	v, err := volume(args[0], args[1])
	if err != nil {
		return err
	}
	var req api.StorageVolumeSnapshotsPost
	if err := e.PipedYAML(&req); err != nil {
		return err
	}
	req.Replace = req.Replace || o.reuse
	if len(args) == 3 {
		req.Name = args[2]
	}
	if o.description != "" {
		req.Description = o.description
	}
	switch {
	case o.noExpiry:
		req.ExpiresAt = &time.Time{}
	case o.expires != "":
		at, err := kit.ParseExpiry(o.expires, time.Now())
		if err != nil {
			return err
		}
		req.ExpiresAt = &at
	}
	op, err := e.Client().CreateStorageVolumeSnapshot(ctx, v, req)
	if err := e.Wait(ctx, op, err); err != nil || req.Name != "" {
		return err
	}
	if name := op.Made("storage_volume_snapshots"); name != "" {
		e.Say("Created %s", name)
	}
	return nil
}

func (e *env) deleteSnapshot(ctx context.Context, v client.Volume, name string) error {
	op, err := e.Client().DeleteStorageVolumeSnapshot(ctx, v, name)
	return e.Wait(ctx, op, err)
}

func (e *env) renameSnapshot(ctx context.Context, v client.Volume, name, to string) error {
	op, err := e.Client().RenameStorageVolumeSnapshot(ctx, v, name, to)
	return e.Wait(ctx, op, err)
}

func newSnapshotDelete(e *env) *cobra.Command {
	var interactive bool
	cmd := &cobra.Command{
		Use: "delete POOL VOLUME SNAPSHOT...", Aliases: []string{"rm"}, Short: "Delete snapshots of a volume",
		Example: "  cuib storage volume snapshot delete default data before",
		Args:    kit.Needs(2, -1), ValidArgsFunction: e.Complete(kit.Pools, kit.Volumes, kit.VolumeSnapshots),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			v, first, err := parse(args[0], args[1])
			if err != nil {
				return err
			}
			names := args[2:]
			if first != "" {
				names = append([]string{first}, names...)
			}
			if len(names) == 0 {
				return errs.Invalidf("no snapshot given: usage: %s", cmd.UseLine())
			}
			if interactive && !e.Confirm("Delete "+strings.Join(names, ", ")+"?") {
				return errs.Newf(errs.Canceled, "nothing deleted")
			}
			for _, name := range names {
				if err := e.deleteSnapshot(cmd.Context(), v, name); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	cmd.Flags().BoolVarP(&interactive, "interactive", "i", false, "ask before")
	return cmd
}

func newSnapshotList(e *env) *cobra.Command {
	var view kit.ListView
	var projects kit.AllProjects
	cmd := &cobra.Command{
		Use: "list POOL VOLUME", Aliases: []string{"ls"}, Short: "List the snapshots of a volume",
		Long:    "List the snapshots of a volume. Columns:\n\n" + output.Describe(snapshotColumns),
		Example: "  cuib storage volume snapshot list default data\n  cuib storage volume snapshot list default data --format csv --columns n",
		Args:    kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.Pools, kit.Volumes, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			v, err := volume(args[0], args[1])
			if err != nil {
				return err
			}
			all, err := e.listSnapshots(cmd.Context(), projects, v)
			if err != nil {
				return err
			}
			kit.AddColumn(projects, cmd, snapshotColumns, &view)
			return kit.Show(e.Env, view, snapshotColumns, all)
		}),
	}
	view.Flags(cmd, usualSnapshotColumns)
	projects.Flag(cmd)
	return cmd
}

// onSnapshot completes a command that does run with one snapshot.
func (e *env) onSnapshot(cmd *cobra.Command, run func(ctx context.Context, v client.Volume, snapshot string) error) *cobra.Command {
	cmd.Args, cmd.ValidArgsFunction = kit.Needs(2, 3), e.Complete(kit.Pools, kit.Volumes, kit.VolumeSnapshots, kit.None)
	cmd.RunE = kit.Named(1, func(cmd *cobra.Command, args []string) error {
		v, snapshot, err := snapshotOf(args)
		if err != nil {
			return err
		}
		return run(cmd.Context(), v, snapshot)
	})
	return cmd
}

func newSnapshotShow(e *env) *cobra.Command {
	var view kit.ObjectView
	cmd := e.onSnapshot(&cobra.Command{
		Use: "show POOL VOLUME SNAPSHOT", Short: "Show all of a snapshot of a volume",
		Example: "  cuib storage volume snapshot show default data before",
	}, func(ctx context.Context, v client.Volume, snapshot string) error {
		s, _, err := e.Client().StorageVolumeSnapshot(ctx, v, snapshot)
		return view.Show(e.Env, s, err)
	})
	view.Flags(cmd)
	return cmd
}

func newSnapshotEdit(e *env) *cobra.Command {
	return e.onSnapshot(&cobra.Command{
		Use: "edit POOL VOLUME SNAPSHOT", Short: "Edit when a snapshot expires, and what describes it",
		Example: "  cuib storage volume snapshot edit default data before",
	}, func(ctx context.Context, v client.Volume, snapshot string) error {
		return e.Edit(ctx, kit.Edit{
			Help: kit.EditHelp,
			Read: func() (any, string, error) {
				s, etag, err := e.Client().StorageVolumeSnapshot(ctx, v, snapshot)
				return s.StorageVolumeSnapshotPut, etag, err
			},
			Write: func(text []byte, etag string) error {
				up := client.SnapshotUpdate{ETag: etag}
				if err := output.ParseYAMLPart[api.StorageVolumeSnapshot](text, &up.StorageVolumeSnapshotPut); err != nil {
					return err
				}
				return e.Client().UpdateStorageVolumeSnapshot(ctx, v, snapshot, up)
			},
		})
	})
}

// newRestore returns the command, which is in two places.
func newRestore(e *env, command string) *cobra.Command {
	return e.onSnapshot(&cobra.Command{
		Use: "restore POOL VOLUME SNAPSHOT", Short: "Put a volume back to a snapshot",
		Long:    "Put a custom volume back to a snapshot. No instance that uses it may run.",
		Example: "  cuib " + command + " default data before",
	}, func(ctx context.Context, v client.Volume, snapshot string) error {
		op, err := e.Client().RestoreStorageVolume(ctx, v, snapshot)
		return e.Wait(ctx, op, err)
	})
}

func newSnapshotRename(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "rename POOL VOLUME SNAPSHOT NAME", Short: "Rename a snapshot of a volume",
		Example: "  cuib storage volume snapshot rename default data before clean",
		Args:    kit.Needs(4, 4), ValidArgsFunction: e.Complete(kit.Pools, kit.Volumes, kit.VolumeSnapshots, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			v, err := volume(args[0], args[1])
			if err != nil {
				return err
			}
			return e.renameSnapshot(cmd.Context(), v, args[2], args[3])
		}),
	}
}

func newSnapshotDiff(e *env) *cobra.Command {
	var view kit.ChangesView
	cmd := &cobra.Command{
		Use: "diff POOL VOLUME [SNAPSHOT [SNAPSHOT]]", Short: "Show which files of a volume changed",
		Long:    "Show which files of a volume changed since a snapshot, the newest one if none is\ngiven, or between two.\n\n" + kit.DiffHelp,
		Example: "  cuib storage volume snapshot diff default data\n  cuib storage volume snapshot diff default data before after --format json",
		Args:    kit.Needs(2, 4), ValidArgsFunction: e.Complete(kit.Pools, kit.Volumes, kit.VolumeSnapshots, kit.VolumeSnapshots, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			v, err := volume(args[0], args[1])
			if err != nil {
				return err
			}
			all, err := e.Client().StorageVolumeChanges(cmd.Context(), v, kit.SpanOf(args[2:]))
			return view.Show(e.Env, all, err)
		}),
	}
	view.Flags(cmd)
	return cmd
}
