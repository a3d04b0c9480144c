package configure

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	release "github.com/cuib/cuib/shared/version"
)

func newVersion(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the versions of client and daemon",
		Example: "  cuib version",
		Args:    kit.Needs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintf(e.Out, "Client version: %s\n", release.Number)
			s, _, err := e.Client().Server(cmd.Context())
			if err != nil {
				fmt.Fprintf(e.Out, "Server version: unreachable\n")
				e.Warn("%v", err)
				return nil
			}
			fmt.Fprintf(e.Out, "Server version: %s\n", s.Environment.ServerVersion)
			return nil
		},
	}
}
