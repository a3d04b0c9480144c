package kit

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/shared/errs"
)

// A Maker makes a command. To make all of them takes longer than what most of
// them do.
type Maker struct {
	Names []string // The command's name and its aliases.
	Make  func() *cobra.Command
}

// Called returns the maker of the command that fn makes, which has those names.
func Called[E any](e E, fn func(E) *cobra.Command, names ...string) Maker {
	return Maker{names, func() *cobra.Command { return fn(e) }}
}

// Group returns a command that only holds others.
func Group(use, short, example string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Example: example,
		RunE: Choose,
	}
	cmd.AddCommand(commands...)
	return cmd
}

// Choose is what a command does that only holds others.
func Choose(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	return errs.Invalidf("unknown command %q for %q%s", args[0], cmd.CommandPath(), suggestion(cmd, args[0]))
}

func suggestion(cmd *cobra.Command, arg string) string {
	cmd.SuggestionsMinimumDistance = 2
	near := cmd.SuggestionsFor(arg)
	if len(near) == 0 {
		return ": see " + cmd.CommandPath() + " --help"
	}
	return ": did you mean " + strings.Join(near, " or ") + "?"
}

// Needs returns the check of how many arguments a command has. Its error
// shows the usage line.
func Needs(low, high int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= low && (high < 0 || len(args) <= high) {
			return nil
		}
		what := "too few arguments"
		if len(args) > low {
			what = "too many arguments"
		}
		return errs.Invalidf("%s: usage: %s", what, cmd.UseLine())
	}
}

// locals applies [local] to all arguments of a command.
func locals(args []string) error {
	for i, a := range args {
		name, err := Local(a)
		if err != nil {
			return err
		}
		args[i] = name
	}
	return nil
}

// Named is for commands whose first n arguments, or all if n is negative, are
// names of objects.
func Named(n int, run func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		end := n
		if n < 0 || n > len(args) {
			end = len(args)
		}
		if err := locals(args[:end]); err != nil {
			return err
		}
		return run(cmd, args)
	}
}

// Nameless is for commands that are about all there is, after which "local:" may
// stand and nothing else.
func Nameless(run func(cmd *cobra.Command) error) func(*cobra.Command, []string) error {
	return Named(-1, func(cmd *cobra.Command, args []string) error {
		if strings.Join(args, "") != "" {
			return errs.Invalidf("too many arguments: usage: %s", cmd.UseLine())
		}
		return run(cmd)
	})
}

// Local returns the name of an object of the local daemon, which may be
// written with "local:" before it.
func Local(name string) (string, error) {
	remote, rest, has := strings.Cut(name, ":")
	if !has {
		return name, nil
	}
	if remote != "local" {
		return "", errs.Invalidf("%q is of the remote %q: there is only \"local\"", name, remote)
	}
	return rest, nil
}
