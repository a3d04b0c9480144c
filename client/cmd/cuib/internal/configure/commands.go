// Package configure has the commands that are about configuration, and about
// what instances are made of and connected to.
package configure

import (
	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
)

// Commands returns the commands that are about all else.
func Commands(k *kit.Env) []*cobra.Command {
	e := &env{k}
	return []*cobra.Command{
		newAdmin(e), newConfig(e), newImage(e), newMonitor(e), newNetwork(e), newOperation(e), newProfile(e), newProject(e), newQuery(e), newStorage(e), newVersion(e), newWarning(e),
	}
}
