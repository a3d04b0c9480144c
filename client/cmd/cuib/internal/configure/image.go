package configure

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

var imageColumns = []output.Column[api.Image]{
	{Key: 'l', Name: "ALIAS", Help: "shortest alias", Value: shortestAlias},
	{Key: 'f', Name: "FINGERPRINT", Help: "beginning of the fingerprint", Value: func(i api.Image) string { return kit.Short(i.Fingerprint) }},
	{Key: 'p', Name: "PUBLIC", Value: func(i api.Image) string { return strings.ToLower(kit.YesNo(i.Public)) }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(i api.Image) string { return i.Properties["description"] }},
	{Key: 'a', Name: "ARCHITECTURE", Value: func(i api.Image) string { return i.Architecture }},
	{Key: 't', Name: "TYPE", Value: func(i api.Image) string { return strings.ToUpper(i.Type) }},
	{Key: 's', Name: "SIZE", Value: func(i api.Image) string { return kit.Size(i.Size) }},
	{Key: 'u', Name: "UPLOAD DATE", Value: func(i api.Image) string { return kit.Date(i.UploadedAt) }},
	{Key: 'L', Name: "ALIASES", Help: "all aliases", Value: func(i api.Image) string { return strings.Join(aliasNames(i), "\n") }},
	{Key: 'F', Name: "FINGERPRINT", Help: "whole fingerprint", Value: func(i api.Image) string { return i.Fingerprint }},
	{Key: 'e', Name: "PROJECT", Value: func(i api.Image) string { return i.Project }},
}

func aliasNames(img api.Image) []string {
	var out []string
	for _, a := range img.Aliases {
		out = append(out, a.Name)
	}
	return out
}

// shortestAlias returns the shortest alias, and how many others there are.
func shortestAlias(img api.Image) string {
	shortest := ""
	for _, name := range aliasNames(img) {
		if shortest == "" || len(name) < len(shortest) {
			shortest = name
		}
	}
	if more := len(img.Aliases) - 1; more > 0 {
		return fmt.Sprintf("%s (%d more)", shortest, more)
	}
	return shortest
}

func newImage(e *env) *cobra.Command {
	return kit.Group("image", "Manage images: what instances are made of",
		"  cuib image build debian:bookworm --alias debian/12\n  cuib image list",
		newImageAlias(e), newImageBuild(e), newImageCopy(e), newImageDelete(e), newImageEdit(e), newImageExport(e), newImageGetProperty(e),
		newImageImport(e), newImageInfo(e), newImageList(e), newImageSetProperty(e), newImageShow(e), newImageUnsetProperty(e),
	)
}

func newImageList(e *env) *cobra.Command {
	var v kit.ListView
	var projects kit.AllProjects
	cmd := &cobra.Command{
		Use: "list [FILTER...]", Aliases: []string{"ls"}, Short: "List images",
		Long: "List images, all or those that fit every filter: part of an alias, the beginning\nof a fingerprint, or PROPERTY=VALUE. Columns:\n\n" +
			output.Describe(imageColumns),
		Example:           "  cuib image list\n  cuib image list os=debian --format json",
		ValidArgsFunction: e.Complete(kit.Images),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error {
			c, err := projects.Client(e.Env)
			if err != nil {
				return err
			}
			all, err := c.Images(cmd.Context())
			if err != nil {
				return err
			}
			var some []api.Image
			for _, img := range all {
				if imageFits(img, args) {
					some = append(some, img)
				}
			}
			kit.AddColumn(projects, cmd, imageColumns, &v)
			return kit.Show(e.Env, v, imageColumns, some)
		}),
	}
	v.Flags(cmd, "lfpdatsu")
	projects.Flag(cmd)
	return cmd
}

func imageFits(img api.Image, filters []string) bool {
	for _, f := range filters {
		if f != "" && !imageFitsOne(img, f) {
			return false
		}
	}
	return true
}

func imageFitsOne(img api.Image, filter string) bool {
	if key, value, ok := strings.Cut(filter, "="); ok {
		switch key {
		case "architecture":
			return img.Architecture == value
		case "type":
			return img.Type == value
		}
		return img.Properties[strings.TrimPrefix(key, "properties.")] == value
	}
	for _, name := range aliasNames(img) {
		if strings.Contains(name, filter) {
			return true
		}
	}
	return strings.HasPrefix(img.Fingerprint, filter)
}

func newImageShow(e *env) *cobra.Command {
	return kit.ShowCommand(e.Env, kit.Use("IMAGE", "an image", "  cuib image show debian/12"), kit.Images,
		func(ctx context.Context, name string) (api.Image, string, error) {
			return e.Client().FindImage(ctx, name)
		})
}

func newImageInfo(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "info IMAGE", Short: "Show what there is to know of an image",
		Example: "  cuib image info debian/12",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(kit.Images, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			img, _, err := e.Client().FindImage(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			e.writeImage(img)
			return nil
		}),
	}
}

func (e *env) writeImage(img api.Image) {
	fmt.Fprintf(e.Out, "Fingerprint: %s\nSize: %s\nArchitecture: %s\nType: %s\nPublic: %s\n",
		img.Fingerprint, kit.Size(img.Size), img.Architecture, img.Type, strings.ToLower(kit.YesNo(img.Public)))
	for _, t := range []struct{ what, when string }{
		{"Created", kit.Date(img.CreatedAt)}, {"Uploaded", kit.Date(img.UploadedAt)}, {"Expires", kit.Date(img.ExpiresAt)}, {"Last used", kit.Date(img.LastUsedAt)},
	} {
		if t.when != "" {
			fmt.Fprintf(e.Out, "%s: %s\n", t.what, t.when)
		}
	}
	fmt.Fprint(e.Out, "Properties:\n")
	for _, k := range kit.KeysOf(img.Properties) {
		fmt.Fprintln(e.Out, output.Plain("  "+k+": "+img.Properties[k]))
	}
	fmt.Fprint(e.Out, "Aliases:\n")
	for _, name := range aliasNames(img) {
		fmt.Fprintf(e.Out, "  - %s\n", name)
	}
	fmt.Fprintf(e.Out, "Cached: %s\n", strings.ToLower(kit.YesNo(img.Cached)))
}

func newImageDelete(e *env) *cobra.Command {
	return e.DeleteCommand("Image", kit.Use("IMAGE", "images; instances that were made of them live on", "  cuib image delete debian/12"), kit.Images,
		func(ctx context.Context, name string) error {
			img, _, err := e.Client().FindImage(ctx, name)
			if err != nil {
				return err
			}
			op, err := e.Client().DeleteImage(ctx, img.Fingerprint)
			return e.Wait(ctx, op, err)
		})
}

func newImageEdit(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "edit IMAGE", Short: "Edit the properties of an image as YAML",
		Example: "  cuib image edit debian/12\n  cuib image edit debian/12 < image.yaml",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(kit.Images, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			img, etag, err := e.Client().FindImage(ctx, args[0])
			if err != nil {
				return err
			}
			return e.Edit(ctx, kit.Edit{
				Help: kit.EditHelp,
				Read: func() (any, string, error) { return img.ImagePut, etag, nil },
				Write: func(text []byte, etag string) error {
					var put api.ImagePut
					if err := output.ParseYAMLPart[api.Image](text, &put); err != nil {
						return err
					}
					return e.Client().UpdateImage(ctx, img.Fingerprint, put, etag)
				},
			})
		}),
	}
}

func newImageGetProperty(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "get-property IMAGE KEY", Short: "Show a property of an image",
		Example: "  cuib image get-property debian/12 release",
		Args:    kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.Images, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			img, _, err := e.Client().FindImage(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			value, ok := img.Properties[args[1]]
			if !ok {
				return errs.NotFoundf("image %q has no property %q", args[0], args[1])
			}
			fmt.Fprintln(e.Out, value)
			return nil
		}),
	}
}

func (e *env) changeImage(ctx context.Context, name string, change func(properties map[string]string) error) error {
	img, etag, err := e.Client().FindImage(ctx, name)
	if err != nil {
		return err
	}
	if img.Properties == nil {
		img.Properties = map[string]string{}
	}
	if err := change(img.Properties); err != nil {
		return err
	}
	return e.Client().UpdateImage(ctx, img.Fingerprint, img.ImagePut, etag)
}

func newImageSetProperty(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "set-property IMAGE KEY VALUE", Short: "Set a property of an image",
		Example: "  cuib image set-property debian/12 description 'our base'",
		Args:    kit.Needs(3, 3), ValidArgsFunction: e.Complete(kit.Images, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			return e.changeImage(cmd.Context(), args[0], func(p map[string]string) error {
				p[args[1]] = args[2]
				return nil
			})
		}),
	}
}

func newImageUnsetProperty(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "unset-property IMAGE KEY", Short: "Unset a property of an image",
		Example: "  cuib image unset-property debian/12 description",
		Args:    kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.Images, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			return e.changeImage(cmd.Context(), args[0], func(p map[string]string) error {
				if _, ok := p[args[1]]; !ok {
					return errs.NotFoundf("image %q has no property %q", args[0], args[1])
				}
				delete(p, args[1])
				return nil
			})
		}),
	}
}

// buildable completes what can be built on every mirror.
func buildable(context.Context, *kit.Env, []string) ([]string, error) {
	return []string{"debian:bookworm", "debian:trixie", "debian:sid"}, nil
}

func newImageBuild(e *env) *cobra.Command {
	var aliases []string
	var variant string
	var refresh bool
	cmd := &cobra.Command{
		Use: "build DISTRIBUTION:SUITE", Short: "Build an image from a distribution's packages",
		Long:    "Build a system image from the packages of a distribution, such as\ndebian:bookworm, on the mirror that this host itself uses. An image that was\nbuilt before is used again unless you say --refresh.\n\nThe variant cloud has cloud-init, which does what the keys cloud-init.* of an\ninstance say; debian:bookworm/cloud names it too. The variants\nsysvinit, openrc and runit have that init instead of systemd.",
		Example: "  cuib image build debian:bookworm --alias debian/12\n  cuib image build debian:bookworm --variant cloud --alias debian/12/cloud",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(buildable),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := api.ImagesPost{
				Source:  &api.ImagesPostSource{Type: "build", Name: args[0], Variant: variant, Refresh: refresh},
				Aliases: kit.ImageAliases(aliases),
			}
			op, err := e.Client().MakeImage(cmd.Context(), req)
			if err := e.Wait(cmd.Context(), op, err); err != nil {
				return err
			}
			e.Say("Image built with fingerprint %v", op.Metadata["fingerprint"])
			return nil
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&aliases, "alias", nil, "alias for the image; again for more")
	f.StringVar(&variant, "variant", "", "variant of the image: default, cloud, sysvinit, openrc or runit")
	_ = cmd.RegisterFlagCompletionFunc("variant", cobra.FixedCompletions([]string{"default", "cloud", "sysvinit", "openrc", "runit"}, cobra.ShellCompDirectiveNoFileComp)) // The flag exists.
	f.BoolVar(&refresh, "refresh", false, "build even if there is such an image")
	return cmd
}
