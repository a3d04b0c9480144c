package instance

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

func newConsole(e *env) *cobra.Command {
	var req api.InstanceConsolePost
	var log bool
	cmd := &cobra.Command{
		Use:     "console INSTANCE",
		Short:   "Attach to the console of an instance, or show its log",
		Long:    "Attach to the console of an instance. The keys ctrl+a q detach; ctrl+a twice\nsends one ctrl+a.",
		Example: "  cuib console web\n  cuib console web --show-log",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(kit.Instances),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			switch {
			case log:
				return e.consoleLog(cmd.Context(), args[0])
			case req.Type != "console":
				return errs.Invalidf("type %q: containers have only \"console\"", req.Type)
			}
			return e.console(cmd.Context(), args[0], req)
		}),
	}
	cmd.Flags().BoolVar(&log, "show-log", false, "print what was written to the console so far")
	cmd.Flags().BoolVarP(&req.Force, "force", "f", false, "take the console from somebody else")
	cmd.Flags().StringVarP(&req.Type, "type", "t", "console", "type of console; there is only \"console\"")
	return cmd
}

func (e *env) consoleLog(ctx context.Context, name string) error {
	return e.copyLog(e.Client().ConsoleLog(ctx, name, client.ConsoleLog{}))
}

func (e *env) console(ctx context.Context, name string, req api.InstanceConsolePost) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req.Width, req.Height = e.windowSize()
	if kit.IsTerminal(e.In) {
		e.Warn("To detach from the console press ctrl+a q")
	}
	restore, err := e.rawTerminal()
	if err != nil {
		return err
	}
	defer restore()
	control := make(chan api.InstanceExecControl, 16)
	e.forwardSignals(ctx, control, unix.SIGWINCH)
	err = e.Client().Console(ctx, name, client.Console{
		InstanceConsolePost: req, Stdin: client.Detachable(e.In), Stdout: e.Out, Control: control,
	})
	if err == nil {
		fmt.Fprint(e.Err, "\r\n")
	}
	return err
}
