package instance

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

var snapshotColumns = []output.Column[api.InstanceSnapshot]{
	{Key: 'n', Name: "NAME", Value: func(s api.InstanceSnapshot) string { return kit.SnapshotName(s.Name) }},
	{Key: 'T', Name: "TAKEN AT", Value: func(s api.InstanceSnapshot) string { return kit.Date(s.CreatedAt) }},
	{Key: 'E', Name: "EXPIRES AT", Value: func(s api.InstanceSnapshot) string { return kit.Date(s.ExpiresAt) }},
	{Key: 's', Name: "STATEFUL", Value: func(s api.InstanceSnapshot) string { return kit.YesNo(s.Stateful) }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(s api.InstanceSnapshot) string { return s.Description }},
}

func newSnapshot(e *env) *cobra.Command {
	cmd := kit.Group("snapshot", "Keep and restore states of instances",
		"  cuib snapshot create web before-upgrade\n  cuib snapshot restore web before-upgrade",
		newSnapshotCreate(e), newSnapshotDelete(e), newSnapshotDiff(e), newSnapshotList(e), newSnapshotRename(e), newSnapshotRestore(e), newSnapshotShow(e),
	)
	cmd.SuggestFor = []string{"restore"} // As LXD has it.
	return cmd
}

type snapshotOptions struct {
	stateful, noExpiry, reuse, volumes bool
	expires, description               string
}

// withVolumes is what the API calls the custom volumes that no other instance
// has.
const withVolumes = "all-exclusive"

func newSnapshotCreate(e *env) *cobra.Command {
	var o snapshotOptions
	cmd := &cobra.Command{
		Use:     "create INSTANCE [SNAPSHOT]",
		Short:   "Make a snapshot of an instance",
		Long:    "Make a snapshot of an instance, running or not. Without a name the pattern\nsnapshots.pattern of the instance names it.",
		Example: "  cuib snapshot create web fresh\n  cuib snapshot create web --expires 2w",
		Args:    kit.Needs(1, 2), ValidArgsFunction: e.Complete(kit.Instances, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error { return e.createSnapshot(cmd.Context(), o, args) }),
	}
	f := cmd.Flags()
	f.BoolVar(&o.stateful, "stateful", false, "refused: the memory of an instance cannot be kept")
	f.BoolVar(&o.noExpiry, "no-expiry", false, "keep it for ever, whatever the instance's configuration says")
	f.BoolVar(&o.volumes, "volumes", false, "make one of each custom volume that only this instance has, too")
	f.BoolVar(&o.reuse, "reuse", false, "replace a snapshot of that name")
	kit.ExpiryFlag(f, &o.expires)
	f.StringVar(&o.description, "description", "", "text that describes the snapshot")
	return cmd
}

// expiry puts into a request when the snapshot expires.
func (o snapshotOptions) expiry(req *api.InstanceSnapshotsPost) error {
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
	return nil
}

func (e *env) createSnapshot(ctx context.Context, o snapshotOptions, args []string) error {
	var req api.InstanceSnapshotsPost
	if err := e.PipedYAML(&req); err != nil {
		return err
	}
	req.Stateful = req.Stateful || o.stateful
	req.Replace = req.Replace || o.reuse
	if o.description != "" {
		req.Description = o.description
	}
	if o.volumes {
		req.Volumes = withVolumes
	}
	if len(args) == 2 {
		req.Name = args[1]
	}
	if err := o.expiry(&req); err != nil {
		return err
	}
	op, err := e.Client().CreateSnapshot(ctx, args[0], req)
	if err := e.Wait(ctx, op, err); err != nil || req.Name != "" {
		return err
	}
	if name := op.Made("instances_snapshots"); name != "" {
		e.Say("Created %s", name)
	}
	return nil
}

func newSnapshotDelete(e *env) *cobra.Command {
	var interactive bool
	cmd := &cobra.Command{
		Use: "delete INSTANCE SNAPSHOT...", Aliases: []string{"rm"}, Short: "Delete snapshots",
		Example: "  cuib snapshot delete web fresh",
		Args:    kit.Needs(2, -1), ValidArgsFunction: e.Complete(kit.Instances, kit.Snapshots),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			if interactive && !e.Confirm("Delete "+strings.Join(args[1:], ", ")+"?") {
				return errs.Newf(errs.Canceled, "nothing deleted")
			}
			if len(args) == 2 {
				op, err := e.Client().DeleteSnapshot(cmd.Context(), args[0], args[1])
				return e.Wait(cmd.Context(), op, err)
			}
			op, err := e.Client().DeleteSnapshots(cmd.Context(), args[0], args[1:])
			return e.Wait(cmd.Context(), op, err)
		}),
	}
	cmd.Flags().BoolVarP(&interactive, "interactive", "i", false, "ask before")
	return cmd
}

func newSnapshotList(e *env) *cobra.Command {
	return kit.ListPartsCommand(e.Env, kit.PartLister[api.InstanceSnapshot]{
		Use: "list INSTANCE", Short: "List the snapshots of an instance",
		Example: "  cuib snapshot list web\n  cuib snapshot list web --format csv --columns nT",
		Of:      kit.Instances, Columns: snapshotColumns, Usual: "nTEs", Read: e.Client().Snapshots,
		Brief: func(ctx context.Context, name string) ([]api.InstanceSnapshot, error) {
			all, err := e.Client().SnapshotSummaries(ctx, name)
			return fromSummaries(all), err
		},
	})
}

// fromSummaries are snapshots with as much as their table shows.
func fromSummaries(summaries []api.SnapshotSummary) []api.InstanceSnapshot {
	out := make([]api.InstanceSnapshot, 0, len(summaries))
	for _, s := range summaries {
		out = append(out, api.InstanceSnapshot{
			InstanceSnapshotPut: api.InstanceSnapshotPut{ExpiresAt: s.ExpiresAt, Description: s.Description},
			Name:                s.Name, Stateful: s.Stateful, CreatedAt: s.CreatedAt,
		})
	}
	return out
}

func newSnapshotRename(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "rename INSTANCE SNAPSHOT NAME", Short: "Rename a snapshot",
		Example: "  cuib snapshot rename web fresh clean",
		Args:    kit.Needs(3, 3), ValidArgsFunction: e.Complete(kit.Instances, kit.Snapshots, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			op, err := e.Client().RenameSnapshot(cmd.Context(), args[0], args[1], args[2])
			return e.Wait(cmd.Context(), op, err)
		}),
	}
}

func newSnapshotRestore(e *env) *cobra.Command {
	var what client.Restoration
	var volumes bool
	cmd := &cobra.Command{
		Use: "restore INSTANCE SNAPSHOT", Short: "Put an instance back to a snapshot",
		Example: "  cuib snapshot restore web fresh\n  cuib snapshot restore web fresh --volumes",
		Args:    kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.Instances, kit.Snapshots),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			what.Snapshot = args[1]
			if volumes {
				what.Volumes = withVolumes
			}
			op, err := e.Client().RestoreSnapshot(cmd.Context(), args[0], what)
			return e.Wait(cmd.Context(), op, err)
		}),
	}
	cmd.Flags().BoolVar(&what.Stateful, "stateful", false, "refused: no snapshot has the memory of an instance")
	cmd.Flags().BoolVar(&volumes, "volumes", false, "restore the custom volumes that only this instance has, too")
	return cmd
}

func newSnapshotShow(e *env) *cobra.Command {
	var o kit.ObjectView
	cmd := &cobra.Command{
		Use: "show INSTANCE SNAPSHOT", Short: "Show all of a snapshot",
		Example: "  cuib snapshot show web fresh",
		Args:    kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.Instances, kit.Snapshots),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			s, _, err := e.Client().Snapshot(cmd.Context(), args[0], args[1])
			return o.Show(e.Env, s, err)
		}),
	}
	o.Flags(cmd)
	return cmd
}

func newSnapshotDiff(e *env) *cobra.Command {
	var view kit.ChangesView
	cmd := &cobra.Command{
		Use: "diff INSTANCE [SNAPSHOT [SNAPSHOT]]", Short: "Show which files of an instance changed",
		Long:    "Show which files of an instance changed since a snapshot, the newest one if none\nis given, or between two.\n\n" + kit.DiffHelp,
		Example: "  cuib snapshot diff web\n  cuib snapshot diff web fresh --format json\n  cuib snapshot diff web before after",
		Args:    kit.Needs(1, 3), ValidArgsFunction: e.Complete(kit.Instances, kit.Snapshots, kit.Snapshots, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			all, err := e.Client().InstanceChanges(cmd.Context(), args[0], kit.SpanOf(args[1:]))
			return view.Show(e.Env, all, err)
		}),
	}
	view.Flags(cmd)
	return cmd
}
