package guestfs

import (
	"cmp"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
)

const (
	fileMode = 0o644
	dirMode  = 0o755

	// chunk is how much is read from a client before it is written.
	chunk = 256 << 10
)

// Write makes a file of what r holds, or replaces the contents of one. It
// follows symbolic links. A new file that cannot be written whole is removed.
func (f *FS) Write(name string, r io.Reader, attr File) error {
	return f.write(name, r, attr, unix.O_TRUNC)
}

// Append is [FS.Write] to the end of a file.
func (f *FS) Append(name string, r io.Reader, attr File) error {
	return f.write(name, r, attr, unix.O_APPEND)
}

func (f *FS) write(name string, r io.Reader, attr File, flag int) (err error) {
	file, made, err := f.create(name, unix.O_WRONLY|flag)
	if err != nil {
		return fail("write", name, err)
	}
	defer file.Close()
	if made {
		defer func() {
			if err != nil {
				err = errors.Join(err, f.Remove(name))
			}
		}()
	}
	if err := f.fill(file, r); err != nil {
		return fail("write", name, err)
	}
	if err := f.apply(int(file.Fd()), attr); err != nil {
		return fail("write", name, err)
	}
	return fail("write", name, file.Close())
}

// fill copies r to a file, as the guest.
func (f *FS) fill(w io.Writer, r io.Reader) error {
	buf := make([]byte, chunk)
	for {
		n, err := readFull(r, buf)
		werr := f.asGuest(func() error {
			_, err := w.Write(buf[:n])
			return err
		})
		switch {
		case werr != nil:
			return werr
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return errs.Newf(errs.Canceled, "read what to write: %w", err)
		}
	}
}

// readFull is [io.ReadFull] that tells the end of r from a connection that
// broke.
func readFull(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

// createRaces bounds how often a file may come and go while create tries to
// open or to make it.
const createRaces = 100

// create opens a file, or makes it if it does not exist, which it reports.
func (f *FS) create(name string, flags int) (file *os.File, made bool, err error) {
	for range createRaces {
		file, err = f.open(name, flags&^unix.O_EXCL)
		if !errors.Is(err, unix.ENOENT) {
			return file, false, err
		}
		file, err = f.createNew(name, flags)
		if !errors.Is(err, unix.EEXIST) {
			return file, true, err
		}
	}
	return nil, false, err
}

// createNew makes a file that must not exist. A symbolic link that leads to
// nothing counts as one that does.
func (f *FS) createNew(name string, flags int) (*os.File, error) {
	dir, base, err := f.parent(name)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir) //nolint:errcheck // It was opened with O_PATH.
	fd := -1
	err = f.asGuest(func() error {
		var err error
		fd, err = retry(func() (int, error) {
			return unix.Openat(dir, base, flags&^unix.O_TRUNC|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := chmod(fd, fileMode); err != nil { // Whatever the umask.
		_ = unix.Close(fd) // Nothing was written.
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Mkdir makes a directory. If it exists, it gets the attributes.
func (f *FS) Mkdir(name string, attr File) error {
	dir, base, err := f.parent(name)
	if err != nil {
		return fail("make directory", name, err)
	}
	defer unix.Close(dir) //nolint:errcheck // It was opened with O_PATH.
	err = f.asGuest(func() error { return unix.Mkdirat(dir, base, 0o700) })
	if err == nil && attr.Mode < 0 {
		attr.Mode = dirMode
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fail("make directory", name, err)
	}
	fd, ferr := retry(func() (int, error) {
		return unix.Openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if ferr != nil { // What exists is no directory.
		return fail("make directory", name, cmp.Or(err, ferr))
	}
	defer unix.Close(fd) //nolint:errcheck // It was opened with O_PATH.
	return fail("make directory", name, f.apply(fd, attr))
}

// Symlink makes a symbolic link. That there is the same already is no error.
func (f *FS) Symlink(name, target string, attr File) error {
	dir, base, err := f.parent(name)
	if err != nil {
		return fail("make link", name, err)
	}
	defer unix.Close(dir) //nolint:errcheck // It was opened with O_PATH.
	if err := f.asGuest(func() error { return unix.Symlinkat(target, dir, base) }); err != nil {
		if have, _ := f.ReadLink(name); !errors.Is(err, unix.EEXIST) || have != target {
			return fail("make link", name, err)
		}
	}
	fd, err := retry(func() (int, error) {
		return unix.Openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return fail("make link", name, err)
	}
	defer unix.Close(fd) //nolint:errcheck // It was opened with O_PATH.
	attr.Mode = -1
	return fail("make link", name, f.apply(fd, attr))
}

// Link makes another name of a file, which is not followed if it is a
// symbolic link.
func (f *FS) Link(name, other string) error {
	from, fromBase, err := f.parent(name)
	if err != nil {
		return fail("link", name, err)
	}
	defer unix.Close(from) //nolint:errcheck // It was opened with O_PATH.
	to, toBase, err := f.parent(other)
	if err != nil {
		return fail("link", other, err)
	}
	defer unix.Close(to) //nolint:errcheck // It was opened with O_PATH.
	return fail("link", other, f.asGuest(func() error { return unix.Linkat(from, fromBase, to, toBase, 0) }))
}

// Rename moves a file, over what has the new name.
func (f *FS) Rename(name, to string) error { return f.rename(name, to, 0) }

func (f *FS) rename(name, to string, flags uint) error {
	from, fromBase, err := f.parent(name)
	if err != nil {
		return fail("rename", name, err)
	}
	defer unix.Close(from) //nolint:errcheck // It was opened with O_PATH.
	dest, destBase, err := f.parent(to)
	if err != nil {
		return fail("rename", to, err)
	}
	defer unix.Close(dest) //nolint:errcheck // It was opened with O_PATH.
	return fail("rename", name, f.asGuest(func() error { return unix.Renameat2(from, fromBase, dest, destBase, flags) }))
}

// Remove removes a file, a symbolic link or an empty directory.
func (f *FS) Remove(name string) error {
	dir, base, err := f.parent(name)
	if err != nil {
		return fail("remove", name, err)
	}
	defer unix.Close(dir) //nolint:errcheck // It was opened with O_PATH.
	return fail("remove", name, f.asGuest(func() error {
		err := unix.Unlinkat(dir, base, 0)
		if errors.Is(err, unix.EISDIR) {
			err = unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
		}
		return err
	}))
}

// Change gives a file the attributes that are not negative, and the time of
// its last change unless that is zero. It does not follow a last symbolic link.
func (f *FS) Change(name string, attr File) error {
	fd, err := f.find(name, unix.O_NOFOLLOW)
	if err != nil {
		return fail("change", name, err)
	}
	defer unix.Close(fd) //nolint:errcheck // It was opened with O_PATH.
	return fail("change", name, f.apply(fd, attr))
}

// Truncate gives a file a size.
func (f *FS) Truncate(name string, size int64) error {
	file, err := f.open(name, unix.O_WRONLY)
	if err != nil {
		return fail("truncate", name, err)
	}
	defer file.Close()
	return fail("truncate", name, f.asGuest(func() error { return file.Truncate(size) }))
}

// apply changes attributes of an open file. The owner comes first, as a change
// of it takes set-user-ID away.
func (f *FS) apply(fd int, attr File) error {
	uid, err := hostID(f.ids, idmap.User, attr.UID)
	if err != nil {
		return err
	}
	gid, err := hostID(f.ids, idmap.Group, attr.GID)
	if err != nil {
		return err
	}
	if uid < 0 && gid < 0 && attr.Mode < 0 && attr.Modified.IsZero() {
		return nil
	}
	if err := f.mayChange(fd, never); err != nil {
		return err
	}
	if uid >= 0 || gid >= 0 {
		if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	}
	if attr.Mode >= 0 {
		if err := chmod(fd, uint32(attr.Mode)); err != nil {
			return err
		}
	}
	if attr.Modified.IsZero() {
		return nil
	}
	return touch(fd, attr.Modified, attr.Modified)
}

func chmod(fd int, mode uint32) error { return unix.Chmod(procPath(fd), mode&0o7777) }

func touch(fd int, accessed, modified time.Time) error {
	times := []unix.Timespec{unix.NsecToTimespec(accessed.UnixNano()), unix.NsecToTimespec(modified.UnixNano())}
	return unix.UtimesNanoAt(unix.AT_FDCWD, procPath(fd), times, 0)
}

// hostID returns the host's id for one of the guest; a negative one stays.
func hostID(ids idmap.Map, kind idmap.Kind, id int64) (int, error) {
	if id < 0 {
		return -1, nil
	}
	host, ok := ids.ToHost(kind, id)
	if !ok {
		return -1, errs.Invalidf("id %d is none of the instance's ids", id)
	}
	return int(host), nil
}
