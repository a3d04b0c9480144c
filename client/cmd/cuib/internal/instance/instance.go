package instance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

func newDelete(e *env) *cobra.Command {
	var force, interactive, all bool
	cmd := &cobra.Command{
		Use:               "delete INSTANCE...",
		Aliases:           []string{"rm"},
		Short:             "Delete instances and their snapshots",
		Long:              "Delete instances and their snapshots, some at a time. That one cannot be deleted\ndoes not keep the others.",
		Example:           "  cuib delete web\n  cuib delete --force web db\n  cuib delete --all --interactive",
		ValidArgsFunction: e.Complete(kit.Instances),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error {
			args, err := e.chosen(cmd.Context(), args, all)
			if err != nil || len(args) == 0 {
				return err
			}
			if interactive && !e.Confirm("Delete "+strings.Join(args, ", ")+"?") {
				return errs.Newf(errs.Canceled, "nothing deleted")
			}
			remove := e.deleteInstance
			if force {
				remove = e.forceDelete
			}
			return e.each(args, func(name string) error { return remove(cmd.Context(), name) })
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "stop running instances first")
	cmd.Flags().BoolVarP(&interactive, "interactive", "i", false, "ask before")
	cmd.Flags().BoolVar(&all, "all", false, "all instances")
	return cmd
}

// chosen returns the names that were given, or those of all instances.
func (e *env) chosen(ctx context.Context, names []string, all bool) ([]string, error) {
	switch {
	case all && len(names) > 0:
		return nil, errs.Invalidf("give either names or --all")
	case all:
		return e.Client().InstanceNames(ctx)
	case len(names) == 0:
		return nil, errs.Invalidf("no instance given: name some, or say --all")
	}
	return names, nil
}

// deleteInstance deletes an instance or, for INSTANCE/SNAPSHOT, a snapshot.
func (e *env) deleteInstance(ctx context.Context, name string) error {
	c := e.Client()
	if instance, snapshot, ok := strings.Cut(name, "/"); ok {
		op, err := c.DeleteSnapshot(ctx, instance, snapshot)
		return e.Wait(ctx, op, err)
	}
	op, err := c.DeleteInstance(ctx, name)
	return e.Wait(ctx, op, err)
}

// forceDelete is [env.deleteInstance] that stops the instance if it must.
func (e *env) forceDelete(ctx context.Context, name string) error {
	err := e.deleteInstance(ctx, name)
	if !errs.Is(err, errs.Conflict) && !errs.Is(err, errs.Invalid) {
		return err
	}
	c := e.Client()
	in, _, gerr := c.Instance(ctx, name)
	if gerr != nil {
		return err
	}
	op, serr := c.SetInstanceState(ctx, name, api.InstanceStatePut{Action: "stop", Force: true, Timeout: -1})
	serr = e.Wait(ctx, op, serr)
	if serr == nil && in.Ephemeral {
		return nil // Its stop deletes it.
	}
	// One that does not run has ended just now, or is stopped for long: why it
	// could not be deleted then is what the second try says.
	if serr != nil && !errs.Is(serr, errs.Conflict) && !errs.Is(serr, errs.Invalid) {
		return fmt.Errorf("stop it first: %w", serr)
	}
	return e.deleteInstance(ctx, name)
}

func newRename(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "rename INSTANCE NAME",
		Short:   "Rename a stopped instance",
		Example: "  cuib rename web www",
		Args:    kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.Instances, kit.None),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error {
			return e.rename(cmd.Context(), args[0], api.InstancePost{Name: args[1]})
		}),
	}
}

func (e *env) rename(ctx context.Context, name string, req api.InstancePost) error {
	op, err := e.Client().RenameInstance(ctx, name, req)
	return e.Wait(ctx, op, err)
}

type moveOptions struct {
	createOptions

	instanceOnly, stateless, allowInconsistent bool

	target kit.Target
}

// transferFlags adds the flags that copy and move have in common.
func (o *moveOptions) transferFlags(e *env, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&o.config, "config", "c", nil, "key=value to change")
	f.StringArrayVarP(&o.devices, "device", "d", nil, "device option to change, as name,key=value")
	f.StringArrayVarP(&o.profiles, "profile", "p", nil, "profile, instead of those that it has; again for more")
	f.StringVarP(&o.storage, "storage", "s", "", "storage pool, instead of the one that it is in")
	f.BoolVar(&o.noProfiles, "no-profiles", false, "use no profile at all")
	f.BoolVar(&o.instanceOnly, "instance-only", false, "leave the snapshots out")
	f.BoolVar(&o.stateless, "stateless", false, "accepted: no memory of an instance is kept")
	f.BoolVar(&o.allowInconsistent, "allow-inconsistent", false, "accepted: what is copied is always of one moment")
	kit.ModeFlag(cmd)
	o.target.Flag(e.Env, cmd)
	e.CompleteFlag(cmd, "config", kit.InstanceSettings)
	e.CompleteFlag(cmd, "profile", o.target.Names((*client.Client).ProfileNames))
	e.CompleteFlag(cmd, "storage", kit.Pools)
}

func newMove(e *env) *cobra.Command {
	var o moveOptions
	cmd := &cobra.Command{
		Use: "move INSTANCE [NAME]", Aliases: []string{"mv"}, Short: "Move a stopped instance to another pool or project, or rename it or a snapshot",
		Long:    "Rename a stopped instance, or move it, with its snapshots: with --storage to\nanother storage pool, with --target-project to another project, where it needs\nprofiles of the same names, or others as --profile says. The source is removed\nlast: a move that was broken off can be repeated.\n\nINSTANCE/SNAPSHOT renames a snapshot.",
		Example: "  cuib move web www\n  cuib move web --storage fast\n  cuib move web --target-project lab\n  cuib move web/before web/after",
		Args:    kit.Needs(1, 2), ValidArgsFunction: e.Complete(kit.Instances, kit.None),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				args = append(args, args[0])
			}
			return e.move(cmd.Context(), o, args[0], args[1])
		}),
	}
	o.transferFlags(e, cmd)
	return cmd
}

func (e *env) move(ctx context.Context, o moveOptions, from, to string) error {
	instance, snapshot, isSnapshot := strings.Cut(from, "/")
	if isSnapshot {
		toInstance, toSnapshot, ok := strings.Cut(to, "/")
		if !ok || toInstance != instance || o.target != (kit.Target{}) {
			return errs.Invalidf("snapshot %q can only be renamed to %s/NAME", from, instance)
		}
		op, err := e.Client().RenameSnapshot(ctx, instance, snapshot, toSnapshot)
		return e.Wait(ctx, op, err)
	}
	_, project, err := o.target.Projects(e.Env)
	if err != nil {
		return err
	}
	req := api.InstancePost{Name: to, Project: project}
	if err := e.moveRequest(ctx, o, from, &req); err != nil {
		return err
	}
	if req.Name == from && !req.Migration {
		return errs.Invalidf("%q stays where it is: give another name, a pool with --storage, or a project with --target-project", from)
	}
	op, err := e.Client().RenameInstance(ctx, from, req)
	return e.WaitFor(ctx, "Moving "+from+": ", op, err)
}

// moveRequest fills in what is more than a name.
func (e *env) moveRequest(ctx context.Context, o moveOptions, from string, req *api.InstancePost) error {
	changes := len(o.config) > 0 || len(o.devices) > 0 || len(o.profiles) > 0 || o.noProfiles
	if o.storage == "" && req.Project == "" && !changes {
		return nil
	}
	req.Migration, req.Pool, req.InstanceOnly = true, o.storage, o.instanceOnly
	if !changes {
		return nil
	}
	var put api.InstancePut
	if err := e.copySource(ctx, from, &put); err != nil {
		return err
	}
	change := o.createOptions
	change.storage = "" // The request says it.
	if err := e.applyChanges(ctx, o.target.Client(e.Env), change, &put); err != nil {
		return err
	}
	req.Config, req.Devices, req.Profiles = put.Config, put.Devices, put.Profiles
	return nil
}

type copyOptions struct {
	moveOptions

	refresh, excludeOlder bool
}

func newCopy(e *env) *cobra.Command {
	var o copyOptions
	cmd := &cobra.Command{
		Use:     "copy INSTANCE[/SNAPSHOT] [NAME]",
		Aliases: []string{"cp"},
		Short:   "Make an instance of another one or of a snapshot",
		Long:    "Copy an instance, running or not, with its snapshots, or make an instance of one\nsnapshot. With --refresh a stopped copy that exists gets what it lacks: snapshots,\nand what changed.\n\nIn another project, which --target-project says, the copy needs profiles of the\nsame names, or others as --profile says.",
		Example: "  cuib copy web test\n  cuib copy web/fresh test -c limits.cpu=1\n  cuib copy web web-backup --storage slow --refresh\n  cuib copy web test --target-project lab",
		Args:    kit.Needs(1, 2), ValidArgsFunction: e.CompleteSource(kit.None),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error { return e.copy(cmd.Context(), o, args) }),
	}
	o.transferFlags(e, cmd)
	f := cmd.Flags()
	f.BoolVarP(&o.ephemeral, "ephemeral", "e", false, "delete the copy when it stops")
	f.BoolVar(&o.refresh, "refresh", false, "bring a copy that exists up to date; its own snapshots stay")
	f.BoolVar(&o.excludeOlder, "refresh-exclude-older", false, "with --refresh: leave out snapshots that are older than the newest one of the copy")
	return cmd
}

func (e *env) copy(ctx context.Context, o copyOptions, args []string) error {
	if o.excludeOlder && !o.refresh {
		return errs.Invalidf("--refresh-exclude-older is for --refresh")
	}
	req := api.InstancesPost{Type: "container"}
	if len(args) == 2 {
		req.Name = args[1]
	}
	if o.refresh && req.Name == "" {
		return errs.Invalidf("--refresh needs the name of the copy")
	}
	req.Source = api.InstanceSource{
		Type: "copy", Source: args[0], InstanceOnly: o.instanceOnly, Refresh: o.refresh, RefreshExclude: o.excludeOlder,
		AllowInconsistent: o.allowInconsistent,
	}
	var err error
	if req.Source.Project, _, err = o.target.Projects(e.Env); err != nil {
		return err
	}
	if err := e.copySource(ctx, args[0], &req.InstancePut); err != nil {
		return err
	}
	req.Ephemeral, req.Stateful = o.ephemeral, req.Stateful && !o.stateless
	to := o.target.Client(e.Env)
	if err := e.applyChanges(ctx, to, o.createOptions, &req.InstancePut); err != nil {
		return err
	}
	op, err := to.CreateInstance(ctx, req)
	if err := e.WaitFor(ctx, "Copying "+args[0]+": ", op, err); err != nil {
		return err
	}
	if req.Name == "" {
		e.Say("Created %s", op.Made("instances"))
	}
	return nil
}

// applyChanges puts the flags for profiles, configuration and devices into an
// instance, whose profiles c knows.
func (e *env) applyChanges(ctx context.Context, c *client.Client, o createOptions, put *api.InstancePut) error {
	switch {
	case o.noProfiles:
		put.Profiles = []string{}
	case len(o.profiles) > 0:
		put.Profiles = o.profiles
	}
	if err := o.applyConfig(put); err != nil {
		return err
	}
	return applyDevices(ctx, c, o, put)
}

// copySource fills in what the copy has from its source. Keys of the kind
// volatile belong to the source alone, except those that say what image it is
// of.
func (e *env) copySource(ctx context.Context, source string, put *api.InstancePut) error {
	instance, snapshot, isSnapshot := strings.Cut(source, "/")
	if isSnapshot {
		s, _, err := e.Client().Snapshot(ctx, instance, snapshot)
		if err != nil {
			return err
		}
		put.Architecture, put.Config, put.Devices, put.Profiles = s.Architecture, s.Config, s.Devices, s.Profiles
		put.Stateful = s.Stateful
	} else {
		in, _, err := e.Client().Instance(ctx, instance)
		if err != nil {
			return err
		}
		*put = in.InstancePut
	}
	maps.DeleteFunc(put.Config, func(key, _ string) bool {
		return strings.HasPrefix(key, "volatile.") && key != "volatile.base_image"
	})
	return nil
}

func newRebuild(e *env) *cobra.Command {
	var empty, force bool
	cmd := &cobra.Command{
		Use:     "rebuild IMAGE INSTANCE",
		Short:   "Put a new root file system from an image below an instance",
		Long:    "Delete the root file system of an instance and make a new one of an image.\nConfiguration and devices stay. With --empty the only argument is the instance.",
		Example: "  cuib rebuild debian:trixie web\n  cuib rebuild --empty web --force",
		Args:    kit.Needs(1, 2), ValidArgsFunction: e.Complete(kit.Images, kit.Instances),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := kit.Local(args[len(args)-1])
			if err != nil {
				return err
			}
			src := api.InstanceSource{Type: "none"}
			if !empty {
				if len(args) != 2 {
					return errs.Invalidf("no image given: usage: %s", cmd.UseLine())
				}
				src = imageSource(args[0])
			}
			if force {
				return e.forceRebuild(cmd.Context(), name, src)
			}
			return e.rebuild(cmd.Context(), name, src)
		},
	}
	cmd.Flags().BoolVar(&empty, "empty", false, "leave the instance empty")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "stop a running instance first, and start it afterwards")
	return cmd
}

func (e *env) rebuild(ctx context.Context, name string, src api.InstanceSource) error {
	op, err := e.Client().RebuildInstance(ctx, name, api.InstanceRebuildPost{Source: src})
	return e.Wait(ctx, op, err)
}

// forceRebuild stops the instance for the time of its rebuilding, which goes on
// with the root file system that it has if that fails.
func (e *env) forceRebuild(ctx context.Context, name string, src api.InstanceSource) error {
	restart, err := e.halt(ctx, name)
	if err != nil {
		return err
	}
	return errors.Join(e.rebuild(ctx, name, src), restart(context.WithoutCancel(ctx)))
}
