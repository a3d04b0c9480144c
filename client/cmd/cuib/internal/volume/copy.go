package volume

import (
	"context"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

type copyOptions struct {
	volumeOnly, refresh, excludeOlder bool

	target kit.Target
}

func newCopy(e *env) *cobra.Command {
	var o copyOptions
	cmd := &cobra.Command{
		Use: "copy POOL/VOLUME[/SNAPSHOT] POOL/VOLUME", Aliases: []string{"cp"}, Short: "Copy a custom volume, within a pool or to another one, or to another project",
		Long:    "Copy a custom volume with its snapshots, or make a volume of one snapshot. With\n--refresh a copy that exists gets what it lacks: snapshots, and what changed.",
		Example: "  cuib storage volume copy default/data fast/data\n  cuib storage volume copy default/data/before default/rescued\n  cuib storage volume copy --refresh default/data backup/data\n  cuib storage volume copy default/data fast/data --target-project lab",
		Args:    kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.PoolVolumes),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error { return e.copy(cmd.Context(), o, args) }),
	}
	f := cmd.Flags()
	f.BoolVar(&o.volumeOnly, "volume-only", false, "leave the snapshots out")
	f.BoolVar(&o.refresh, "refresh", false, "bring a copy that exists up to date; its own snapshots stay")
	f.BoolVar(&o.excludeOlder, "refresh-exclude-older", false, "with --refresh: leave out snapshots that are older than the newest one of the copy")
	kit.ModeFlag(cmd)
	o.target.Flag(e.Env, cmd)
	return cmd
}

func (e *env) copy(ctx context.Context, o copyOptions, args []string) error {
	from, snapshot, err := joined(args[0])
	if err != nil {
		return err
	}
	to, err := target(args[1])
	if err != nil {
		return err
	}
	if o.excludeOlder && !o.refresh {
		return errs.Invalidf("--refresh-exclude-older is for --refresh")
	}
	req := api.StorageVolumesPost{Name: to.Name, Type: from.Type, Source: api.StorageVolumeSource{
		Type: "copy", Pool: from.Pool, Name: from.Name, VolumeOnly: o.volumeOnly, Refresh: o.refresh, RefreshExcludeOlder: o.excludeOlder,
	}}
	if req.Source.Project, _, err = o.target.Projects(e.Env); err != nil {
		return err
	}
	if err := e.copyOf(ctx, from, snapshot, &req); err != nil {
		return err
	}
	op, err := o.target.Client(e.Env).CreateStorageVolume(ctx, to.Pool, req)
	if err := e.WaitFor(ctx, "Copying "+from.Name+": ", op, err); err != nil {
		return err
	}
	e.Say("Storage volume %s copied to %s/%s", args[0], to.Pool, to.Name)
	return nil
}

// copyOf fills in what the copy has from its source. Keys of the kind volatile
// belong to the source alone.
func (e *env) copyOf(ctx context.Context, from client.Volume, snapshot string, req *api.StorageVolumesPost) error {
	now, _, err := e.Client().StorageVolume(ctx, from)
	if err != nil {
		return err
	}
	req.ContentType, req.Description, req.Config = now.ContentType, now.Description, now.Config
	if snapshot != "" {
		s, _, err := e.Client().StorageVolumeSnapshot(ctx, from, snapshot)
		if err != nil {
			return err
		}
		req.Source.Name += "/" + snapshot
		req.Description, req.Config = s.Description, s.Config
	}
	maps.DeleteFunc(req.Config, func(key, _ string) bool { return strings.HasPrefix(key, "volatile.") })
	return nil
}

// target parses POOL/VOLUME where a volume is to be made.
func target(arg string) (client.Volume, error) {
	to, snapshot, err := joined(arg)
	switch {
	case err != nil:
		return to, err
	case snapshot != "":
		return to, errs.Invalidf("target %q is a snapshot: want POOL/VOLUME", arg)
	case to.Type != kit.CustomVolume:
		return to, errs.Invalidf("target %q has the type %q: only custom volumes are made so", arg, to.Type)
	}
	return to, nil
}

func newMove(e *env) *cobra.Command {
	var to kit.Target
	cmd := &cobra.Command{
		Use: "move POOL/VOLUME POOL/NAME", Aliases: []string{"mv"}, Short: "Move a custom volume to another pool or project, or rename it",
		Long:    "Move a custom volume with its snapshots to another pool or project, or rename it.\nWhat uses it must be stopped. The source is removed last: a move that was broken\noff can be repeated.",
		Example: "  cuib storage volume move default/data fast/data\n  cuib storage volume move default/data fast/data --target-project lab",
		Args:    kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.PoolVolumes),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error { return e.move(cmd.Context(), to, args) }),
	}
	kit.ModeFlag(cmd)
	to.Flag(e.Env, cmd)
	return cmd
}

func (e *env) move(ctx context.Context, goal kit.Target, args []string) error {
	from, snapshot, err := joined(args[0])
	if err != nil {
		return err
	}
	if snapshot != "" {
		to, name, err := joined(args[1])
		if err != nil || goal != (kit.Target{}) || to != from || name == "" {
			return errs.Invalidf("snapshot %q can only be renamed to %s/%s/NAME", args[0], from.Pool, from.Name)
		}
		return e.renameSnapshot(ctx, from, snapshot, name)
	}
	to, err := target(args[1])
	if err != nil {
		return err
	}
	_, project, err := goal.Projects(e.Env)
	if err != nil {
		return err
	}
	req := api.StorageVolumePost{Name: to.Name, Project: project}
	if to.Pool != from.Pool {
		req.Pool = to.Pool
	}
	op, err := e.Client().MoveStorageVolume(ctx, from, req)
	if err := e.WaitFor(ctx, "Moving "+from.Name+": ", op, err); err != nil {
		return err
	}
	e.Say("Storage volume %s moved to %s", args[0], args[1])
	return nil
}
