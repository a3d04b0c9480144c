// Package cli is the command cuib without its main function: the root of the
// commands, aliases, completion and man pages.
package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/errs"
)

// Env is what the program has of the world.
type Env = kit.World

// exits are the exit statuses of kinds of errors; for all others it is 1.
// They are documented in the help of the root command.
var exits = map[errs.Kind]int{
	errs.Invalid: 2, errs.NotFound: 3, errs.Conflict: 4, errs.Stale: 4, errs.Denied: 5, errs.Unavailable: 6, errs.Canceled: 130,
}

// Main runs a command and returns its exit status.
func Main(ctx context.Context, world Env, args []string) int {
	e := &env{&kit.Env{World: world, Made: client.New(client.SocketPath(world.Getenv))}}
	args, err := e.expandAlias(args)
	if err == nil {
		root := newRoot(e, args) //nolint:contextcheck // Commands get their context when they run.
		root.SetArgs(args)
		err = e.Explain(ctx, root.ExecuteContext(ctx))
	}
	e.Made.Close()
	return e.exit(err)
}

// exit prints an error and returns its exit status.
func (e *env) exit(err error) int {
	if err == nil {
		return 0
	}
	if s, ok := errors.AsType[kit.StatusError](err); ok {
		return int(s)
	}
	fmt.Fprintln(e.Err, "Error:", output.Plain(err.Error()))
	if code, ok := exits[errs.KindOf(err)]; ok {
		return code
	}
	return 1
}
