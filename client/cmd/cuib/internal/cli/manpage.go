package cli

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/manual"
	"github.com/cuib/cuib/shared/errs"
)

func newManpage(e *env) *cobra.Command {
	var markdown bool
	cmd := &cobra.Command{
		Use: "manpage DIRECTORY", Short: "Write the man pages",
		Example: "  cuib manpage /usr/local/share/man/man1\n  cuib manpage --markdown > cli.md",
		Args:    kit.Needs(0, 1), ValidArgsFunction: e.Complete(kit.LocalFiles),
		RunE: func(cmd *cobra.Command, args []string) error {
			if markdown {
				_, err := io.WriteString(e.Out, manual.Reference(cmd.Root()))
				return err
			}
			if len(args) == 0 {
				return errs.Invalidf("no directory given: usage: %s", cmd.UseLine())
			}
			return manual.Write(cmd.Root(), args[0])
		},
	}
	cmd.Flags().BoolVar(&markdown, "markdown", false, "print one Markdown document instead")
	return cmd
}
