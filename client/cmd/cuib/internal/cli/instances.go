package cli

import "github.com/spf13/cobra"

// instanceCommands returns the commands that are about instances.
func instanceCommands(e *env) []*cobra.Command {
	return []*cobra.Command{
		newConsole(e), newCopy(e), newCreate(e), newDelete(e), newExec(e), newFile(e), newInfo(e), newLaunch(e), newList(e), newMove(e), newPause(e), newPublish(e), newRebuild(e), newRename(e), newRestart(e), newResume(e), newShell(e), newSnapshot(e), newStart(e), newStop(e), newWait(e),
	}
}
