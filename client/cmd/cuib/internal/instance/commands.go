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
func Commands(k *kit.Env) []kit.Maker {
	e := &env{k}
	return []kit.Maker{
		kit.Called(e, newConsole, "console"),
		kit.Called(e, newCopy, "copy", "cp"),
		kit.Called(e, newCreate, "create", "init"),
		kit.Called(e, newDelete, "delete", "rm"),
		kit.Called(e, newExec, "exec"),
		kit.Called(e, newExport, "export"),
		kit.Called(e, func(e *env) *cobra.Command { return files.Group(e.Env, place(e)) }, "file"),
		kit.Called(e, newImport, "import"),
		kit.Called(e, newInfo, "info"),
		kit.Called(e, newLaunch, "launch"),
		kit.Called(e, newList, "list", "ls"),
		kit.Called(e, newLogs, "logs"),
		kit.Called(e, newMove, "move", "mv"),
		kit.Called(e, newPause, "pause", "freeze"),
		kit.Called(e, newPublish, "publish"),
		kit.Called(e, newRebuild, "rebuild"),
		kit.Called(e, newRename, "rename"),
		kit.Called(e, newRestart, "restart"),
		kit.Called(e, newResume, "resume", "unfreeze"),
		kit.Called(e, newShell, "shell"),
		kit.Called(e, newSnapshot, "snapshot"),
		kit.Called(e, newStart, "start"),
		kit.Called(e, newStop, "stop"),
		kit.Called(e, newTop, "top"),
		kit.Called(e, newWait, "wait"),
	}
}

// place says how instances have files.
func place(e *env) files.Place {
	return files.Place{
		Command: "file", What: "an instance", Arg: "INSTANCE", One: "web", Names: kit.InstancePaths,
		Open: func(ctx context.Context, _, name string) (net.Conn, error) { return e.Client().SFTP(ctx, name) },
	}
}
