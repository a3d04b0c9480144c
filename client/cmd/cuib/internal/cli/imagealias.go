package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
)

var imageAliasColumns = []output.Column[api.ImageAliasesEntry]{
	{Key: 'a', Name: "ALIAS", Value: func(a api.ImageAliasesEntry) string { return a.Name }},
	{Key: 'f', Name: "FINGERPRINT", Value: func(a api.ImageAliasesEntry) string { return short(a.Target) }},
	{Key: 't', Name: "TYPE", Value: func(a api.ImageAliasesEntry) string { return strings.ToUpper(a.Type) }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(a api.ImageAliasesEntry) string { return a.Description }},
}

func newImageAlias(e *env) *cobra.Command {
	return group("alias", "Manage names of images", "  cuib image alias create web-base debian/12",
		newImageAliasCreate(e), newImageAliasDelete(e), newImageAliasList(e), newImageAliasRename(e))
}

func newImageAliasCreate(e *env) *cobra.Command {
	var description string
	cmd := &cobra.Command{
		Use: "create ALIAS IMAGE", Short: "Give an image another name",
		Example: "  cuib image alias create web-base debian/12",
		Args:    needs(2, 2), ValidArgsFunction: e.complete(none, images, none),
		RunE: func(cmd *cobra.Command, args []string) error {
			img, _, err := e.client().FindImage(cmd.Context(), args[1])
			if err != nil {
				return err
			}
			entry := api.ImageAliasesEntry{Name: args[0]}
			entry.Target, entry.Description = img.Fingerprint, description
			return e.client().CreateImageAlias(cmd.Context(), entry)
		},
	}
	cmd.Flags().StringVar(&description, "description", "", "text that describes the alias")
	return cmd
}

func newImageAliasDelete(e *env) *cobra.Command {
	return e.deleteCommand("Alias", use("ALIAS", "aliases; the images stay", "  cuib image alias delete web-base"), aliases,
		e.client().DeleteImageAlias)
}

func newImageAliasList(e *env) *cobra.Command {
	var v listView
	cmd := &cobra.Command{
		Use: "list [FILTER...]", Aliases: []string{"ls"}, Short: "List aliases of images",
		Long:    "List aliases, all or those with the filters in their name or at the beginning of\ntheir fingerprint. Columns:\n\n" + output.Describe(imageAliasColumns),
		Example: "  cuib image alias list\n  cuib image alias list debian --format csv", ValidArgsFunction: e.complete(aliases),
		RunE: named(-1, func(cmd *cobra.Command, args []string) error {
			all, err := e.client().ImageAliases(cmd.Context())
			if err != nil {
				return err
			}
			var some []api.ImageAliasesEntry
			for _, a := range all {
				if aliasFits(a, args) {
					some = append(some, a)
				}
			}
			return show(e, v, imageAliasColumns, some)
		}),
	}
	v.flags(cmd, "aftd")
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
	return &cobra.Command{
		Use: "rename ALIAS NAME", Aliases: []string{"mv"}, Short: "Rename an alias",
		Example: "  cuib image alias rename web-base base",
		Args:    needs(2, 2), ValidArgsFunction: e.complete(aliases, none),
		RunE: named(-1, func(cmd *cobra.Command, args []string) error {
			return e.client().RenameImageAlias(cmd.Context(), args[0], args[1])
		}),
	}
}
