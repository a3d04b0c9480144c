package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/undo"
)

// A MountKind says what a mount's source is.
type MountKind string

// The kinds of mounts.
const (
	Bind          MountKind = ""              // A directory or file of the host.
	Block         MountKind = "block"         // A block device of the host with a file system.
	Memory        MountKind = "tmpfs"         // An empty file system in memory.
	MemoryOverlay MountKind = "tmpfs-overlay" // Memory above what the container has at the target.
)

// inMemory reports whether nothing of the host is the mount's source.
func (m Mount) inMemory() bool { return m.Kind == Memory || m.Kind == MemoryOverlay }

// stat says whether the mount is of a directory. A missing source is an error
// of [fs.ErrNotExist].
func (m Mount) stat() (directory bool, err error) {
	if m.inMemory() {
		return true, nil
	}
	info, err := m.Look()
	if err != nil {
		return false, err
	}
	return info.IsDir() || m.Kind == Block, nil
}

// attrs are the options that all mounts can have, as mount_setattr(2) has them.
var attrs = map[string]uint64{
	"ro": unix.MOUNT_ATTR_RDONLY, "nosuid": unix.MOUNT_ATTR_NOSUID, "nodev": unix.MOUNT_ATTR_NODEV,
	"noexec": unix.MOUNT_ATTR_NOEXEC, "nosymfollow": unix.MOUNT_ATTR_NOSYMFOLLOW, "nodiratime": unix.MOUNT_ATTR_NODIRATIME,
	"relatime": unix.MOUNT_ATTR_RELATIME, "noatime": unix.MOUNT_ATTR_NOATIME, "strictatime": unix.MOUNT_ATTR_STRICTATIME,
}

// MountOptions reads the options of a mount: what all mounts can have, and what
// is its file system's matter.
func MountOptions(options string) (attr uint64, rest []string) {
	for word := range strings.SplitSeq(options, ",") {
		if a, ok := attrs[word]; ok {
			attr |= a
		} else if word != "" && word != "rw" {
			rest = append(rest, word)
		}
	}
	return attr, rest
}

// setAttrs gives a detached mount what m says.
func (m Mount) setAttrs(tree *os.File, ids idmap.Map) error {
	attr := unix.MountAttr{Propagation: m.stagedAs()}
	attr.Attr_set, _ = MountOptions(m.Options)
	if attr.Attr_set&(unix.MOUNT_ATTR_NOATIME|unix.MOUNT_ATTR_STRICTATIME) != 0 {
		attr.Attr_clr = unix.MOUNT_ATTR__ATIME // The kernel wants all of the field.
	}
	if m.ReadOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if m.Kind == Block {
		attr.Attr_set |= unix.MOUNT_ATTR_NODEV // Who made it need not be trusted.
	}
	if ids != nil {
		ns, err := mounts.UserNS(ids)
		if err != nil {
			return err
		}
		defer ns.Close()
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(ns.Fd())
	}
	flags := uint(unix.AT_EMPTY_PATH)
	if m.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	err := unix.MountSetattr(int(tree.Fd()), "", flags, &attr)
	if errors.Is(err, unix.EPERM) && ids != nil {
		return errs.Newf(errs.Unsupported, "owners in %s cannot be mapped: this host is itself a container, whose file systems are not its own", m.Source)
	}
	if errors.Is(err, unix.EINVAL) && ids != nil {
		return errs.Newf(errs.Unsupported, "the file system of %s, or one below it, has no idmapped mounts", m.Source)
	}
	if err != nil {
		return &os.PathError{Op: "mount_setattr", Path: m.Source, Err: err}
	}
	return nil
}

// stagedAs is how the mount on the host follows the source's: it hears of what
// is mounted there, or not, and tells nothing.
func (m Mount) stagedAs() uint64 {
	switch strings.TrimPrefix(m.Propagation, "r") {
	case "shared", "slave":
		return unix.MS_SLAVE
	}
	return unix.MS_PRIVATE
}

// bind mounts m's source at a place of the host. With ids its owners show as
// those that the ids map them to.
func bind(m Mount, at string, ids idmap.Map) error {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if m.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := m.openTree(flags)
	if err != nil {
		return err
	}
	tree := os.NewFile(uintptr(fd), m.Source)
	defer tree.Close()
	if err := m.setAttrs(tree, ids); err != nil {
		return err
	}
	return mounts.Attach(tree, at)
}

// provide mounts at a place of the host what appears at m's target.
func (r *Runtime) provide(s Spec, m Mount, at string) error {
	var ids idmap.Map
	if m.Mapped {
		ids = s.IDs
	}
	switch m.Kind {
	case Block:
		return mountBlock(m, at, ids)
	case Memory:
		uid, gid, err := m.owner(s)
		if err != nil {
			return err
		}
		tree, err := m.memory(fmt.Sprintf("uid=%d", uid), fmt.Sprintf("gid=%d", gid), fmt.Sprintf("mode=%o", m.mode()))
		if err != nil {
			return err
		}
		defer tree.Close()
		return errors.Join(m.setAttrs(tree, nil), mounts.Attach(tree, at))
	case MemoryOverlay:
		return r.mountOverlay(s, m, at)
	case Bind:
	}
	return bind(m, at, ids)
}

func mountBlock(m Mount, at string, ids idmap.Map) error {
	_, rest := MountOptions(m.Options)
	tree, err := mounts.New(m.Type, m.Source, mounts.Options{ReadOnly: m.ReadOnly, Config: rest})
	if err != nil {
		return errs.Newf(errs.Invalid, "%w", err)
	}
	defer tree.Close()
	if err := m.setAttrs(tree, ids); err != nil {
		return err
	}
	return mounts.Attach(tree, at)
}

const defaultDirMode = 0o755

func (m Mount) mode() fs.FileMode {
	if m.Mode == "" {
		return defaultDirMode
	}
	mode, err := strconv.ParseUint(m.Mode, 8, 32)
	if err != nil {
		return defaultDirMode
	}
	return fs.FileMode(mode) & 0o7777
}

// owner returns who owns the root of a mount in memory, as the host has it.
func (m Mount) owner(s Spec) (uid, gid int, err error) {
	if uid, err = hostID(s.IDs, idmap.User, m.UID); err != nil {
		return 0, 0, fmt.Errorf("owner of %s: %w", m.Target, err)
	}
	if gid, err = hostID(s.IDs, idmap.Group, m.GID); err != nil {
		return 0, 0, fmt.Errorf("group of %s: %w", m.Target, err)
	}
	return uid, gid, nil
}

// memory is a detached file system in memory.
func (m Mount) memory(config ...string) (*os.File, error) {
	_, rest := MountOptions(m.Options)
	if m.Size > 0 {
		config = append(config, fmt.Sprintf("size=%d", m.Size))
	}
	tree, err := mounts.New("tmpfs", "tmpfs", mounts.Options{Config: append(config, rest...)})
	if err != nil {
		return nil, errs.Newf(errs.Invalid, "%w", err)
	}
	return tree, nil
}

// mountOverlay mounts what the root file system has at the target, with memory
// for what is written there.
func (r *Runtime) mountOverlay(s Spec, m Mount, at string) (err error) {
	lower, err := r.lowerDir(s.Name, m.Target)
	if err != nil {
		return err
	}
	defer lower.Close()
	memory, err := m.memory()
	if err != nil {
		return err
	}
	defer memory.Close()
	layers := at + ".layers" // It is attached for a moment: the kernel takes no layers of a mount that has no place.
	if err := os.MkdirAll(layers, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unstageOne(layers)) }()
	if err := mounts.Attach(memory, layers); err != nil {
		return err
	}
	upper, work := filepath.Join(layers, "upper"), filepath.Join(layers, "work")
	if err := errors.Join(os.Mkdir(upper, 0o700), os.Mkdir(work, 0o700), m.dress(s, upper, lower)); err != nil {
		return err
	}
	tree, err := mounts.New("overlay", "overlay", mounts.Options{Config: []string{
		fmt.Sprintf("lowerdir=/proc/self/fd/%d", lower.Fd()), "upperdir=" + upper, "workdir=" + work, "index=off", "metacopy=off",
	}})
	if err != nil {
		return err
	}
	defer tree.Close()
	return errors.Join(m.setAttrs(tree, nil), mounts.Attach(tree, at))
}

// lowerDir opens a directory of a container's root file system.
func (r *Runtime) lowerDir(name, target string) (*os.File, error) {
	top, err := os.Open(r.path(name, rootDir))
	if err != nil {
		return nil, err
	}
	defer top.Close()
	fd, err := unix.Openat2(int(top.Fd()), inside(target), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, errs.Invalidf("the instance has no directory %s, which a disk with the source tmpfs-overlay: is above", target)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: target, Err: err}
	}
	return os.NewFile(uintptr(fd), target), nil
}

// dress gives the upper directory of an overlay the owner and mode that it is to
// have, which are the lower one's where nothing is said.
func (m Mount) dress(s Spec, upper string, lower *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(lower.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	uid, gid, mode := int(st.Uid), int(st.Gid), st.Mode&0o7777
	if m.UID != 0 || m.GID != 0 {
		var err error
		if uid, gid, err = m.owner(s); err != nil {
			return err
		}
	}
	if m.Mode != "" {
		mode = uint32(m.mode())
	}
	return errors.Join(os.Chown(upper, uid, gid), unix.Chmod(upper, mode))
}

// Missing returns where mounts of a running container are to be whose sources
// were missing.
func (r *Runtime) Missing(name string) ([]string, error) {
	c, err := r.find(name)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range c.specNow().Mounts {
		if m.Absent {
			out = append(out, path.Clean(m.Target))
		}
	}
	return out, nil
}

// withAbsent marks the mounts whose sources are missing and need not be there.
func withAbsent(all []Mount) []Mount {
	all = slices.Clone(all)
	for i, m := range all {
		_, err := m.stat()
		all[i].Absent = m.Optional && errors.Is(err, fs.ErrNotExist)
	}
	return all
}

// MountLate mounts what was missing when a running container was given it.
func (r *Runtime) MountLate(ctx context.Context, name string, m Mount) (err error) {
	c, in, err := r.changing(name)
	if err != nil {
		return err
	}
	defer c.change.Unlock()
	i := slices.IndexFunc(c.spec.Mounts, func(o Mount) bool { return o.Absent && path.Clean(o.Target) == path.Clean(m.Target) })
	at := r.spot(name, mountsDir, m.Target)
	if i < 0 {
		return errs.NotFoundf("instance %q lacks nothing at %s", name, m.Target)
	}
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	u.Push("unstage "+m.Target, func(context.Context) error { return unstageOne(at) })
	one, err := r.stageMount(c.spec, m)
	if err != nil || one == nil {
		return err
	}
	if err := r.mountIn(ctx, in, one); err != nil {
		return c.during(in, fmt.Errorf("mount on %s: %w", m.Target, err))
	}
	u.Push("unmount "+m.Target, func(ctx context.Context) error { return r.unmountIn(ctx, in, m.Target) })
	return r.respec(c, func(s *Spec) {
		s.Mounts = slices.Clone(s.Mounts)
		s.Mounts[i] = m
	})
}
