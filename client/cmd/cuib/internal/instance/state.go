package instance

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// stateOptions are the flags of the commands that change what instances do.
type stateOptions struct {
	api.InstanceStatePut

	all     bool
	console bool
}

// parallel is how many instances a command works on at a time.
const parallel = 8

func newStart(e *env) *cobra.Command {
	o := stateOptions{InstanceStatePut: api.InstanceStatePut{Action: "start", Timeout: -1}}
	cmd := e.stateCommand(&o, &cobra.Command{
		Use: "start INSTANCE...", Short: "Start instances",
		Example: "  cuib start web db\n  cuib start --all",
	})
	cmd.Flags().BoolVar(&o.console, "console", false, "attach to the console of the instance")
	cmd.Flags().Bool("stateless", false, "accepted: no memory of an instance is kept")
	return cmd
}

func newStop(e *env) *cobra.Command {
	o := stateOptions{InstanceStatePut: api.InstanceStatePut{Action: "stop", Timeout: -1}}
	cmd := e.stateCommand(&o, &cobra.Command{
		Use: "stop INSTANCE...", Short: "Stop instances",
		Long:    "Ask instances to shut down, and wait until they have. That fails when a --timeout\nis over; with --force they are killed at once.",
		Example: "  cuib stop web\n  cuib stop web --timeout 30\n  cuib stop --all --force",
	})
	o.stopFlags(cmd)
	cmd.Flags().BoolVar(&o.console, "console", false, "attach to the console of the instance until it has stopped")
	cmd.Flags().BoolVar(&o.Stateful, "stateful", false, "refused: the memory of an instance cannot be kept")
	return cmd
}

func newRestart(e *env) *cobra.Command {
	o := stateOptions{InstanceStatePut: api.InstanceStatePut{Action: "restart", Timeout: -1}}
	cmd := e.stateCommand(&o, &cobra.Command{
		Use: "restart INSTANCE...", Short: "Restart instances",
		Long:    "Ask instances to shut down, wait until they have, and start them. That fails when\na --timeout is over; with --force they are killed at once.",
		Example: "  cuib restart web\n  cuib restart web --force",
	})
	o.stopFlags(cmd)
	cmd.Flags().BoolVar(&o.console, "console", false, "attach to the console of the instance")
	return cmd
}

func newPause(e *env) *cobra.Command {
	o := stateOptions{InstanceStatePut: api.InstanceStatePut{Action: "freeze", Timeout: -1}}
	return e.stateCommand(&o, &cobra.Command{
		Use: "pause INSTANCE...", Aliases: []string{"freeze"}, Short: "Pause instances",
		Long:    "Stop all processes of instances where they are, until \"cuib resume\".",
		Example: "  cuib pause web",
	})
}

func newResume(e *env) *cobra.Command {
	o := stateOptions{InstanceStatePut: api.InstanceStatePut{Action: "unfreeze", Timeout: -1}}
	return e.stateCommand(&o, &cobra.Command{
		Use: "resume INSTANCE...", Aliases: []string{"unfreeze"}, Short: "Resume paused instances",
		Example: "  cuib resume web",
	})
}

func (o *stateOptions) stopFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&o.Force, "force", "f", false, "kill the instances")
	cmd.Flags().IntVar(&o.Timeout, "timeout", -1, "seconds to wait for a clean shutdown; -1 for as long as it takes")
}

func (e *env) stateCommand(o *stateOptions, cmd *cobra.Command) *cobra.Command {
	cmd.ValidArgsFunction = e.Complete(kit.Instances)
	cmd.Flags().BoolVar(&o.all, "all", false, "all instances")
	cmd.RunE = kit.Named(-1, func(cmd *cobra.Command, args []string) error { return e.setStates(cmd.Context(), *o, args) })
	return cmd
}

func (e *env) setStates(ctx context.Context, o stateOptions, names []string) error {
	names, err := e.targets(ctx, o, names)
	if err != nil {
		return err
	}
	err = e.each(names, func(name string) error {
		op, err := e.Client().SetInstanceState(ctx, name, o.InstanceStatePut)
		var seen error
		if err == nil && o.console && o.Action == "stop" {
			seen = e.lastWords(ctx, name)
		}
		return errors.Join(seen, e.WaitFor(ctx, name+": ", op, err))
	})
	if err == nil && (o.Action == "start" || o.Action == "restart") {
		e.tellBlocked(ctx, names...)
	}
	if err == nil && o.console && o.Action != "stop" {
		return e.console(ctx, names[0], api.InstanceConsolePost{})
	}
	return err
}

// targets returns the names of the instances that a command is about.
func (e *env) targets(ctx context.Context, o stateOptions, names []string) ([]string, error) {
	switch {
	case o.all && len(names) > 0:
		return nil, errs.Invalidf("give either names or --all")
	case o.console && (o.all || len(names) > 1):
		return nil, errs.Invalidf("--console is for one instance only")
	case o.all:
		all, err := e.Client().Instances(ctx)
		return affected(all, o.Action), err
	case len(names) == 0:
		return nil, errs.Invalidf("no instance given: name some, or say --all")
	}
	return names, nil
}

// lastWords attaches to the console of an instance that is told to stop.
func (e *env) lastWords(ctx context.Context, name string) error {
	err := e.console(ctx, name, api.InstanceConsolePost{})
	if errs.Is(err, errs.Conflict) { // It has stopped already, or somebody else has the console.
		e.Warn("Console: %v", err)
		return nil
	}
	return err
}

// affected returns the names of the instances that an action changes.
func affected(all []api.Instance, action string) []string {
	var out []string
	for _, in := range all {
		running := up(in.StatusCode)
		switch {
		case action == "start" && !running,
			action == "stop" && running,
			action == "restart" && running,
			action == "freeze" && running && in.StatusCode != api.Frozen,
			action == "unfreeze" && in.StatusCode == api.Frozen:
			out = append(out, in.Name)
		}
	}
	return out
}

// each calls fn for all names, some at a time. Its error names those for
// which fn failed.
func (e *env) each(names []string, fn func(name string) error) error {
	if len(names) == 1 {
		return fn(names[0])
	}
	e.Many = true
	failed := make([]error, len(names))
	var g errgroup.Group
	g.SetLimit(parallel)
	_ = e.Client() // It is made once, before there are several users.
	for i, name := range names {
		g.Go(func() error {
			if err := fn(name); err != nil {
				failed[i] = fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	_ = g.Wait() // No function returns an error.
	return errors.Join(failed...)
}
