package configure

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

type imageCopyOptions struct {
	importOptions

	copyAliases bool
	target      kit.Target
}

func newImageCopy(e *env) *cobra.Command {
	var o imageCopyOptions
	cmd := &cobra.Command{
		Use: "copy IMAGE --target-project PROJECT", Aliases: []string{"cp"}, Short: "Copy an image to another project",
		Long:    "Copy an image, with its properties, to a project that has images of its own. Both\nshare the files.",
		Example: "  cuib image copy debian/12 --target-project lab --copy-aliases",
		Args:    kit.Needs(1, 2), ValidArgsFunction: e.Complete(kit.Images, kit.None),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 && args[1] != "" { // "local:" is where all goes.
				return errs.Invalidf("too many arguments: usage: %s", cmd.UseLine())
			}
			return e.copyImage(cmd.Context(), o, args[0])
		}),
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.aliases, "alias", nil, "alias for the copy; again for more")
	f.BoolVar(&o.copyAliases, "copy-aliases", false, "the aliases of the image too")
	f.BoolVar(&o.public, "public", false, "let everybody use the copy")
	f.BoolVar(&o.reuse, "reuse", false, "take aliases away from images that have them")
	kit.ModeFlag(cmd)
	o.target.Flag(e.Env, cmd)
	return cmd
}

func (e *env) copyImage(ctx context.Context, o imageCopyOptions, name string) error {
	from, to, err := o.target.Projects(e.Env)
	if err != nil {
		return err
	}
	if to == "" {
		return errs.Invalidf("no other project given: name it with --target-project")
	}
	img, _, err := e.Client().FindImage(ctx, name)
	if err != nil {
		return err
	}
	if o.copyAliases {
		o.aliases = append(o.aliases, aliasNames(img)...)
	}
	c := o.target.Client(e.Env)
	switch _, _, err := c.Image(ctx, img.Fingerprint); {
	case err == nil:
		return errs.Conflictf("project %q has image %s already: of its own, or as it shares those of \"default\"", to, kit.Short(img.Fingerprint))
	case !errs.Is(err, errs.NotFound):
		return err
	}
	req := api.ImagesPost{
		Source:  &api.ImagesPostSource{Type: "image", Mode: "pull", Fingerprint: img.Fingerprint, Project: from},
		Aliases: kit.NewAliases(o.aliases, o.reuse),
	}
	req.Public = o.public
	op, err := c.MakeImage(ctx, req)
	if err := e.Wait(ctx, op, err); err != nil {
		return err
	}
	if o.reuse {
		if err := kit.MoveAliases(ctx, c, o.aliases, op); err != nil {
			return err
		}
	}
	e.Say("Image %s copied from project %s to %s", kit.Short(img.Fingerprint), from, to)
	return nil
}
