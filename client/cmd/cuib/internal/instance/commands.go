// Package instance has the commands that are about instances, their files and
// their snapshots.
package instance

import (
	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
)

// Commands returns the commands that are about instances.
func Commands(k *kit.Env) []*cobra.Command {
	e := &env{k}
	return []*cobra.Command{
		newConsole(e), newCopy(e), newCreate(e), newDelete(e), newExec(e), newFile(e), newInfo(e), newLaunch(e), newList(e), newMove(e), newPause(e), newPublish(e), newRebuild(e), newRename(e), newRestart(e), newResume(e), newShell(e), newSnapshot(e), newStart(e), newStop(e), newWait(e),
	}
}
