package instance

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pkg/sftp"
	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/files"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/mount"
	"github.com/cuib/cuib/shared/errs"
)

func newFile(e *env) *cobra.Command {
	return kit.Group("file", "Move files between this host and instances",
		"  cuib file push index.html web/srv/www/\n  cuib file pull web/etc/hosts -",
		newFileCreate(e), newFileDelete(e), newFileEdit(e), newFileMount(e), newFilePull(e), newFilePush(e))
}

// withFiles calls fn with the files of an instance.
func (e *env) withFiles(ctx context.Context, instance string, fn func(*sftp.Client) error) error {
	conn, err := e.Client().SFTP(ctx, instance)
	if err != nil {
		return err
	}
	c, err := files.Open(conn)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // Each file was closed, which says whether it is whole.
	return fn(c)
}

// fileOptions are the flags of commands that make files in an instance.
type fileOptions struct {
	uid, gid   int
	mode       string
	createDirs bool
	recursive  bool
	force      bool
	typ        string
}

func (o *fileOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&o.uid, "uid", -1, "user id of the owner")
	f.IntVar(&o.gid, "gid", -1, "group id of the owner")
	f.StringVar(&o.mode, "mode", "", "permissions in octal, such as 0644")
	f.BoolVarP(&o.createDirs, "create-dirs", "p", false, "make directories that are missing")
}

func (o *fileOptions) attributes() (files.Attributes, error) {
	a := files.Attributes{UID: o.uid, GID: o.gid}
	if o.mode == "" {
		return a, nil
	}
	mode, err := strconv.ParseUint(o.mode, 8, 32)
	if err != nil || mode > 0o7777 {
		return a, errs.Invalidf("mode %q is not an octal number up to 7777", o.mode)
	}
	a.Mode, a.HasMode = fs.FileMode(mode&0o777), true
	for bit, m := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&bit != 0 {
			a.Mode |= m
		}
	}
	return a, nil
}

func newFilePush(e *env) *cobra.Command {
	var o fileOptions
	cmd := &cobra.Command{
		Use: "push SOURCE... INSTANCE/PATH", Short: "Copy files into an instance",
		Long: `Copy files of this host into an instance, running or not. "-" is the standard
input. A file keeps its mode and belongs to root unless you say otherwise; with
--recursive files keep their owners too.`,
		Example: "  cuib file push index.html web/srv/www/\n  cuib file push --recursive site web/srv\n  echo hello | cuib file push - web/etc/motd --mode 0644",
		Args:    kit.Needs(2, -1), ValidArgsFunction: e.Complete(kit.LocalFiles),
		RunE: func(cmd *cobra.Command, args []string) error { return e.push(cmd.Context(), o, args) },
	}
	o.flags(cmd)
	cmd.Flags().BoolVarP(&o.recursive, "recursive", "r", false, "copy directories with all that is in them")
	return cmd
}

func (e *env) push(ctx context.Context, o fileOptions, args []string) error {
	to, err := e.filePath(args[len(args)-1])
	if err != nil {
		return err
	}
	sources := args[:len(args)-1]
	to.IsDir = to.IsDir || len(sources) > 1
	a, err := o.attributes()
	if err != nil {
		return err
	}
	return e.withFiles(ctx, to.Instance, func(c *sftp.Client) error {
		p := files.Pusher{FS: c, To: to, Attributes: a, CreateDirs: o.createDirs}
		for _, source := range sources {
			if err := e.pushOne(p, o, source); err != nil {
				return err
			}
		}
		return nil
	})
}

func (e *env) pushOne(p files.Pusher, o fileOptions, source string) error {
	if source == "-" {
		return p.Stream("stdin", e.In, 0o644)
	}
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if info.IsDir() && o.recursive {
		return p.Tree(source)
	}
	return p.File(source)
}

// filePath parses INSTANCE/PATH.
func (e *env) filePath(arg string) (files.Path, error) {
	arg, err := kit.Local(arg)
	if err != nil {
		return files.Path{}, err
	}
	return files.ParsePath(arg)
}

func newFilePull(e *env) *cobra.Command {
	var o fileOptions
	cmd := &cobra.Command{
		Use: "pull INSTANCE/PATH... TARGET", Short: "Copy files out of an instance",
		Long:    "Copy files out of an instance, running or not. The target \"-\" is the standard\noutput.",
		Example: "  cuib file pull web/etc/hosts .\n  cuib file pull web/etc/hosts -\n  cuib file pull --recursive web/var/log logs",
		Args:    kit.Needs(2, -1), ValidArgsFunction: e.Complete(kit.InstancePaths, kit.LocalFiles),
		RunE: func(cmd *cobra.Command, args []string) error { return e.pull(cmd.Context(), o, args) },
	}
	cmd.Flags().BoolVarP(&o.recursive, "recursive", "r", false, "copy directories with all that is in them")
	cmd.Flags().BoolVarP(&o.createDirs, "create-dirs", "p", false, "make directories that are missing")
	return cmd
}

func (e *env) pull(ctx context.Context, o fileOptions, args []string) error {
	target, sources := args[len(args)-1], args[:len(args)-1]
	info, err := os.Stat(target)
	isDir := err == nil && info.IsDir() || strings.HasSuffix(target, "/") || len(sources) > 1
	if o.createDirs && target != "-" {
		dir := filepath.Dir(target)
		if isDir {
			dir = target
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, source := range sources {
		from, err := e.filePath(source)
		if err != nil {
			return err
		}
		to := target
		if isDir && !o.recursive {
			to = filepath.Join(target, path.Base(from.File))
		}
		err = e.withFiles(ctx, from.Instance, func(c *sftp.Client) error { return e.pullOne(c, o, from, to) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *env) pullOne(c *sftp.Client, o fileOptions, from files.Path, to string) error {
	switch {
	case to == "-":
		_, err := files.Pull(c, from.File, e.Out)
		return err
	case o.recursive:
		return files.Puller{FS: c, Skip: func(name string) {
			e.Warn("%s: skipped: neither a file, a directory, nor a link", name)
		}}.Tree(from.File, to)
	}
	return files.PullFile(c, from.File, to)
}

func newFileEdit(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "edit INSTANCE/PATH", Short: "Edit a file of an instance in $EDITOR",
		Example: "  cuib file edit web/etc/hosts",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(kit.InstancePaths, kit.None),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := e.filePath(args[0])
			if err != nil {
				return err
			}
			return e.editGuestFile(cmd.Context(), p)
		},
	}
}

// editGuestFile lets the user edit a copy of a file, and puts it back if it was
// changed.
func (e *env) editGuestFile(ctx context.Context, p files.Path) error {
	dir, err := os.MkdirTemp("", "cuib-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	name := filepath.Join(dir, path.Base(p.File)) // Editors look at the ending.
	return e.withFiles(ctx, p.Instance, func(c *sftp.Client) error {
		err := files.PullFile(c, p.File, name)
		isNew := errs.Is(err, errs.NotFound)
		if err != nil && !isNew {
			return err
		}
		before, err := os.ReadFile(name)
		if err != nil && !isNew {
			return err
		}
		if err := e.EditFile(ctx, name); err != nil {
			return err
		}
		after, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && bytes.Equal(before, after) && !isNew {
			return nil // Nothing was written.
		}
		if err != nil {
			return err
		}
		push := files.Pusher{FS: c, To: p, Attributes: files.Attributes{UID: -1, GID: -1}}
		if isNew {
			return push.Stream(path.Base(p.File), bytes.NewReader(after), 0o644)
		}
		return push.Replace(bytes.NewReader(after))
	})
}

func newFileDelete(e *env) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "delete INSTANCE/PATH...", Aliases: []string{"rm"}, Short: "Delete files of an instance",
		Example: "  cuib file delete web/tmp/old\n  cuib file delete --force web/srv/site",
		Args:    kit.Needs(1, -1), ValidArgsFunction: e.Complete(kit.InstancePaths),
		RunE: func(cmd *cobra.Command, args []string) error {
			remove := files.Delete
			if force {
				remove = (*sftp.Client).RemoveAll
			}
			for _, a := range args {
				if err := e.deleteFile(cmd.Context(), a, remove); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "delete directories with all that is in them")
	return cmd
}

func (e *env) deleteFile(ctx context.Context, arg string, remove func(*sftp.Client, string) error) error {
	p, err := e.filePath(arg)
	if err != nil {
		return err
	}
	return e.withFiles(ctx, p.Instance, func(c *sftp.Client) error { return files.Explain(p.File, remove(c, p.File)) })
}

func newFileCreate(e *env) *cobra.Command {
	var o fileOptions
	cmd := &cobra.Command{
		Use: "create INSTANCE/PATH [LINK-TARGET]", Short: "Make a file, a directory or a link in an instance",
		Example: "  cuib file create web/srv/empty\n  cuib file create --type directory web/srv/www\n  cuib file create --type symlink web/srv/now releases/7",
		Args:    kit.Needs(1, 2), ValidArgsFunction: e.Complete(kit.InstancePaths, kit.None),
		RunE: func(cmd *cobra.Command, args []string) error { return e.createFile(cmd.Context(), o, args) },
	}
	o.flags(cmd)
	cmd.Flags().BoolVarP(&o.force, "force", "f", false, "go on if it exists")
	cmd.Flags().StringVar(&o.typ, "type", "file", "file, directory or symlink")
	return cmd
}

func (e *env) createFile(ctx context.Context, o fileOptions, args []string) error {
	p, err := e.filePath(args[0])
	if err != nil {
		return err
	}
	a, err := o.attributes()
	if err != nil {
		return err
	}
	if (o.typ == "symlink") != (len(args) == 2) {
		return errs.Invalidf("a target is for --type symlink, and only for it")
	}
	return e.withFiles(ctx, p.Instance, func(c *sftp.Client) error {
		maker := files.Maker{Pusher: files.Pusher{FS: c, To: p, Attributes: a, CreateDirs: o.createDirs}, Force: o.force}
		switch o.typ {
		case "file":
			return maker.File()
		case "directory":
			return maker.Dir()
		case "symlink":
			return maker.Link(args[1])
		}
		return errs.Invalidf("type %q is none of file, directory, symlink", o.typ)
	})
}

func newFileMount(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "mount INSTANCE[/PATH] TARGET", Short: "Mount files of an instance on this host",
		Long:    "Mount a directory of an instance on an empty directory of this host, until you\ninterrupt the command or unmount the directory.",
		Example: "  cuib file mount web/srv ~/web",
		Args:    kit.Needs(2, 2), ValidArgsFunction: e.Complete(kit.InstancePaths, kit.LocalFiles),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !strings.Contains(args[0], "/") {
				args[0] += "/"
			}
			p, err := e.filePath(args[0])
			if err != nil {
				return err
			}
			return e.mount(cmd.Context(), p, args[1])
		},
	}
}

func (e *env) mount(ctx context.Context, p files.Path, target string) error {
	ctx, stop := kit.Interruptible(ctx)
	defer stop()
	return e.withFiles(context.WithoutCancel(ctx), p.Instance, func(c *sftp.Client) error {
		return mount.Serve(ctx, c, p.File, target, func() {
			e.Warn("%s is mounted on %s: press ctrl+c to unmount it", p, target)
		})
	})
}
