package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pkg/sftp"
	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/mount"
	"github.com/cuib/cuib/shared/errs"
)

// A Place says how files are reached: those of instances, or those of volumes.
type Place struct {
	Command string        // Before the verb.
	What    string        // Such as "an instance".
	Arg     string        // In usage lines, before /PATH.
	One     string        // The same in examples.
	Within  kit.Completer // Of what it is in, if an argument before the name says that.
	Names   kit.Completer // With a slash at their ends.
	Open    func(ctx context.Context, within, name string) (net.Conn, error)
}

// commands are the commands for the files of one kind of place.
type commands struct {
	*kit.Env

	at Place
}

// Group returns the commands for the files of one kind of place.
func Group(k *kit.Env, at Place) *cobra.Command {
	e := &commands{k, at}
	return kit.Group("file", "Move files between this host and "+at.plural(),
		e.examples("cuib push index.html @/srv/www/", "cuib pull @/etc/hosts -"),
		newFileCreate(e), newFileDelete(e), newFileEdit(e), newFileMount(e), newFilePull(e), newFilePush(e))
}

func (at Place) plural() string {
	_, noun, _ := strings.Cut(at.What, " ")
	return noun + "s"
}

// examples returns lines of examples, in which @ stands for the place.
func (e *commands) examples(lines ...string) string {
	for i, line := range lines {
		line = strings.ReplaceAll(line, "@", e.at.One)
		lines[i] = "  " + strings.Replace(line, "cuib", "cuib "+e.at.Command, 1)
	}
	return strings.Join(lines, "\n")
}

// parts returns how many arguments name a place.
func (e *commands) parts() int {
	if e.at.Within != nil {
		return 2
	}
	return 1
}

// complete completes a place and what follows it.
func (e *commands) complete(after ...kit.Completer) cobra.CompletionFunc {
	by := append([]kit.Completer{e.at.Names}, after...)
	if e.at.Within != nil {
		by = append([]kit.Completer{e.at.Within}, by...)
	}
	return e.Complete(by...)
}

// withFiles calls fn with the files of the place that a path is of.
func (e *commands) withFiles(ctx context.Context, p Path, fn func(*sftp.Client) error) error {
	conn, err := e.at.Open(ctx, p.Within, p.Instance)
	if err != nil {
		return err
	}
	c, err := Open(conn)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // Each file was closed, which says whether it is whole.
	return fn(c)
}

// paths parses arguments that begin with what the places are in, if they are
// in something, and go on with NAME/PATH each.
func (e *commands) paths(args []string) ([]Path, error) {
	within := ""
	if e.at.Within != nil {
		name, err := kit.Local(args[0])
		if err != nil {
			return nil, err
		}
		within, args = name, args[1:]
	}
	var out []Path
	for _, a := range args {
		a, err := kit.Local(a)
		if err != nil {
			return nil, err
		}
		p, err := ParsePath(a)
		if err != nil {
			return nil, fmt.Errorf("%w: usage: %s/PATH", err, e.at.Arg)
		}
		p.Within = within
		out = append(out, p)
	}
	return out, nil
}

// path is paths for one.
func (e *commands) path(args []string) (Path, error) {
	all, err := e.paths(args[:e.parts()])
	if err != nil {
		return Path{}, err
	}
	return all[0], nil
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

func (o *fileOptions) attributes() (Attributes, error) {
	a := Attributes{UID: o.uid, GID: o.gid}
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

func newFilePush(e *commands) *cobra.Command {
	var o fileOptions
	cmd := &cobra.Command{
		Use: "push SOURCE... " + e.at.Arg + "/PATH", Short: "Copy files into " + e.at.What,
		Long: "Copy files of this host into " + e.at.What + `, in use or not. "-" is the standard
input. A file keeps its mode and belongs to root unless you say otherwise; with
--recursive files keep their owners too. Holes of files stay holes.`,
		Example: e.examples("cuib push index.html @/srv/www/", "cuib push --recursive site @/srv", "echo hello | cuib push - @/etc/motd --mode 0644"),
		Args:    kit.Needs(1+e.parts(), -1), ValidArgsFunction: e.Complete(kit.LocalFiles),
		RunE: func(cmd *cobra.Command, args []string) error { return e.push(cmd.Context(), o, args) },
	}
	o.flags(cmd)
	cmd.Flags().BoolVarP(&o.recursive, "recursive", "r", false, "copy directories with all that is in them")
	return cmd
}

func (e *commands) push(ctx context.Context, o fileOptions, args []string) error {
	sources, place := args[:len(args)-e.parts()], args[len(args)-e.parts():]
	to, err := e.path(place)
	if err != nil {
		return err
	}
	to.IsDir = to.IsDir || len(sources) > 1
	a, err := o.attributes()
	if err != nil {
		return err
	}
	meter := e.meter()
	defer meter.Progress.Clear()
	return e.withFiles(ctx, to, func(c *sftp.Client) error {
		p := Pusher{FS: c, To: to, Attributes: a, CreateDirs: o.createDirs, Meter: meter}
		for _, source := range sources {
			if err := e.pushOne(p, o, source); err != nil {
				return err
			}
		}
		return nil
	})
}

// meter shows how far a file is.
func (e *commands) meter() *kit.Meter { return &kit.Meter{Progress: e.Progress()} }

func (e *commands) pushOne(p Pusher, o fileOptions, source string) error {
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

func newFilePull(e *commands) *cobra.Command {
	var o fileOptions
	cmd := &cobra.Command{
		Use: "pull " + e.at.Arg + "/PATH... TARGET", Short: "Copy files out of " + e.at.What,
		Long:    "Copy files out of " + e.at.What + ", in use or not. The target \"-\" is the standard\noutput. Pages of zeros become holes of the file.",
		Example: e.examples("cuib pull @/etc/hosts .", "cuib pull @/etc/hosts -", "cuib pull --recursive @/var/log logs"),
		Args:    kit.Needs(1+e.parts(), -1), ValidArgsFunction: e.complete(kit.LocalFiles),
		RunE: func(cmd *cobra.Command, args []string) error { return e.pull(cmd.Context(), o, args) },
	}
	cmd.Flags().BoolVarP(&o.recursive, "recursive", "r", false, "copy directories with all that is in them")
	cmd.Flags().BoolVarP(&o.createDirs, "create-dirs", "p", false, "make directories that are missing")
	return cmd
}

func (e *commands) pull(ctx context.Context, o fileOptions, args []string) error {
	target := args[len(args)-1]
	sources, err := e.paths(args[:len(args)-1])
	if err != nil {
		return err
	}
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
	for _, from := range sources {
		to := target
		if isDir && !o.recursive {
			to = filepath.Join(target, path.Base(from.File))
		}
		err := e.withFiles(ctx, from, func(c *sftp.Client) error { return e.pullOne(c, o, from, to) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *commands) pullOne(c *sftp.Client, o fileOptions, from Path, to string) error {
	meter := e.meter()
	defer meter.Progress.Clear()
	switch {
	case to == "-":
		_, err := Pull(c, from.File, e.Out, meter)
		return err
	case o.recursive:
		return Puller{FS: c, Meter: meter, Skip: func(name string) {
			meter.Progress.Clear()
			e.Warn("%s: skipped: neither a file, a directory, nor a link", name)
		}}.Tree(from.File, to)
	}
	return PullFile(c, from.File, to, meter)
}

func newFileEdit(e *commands) *cobra.Command {
	return &cobra.Command{
		Use: "edit " + e.at.Arg + "/PATH", Short: "Edit a file of " + e.at.What + " in $EDITOR",
		Example: e.examples("cuib edit @/etc/hosts"),
		Args:    kit.Needs(e.parts(), e.parts()), ValidArgsFunction: e.complete(kit.None),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := e.path(args)
			if err != nil {
				return err
			}
			return e.editGuestFile(cmd.Context(), p)
		},
	}
}

// editGuestFile lets the user edit a copy of a file, and puts it back if it was
// changed.
func (e *commands) editGuestFile(ctx context.Context, p Path) error {
	dir, err := os.MkdirTemp("", "cuib-")
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if !keep {
			_ = os.RemoveAll(dir)
		}
	}()
	name := filepath.Join(dir, path.Base(p.File)) // Editors look at the ending.
	return e.withFiles(ctx, p, func(c *sftp.Client) error {
		before, err := pulled(c, p.File, name)
		if err != nil {
			return err
		}
		if err := e.EditFile(ctx, name); err != nil {
			return err
		}
		after, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && before != nil && bytes.Equal(before, after) {
			return nil // Nothing was written.
		}
		if err != nil {
			return err
		}
		push := Pusher{FS: c, To: p, Attributes: Attributes{UID: -1, GID: -1}}
		put := push.Replace
		if before == nil {
			put = func(r io.Reader) error { return push.Stream(path.Base(p.File), r, 0o644) }
		}
		if err := put(bytes.NewReader(after)); err != nil {
			keep = true
			return fmt.Errorf("%w (what you have written is in %s)", err, name)
		}
		return nil
	})
}

// pulled copies a file to a file of this host, and returns what it holds: nil if
// there is none.
func pulled(c *sftp.Client, file, to string) ([]byte, error) {
	switch err := PullFile(c, file, to, nil); {
	case errs.Is(err, errs.NotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return os.ReadFile(to)
}

func newFileDelete(e *commands) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "delete " + e.at.Arg + "/PATH...", Aliases: []string{"rm"}, Short: "Delete files of " + e.at.What,
		Example: e.examples("cuib delete @/tmp/old", "cuib delete --force @/srv/site"),
		Args:    kit.Needs(e.parts(), -1), ValidArgsFunction: e.complete(e.at.Names),
		RunE: func(cmd *cobra.Command, args []string) error {
			remove := Delete
			if force {
				remove = (*sftp.Client).RemoveAll
			}
			all, err := e.paths(args)
			if err != nil {
				return err
			}
			for _, p := range all {
				if err := e.deleteFile(cmd.Context(), p, remove); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "delete directories with all that is in them")
	return cmd
}

func (e *commands) deleteFile(ctx context.Context, p Path, remove func(*sftp.Client, string) error) error {
	return e.withFiles(ctx, p, func(c *sftp.Client) error { return Explain(p.File, remove(c, p.File)) })
}

func newFileCreate(e *commands) *cobra.Command {
	var o fileOptions
	cmd := &cobra.Command{
		Use: "create " + e.at.Arg + "/PATH [LINK-TARGET]", Short: "Make a file, a directory or a link in " + e.at.What,
		Example: e.examples("cuib create @/srv/empty", "cuib create --type directory @/srv/www", "cuib create --type symlink @/srv/now releases/7"),
		Args:    kit.Needs(e.parts(), e.parts()+1), ValidArgsFunction: e.complete(kit.None),
		RunE: func(cmd *cobra.Command, args []string) error { return e.createFile(cmd.Context(), o, args) },
	}
	o.flags(cmd)
	cmd.Flags().BoolVarP(&o.force, "force", "f", false, "go on if it exists")
	cmd.Flags().StringVar(&o.typ, "type", "file", "file, directory or symlink")
	return cmd
}

func (e *commands) createFile(ctx context.Context, o fileOptions, args []string) error {
	p, err := e.path(args)
	if err != nil {
		return err
	}
	link := args[e.parts():]
	a, err := o.attributes()
	if err != nil {
		return err
	}
	if (o.typ == "symlink") != (len(link) == 1) {
		return errs.Invalidf("a target is for --type symlink, and only for it")
	}
	return e.withFiles(ctx, p, func(c *sftp.Client) error {
		maker := Maker{Pusher: Pusher{FS: c, To: p, Attributes: a, CreateDirs: o.createDirs}, Force: o.force}
		switch o.typ {
		case "file":
			return maker.File()
		case "directory":
			return maker.Dir()
		case "symlink":
			return maker.Link(link[0])
		}
		return errs.Invalidf("type %q is none of file, directory, symlink", o.typ)
	})
}

// mountOptions are the flags of mount.
type mountOptions struct {
	listen, user string
	noAuth       bool
}

func newFileMount(e *commands) *cobra.Command {
	var o mountOptions
	cmd := &cobra.Command{
		Use: "mount " + e.at.Arg + "[/PATH] [TARGET]", Short: "Mount files of " + e.at.What + " on this host, or serve them",
		Long: "Mount a directory of " + e.at.What + ` on an empty directory of this host, until you
interrupt the command or unmount the directory.

With --listen and no TARGET all files are served to programs that speak SFTP over
SSH, such as sshfs, until you interrupt the command. They log in with a password
that is new each time and is shown.`,
		Example: e.examples("cuib mount @/srv ~/web", "cuib mount @ --listen 127.0.0.1:2222"),
		Args:    kit.Needs(e.parts(), 1+e.parts()), ValidArgsFunction: e.complete(kit.LocalFiles),
		RunE: func(cmd *cobra.Command, args []string) error {
			if name := &args[e.parts()-1]; !strings.Contains(*name, "/") {
				*name += "/"
			}
			p, err := e.path(args)
			if err != nil {
				return err
			}
			if err := o.check(p, args[e.parts():]); err != nil {
				return err
			}
			if o.listen != "" {
				return e.serve(cmd.Context(), p, o)
			}
			return e.mount(cmd.Context(), p, args[e.parts()])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "", "address and port to serve SFTP over SSH on, instead of a mount")
	f.StringVar(&o.user, "auth-user", "cuib", "user that logs in, with --listen")
	f.BoolVar(&o.noAuth, "no-auth", false, "let everybody in who can connect, with --listen")
	return cmd
}

func (o mountOptions) check(p Path, target []string) error {
	switch {
	case o.listen == "" && len(target) == 0:
		return errs.Invalidf("no directory given to mount on, nor --listen")
	case o.listen != "" && len(target) > 0:
		return errs.Invalidf("give either a directory to mount on, or --listen")
	case o.listen != "" && p.File != "/":
		return errs.Invalidf("%s: --listen serves all files: leave out the path", p)
	case o.listen == "" && o.noAuth:
		return errs.Invalidf("--no-auth is for --listen")
	}
	return nil
}

// serve serves files by SFTP over SSH until the user interrupts.
func (e *commands) serve(ctx context.Context, p Path, o mountOptions) error {
	ctx, stop := kit.Interruptible(ctx)
	defer stop()
	l := Listener{
		Open: func(ctx context.Context) (net.Conn, error) { return e.at.Open(ctx, p.Within, p.Instance) },
		Warn: e.Warn,
	}
	first, err := l.Open(ctx) // That it is there is seen at once.
	if err != nil {
		return err
	}
	if err := first.Close(); err != nil {
		return err
	}
	var config net.ListenConfig
	on, err := config.Listen(ctx, "tcp", o.listen)
	if err != nil {
		return errs.Invalidf("--listen is %q: %w", o.listen, err)
	}
	e.Say("SFTP over SSH on %s: press ctrl+c to end it", on.Addr())
	if !o.noAuth {
		if l.Password, err = Password(); err != nil {
			return errors.Join(err, on.Close())
		}
		l.User = o.user
		fmt.Fprintf(e.Out, "User: %s\nPassword: %s\n", l.User, l.Password)
	}
	return l.Serve(ctx, on)
}

func (e *commands) mount(ctx context.Context, p Path, target string) error {
	ctx, stop := kit.Interruptible(ctx)
	defer stop()
	return e.withFiles(context.WithoutCancel(ctx), p, func(c *sftp.Client) error {
		return mount.Serve(ctx, c, p.File, target, func() {
			e.Warn("%s is mounted on %s: press ctrl+c to unmount it", p, target)
		})
	})
}
