package cli

import (
	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/errs"
)

func newCompletion(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "completion SHELL", Short: "Print what a shell needs to complete commands and names",
		Long: `Print the completion for bash, zsh or fish. To load it in every session:

  bash  cuib completion bash > /usr/share/bash-completion/completions/cuib
  zsh   cuib completion zsh > /usr/share/zsh/vendor-completions/_cuib
  fish  cuib completion fish > ~/.config/fish/completions/cuib.fish`,
		Example:   "  source <(cuib completion bash)",
		Args:      kit.Needs(1, 1),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(e.Out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(e.Out)
			case "fish":
				return cmd.Root().GenFishCompletion(e.Out, true)
			}
			return errs.Invalidf("shell %q is none of bash, zsh, fish", args[0])
		},
	}
}
