// Package cli has the commands of cuib.
//
// A command is a function that returns a [cobra.Command] which hands its
// options to a function that talks to the daemon by package client. Commands
// read and write the files of an [Env] only, so that tests run them in
// process. One file has one group of commands.
package cli

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

// Env is what a command has of the world. All fields are required.
type Env struct {
	In, Out, Err *os.File
	Getenv       func(string) string
	Build        string // Which source the program was built from.
}

// env is an Env with what the flags of all commands say.
type env struct {
	Env

	quiet   bool
	debug   bool
	project string
	many    bool // Several operations run at a time: their progress would mix.

	made *client.Client
}

// A status is the end of a command that has said all that there is to say.
type status int

func (s status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// client returns the client of the daemon, which connects when it is used.
func (e *env) client() *client.Client { return e.made }

// trace prints a request.
func (e *env) trace(method, path string, code int, took time.Duration) {
	fmt.Fprintf(e.Err, "%s %s: %d (%s)\n", method, path, code, took.Round(time.Microsecond))
}

// say prints a line for people, unless they want none.
func (e *env) say(format string, args ...any) {
	if !e.quiet {
		fmt.Fprintf(e.Out, format+"\n", args...)
	}
}

// warn prints a line on the standard error.
func (e *env) warn(format string, args ...any) {
	if !e.quiet {
		fmt.Fprintf(e.Err, format+"\n", args...)
	}
}

// isTerminal tells whether somebody sits at f.
func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// progress returns a line of progress, which is shown to people only.
func (e *env) progress() *output.Progress {
	if e.quiet || e.many || !isTerminal(e.Err) {
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

// wait waits for an operation and shows its progress after label. It cancels
// the operation when the user interrupts.
func (e *env) wait(ctx context.Context, op *client.Operation, err error) error {
	return e.waitFor(ctx, "", op, err)
}

func (e *env) waitFor(ctx context.Context, label string, op *client.Operation, err error) error {
	if err != nil {
		return err
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	p := e.progress()
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
		return err
	}
	after := context.WithoutCancel(ctx)
	if !op.MayCancel || e.client().CancelOperation(after, op.ID) != nil {
		p.Clear()
		return errs.Newf(errs.Canceled, "interrupted: operation %s goes on", op.ID)
	}
	return op.Wait(after)
}
