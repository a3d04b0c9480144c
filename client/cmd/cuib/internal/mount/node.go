package mount

import (
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"path"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/pkg/sftp"
)

// A tree is the directory of the instance that is shown.
type tree struct {
	*sftp.Client

	dir string
}

// A node is a file of it.
type node struct {
	fs.Inode

	tree *tree
}

// What the kernel asks of a node.
var (
	_ fs.NodeLookuper   = (*node)(nil)
	_ fs.NodeGetattrer  = (*node)(nil)
	_ fs.NodeSetattrer  = (*node)(nil)
	_ fs.NodeReaddirer  = (*node)(nil)
	_ fs.NodeOpener     = (*node)(nil)
	_ fs.NodeCreater    = (*node)(nil)
	_ fs.NodeMkdirer    = (*node)(nil)
	_ fs.NodeUnlinker   = (*node)(nil)
	_ fs.NodeRmdirer    = (*node)(nil)
	_ fs.NodeRenamer    = (*node)(nil)
	_ fs.NodeSymlinker  = (*node)(nil)
	_ fs.NodeReadlinker = (*node)(nil)
)

// path returns the path, in the instance, of the node or of a child.
func (n *node) path(child ...string) string {
	return path.Join(append([]string{n.tree.dir, n.Path(n.Root())}, child...)...)
}

// errno makes an error of SFTP one of the kernel.
func errno(err error) syscall.Errno {
	switch {
	case err == nil:
		return fs.OK
	case errors.Is(err, iofs.ErrNotExist):
		return syscall.ENOENT
	case errors.Is(err, iofs.ErrPermission):
		return syscall.EACCES
	case errors.Is(err, iofs.ErrExist):
		return syscall.EEXIST
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e
	}
	return syscall.EIO
}

// fill tells the kernel what a file is like.
func fill(out *fuse.Attr, info iofs.FileInfo) {
	out.Size = uint64(info.Size())
	out.Blocks = (out.Size + 511) / 512
	out.Mode = mode(info.Mode())
	out.Nlink = 1
	st, ok := info.Sys().(*sftp.FileStat)
	if !ok {
		return
	}
	out.Uid, out.Gid = st.UID, st.GID
	mtime, atime := time.Unix(int64(st.Mtime), 0), time.Unix(int64(st.Atime), 0)
	out.SetTimes(&atime, &mtime, &mtime)
}

// mode makes a mode of Go one of the kernel.
func mode(m iofs.FileMode) uint32 {
	out := uint32(m.Perm())
	for bit, value := range map[iofs.FileMode]uint32{
		iofs.ModeSetuid: syscall.S_ISUID, iofs.ModeSetgid: syscall.S_ISGID, iofs.ModeSticky: syscall.S_ISVTX,
	} {
		if m&bit != 0 {
			out |= value
		}
	}
	for _, t := range types {
		if m.Type() == t.mode {
			return out | t.kernel
		}
	}
	return out | syscall.S_IFREG
}

// types are those of files but regular ones.
var types = []struct {
	mode   iofs.FileMode
	kernel uint32
}{
	{iofs.ModeDir, syscall.S_IFDIR},
	{iofs.ModeSymlink, syscall.S_IFLNK},
	{iofs.ModeNamedPipe, syscall.S_IFIFO},
	{iofs.ModeSocket, syscall.S_IFSOCK},
	{iofs.ModeDevice, syscall.S_IFBLK},
	{iofs.ModeDevice | iofs.ModeCharDevice, syscall.S_IFCHR},
}

// child returns the node of a file in the directory n.
func (n *node) child(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	info, err := n.tree.Lstat(n.path(name))
	if err != nil {
		return nil, errno(err)
	}
	fill(&out.Attr, info)
	return n.NewInode(ctx, &node{tree: n.tree}, fs.StableAttr{Mode: out.Mode & syscall.S_IFMT}), fs.OK
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.child(ctx, name, out)
}

func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	info, err := n.tree.Lstat(n.path())
	if err != nil {
		return errno(err)
	}
	fill(&out.Attr, info)
	return fs.OK
}

func (n *node) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if err := n.set(in); err != nil {
		return errno(err)
	}
	return n.Getattr(ctx, f, out)
}

func (n *node) set(in *fuse.SetAttrIn) error {
	file := n.path()
	if size, ok := in.GetSize(); ok {
		if err := n.tree.Truncate(file, int64(size)); err != nil {
			return err
		}
	}
	uid, hasUID := in.GetUID()
	gid, hasGID := in.GetGID()
	if hasUID || hasGID {
		if err := n.chown(file, int(uid), int(gid), in.Valid); err != nil {
			return err
		}
	}
	if m, ok := in.GetMode(); ok {
		if err := n.tree.Chmod(file, goMode(m)); err != nil {
			return err
		}
	}
	mtime, hasM := in.GetMTime()
	atime, hasA := in.GetATime()
	if !hasM && !hasA {
		return nil
	}
	if !hasM {
		mtime = atime
	}
	if !hasA {
		atime = mtime
	}
	return n.tree.Chtimes(file, atime, mtime)
}

// chown changes only the ids that are valid.
func (n *node) chown(file string, uid, gid int, valid uint32) error {
	info, err := n.tree.Lstat(file)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*sftp.FileStat); ok {
		if valid&fuse.FATTR_UID == 0 {
			uid = int(st.UID)
		}
		if valid&fuse.FATTR_GID == 0 {
			gid = int(st.GID)
		}
	}
	return n.tree.Chown(file, uid, gid)
}

// goMode returns the permissions of a mode of the kernel.
func goMode(m uint32) iofs.FileMode {
	out := iofs.FileMode(m & 0o777)
	if m&syscall.S_ISUID != 0 {
		out |= iofs.ModeSetuid
	}
	if m&syscall.S_ISGID != 0 {
		out |= iofs.ModeSetgid
	}
	if m&syscall.S_ISVTX != 0 {
		out |= iofs.ModeSticky
	}
	return out
}

func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	infos, err := n.tree.ReadDir(n.path())
	if err != nil {
		return nil, errno(err)
	}
	entries := make([]fuse.DirEntry, 0, len(infos))
	for _, info := range infos {
		entries = append(entries, fuse.DirEntry{Name: info.Name(), Mode: mode(info.Mode())})
	}
	return fs.NewListDirStream(entries), fs.OK
}

func (n *node) Mkdir(ctx context.Context, name string, m uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if err := n.tree.Mkdir(n.path(name)); err != nil {
		return nil, errno(err)
	}
	if err := n.tree.Chmod(n.path(name), goMode(m)); err != nil {
		return nil, errno(err)
	}
	return n.child(ctx, name, out)
}

func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	return errno(n.tree.Remove(n.path(name)))
}

func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	return errno(n.tree.RemoveDirectory(n.path(name)))
}

func (n *node) Rename(_ context.Context, name string, parent fs.InodeEmbedder, to string, flags uint32) syscall.Errno {
	if flags != 0 {
		return syscall.EINVAL
	}
	dir := path.Join(n.tree.dir, parent.EmbeddedInode().Path(n.Root()))
	return errno(n.tree.PosixRename(n.path(name), path.Join(dir, to)))
}

func (n *node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if err := n.tree.Symlink(target, n.path(name)); err != nil {
		return nil, errno(err)
	}
	return n.child(ctx, name, out)
}

func (n *node) Readlink(context.Context) ([]byte, syscall.Errno) {
	target, err := n.tree.ReadLink(n.path())
	return []byte(target), errno(err)
}

func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	f, err := n.tree.OpenFile(n.path(), int(flags)&^(syscall.O_CREAT|syscall.O_EXCL|syscall.O_APPEND))
	if err != nil {
		return nil, 0, errno(err)
	}
	return &handle{f}, 0, fs.OK
}

func (n *node) Create(ctx context.Context, name string, flags, m uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) { //nolint:revive // The interface has four results.
	f, err := n.tree.OpenFile(n.path(name), int(flags)&^syscall.O_APPEND|syscall.O_CREAT)
	if err != nil {
		return nil, nil, 0, errno(err)
	}
	if err := n.tree.Chmod(n.path(name), goMode(m)); err != nil {
		_ = f.Close() // The error is why.
		return nil, nil, 0, errno(err)
	}
	inode, e := n.child(ctx, name, out)
	return inode, &handle{f}, 0, e
}

// A handle is an open file.
type handle struct {
	file *sftp.File
}

var (
	_ fs.FileReader   = (*handle)(nil)
	_ fs.FileWriter   = (*handle)(nil)
	_ fs.FileFsyncer  = (*handle)(nil)
	_ fs.FileReleaser = (*handle)(nil)
)

func (h *handle) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n, err := h.file.ReadAt(dest, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errno(err)
	}
	return fuse.ReadResultData(dest[:n]), fs.OK
}

func (h *handle) Write(_ context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	n, err := h.file.WriteAt(data, off)
	return uint32(n), errno(err)
}

func (h *handle) Fsync(context.Context, uint32) syscall.Errno {
	err := h.file.Sync()
	if s, ok := errors.AsType[*sftp.StatusError](err); ok && s.FxCode() == sftp.ErrSSHFxOpUnsupported {
		return fs.OK // The data have arrived, which is all that can be promised.
	}
	return errno(err)
}

func (h *handle) Release(context.Context) syscall.Errno { return errno(h.file.Close()) }
