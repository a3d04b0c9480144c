package runtime

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/mounts"
)

// Sources of a container's mounts and nodes are made ready below Dir/NAME,
// as they are to appear: the guest's root, who mounts them at each boot, also
// while no daemon runs, need not be able to reach the sources themselves.

// stage makes all sources of a spec ready that are not yet, and returns them
// with outer targets before inner ones.
func (r *Runtime) stage(s Spec) ([]Staged, error) {
	var list []Staged
	for _, m := range s.Mounts {
		one, err := r.stageMount(s, m)
		if err != nil {
			return nil, err
		}
		if one != nil {
			list = append(list, *one)
		}
	}
	for i, n := range s.Nodes {
		if slices.ContainsFunc(s.Nodes[:i], func(o Node) bool { return o.shares(n) }) {
			continue
		}
		one, err := r.stageNode(s, n)
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	for _, n := range usualNodes(s) {
		one, err := r.stageNode(s, n)
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	slices.SortStableFunc(list, func(a, b Staged) int { return strings.Compare(a.Target, b.Target) })
	return list, nil
}

// usualNodes are nodes that all containers get, for guests may use them, in
// addition to those that liblxc makes.
func usualNodes(s Spec) []Node {
	const all = 0o666
	var list []Node
	for _, n := range []Node{
		{Major: 10, Minor: 229, Path: "/dev/fuse", Mode: all},
		{Major: 10, Minor: 200, Path: "/dev/net/tun", Mode: all},
	} {
		if n.Path == "/dev/net/tun" && sharesHost(s) {
			continue // Of use there is no more than a tap of the host that has no owner.
		}
		if _, err := os.Stat(n.Path); err == nil && !taken(s, n.Path) {
			list = append(list, n)
		}
	}
	return list
}

// stageRoot makes the root file system ready.
func (r *Runtime) stageRoot(s Spec) error {
	at := r.path(s.Name, rootDir)
	if err := os.MkdirAll(at, 0o700); err != nil {
		return err
	}
	ids := s.IDs
	if s.RootMapped {
		ids = nil
	}
	return bind(Mount{Source: s.Root}, at, ids)
}

// spot returns the place in Dir/NAME/kind for what appears at target.
func (r *Runtime) spot(name, kind, target string) string {
	sum := sha256.Sum256([]byte(path.Clean(target)))
	return r.path(name, kind, hex.EncodeToString(sum[:8]))
}

func checkTarget(target string) error {
	if !path.IsAbs(target) || path.Clean(target) == "/" || strings.ContainsAny(target, "\n\r\x00") {
		return errs.Invalidf("path %q: an absolute path inside the instance, other than /, is allowed", target)
	}
	return nil
}

// stageMount returns nil for an optional mount whose source is missing.
func (r *Runtime) stageMount(s Spec, m Mount) (*Staged, error) {
	if err := checkTarget(m.Target); err != nil {
		return nil, err
	}
	if m.Absent {
		return nil, nil //nolint:nilnil // Nothing to stage, and no error.
	}
	at := r.spot(s.Name, mountsDir, m.Target)
	mounted, err := mounts.Mounted(at)
	if err != nil {
		return nil, err
	}
	one := &Staged{Source: at, Target: m.Target, Propagation: m.Propagation}
	if mounted { // Whatever has become of its source.
		info, err := os.Stat(at)
		one.File = err == nil && !info.IsDir()
		return one, err
	}
	directory, err := m.stat()
	if errors.Is(err, fs.ErrNotExist) {
		if m.Optional {
			return nil, nil //nolint:nilnil // Nothing to stage, and no error.
		}
		return nil, errs.NotFoundf("source %q of the mount on %s does not exist", m.Source, m.Target)
	}
	if err != nil {
		return nil, err
	}
	one.File = !directory
	if err := one.makePlace(); err != nil {
		return nil, err
	}
	return one, r.provide(s, m, at)
}

// makePlace makes something to mount a directory or a file on.
func (s *Staged) makePlace() error {
	if err := os.MkdirAll(path.Dir(s.Source), 0o711); err != nil {
		return err
	}
	if !s.File {
		return os.MkdirAll(s.Source, 0o711)
	}
	f, err := os.OpenFile(s.Source, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func (r *Runtime) stageNode(s Spec, n Node) (Staged, error) {
	if err := checkTarget(n.Path); err != nil {
		return Staged{}, err
	}
	at := r.spot(s.Name, devicesDir, n.Path)
	one := Staged{Source: at, Target: n.Path, File: true}
	uid, err := hostID(s.IDs, idmap.User, n.UID)
	if err != nil {
		return one, fmt.Errorf("owner of %s: %w", n.Path, err)
	}
	gid, err := hostID(s.IDs, idmap.Group, n.GID)
	if err != nil {
		return one, fmt.Errorf("group of %s: %w", n.Path, err)
	}
	kind := uint32(unix.S_IFCHR)
	if n.Block {
		kind = unix.S_IFBLK
	}
	mode, device := kind|uint32(n.Mode.Perm()), unix.Mkdev(n.Major, n.Minor)
	var st unix.Stat_t
	if unix.Lstat(at, &st) == nil && st.Mode == mode && st.Rdev == device && int(st.Uid) == uid && int(st.Gid) == gid {
		return one, nil // A running guest may mount it elsewhere, which takes that it is not removed.
	}
	if err := os.MkdirAll(path.Dir(at), 0o711); err != nil {
		return one, err
	}
	if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return one, err
	}
	err = unix.Mknod(at, mode, int(device)) //nolint:gosec // Device numbers fit.
	if errors.Is(err, unix.EPERM) {
		return r.borrowNode(s, n)
	}
	if err != nil {
		return one, &os.PathError{Op: "mknod", Path: at, Err: err}
	}
	return one, errors.Join(os.Chown(at, uid, gid), os.Chmod(at, n.Mode.Perm())) // The umask had its part in mknod.
}

// borrowNode is for a host that is a container itself, which makes no nodes:
// the instance gets the node that the host has, with the owner that it has.
func (r *Runtime) borrowNode(s Spec, n Node) (Staged, error) {
	var st unix.Stat_t
	kind := uint32(unix.S_IFCHR)
	if n.Block {
		kind = unix.S_IFBLK
	}
	err := unix.Stat(n.Path, &st)
	if err != nil || st.Mode&unix.S_IFMT != kind || st.Rdev != unix.Mkdev(n.Major, n.Minor) {
		return Staged{}, errs.Newf(errs.Unsupported, "the device %d:%d cannot be made: this host is itself a container, and has none at %s", n.Major, n.Minor, n.Path)
	}
	one, err := r.stageMount(s, Mount{Source: n.Path, Target: n.Path})
	if err != nil {
		return Staged{}, err
	}
	return *one, nil
}

// rule is the node as the devices cgroup has it.
func (n Node) rule() string {
	kind := "c"
	if n.Block {
		kind = "b"
	}
	return fmt.Sprintf("%s %d:%d rwm", kind, n.Major, n.Minor)
}

// unstage takes back all that was staged for a container's mounts.
func (r *Runtime) unstage(name string) error {
	rerr := unstageOne(r.path(name, rootDir))
	entries, err := os.ReadDir(r.path(name, mountsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return rerr
	}
	errList := []error{rerr, err}
	for _, e := range entries {
		errList = append(errList, unstageOne(r.path(name, mountsDir, e.Name())))
	}
	// Never RemoveAll: it would go into what could not be unmounted.
	return errors.Join(append(errList, ignoreGone(os.Remove(r.path(name, mountsDir))))...)
}

func unstageOne(at string) error {
	// Mounts below go with it; what the container has stays.
	err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "unmount", Path: at, Err: err}
	}
	return ignoreGone(os.Remove(at))
}
