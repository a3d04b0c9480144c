package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/client"
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
		Args:    needs(1, 1), ValidArgsFunction: e.complete(instances),
		RunE: named(1, func(cmd *cobra.Command, args []string) error {
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
	r, err := e.client().ConsoleLog(ctx, name)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(e.Out, r)
	return err
}

func (e *env) console(ctx context.Context, name string, req api.InstanceConsolePost) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req.Width, req.Height = e.windowSize()
	restore, err := e.rawTerminal()
	if err != nil {
		return err
	}
	defer restore()
	if isTerminal(e.In) {
		e.warn("To detach from the console press ctrl+a q\r")
	}
	control := make(chan api.InstanceExecControl, 16)
	e.forwardSignals(ctx, control, unix.SIGWINCH)
	err = e.client().Console(ctx, name, client.Console{
		InstanceConsolePost: req, Stdin: &detacher{r: e.In}, Stdout: e.Out, Control: control,
	})
	fmt.Fprint(e.Err, "\r\n")
	return err
}

// The keys that detach from a console.
const (
	escapeKey = 0x01 // ctrl+a
	detachKey = 'q'
)

// A detacher reads keys until those that detach.
type detacher struct {
	r       io.Reader
	escaped bool // The last key was escapeKey.
	done    bool
}

func (d *detacher) Read(p []byte) (int, error) {
	in := make([]byte, max(1, len(p)/2)) // A key can become two.
	for !d.done {
		n, err := d.r.Read(in)
		out := d.filter(p[:0], in[:n])
		if len(out) > 0 || err != nil {
			return len(out), err
		}
	}
	return 0, io.EOF
}

// filter appends keys to out without the escape sequences.
func (d *detacher) filter(out, keys []byte) []byte {
	for _, k := range keys {
		switch {
		case !d.escaped && k == escapeKey:
			d.escaped = true
			continue
		case d.escaped && k == detachKey:
			d.done = true
			return out
		case d.escaped && k != escapeKey:
			out = append(out, escapeKey) // It was no escape after all.
		}
		d.escaped = false
		out = append(out, k)
	}
	return out
}
