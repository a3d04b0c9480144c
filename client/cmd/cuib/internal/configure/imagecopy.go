package configure

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
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
		Long:    "Copy an image, with its properties, to a project that has images of its own.",
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

func (e *env) copyImage(ctx context.Context, o imageCopyOptions, name string) (err error) {
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
	dir, err := os.MkdirTemp("", "cuib-image-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, stop := kit.Interruptible(ctx)
	defer stop()
	names, err := e.fetchImage(ctx, img, dir)
	if err != nil {
		return err
	}
	up := client.ImageUpload{Public: o.public, Properties: img.Properties, Aliases: o.aliases, ExpectedSHA256: img.Fingerprint}
	if _, err := e.sendImage(ctx, imageSending{up, o.target.Client(e.Env), names, o.reuse}); err != nil {
		return err
	}
	e.Say("Image %s copied from project %s to %s", kit.Short(img.Fingerprint), from, to)
	return nil
}

// fetchImage gets the files of an image into a directory, each in one of its own
// as they can have the same name.
func (e *env) fetchImage(ctx context.Context, img api.Image, dir string) ([]string, error) {
	p := e.Progress()
	defer p.Clear()
	var names []string
	err := e.Client().ExportImage(ctx, img.Fingerprint, func(name string) (io.WriteCloser, error) {
		sub := filepath.Join(dir, strconv.Itoa(len(names)))
		if err := os.Mkdir(sub, 0o700); err != nil {
			return nil, err
		}
		names = append(names, filepath.Join(sub, filepath.Base(name)))
		f, err := os.Create(names[len(names)-1])
		if err != nil {
			return nil, err
		}
		m := kit.Meter{Progress: p, Label: "Receiving " + filepath.Base(name)}
		return struct {
			io.Writer
			io.Closer
		}{m.Writer(f), f}, nil
	})
	return names, err
}
