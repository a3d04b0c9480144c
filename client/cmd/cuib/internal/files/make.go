package files

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/cuib/cuib/shared/errs"
)

// Replace puts new content into a file that exists, which keeps its owner and
// mode.
func (p Pusher) Replace(r io.Reader) error {
	f, err := p.FS.OpenFile(p.To.File, os.O_WRONLY|os.O_TRUNC)
	if err != nil {
		return Explain(p.To.File, err)
	}
	_, err = f.ReadFrom(r)
	return Explain(p.To.File, errors.Join(err, f.Close()))
}

// A Maker makes files out of nothing.
type Maker struct {
	Pusher

	Force bool // That the file exists already is no error.
}

// exists tells whether there is nothing left to do, because the file exists
// and may.
func (m Maker) exists(is func(fs.FileMode) bool) (bool, error) {
	info, err := m.FS.Lstat(m.To.File)
	switch {
	case err != nil:
		return false, m.parents(m.To.File)
	case !m.Force:
		return false, errs.Conflictf("%s exists already", m.To)
	case !is(info.Mode()):
		return false, errs.Conflictf("%s exists, and is something else", m.To)
	}
	return true, nil
}

// File makes an empty file.
func (m Maker) File() error {
	done, err := m.exists(fs.FileMode.IsRegular)
	if err != nil || done {
		return err
	}
	f, err := m.FS.OpenFile(m.To.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return Explain(m.To.File, err)
	}
	return Explain(m.To.File, errors.Join(f.Close(), m.apply(m.To.File, m.Attributes.orMode(0o644))))
}

// Dir makes a directory.
func (m Maker) Dir() error {
	done, err := m.exists(fs.FileMode.IsDir)
	if err != nil || done {
		return err
	}
	if err := m.FS.Mkdir(m.To.File); err != nil {
		return Explain(m.To.File, err)
	}
	return Explain(m.To.File, m.apply(m.To.File, m.Attributes.orMode(0o755)))
}

// Link makes a symbolic link.
func (m Maker) Link(target string) error {
	isLink := func(mode fs.FileMode) bool { return mode&fs.ModeSymlink != 0 }
	if _, err := m.exists(isLink); err != nil {
		return err
	}
	return Explain(m.To.File, replaceLink(m.FS, target, m.To.File))
}
