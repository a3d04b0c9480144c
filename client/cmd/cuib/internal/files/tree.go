package files

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pkg/sftp"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/errs"
)

// Tree pushes a directory of this host with all that is in it. Files keep
// their owners and modes unless the attributes say others.
func (p Pusher) Tree(source string) error {
	to := path.Join(p.To.File, filepath.Base(filepath.Clean(source)))
	if p.CreateDirs {
		if err := Explain(p.To.File, p.FS.MkdirAll(p.To.File)); err != nil {
			return err
		}
	}
	return filepath.WalkDir(source, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rest, err := filepath.Rel(source, name)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return p.one(name, path.Join(to, filepath.ToSlash(rest)), info)
	})
}

// one pushes one file of a tree.
func (p Pusher) one(name, to string, info fs.FileInfo) error {
	a := p.Attributes.orMode(info.Mode())
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		if a.UID < 0 {
			a.UID = int(st.Uid)
		}
		if a.GID < 0 {
			a.GID = int(st.Gid)
		}
	}
	switch {
	case info.IsDir():
		if !p.Attributes.HasMode || a.Mode&0o111 == 0 {
			a.Mode = info.Mode().Perm() // The mode for files would lock a directory.
		}
		if err := p.FS.Mkdir(to); err != nil && !p.isDir(to) {
			return Explain(to, err)
		}
		return Explain(to, p.apply(to, a))
	case info.Mode().IsRegular():
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		return errors.Join(p.write(to, f, a), f.Close())
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(name)
		if err != nil {
			return err
		}
		return Explain(to, replaceLink(p.FS, target, to))
	}
	return errs.Invalidf("%s is neither a file, a directory, nor a link", name)
}

func (p Pusher) isDir(file string) bool {
	info, err := p.FS.Stat(file)
	return err == nil && info.IsDir()
}

// replaceLink makes a symbolic link, in place of one that is there.
func replaceLink(c *sftp.Client, target, name string) error {
	if info, err := c.Lstat(name); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if err := c.Remove(name); err != nil {
			return err
		}
	}
	return c.Symlink(target, name)
}

// Pull copies a file of an instance to w and returns its permissions. If w is a
// file that can have holes, it has them where there are zeros.
func Pull(c *sftp.Client, file string, w io.Writer, m *kit.Meter) (fs.FileMode, error) {
	f, info, err := opened(c, file)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // It was read.
	m.Begin("Pulling "+path.Base(file), info.Size())
	return info.Mode().Perm(), Explain(file, receive(w, f, m))
}

// opened opens a file of an instance, which is no directory.
func opened(c *sftp.Client, file string) (*sftp.File, fs.FileInfo, error) {
	f, err := c.Open(file)
	if err != nil {
		return nil, nil, Explain(file, err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = errs.Invalidf("%s is a directory: use --recursive", file)
	} else {
		err = Explain(file, err)
	}
	if err != nil {
		_ = f.Close() // The error is why.
		return nil, nil, err
	}
	return f, info, nil
}

// PullFile copies a file of an instance to a file of this host. One that is
// there stays as it is if the other cannot be read.
func PullFile(c *sftp.Client, file, to string, m *kit.Meter) error {
	f, _, err := opened(c, file)
	if err != nil {
		return err
	}
	_ = f.Close() // It can be read.
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	mode, err := Pull(c, file, out, m)
	if err == nil {
		err = out.Chmod(mode)
	}
	return errors.Join(err, out.Close())
}

// A Puller copies trees out of an instance.
type Puller struct {
	FS    *sftp.Client
	Skip  func(name string) // Told of what is no file, directory or link.
	Meter *kit.Meter        // Nil for none.
}

// Tree copies a directory or a file of an instance into the directory to,
// which it makes if it must.
func (p Puller) Tree(file, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(to) // Links that come along are not followed out of it.
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // Its files were closed.
	info, err := p.FS.Lstat(file)
	if err != nil {
		return Explain(file, err)
	}
	name := path.Base(file)
	if name == "/" {
		name = "."
	}
	return p.one(root, file, name, info)
}

func (p Puller) one(root *os.Root, file, to string, info fs.FileInfo) error {
	switch {
	case info.IsDir():
		return p.dir(root, file, to, info)
	case info.Mode().IsRegular():
		out, err := root.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		_, err = Pull(p.FS, file, out, p.Meter)
		if err == nil {
			err = out.Chmod(info.Mode().Perm())
		}
		return errors.Join(err, out.Close())
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := p.FS.ReadLink(file)
		if err != nil {
			return Explain(file, err)
		}
		if old, err := root.Lstat(to); err == nil && old.Mode()&fs.ModeSymlink != 0 {
			if err := root.Remove(to); err != nil {
				return err
			}
		}
		return root.Symlink(target, to)
	}
	p.Skip(file)
	return nil
}

func (p Puller) dir(root *os.Root, file, to string, info fs.FileInfo) error {
	if err := root.Mkdir(to, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	entries, err := p.FS.ReadDir(file)
	if err != nil {
		return Explain(file, err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if name == "." || name == ".." || name == "" || strings.ContainsRune(name, '/') {
			return errs.Invalidf("a file with the name %q is listed, which no file can have", name)
		}
		if err := p.one(root, path.Join(file, name), filepath.Join(to, name), entry); err != nil {
			return err
		}
	}
	if to == "." {
		return nil
	}
	return root.Chmod(to, info.Mode().Perm())
}
