package guestfs

import (
	"cmp"
	"errors"
	"io"
	"os"
	"path"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/sys/unix"
)

// ServeSFTP serves the SFTP protocol on conn until that ends. It enters the
// file system for each request, and for each file as long as that is open.
func ServeSFTP(conn io.ReadWriteCloser, enter func() (*FS, error)) error {
	h := handlers{enter}
	err := sftp.NewRequestServer(conn, sftp.Handlers{FileGet: h, FilePut: h, FileCmd: h, FileList: h}).Serve()
	if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// handlers answers the requests of the protocol.
type handlers struct{ enter func() (*FS, error) }

// Fileread opens a file for reading.
func (h handlers) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	return h.open(r, unix.O_RDONLY)
}

// Filewrite opens a file for writing.
func (h handlers) Filewrite(r *sftp.Request) (io.WriterAt, error) {
	return h.open(r, unix.O_WRONLY)
}

// OpenFile opens a file for reading and writing.
func (h handlers) OpenFile(r *sftp.Request) (sftp.WriterAtReaderAt, error) {
	return h.open(r, unix.O_RDWR)
}

func (h handlers) open(r *sftp.Request, flags int) (*handle, error) {
	fs, err := h.enter()
	if err != nil {
		return nil, err
	}
	out := &handle{fs: fs}
	if out.file, out.base, err = openFor(fs, r, flags); err != nil {
		fs.Close()
		return nil, wire("open", r.Filepath, err)
	}
	return out, nil
}

// openFor opens a file as a request wants it, and says from where its client
// counts.
func openFor(fs *FS, r *sftp.Request, flags int) (file *os.File, base int64, err error) {
	want := r.Pflags()
	if want.Trunc {
		flags |= unix.O_TRUNC
	}
	made := false
	switch {
	case want.Creat && want.Excl:
		file, err = fs.createNew(r.Filepath, flags)
		made = true
	case want.Creat:
		file, made, err = fs.create(r.Filepath, flags)
	default:
		file, err = fs.open(r.Filepath, flags)
		if flags == unix.O_RDONLY && errors.Is(err, unix.EISDIR) {
			file, err = fs.openDir(r.Filepath) // Clients open before they look what it is.
		}
	}
	if err != nil {
		return nil, 0, err
	}
	if made && r.AttrFlags().Permissions {
		err = chmod(int(file.Fd()), r.Attributes().Mode)
	}
	if err == nil && want.Append {
		base, err = file.Seek(0, io.SeekEnd)
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, base, nil
}

// A handle is an open file. Clients of the protocol that append count from
// where the file ended when they opened it.
type handle struct {
	fs   *FS
	file *os.File
	base int64
}

// ReadAt implements [io.ReaderAt].
func (h *handle) ReadAt(b []byte, off int64) (int, error) { return h.file.ReadAt(b, off) }

// WriteAt implements [io.WriterAt].
func (h *handle) WriteAt(b []byte, off int64) (n int, err error) {
	err = h.fs.asGuest(func() error {
		n, err = h.file.WriteAt(b, h.base+off)
		return err
	})
	return n, err
}

// Close implements [io.Closer].
func (h *handle) Close() error {
	defer h.fs.Close()
	return h.file.Close()
}

// Filecmd changes names and attributes.
func (h handlers) Filecmd(r *sftp.Request) error {
	fs, err := h.enter()
	if err != nil {
		return err
	}
	defer fs.Close()
	switch r.Method {
	case "Setstat":
		err = setstat(fs, r)
	case "Rename":
		err = fs.rename(r.Filepath, r.Target, unix.RENAME_NOREPLACE)
	case "Rmdir", "Remove":
		err = fs.Remove(r.Filepath)
	case "Mkdir":
		err = mkdir(fs, r)
	case "Link":
		err = fs.Link(r.Filepath, r.Target)
	case "Symlink": // Its target is the path of the link.
		err = fs.Symlink(r.Target, r.Filepath, keep())
	default:
		return sftp.ErrSSHFxOpUnsupported
	}
	return wire(r.Method, r.Filepath, err)
}

// PosixRename renames over what exists.
func (h handlers) PosixRename(r *sftp.Request) error {
	fs, err := h.enter()
	if err != nil {
		return err
	}
	defer fs.Close()
	return wire("rename", r.Filepath, fs.Rename(r.Filepath, r.Target))
}

// keep returns attributes that change nothing.
func keep() File { return File{UID: -1, GID: -1, Mode: -1} }

// mkdir makes a directory, which must not exist.
func mkdir(fs *FS, r *sftp.Request) error {
	attr := keep()
	if r.AttrFlags().Permissions {
		attr.Mode = int64(r.Attributes().Mode & 0o7777)
	}
	if _, err := fs.Stat(r.Filepath); err == nil {
		return unix.EEXIST
	}
	return fs.Mkdir(r.Filepath, attr)
}

// setstat changes attributes of a file. It follows symbolic links, as the
// protocol has it.
func setstat(fs *FS, r *sftp.Request) error {
	flags, attrs := r.AttrFlags(), r.Attributes()
	if flags.Size {
		if err := fs.Truncate(r.Filepath, int64(attrs.Size)); err != nil {
			return err
		}
	}
	fd, err := fs.find(r.Filepath, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // It was opened with O_PATH.
	attr := keep()
	if flags.UidGid {
		attr.UID, attr.GID = int64(attrs.UID), int64(attrs.GID)
	}
	if flags.Permissions {
		attr.Mode = int64(attrs.Mode & 0o7777)
	}
	if err := fs.apply(fd, attr); err != nil {
		return err
	}
	if flags.Acmodtime {
		if err := fs.mayChange(fd, never); err != nil {
			return err
		}
		return touch(fd, time.Unix(int64(attrs.Atime), 0), time.Unix(int64(attrs.Mtime), 0))
	}
	return nil
}

// Filelist lists a directory or describes a file.
func (h handlers) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	if r.Method != "List" {
		return h.describe(r.Filepath, 0)
	}
	fs, err := h.enter()
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	names, err := fs.ReadDir(r.Filepath)
	if err != nil {
		return nil, wire("list", r.Filepath, err)
	}
	out := make(listing, 0, len(names))
	for _, name := range names {
		f, err := fs.Stat(path.Join(r.Filepath, name))
		if err == nil { // Else it went away meanwhile.
			out = append(out, info{name, f})
		}
	}
	return out, nil
}

// Lstat describes a file, or a symbolic link itself.
func (h handlers) Lstat(r *sftp.Request) (sftp.ListerAt, error) {
	return h.describe(r.Filepath, unix.O_NOFOLLOW)
}

func (h handlers) describe(name string, flags uint64) (sftp.ListerAt, error) {
	fs, err := h.enter()
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	f, err := fs.stat(name, flags)
	if err != nil {
		return nil, wire("stat", name, err)
	}
	return listing{info{path.Base(name), f}}, nil
}

// Readlink returns the target of a symbolic link.
func (h handlers) Readlink(name string) (string, error) {
	fs, err := h.enter()
	if err != nil {
		return "", err
	}
	defer fs.Close()
	target, err := fs.ReadLink(name)
	return target, wire("readlink", name, err)
}

// wire returns an error that the protocol has a code for, if there is one.
func wire(op, name string, err error) error {
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return &os.PathError{Op: op, Path: name, Err: cmp.Or(notDir[errno], errno)}
	}
	return err
}

// notDir has what the protocol has no code for.
var notDir = map[unix.Errno]unix.Errno{unix.ENOTDIR: unix.ENOENT}

// listing is the answer of a list.
type listing []os.FileInfo

// ListAt implements [sftp.ListerAt].
func (l listing) ListAt(to []os.FileInfo, off int64) (int, error) {
	if off >= int64(len(l)) {
		return 0, io.EOF
	}
	n := copy(to, l[off:])
	if n < len(to) {
		return n, io.EOF
	}
	return n, nil
}

// info is a [File] as the protocol's server wants it.
type info struct {
	name string
	f    File
}

// Name implements [os.FileInfo].
func (i info) Name() string { return i.name }

// Size implements [os.FileInfo].
func (i info) Size() int64 { return i.f.Size }

// ModTime implements [os.FileInfo].
func (i info) ModTime() time.Time { return i.f.Modified }

// IsDir implements [os.FileInfo].
func (i info) IsDir() bool { return i.f.Type == Directory }

// Sys implements [os.FileInfo].
func (i info) Sys() any { return nil }

// Uid implements [sftp.FileInfoUidGid].
func (i info) Uid() uint32 { return uint32(i.f.UID) } //nolint:revive // The interface names it.

// Gid implements [sftp.FileInfoUidGid].
func (i info) Gid() uint32 { return uint32(i.f.GID) }

// Mode implements [os.FileInfo].
func (i info) Mode() os.FileMode {
	mode := os.FileMode(i.f.Mode & 0o777)
	for _, bit := range []struct {
		unix int64
		mode os.FileMode
	}{{unix.S_ISUID, os.ModeSetuid}, {unix.S_ISGID, os.ModeSetgid}, {unix.S_ISVTX, os.ModeSticky}} {
		if i.f.Mode&bit.unix != 0 {
			mode |= bit.mode
		}
	}
	switch i.f.Type {
	case Directory:
		mode |= os.ModeDir
	case Symlink:
		mode |= os.ModeSymlink
	case "":
		mode |= os.ModeIrregular
	}
	return mode
}
