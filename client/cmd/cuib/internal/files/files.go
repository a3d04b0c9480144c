// Package files moves files between this host and an instance or a volume,
// over SFTP, and has the commands for it.
//
// What the other side says is not trusted: names that it lists never lead out of
// the directory that they are pulled into.
package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"strings"

	"github.com/pkg/sftp"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/errs"
)

// Open begins an SFTP session. Closing it closes conn.
func Open(conn net.Conn) (*sftp.Client, error) {
	c, err := sftp.NewClientPipe(conn, conn, sftp.UseConcurrentWrites(true), sftp.UseConcurrentReads(true), sftp.MaxConcurrentRequestsPerFile(64))
	if err != nil {
		return nil, fmt.Errorf("SFTP: %w", err)
	}
	return c, nil
}

// A Path is a file of an instance or a volume.
type Path struct {
	Within   string // The pool of a volume.
	Instance string // Or volume.
	File     string // Absolute, without "..".
	IsDir    bool   // It was written with a slash at its end.
}

// ParsePath parses INSTANCE/PATH.
func ParsePath(s string) (Path, error) {
	instance, file, ok := strings.Cut(s, "/")
	if !ok || instance == "" {
		return Path{}, errs.Invalidf("%q is not of the form NAME/PATH", s)
	}
	return Path{Instance: instance, File: path.Clean("/" + file), IsDir: file == "" || strings.HasSuffix(file, "/")}, nil
}

func (p Path) String() string { return p.Instance + p.File }

// Attributes are what files get that are made in an instance.
type Attributes struct {
	UID, GID int         // Negative: those of the source, or root.
	Mode     fs.FileMode // Permissions; ignored without HasMode.
	HasMode  bool
}

// A Pusher puts files into an instance.
type Pusher struct {
	FS         *sftp.Client
	To         Path
	Attributes Attributes
	CreateDirs bool       // Makes directories that are missing.
	Meter      *kit.Meter // Nil for none.
}

// target returns where a source of the given name goes.
func (p Pusher) target(name string) string {
	if info, err := p.FS.Stat(p.To.File); p.To.IsDir || err == nil && info.IsDir() {
		return path.Join(p.To.File, name)
	}
	return p.To.File
}

// parents makes the directory that a file goes into.
func (p Pusher) parents(file string) error {
	if !p.CreateDirs {
		return nil
	}
	return Explain(path.Dir(file), p.FS.MkdirAll(path.Dir(file)))
}

// Stream makes a file of what r holds.
func (p Pusher) Stream(name string, r io.Reader, mode fs.FileMode) error {
	file := p.target(name)
	if err := p.parents(file); err != nil {
		return err
	}
	return p.write(file, r, p.Attributes.orMode(mode))
}

// File pushes a file of this host.
func (p Pusher) File(source string) error {
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return errs.Invalidf("%s is a directory: use --recursive", source)
	}
	return p.Stream(path.Base(source), f, info.Mode().Perm())
}

// orMode returns a with the mode if it has none.
func (a Attributes) orMode(mode fs.FileMode) Attributes {
	if !a.HasMode {
		a.Mode, a.HasMode = mode.Perm(), true
	}
	return a
}

// write makes or replaces a file. It gets its mode before its content, so that
// nobody reads what nobody may.
func (p Pusher) write(file string, r io.Reader, a Attributes) error {
	f, err := p.FS.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return Explain(file, err)
	}
	err = p.apply(file, a)
	if err == nil {
		size := int64(0)
		if _, n, ok := regular(r); ok {
			size = n
		}
		p.Meter.Begin("Pushing "+path.Base(file), size)
		err = send(f, r, p.Meter)
	}
	return Explain(file, errors.Join(err, f.Close()))
}

// apply sets owner and mode.
func (p Pusher) apply(file string, a Attributes) error {
	if err := p.chown(file, a); err != nil {
		return err
	}
	if a.HasMode {
		return p.FS.Chmod(file, a.Mode) // After the change of owner, which takes the setuid bit.
	}
	return nil
}

// chown sets the owner as far as a says it.
func (p Pusher) chown(file string, a Attributes) error {
	if a.UID < 0 && a.GID < 0 {
		return nil
	}
	info, err := p.FS.Stat(file)
	if err != nil {
		return err
	}
	if s, ok := info.Sys().(*sftp.FileStat); ok {
		if a.UID < 0 {
			a.UID = int(s.UID)
		}
		if a.GID < 0 {
			a.GID = int(s.GID)
		}
	}
	return p.FS.Chown(file, a.UID, a.GID)
}

// Delete deletes a file, or a directory that is empty.
func Delete(c *sftp.Client, file string) error {
	err := c.Remove(file)
	if err == nil {
		return nil
	}
	if in, lerr := c.ReadDir(file); lerr == nil && len(in) > 0 {
		return errs.Conflictf("the directory is not empty: --force deletes what is in it too")
	}
	return err
}

// Explain adds the name of a file to an error, and its kind.
func Explain(file string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return errs.NotFoundf("%s: no such file or directory", file)
	case errors.Is(err, fs.ErrExist):
		return errs.Conflictf("%s exists already", file)
	case errors.Is(err, fs.ErrPermission):
		return errs.Newf(errs.Denied, "%s: permission denied", file)
	}
	return fmt.Errorf("%s: %w", file, err)
}
