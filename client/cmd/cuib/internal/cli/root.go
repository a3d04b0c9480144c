package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cuib/cuib/client/cmd/cuib/internal/backup"
	"github.com/cuib/cuib/client/cmd/cuib/internal/configure"
	"github.com/cuib/cuib/client/cmd/cuib/internal/instance"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/errs"
	release "github.com/cuib/cuib/shared/version"
)

const rootLong = `Cuib runs system containers: whole Linux systems, each with its own init,
users and network, on one kernel.

The daemon is reached by the socket that $CUIB_SOCKET names, else by
unix.socket in $CUIB_DIR, else by /var/lib/cuib/unix.socket.

Names are those of a project: of the one of --project, else of $CUIB_PROJECT,
else of the one that "cuib project switch" chose, else of "default".

The exit status is 0 if all went well, 2 for a request that can never succeed,
3 if something does not exist, 4 if its state is in the way, 5 if access is
denied, 6 if the daemon cannot be reached, 130 after an interrupt, and 1 for
any other error. "cuib exec" ends with the status of the program that it ran.`

// newRoot returns the program's command with what is needed of its commands for
// args.
func newRoot(e *env, args []string) *cobra.Command {
	root := &cobra.Command{
		Use:           "cuib",
		Short:         "Run system containers",
		Long:          rootLong,
		Example:       "  cuib launch debian:bookworm web\n  cuib exec web -- apt-get update\n  cuib snapshot create web fresh",
		Args:          cobra.ArbitraryArgs, // Of which cobra has an error without a kind.
		RunE:          kit.Choose,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmd.ValidateFlagGroups(); err != nil { // Later cobra has an error without a kind.
				return wrongFlags(cmd, err)
			}
			return e.Begin()
		},
	}
	root.SetIn(e.In)
	root.SetOut(e.Out)
	root.SetErr(e.Err)
	showVersion(root, e.Build)
	root.SetFlagErrorFunc(wrongFlags)
	root.SetHelpCommand(newHelp())
	root.CompletionOptions.DisableDefaultCmd = true
	flags := root.PersistentFlags()
	flags.BoolVarP(&e.Quiet, "quiet", "q", false, "say nothing but results and errors")
	flags.BoolVar(&e.Debug, "debug", false, "show the requests to the daemon")
	flags.StringVar(&e.Project, "project", "", "project to look for names and to make things in")
	e.CompleteFlag(root, "project", kit.Projects)
	flags.Bool("force-local", false, "accepted and ignored: the daemon is always the local one")
	_ = flags.MarkHidden("force-local") // The flag exists.
	addCommands(root, e, args)
	return root
}

// wrongFlags is the error for flags that a command does not have, or not so.
func wrongFlags(cmd *cobra.Command, err error) error {
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok && wants[bad.GetFlag().Value.Type()] != "" {
		err = errs.Invalidf("--%s: got %q, want %s", bad.GetFlag().Name, bad.GetValue(), wants[bad.GetFlag().Value.Type()])
	}
	return errs.Invalidf("%w (see %q)", err, cmd.CommandPath()+" --help")
}

// wants are values that flags of a type can have.
var wants = map[string]string{"bool": "true or false", "float64": "a number", "int": "a whole number", "uint32": "a whole number, 0 or more"}

// newHelp returns the command help, which unlike that of cobra fails for what
// there is no help about.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND...]", Short: "Show the help of a command",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, c := range about.Commands() {
				if c.IsAvailableCommand() && strings.HasPrefix(c.Name(), typed) {
					names = append(names, c.Name())
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return kit.Choose(about, rest)
			}
			about.InitDefaultHelpFlag() // To be listed.
			return about.Help()
		},
	}
}

// addCommands adds the command that args begin with, or all where they begin
// with something else: what is about several commands, such as help.
func addCommands(root *cobra.Command, e *env, args []string) {
	all := slices.Concat(instance.Commands(e.Env), backup.Commands(e.Env), configure.Commands(e.Env))
	for _, m := range all {
		if len(args) > 0 && slices.Contains(m.Names, args[0]) {
			root.AddCommand(m.Make())
			return
		}
	}
	root.AddCommand(newAlias(e), newCompletion(e), newManpage(e))
	for _, m := range all {
		root.AddCommand(m.Make())
	}
}

// showVersion gives root its flag --version. The one that cobra has needs
// text/template, with which the linker keeps each exported method of all types:
// a seventh of the program.
func showVersion(root *cobra.Command, build string) {
	show := root.Flags().BoolP("version", "v", false, "show the version of the client")
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if cmd == root && *show {
			fmt.Fprintf(root.OutOrStdout(), "%s %s (%s)\n", root.Name(), release.Number, build)
			return
		}
		help(cmd, args)
	})
}
