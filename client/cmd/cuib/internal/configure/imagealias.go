package configure

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
)

var imageAliasColumns = []output.Column[api.ImageAliasesEntry]{
	{Key: 'a', Name: "ALIAS", Value: func(a api.ImageAliasesEntry) string { return a.Name }},
	{Key: 'f', Name: "FINGERPRINT", Value: func(a api.ImageAliasesEntry) string { return kit.Short(a.Target) }},
	{Key: 't', Name: "TYPE", Value: func(a api.ImageAliasesEntry) string { return strings.ToUpper(a.Type) }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(a api.ImageAliasesEntry) string { return a.Description }},
}

func newImageAlias(e *env) *cobra.Command {
	return kit.Group("alias", "Manage names of images", "  cuib image alias create web-base debian/12",
		newImageAliasCreate(e), newImageAliasDelete(e), newImageAliasList(e), newImageAliasRename(e))
}

func newImageAliasCreate(e *env) *cobra.Command {
	var description string
	cmd := &cobra.Command{
		Use: "create ALIAS IMAGE", Short: "Give an image another name",
		Example: "  cuib image alias create web-base debian/12",
		Args:    kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.None, kit.Images, kit.None),
		RunE: func(cmd *cobra.Command, args []string) error {
			img, _, err := e.Client().FindImage(cmd.Context(), args[1])
			if err != nil {
				return err
			}
			entry := api.ImageAliasesEntry{Name: args[0]}
			entry.Target, entry.Description = img.Fingerprint, description
			return e.Client().CreateImageAlias(cmd.Context(), entry)
		},
	}
	cmd.Flags().StringVar(&description, "description", "", "text that describes the alias")
	return cmd
}

func newImageAliasDelete(e *env) *cobra.Command {
	return e.DeleteCommand("Alias", kit.Use("ALIAS", "aliases; the images stay", "  cuib image alias delete web-base"), kit.Aliases,
		e.Client().DeleteImageAlias)
}

func newImageAliasList(e *env) *cobra.Command {
	var v kit.ListView
	cmd := &cobra.Command{
		Use: "list [FILTER...]", Aliases: []string{"ls"}, Short: "List aliases of images",
		Long:    "List aliases, all or those with the filters in their name or at the beginning of\ntheir fingerprint. Columns:\n\n" + output.Describe(imageAliasColumns),
		Example: "  cuib image alias list\n  cuib image alias list debian --format csv", ValidArgsFunction: e.Complete(kit.Aliases),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error {
			all, err := e.Client().ImageAliases(cmd.Context())
			if err != nil {
				return err
			}
			var some []api.ImageAliasesEntry
			for _, a := range all {
				if aliasFits(a, args) {
					some = append(some, a)
				}
			}
			return kit.Show(e.Env, v, imageAliasColumns, some)
		}),
	}
	v.Flags(cmd, "aftd")
	return cmd
}

func aliasFits(a api.ImageAliasesEntry, filters []string) bool {
	for _, f := range filters {
		if !strings.Contains(a.Name, f) && !strings.HasPrefix(a.Target, f) {
			return false
		}
	}
	return true
}

func newImageAliasRename(e *env) *cobra.Command {
	return e.RenameCommand(kit.Use("ALIAS", "an alias", "  cuib image alias rename web-base base"), kit.Aliases, e.Client().RenameImageAlias)
}
