package cli

import "github.com/spf13/cobra"

// configureCommands returns the commands that are about all else.
func configureCommands(e *env) []*cobra.Command {
	return []*cobra.Command{
		newAdmin(e), newConfig(e), newImage(e), newMonitor(e), newNetwork(e), newOperation(e), newProfile(e), newQuery(e), newStorage(e), newVersion(e),
	}
}
