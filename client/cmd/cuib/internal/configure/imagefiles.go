package configure

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/errs"
)

type importOptions struct {
	aliases []string
	public  bool
	reuse   bool
}

func newImageImport(e *env) *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use: "import TARBALL [ROOTFS] [KEY=VALUE...]", Short: "Import an image from files",
		Long:    "Import an image: one tarball with all, or the tarball of the metadata and the\nroot file system as a tarball or a squashfs. KEY=VALUE are properties.",
		Example: "  cuib image import alpine.tar.xz --alias alpine\n  cuib image import incus.tar.xz rootfs.squashfs --alias debian/12",
		Args:    kit.Needs(1, -1), ValidArgsFunction: e.Complete(kit.LocalFiles),
		RunE: func(cmd *cobra.Command, args []string) error { return e.importImage(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.aliases, "alias", nil, "alias for the image; again for more")
	f.BoolVar(&o.public, "public", false, "let everybody use the image")
	f.BoolVar(&o.reuse, "reuse", false, "take aliases away from images that have them")
	return cmd
}

func (e *env) importImage(ctx context.Context, o importOptions, args []string) error {
	names, properties := importArgs(args)
	if len(names) > 2 {
		return errs.Invalidf("an image has two files at most: %q", names)
	}
	p := e.Progress()
	defer p.Clear()
	up := client.ImageUpload{Public: o.public, Properties: map[string]string{}}
	if !o.reuse {
		up.Aliases = o.aliases
	}
	var err error
	if up.Properties, err = kit.Pairs(properties); err != nil {
		return err
	}
	for i, name := range names {
		f, err := openImageFile(name)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:revive // There are two at most.
		m := kit.Meter{Progress: p, Label: "Sending " + filepath.Base(name), Size: sizeOf(f)}
		r := m.Reader(f)
		if i == 0 {
			up.Meta, up.MetaName = r, filepath.Base(name)
		} else {
			up.Rootfs, up.RootfsName = r, filepath.Base(name)
		}
	}
	op, err := e.Client().UploadImage(ctx, up)
	if err := e.Wait(ctx, op, err); err != nil {
		return err
	}
	p.Clear()
	if o.reuse {
		if err := kit.MoveAliases(ctx, e.Client(), o.aliases, op); err != nil {
			return err
		}
	}
	e.Say("Image imported with fingerprint %v", op.Metadata["fingerprint"])
	return nil
}

// importArgs tells the files from the properties. A file can have an equal
// sign in its name.
func importArgs(args []string) (names, properties []string) {
	for _, a := range args {
		if _, err := os.Stat(a); err != nil && strings.Contains(a, "=") {
			properties = append(properties, a)
		} else if a != "local:" {
			names = append(names, a)
		}
	}
	return names, properties
}

func openImageFile(name string) (*os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = errs.Invalidf("%s is a directory: pack it with \"tar -C %s -c metadata.yaml rootfs\"", name, name)
	}
	if err != nil {
		_ = f.Close() // The error is why.
		return nil, err
	}
	return f, nil
}

// sizeOf returns the size of a file, or 0 if it has none.
func sizeOf(f *os.File) int64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

func newImageExport(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "export IMAGE [TARGET]", Short: "Save an image as files",
		Long:    "Save an image as the one or two files that it was made of. TARGET is a directory,\nor a name to which the endings of the files are added.",
		Example: "  cuib image export debian/12\n  cuib image export debian/12 backup/debian-12",
		Args:    kit.Needs(1, 2), ValidArgsFunction: e.Complete(kit.Images, kit.LocalFiles),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := "."
			if len(args) == 2 {
				target = args[1]
			}
			return e.exportImage(cmd.Context(), strings.TrimPrefix(args[0], "local:"), target)
		},
	}
}

func (e *env) exportImage(ctx context.Context, name, target string) error {
	ctx, stop := kit.Interruptible(ctx)
	defer stop()
	img, _, err := e.Client().FindImage(ctx, name)
	if err != nil {
		return err
	}
	p := e.Progress()
	defer p.Clear()
	var files kit.NewFiles
	defer files.Drop()
	var names []string
	err = e.Client().ExportImage(ctx, img.Fingerprint, func(name string) (io.WriteCloser, error) {
		file := exportName(target, name, len(names))
		f, err := files.Create(file, 0o666) // The user's umask says.
		if err != nil {
			return nil, err
		}
		names = append(names, file)
		m := kit.Meter{Progress: p, Label: "Receiving " + filepath.Base(file)}
		return struct {
			io.Writer
			io.Closer
		}{m.Writer(f), f}, nil
	})
	p.Clear()
	if err == nil {
		err = files.Rename()
	}
	if err != nil {
		return err
	}
	e.Say("Image saved as %s", strings.Join(names, " and "))
	return nil
}

// exportName returns where the file with the given name goes; n is how many
// were before it.
func exportName(target, name string, n int) string {
	name = filepath.Base(name)
	if info, err := os.Stat(target); err == nil && info.IsDir() {
		return filepath.Join(target, name)
	}
	if n > 0 {
		target += ".rootfs"
	}
	return target + ending(name)
}

// ending returns the ending of a file name with both parts of ".tar.xz".
func ending(name string) string {
	if i := strings.Index(name, ".tar"); i >= 0 {
		return name[i:]
	}
	return filepath.Ext(name)
}
