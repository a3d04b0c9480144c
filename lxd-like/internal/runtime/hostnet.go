package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/guestfs"
	"github.com/cuib/cuib/networks/nic"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/inroot"
	"github.com/cuib/cuib/shared/mounts"
)

// What is here is for containers in the host's own network namespace.

// sharesHost reports whether a container is to be in the host's network
// namespace.
func sharesHost(s Spec) bool {
	return slices.ContainsFunc(s.NICs, func(n NIC) bool { return n.Kind == nic.Shared })
}

// checkShared refuses other NICs beside the host's network: they would be the
// host's.
func checkShared(s Spec) error {
	if sharesHost(s) && len(s.NICs) > 1 {
		return errs.Invalidf("an instance in the host's network cannot have %d nics", len(s.NICs))
	}
	return nil
}

// noLive refuses to give NICs to a container in the host's network, and such a
// network to others.
func noLive(s Spec, n NIC) error {
	if sharesHost(s) || n.Kind == nic.Shared {
		return errs.Conflictf("nic %q: whether an instance is in the host's network cannot change while it runs", n.Device)
	}
	return nil
}

// What a file system of the kernel is mounted with.
const kernelAttrs = "nosuid,nodev,noexec,relatime"

// stageSys makes ready what a container in the host's network has as /sys. The
// kernel lets only the owner of a network namespace mount one, and a bind mount
// of the host's with all below it would show the host's cgroups.
func (r *Runtime) stageSys(s Spec, kind string, readOnly bool) (string, error) {
	at := r.spot(s.Name, mountsDir, kind)
	mounted, err := mounts.Mounted(at)
	if err != nil || mounted {
		return at, err
	}
	if err := os.MkdirAll(at, 0o711); err != nil {
		return "", err
	}
	tree, err := mounts.New("sysfs", "sysfs", mounts.Options{})
	if err != nil {
		return "", err
	}
	defer tree.Close()
	m := Mount{Source: "sysfs", Options: kernelAttrs, ReadOnly: readOnly}
	if err := m.setAttrs(tree, nil); err != nil {
		return "", err
	}
	return at, mounts.Attach(tree, at)
}

// stageShared adds to f what a container in the host's network has in place of
// file systems that liblxc cannot mount there.
func (r *Runtime) stageShared(s Spec, f *Files) (err error) {
	if !sharesHost(s) {
		return nil
	}
	if f.Sys, err = r.stageSys(s, "sys", true); err != nil {
		return fmt.Errorf("/sys: %w", err)
	}
	if s.Nesting {
		if f.WholeSys, err = r.stageSys(s, "whole-sys", false); err != nil {
			return fmt.Errorf("/dev/.cuib/sys: %w", err)
		}
	}
	return nil
}

// Files of the host, in Dir, that containers in its network have in place of
// their own.
const (
	sharedNames      = ".resolv.conf" // A copy of the host's, kept as that is.
	sharedInterfaces = ".interfaces"
)

const interfacesText = "# The network is the host's own (nictype host), and there is nothing to set up here.\n"

// cover mounts files over those of a container that would set its network up.
// The mounts are a part of what its root file system is on the host, and the
// files below stay as they are: the guest has them again without the NIC.
func (r *Runtime) cover(s Spec) error {
	if !sharesHost(s) {
		return nil
	}
	if err := r.writeNames(); err != nil {
		return err
	}
	if err := r.writeShared(sharedInterfaces, []byte(interfacesText)); err != nil {
		return err
	}
	root, err := os.Open(r.path(s.Name, rootDir))
	if err != nil {
		return err
	}
	defer root.Close()
	r.makeNames(root, s)
	for target, source := range map[string]string{"etc/resolv.conf": sharedNames, "etc/network/interfaces": sharedInterfaces} {
		if err := coverOne(root, target, r.path(source)); err != nil {
			return fmt.Errorf("/%s: %w", target, err)
		}
	}
	return nil
}

// makeNames makes an empty file, as the guest's root, for a guest that has none
// and so nothing that could be covered. A guest in which that cannot be made
// starts without.
func (r *Runtime) makeNames(root *os.File, s Spec) {
	const name = "/etc/resolv.conf"
	guest := guestfs.New(root, s.IDs, nil)
	if _, err := guest.Stat(name); !errs.Is(err, errs.NotFound) {
		return
	}
	if err := guest.Write(name, bytes.NewReader(nil), guestfs.File{Mode: 0o644}); err != nil {
		r.Log.Warn("an instance has no place for the host's resolv.conf", "instance", s.Name, "err", err)
	}
}

// coverOne mounts a file of the host over one of a guest, and over the link if
// it is one: where that leads to need not be there yet, or anywhere.
func coverOne(root *os.File, target, source string) error {
	over, err := inroot.Open(root, target, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return err
	}
	defer over.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(over.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil // Nobody reads it, then.
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: source, Err: err}
	}
	tree := os.NewFile(uintptr(fd), source)
	defer tree.Close()
	if err := (Mount{Source: source, Options: kernelAttrs, ReadOnly: true}).setAttrs(tree, nil); err != nil {
		return err
	}
	err = unix.MoveMount(fd, "", int(over.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	return os.NewSyscallError("move_mount", err)
}

// hostNames is where the host says how names are resolved. Its name servers,
// also those of its loopback, are reached from its network namespace alone.
const hostNames = "/etc/resolv.conf"

// writeNames copies the host's file; one that is not there is empty.
func (r *Runtime) writeNames() error {
	data, err := os.ReadFile(hostNames)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return r.writeShared(sharedNames, data)
}

// writeShared writes into the file that is there, which guests have mounted.
func (r *Runtime) writeShared(name string, data []byte) error {
	r.shared.Lock()
	defer r.shared.Unlock()
	at := r.path(name)
	if old, err := os.ReadFile(at); err == nil && bytes.Equal(old, data) {
		return nil
	}
	f, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	const all = 0o644 // Guests read it, whatever the umask is.
	return errors.Join(err, f.Truncate(int64(len(data))), f.Chmod(all), f.Close())
}

const namesInterval = 2 * time.Second

// KeepNames has containers in the host's network resolve names as the host does
// at the time, until ctx ends.
func (r *Runtime) KeepNames(ctx context.Context) error {
	ticker := time.NewTicker(namesInterval)
	defer ticker.Stop()
	for told := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if !slices.ContainsFunc(r.all(), func(c *container) bool { return sharesHost(c.specNow()) }) {
			continue
		}
		err := r.writeNames()
		if err != nil && !told {
			r.Log.WarnContext(ctx, "instances in the host's network do not follow its resolv.conf", "err", err)
		}
		told = err != nil
	}
}

// maskedUnits are those that set a network up, or serve names on it.
var maskedUnits = []string{
	"NetworkManager.service", "NetworkManager-wait-online.service", "connman.service", "connman-wait-online.service", "dhcpcd.service",
	"systemd-networkd.service", "systemd-networkd.socket", "systemd-networkd-varlink.socket", "systemd-networkd-wait-online.service",
	"systemd-resolved.service", "systemd-resolved-monitor.socket", "systemd-resolved-varlink.socket",
}

// initArgs are those of a container's init. In a container systemd takes
// what is else on the kernel's command line from there.
func (c *container) initArgs() []string {
	args := slices.Clone(c.spec.Init)
	if c.kind.Name == "systemd" && sharesHost(c.spec) {
		for _, unit := range maskedUnits {
			args = append(args, "systemd.mask="+unit)
		}
	}
	return args
}

// The world, as two addresses of it. Nothing is sent there.
var world = []string{"1.1.1.1", "2606:4700:4700::1111"}

// outward returns the interfaces by which others reach the host, and so the
// instances in its network: those with an address for others, and those by which
// it reaches the world. A host can have hundreds of others, which belong to its
// bridges; they are not even looked at.
func outward(host *netlink.Handle) (map[string]Interface, error) {
	ways := map[int]bool{}
	for _, to := range world {
		routes, _ := host.RouteGet(net.ParseIP(to)) // An error is for no way there.
		for _, r := range routes {
			ways[r.LinkIndex] = true
		}
	}
	all, err := addressesOf(host)
	if err != nil {
		return nil, err
	}
	seen := maps.Clone(ways)
	for index, addresses := range all {
		if slices.ContainsFunc(addresses, func(a netlink.Addr) bool { return a.IPNet != nil && a.IP.IsGlobalUnicast() }) {
			seen[index] = true
		}
	}
	out := map[string]Interface{}
	for index := range seen {
		l, err := host.LinkByIndex(index)
		if err != nil || l.Attrs().RawFlags&unix.IFF_LOOPBACK != 0 || l.Type() == "bridge" && !ways[index] {
			continue
		}
		one := describe(l.Attrs())
		one.Addresses = prefixes(all[index])
		out[l.Attrs().Name] = one
	}
	return out, nil
}
