// Package guestfs reads and writes the files of an instance without ever being
// led out of it by a symbolic link, and with the ids that the instance has.
//
// The kernel resolves each path below the instance's root, in one step, so
// that no race with the guest leads out of it. Devices, pipes and sockets are
// never opened. What is made is made with the ids of the guest's root.
package guestfs

import (
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
)

// The types of files that there is more to do with than to list or remove
// them. That of others is empty.
const (
	Regular   = "file"
	Directory = "directory"
	Symlink   = "symlink"
)

// overflowID is what the kernel shows for an id that has no mapping.
const overflowID = 65534

// FS is an instance's file system. Paths are absolute, of the guest. Its
// methods are safe for concurrent use.
//
// An error is of kind [errs.NotFound] if a file does not exist, and of
// another kind than [errs.Internal] if the guest's files are why something
// cannot be done.
type FS struct {
	root  *os.File
	ids   idmap.Map
	leave func()
}

// File is what there is to say of a file. For a change, a negative UID or GID
// means the guest's root and a negative Mode the usual one, or, of a file that
// exists, what it has.
type File struct {
	Type     string // Regular, Directory, Symlink or empty.
	UID, GID int64  // Of the guest.
	Mode     int64  // Permission bits, with set-user-ID, set-group-ID and sticky.
	Size     int64
	Modified time.Time
}

// New returns the file system below root, which it closes. The kernel shows
// the owners of files there mapped by ids. If leave is not nil, Close calls it.
func New(root *os.File, ids idmap.Map, leave func()) *FS { return &FS{root, ids, leave} }

// Close closes the file system. No file of it may be open.
func (f *FS) Close() {
	f.root.Close()
	if f.leave != nil {
		f.leave()
	}
}

// Sub returns the file system below a directory, which is not a symbolic link.
func (f *FS) Sub(name string) (*FS, error) {
	fd, err := f.find(name, unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil, fail("enter", name, err)
	}
	return &FS{root: os.NewFile(uintptr(fd), name), ids: f.ids}, nil
}

// Stat describes a file. It does not follow a last symbolic link.
func (f *FS) Stat(name string) (File, error) { return f.stat(name, unix.O_NOFOLLOW) }

func (f *FS) stat(name string, flags uint64) (File, error) {
	fd, err := f.find(name, flags)
	if err != nil {
		return File{}, fail("stat", name, err)
	}
	defer unix.Close(fd) //nolint:errcheck // It was opened with O_PATH.
	out, err := f.describe(fd)
	return out, fail("stat", name, err)
}

// describe describes an open file.
func (f *FS) describe(fd int) (File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return File{}, err
	}
	out := File{
		UID: guestID(f.ids, idmap.User, st.Uid), GID: guestID(f.ids, idmap.Group, st.Gid),
		Mode: int64(st.Mode & 0o7777), Size: st.Size, Modified: time.Unix(st.Mtim.Unix()),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		out.Type = Regular
	case unix.S_IFDIR:
		out.Type = Directory
	case unix.S_IFLNK:
		out.Type = Symlink
	}
	return out, nil
}

func guestID(ids idmap.Map, kind idmap.Kind, host uint32) int64 {
	if id, ok := ids.ToGuest(kind, int64(host)); ok {
		return id
	}
	return overflowID
}

// Open opens a regular file for reading. It follows symbolic links.
func (f *FS) Open(name string) (io.ReadCloser, error) {
	file, err := f.open(name, unix.O_RDONLY)
	if err != nil {
		return nil, fail("open", name, err)
	}
	return file, nil
}

// open opens a regular file that exists.
func (f *FS) open(name string, flags int) (*os.File, error) {
	fd, err := f.find(name, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // It was opened with O_PATH.
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return nil, unix.EISDIR
	default:
		return nil, errSpecial
	}
	if err := f.mayOpen(fd, &st, flags); err != nil {
		return nil, err
	}
	opened, err := retry(func() (int, error) { return unix.Open(procPath(fd), flags|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(opened), name), nil
}

// ReadDir returns the names in a directory, sorted.
func (f *FS) ReadDir(name string) ([]string, error) {
	dir, err := f.openDir(name)
	if err != nil {
		return nil, fail("list", name, err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	if names == nil {
		names = []string{}
	}
	return names, fail("list", name, err)
}

func (f *FS) openDir(name string) (*os.File, error) {
	fd, err := f.find(name, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // It was opened with O_PATH.
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if err := f.permits(&st, readBit); err != nil {
		return nil, err
	}
	opened, err := retry(func() (int, error) {
		return unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(opened), name), nil
}

// ReadLink returns the target of a symbolic link.
func (f *FS) ReadLink(name string) (string, error) {
	fd, err := f.find(name, unix.O_NOFOLLOW)
	if err != nil {
		return "", fail("read link", name, err)
	}
	defer unix.Close(fd) //nolint:errcheck // It was opened with O_PATH.
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if errors.Is(err, unix.ENOENT) { // So the kernel says of what is no link.
		err = unix.EINVAL
	}
	return string(buf[:max(n, 0)]), fail("read link", name, err)
}

// find returns a descriptor that stands for a file, without opening it.
func (f *FS) find(name string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | flags,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	return retry(func() (int, error) { return unix.Openat2(int(f.root.Fd()), clean(name), &how) })
}

// parent finds the directory that a file is in, and the file's name there.
func (f *FS) parent(name string) (fd int, base string, err error) {
	name = clean(name)
	if name == "/" {
		return -1, "", unix.EBUSY
	}
	dir, base := path.Split(name)
	fd, err = f.find(dir, unix.O_DIRECTORY)
	if err != nil {
		return -1, "", err
	}
	if err := f.mayChange(fd, writeBit|searchBit); err != nil {
		return -1, "", errors.Join(err, unix.Close(fd))
	}
	return fd, base, nil
}

func clean(name string) string { return path.Clean("/" + name) }

// maxRetries bounds how often a call is tried again that the kernel gave up
// because of a rename at the same time.
const maxRetries = 1000

func retry(call func() (int, error)) (int, error) {
	for i := 0; ; i++ {
		fd, err := call()
		if i < maxRetries && (errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)) {
			continue
		}
		return fd, err
	}
}

// procPath returns a path that leads to an open file, whatever became of its
// name.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// errSpecial is why devices and their like are not opened.
var errSpecial = errors.New("it is neither file nor directory nor symbolic link")

// kinds says whose fault an error is.
var kinds = map[error]struct {
	kind errs.Kind
	text string
}{
	unix.ENOENT:       {errs.NotFound, "it does not exist"},
	unix.ENOTDIR:      {errs.NotFound, "it, or what it is in, is no directory"},
	unix.EEXIST:       {errs.Conflict, "it exists already"},
	unix.ENOTEMPTY:    {errs.Conflict, "the directory is not empty"},
	unix.EBUSY:        {errs.Conflict, "it is in use"},
	unix.EROFS:        {errs.Conflict, "the file system is read-only"},
	unix.ETXTBSY:      {errs.Conflict, "it is a program that runs"},
	unix.EISDIR:       {errs.Invalid, "it is a directory"},
	unix.ELOOP:        {errs.Invalid, "there are too many symbolic links"},
	unix.EINVAL:       {errs.Invalid, "the file is not of a kind that this can be done with"},
	unix.ENAMETOOLONG: {errs.Invalid, "the name is too long"},
	unix.EXDEV:        {errs.Invalid, "it is on another file system"},
	unix.EFBIG:        {errs.Invalid, "it would be too large"},
	unix.EACCES:       {errs.Denied, "permission denied"},
	unix.EPERM:        {errs.Denied, "it can't be changed"},
	unix.EOVERFLOW:    {errs.Denied, "its owner is none of the instance"},
	unix.ENOSPC:       {errs.Unavailable, "no space left"},
	unix.EDQUOT:       {errs.Unavailable, "no space left below the size limit"},
	errSpecial:        {errs.Invalid, errSpecial.Error()},
	errKernels:        {errs.Denied, errKernels.Error()},
	errHosts:          {errs.Denied, errHosts.Error()},
}

// fail says what could not be done.
func fail(what, name string, err error) error {
	if err == nil || errs.KindOf(err) != errs.Internal {
		return err
	}
	for cause, k := range kinds {
		if errors.Is(err, cause) {
			return &fileError{cause, errs.Newf(k.kind, "%s %q: %s", what, name, k.text)}
		}
	}
	return errs.Newf(errs.Internal, "%s %q: %w", what, name, err)
}

// A fileError keeps the cause of an error that says more to people.
type fileError struct {
	cause error
	said  error
}

func (e *fileError) Error() string   { return e.said.Error() }
func (e *fileError) Unwrap() []error { return []error{e.said, e.cause} }
