package run

import (
	"context"
	"errors"
	"os"
	"os/exec"
)

// A Terminal is the files by which a user talks to a program.
type Terminal struct {
	In, Out, Err *os.File
}

// Run runs a program, such as an editor, that the user talks to.
func (t Terminal) Run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:forbidigo // This package runs programs.
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.In, t.Out, t.Err
	if err := cmd.Run(); err != nil {
		return &Error{Args: args, Err: errors.Join(err, context.Cause(ctx))}
	}
	return nil
}
