package runtime

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// Look says what the source of a mount is.
func (m Mount) Look() (fs.FileInfo, error) {
	if m.Within == "" {
		return os.Stat(m.Source)
	}
	source, err := m.open()
	if err != nil {
		return nil, err
	}
	defer source.Close()
	return source.Stat()
}

// openTree makes a detached mount of the source.
func (m Mount) openTree(flags uint) (fd int, err error) {
	at, name := unix.AT_FDCWD, m.Source
	if m.Within != "" {
		source, err := m.open()
		if err != nil {
			return -1, err
		}
		defer source.Close()
		at, name, flags = int(source.Fd()), "", flags|unix.AT_EMPTY_PATH
	}
	if fd, err = unix.OpenTree(at, name, flags); err != nil {
		return -1, &os.PathError{Op: "open_tree", Path: m.Source, Err: err}
	}
	return fd, nil
}

// open opens the source of a mount that is within directories, as a place in
// the file system and no more. What it opens is mounted: a link that is put
// there later changes nothing.
func (m Mount) open() (*os.File, error) {
	source := path.Clean(m.Source)
	for dir := range strings.SplitSeq(m.Within, ",") {
		dir = path.Clean(strings.TrimSpace(dir))
		below, ok := strings.CutPrefix(source, strings.TrimSuffix(dir, "/"))
		if !ok || below != "" && below[0] != '/' {
			continue
		}
		return openBelow(dir, "."+below)
	}
	return nil, errs.Newf(errs.Denied, "source: %s is in none of the directories %s", source, m.Within)
}

// openBelow opens what a path leads to from a directory, and never what is not
// in that.
func openBelow(dir, name string) (*os.File, error) {
	top, err := openPlace(unix.AT_FDCWD, dir, &unix.OpenHow{Flags: unix.O_DIRECTORY})
	if err != nil {
		return nil, err
	}
	defer top.Close()
	f, err := openPlace(int(top.Fd()), name, &unix.OpenHow{Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS})
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ELOOP) {
		return nil, errs.Newf(errs.Denied, "source: a link leads out of %s, where %s has to be", dir, path.Join(dir, name))
	}
	return f, err
}

func openPlace(at int, name string, how *unix.OpenHow) (*os.File, error) {
	how.Flags |= unix.O_PATH | unix.O_CLOEXEC
	fd, err := unix.Openat2(at, name, how)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
