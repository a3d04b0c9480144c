// Package instance has the commands that are about instances, their files and
// their snapshots.
package instance

import (
	"context"
	"net"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/files"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
)

// Commands returns the commands that are about instances.
func Commands(k *kit.Env) []*cobra.Command {
	e := &env{k}
	return []*cobra.Command{
		newConsole(e), newCopy(e), newCreate(e), newDelete(e), newExec(e), newExport(e), files.Group(e.Env, place(e)), newImport(e), newInfo(e), newLaunch(e), newList(e), newLogs(e), newMove(e), newPause(e), newPublish(e), newRebuild(e), newRename(e), newRestart(e), newResume(e), newShell(e), newSnapshot(e), newStart(e), newStop(e), newTop(e), newWait(e),
	}
}

// place says how instances have files.
func place(e *env) files.Place {
	return files.Place{
		Command: "file", What: "an instance", Arg: "INSTANCE", One: "web", Names: kit.InstancePaths,
		Open: func(ctx context.Context, _, name string) (net.Conn, error) { return e.Client().SFTP(ctx, name) },
	}
}
