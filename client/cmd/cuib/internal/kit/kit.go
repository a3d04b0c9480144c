// Package kit has what the commands of cuib have in common.
//
// A command is a function that returns a [cobra.Command] which hands its
// options to a function that talks to the daemon by package client. Commands
// read and write the files of an [Env] only, so that tests run them in
// process. One file has one group of commands.
package kit

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// World is what a command has of the world. All fields are required.
type World struct {
	In, Out, Err *os.File
	Getenv       func(string) string
	Build        string // Which source the program was built from.
}

// Env is a World with what the flags of all commands say.
type Env struct {
	World

	Quiet   bool
	Debug   bool
	Project string
	Many    bool // Several operations run at a time: their progress would mix.

	Made *client.Client
}

// A StatusError is the end of a command that has said all that there is to say.
type StatusError int

func (s StatusError) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// Client returns the client of the daemon, which connects when it is used.
func (e *Env) Client() *client.Client { return e.Made }

// Trace prints a request.
func (e *Env) Trace(method, path string, code int, took time.Duration) {
	fmt.Fprintf(e.Err, "%s %s: %d (%s)\n", method, path, code, took.Round(time.Microsecond))
}

// Say prints a line for people, unless they want none.
func (e *Env) Say(format string, args ...any) {
	if !e.Quiet {
		fmt.Fprintf(e.Out, format+"\n", args...)
	}
}

// Warn prints a line on the standard error.
func (e *Env) Warn(format string, args ...any) {
	if !e.Quiet {
		fmt.Fprintln(e.Err, output.Plain(fmt.Sprintf(format, args...)))
	}
}

// IsTerminal tells whether somebody sits at f.
func IsTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// Room is how many columns the terminal has where answers are shown; 0 if
// they go elsewhere.
func (e *Env) Room() int {
	width, _, err := term.GetSize(int(e.Out.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// Progress returns a line of progress, which is shown to people only.
func (e *Env) Progress() *output.Progress {
	if e.Quiet || e.Many || !IsTerminal(e.Err) {
		return &output.Progress{}
	}
	return output.NewProgress(e.Err, func() int {
		width, _, err := term.GetSize(int(e.Err.Fd()))
		if err != nil {
			return 80
		}
		return width
	})
}

// Wait waits for an operation and shows its progress after label. It cancels
// the operation when the user interrupts.
func (e *Env) Wait(ctx context.Context, op *client.Operation, err error) error {
	return e.WaitFor(ctx, "", op, err)
}

// WaitFor is [Env.Wait] with a label before the progress.
func (e *Env) WaitFor(ctx context.Context, label string, op *client.Operation, err error) error {
	if err != nil {
		return err
	}
	ctx, stop := Interruptible(ctx)
	defer stop()
	p := e.Progress()
	defer p.Clear()
	start := time.Now()
	err = op.Watch(ctx, func(desc api.Operation) {
		text := client.Progress(desc)
		if text == "" {
			text = desc.Description
		}
		p.Show("%s%s (%s)", label, text, time.Since(start).Truncate(time.Second))
	})
	if ctx.Err() == nil {
		if warning, ok := op.Metadata[api.OperationWarning].(string); ok && err == nil {
			p.Clear()
			e.Warn("Warning: %s", warning)
		}
		return err
	}
	after := context.WithoutCancel(ctx)
	if !op.MayCancel || e.Client().CancelOperation(after, op.ID) != nil {
		p.Clear()
		return errs.Newf(errs.Canceled, "interrupted: operation %s goes on", op.ID)
	}
	return op.Wait(after)
}
