package devices

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/run"
)

// defaultMode is that of device nodes for which nothing is said.
const defaultMode = 0o660

// disk plans a directory, file, socket or block device of the host, or memory.
func disk(ctx context.Context, dev profiles.Device, env Env) (Plan, error) {
	m := mount(dev, env)
	if profiles.IsMemory(dev) {
		return Plan{Mounts: []runtime.Mount{m}}, checkOptions(m)
	}
	info, err := m.Look()
	switch {
	case errors.Is(err, fs.ErrNotExist) && m.Optional:
		return Plan{Mounts: []runtime.Mount{m}}, nil
	case errors.Is(err, fs.ErrNotExist):
		return Plan{}, absent("source: ", "there is no %s on the host", m.Source)
	case errs.Is(err, errs.Denied):
		return Plan{}, err
	case err != nil:
		return Plan{}, errs.Invalidf("source: %w", err)
	case info.Mode().Type() == fs.ModeDevice && m.Within != "":
		return Plan{}, errs.Newf(errs.Denied, "source: %s is a block device, whose file system the host's kernel would have to trust: the project has restricted.devices.disk.paths", m.Source)
	case info.Mode().Type() == fs.ModeDevice:
		m.Kind = runtime.Block
		m.Type, err = fileSystem(ctx, m.Source)
	case !info.IsDir() && !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSocket:
		return Plan{}, errs.Invalidf("source: %s is no directory, file, socket or block device; a character device of the host is of type unix-char", m.Source)
	}
	if err == nil {
		err = checkOptions(m)
	}
	return Plan{Mounts: []runtime.Mount{m}}, err
}

// fileSystem returns the type of the file system on a block device.
func fileSystem(ctx context.Context, device string) (string, error) {
	out, err := run.Cmd(ctx, "blkid", "-p", "-o", "export", device)
	fields := map[string]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		fields[key] = value
	}
	switch {
	case fields["USAGE"] == "filesystem" && fields["TYPE"] != "":
		return fields["TYPE"], nil
	case fields["TYPE"] != "":
		return "", errs.Invalidf("source: %s has %s, want a file system; a device of type unix-block hands over the block device itself", device, fields["TYPE"])
	case err != nil && ctx.Err() != nil:
		return "", ctx.Err()
	}
	return "", errs.Invalidf("source: %s has no file system that is known; a device of type unix-block hands over the block device itself", device)
}

// checkOptions reports options of a mount that it cannot have.
func checkOptions(m runtime.Mount) error {
	_, rest := runtime.MountOptions(m.Options)
	for _, word := range rest {
		name, _, _ := strings.Cut(word, "=")
		switch {
		case m.Kind == runtime.Bind:
			return errs.Invalidf("raw.mount.options: got %q, want words of ro, nosuid, nodev, noexec, nosymfollow, noatime, nodiratime, relatime and strictatime: only the file system of a block device has others", word)
		case m.Kind != runtime.Block && (name == "size" || name == "uid" || name == "gid" || name == "mode"):
			return errs.Invalidf("raw.mount.options: got %q, want it as option of the device: size, initial.uid, initial.gid or initial.mode", word)
		}
	}
	return nil
}

// mount is what the device alone says.
func mount(dev profiles.Device, env Env) runtime.Mount {
	m := runtime.Mount{
		Target: path.Clean(dev["path"]), ReadOnly: yes(dev, "readonly"),
		Propagation: propagation(dev), Options: dev["raw.mount.options"],
	}
	if profiles.IsMemory(dev) {
		m.Kind = runtime.MountKind(strings.TrimSuffix(dev["source"], ":"))
		m.Size, _ = profiles.ParseSize(dev["size"]) // It is valid, as all is.
		m.UID, _ = strconv.ParseInt(dev["initial.uid"], 10, 64)
		m.GID, _ = strconv.ParseInt(dev["initial.gid"], 10, 64)
		m.Mode = dev["initial.mode"]
		return m
	}
	m.Source, m.Recursive, m.Optional = path.Clean(dev["source"]), yes(dev, "recursive"), !required(dev)
	m.Within = strings.Join(env.DiskPaths, ",")
	m.Mapped = yes(dev, "shift") && env.IDs != nil
	return m
}

// propagation is empty for private, which mounts are if nothing is said.
func propagation(dev profiles.Device) string {
	if p := dev["propagation"]; p != "private" && p != "rprivate" {
		return p
	}
	return ""
}

// volumeDisk plans a custom volume of a pool, which is shown with the
// instance's ids. The file systems of discs have no idmapped mounts: they are
// shown as they are, for all to read.
func volumeDisk(ctx context.Context, dev profiles.Device, env Env) (Plan, error) {
	p := volumePlan(dev, env)
	if err := checkOptions(p.Mounts[0]); err != nil {
		return Plan{}, err
	}
	v, err := env.Volume(ctx, p.Volume.Pool, p.Volume.Source)
	if errs.Is(err, errs.NotFound) {
		if !required(dev) {
			return Plan{}, nil
		}
		return Plan{}, errs.Newf(errs.Invalid, "source: %w", err)
	}
	if err != nil {
		return Plan{}, err
	}
	m := &p.Mounts[0]
	if v.ContentType == "iso" {
		m.ReadOnly, m.Mapped = true, false
	}
	if unmapped, _ := profiles.ParseBool(v.Config["security.unmapped"]); unmapped { // It is valid.
		m.Mapped = false
	}
	return p, nil
}

// volumePlan is what the device alone says of a volume.
func volumePlan(dev profiles.Device, env Env) Plan {
	v := Volume{Pool: dev["pool"], Source: profiles.VolumeSource(dev)}
	return Plan{
		Volume: v,
		Mounts: []runtime.Mount{{
			Target: path.Clean(dev["path"]), ReadOnly: yes(dev, "readonly") || strings.Contains(v.Source, "/"),
			Mapped: env.IDs != nil, Optional: !required(dev),
			Propagation: propagation(dev), Options: dev["raw.mount.options"],
		}},
	}
}

// node plans a device node.
func node(name string, dev profiles.Device) (Plan, error) {
	n, complete, err := numbers(dev)
	if err != nil {
		return Plan{}, err
	}
	n.Device = name
	if complete {
		return Plan{Nodes: []runtime.Node{n}}, nil
	}
	source := dev["source"]
	if source == "" {
		source = dev["path"]
	}
	var st unix.Stat_t
	err = unix.Stat(source, &st)
	switch {
	case errors.Is(err, unix.ENOENT) && !required(dev):
		return Plan{}, nil
	case errors.Is(err, unix.ENOENT):
		return Plan{}, absent("source: ", "there is no %s on the host", source)
	case err != nil:
		return Plan{}, errs.Invalidf("source: %s: %w", source, err)
	}
	kind, what := uint32(unix.S_IFCHR), "character"
	if n.Block {
		kind, what = unix.S_IFBLK, "block"
	}
	if st.Mode&unix.S_IFMT != kind {
		return Plan{}, errs.Invalidf("source: %s is no %s device", source, what)
	}
	n.Major, n.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	return Plan{Nodes: []runtime.Node{n}}, nil
}

// numbers reads what the configuration says of a node; complete is whether
// that is all, with major and minor number.
func numbers(dev profiles.Device) (n runtime.Node, complete bool, err error) {
	target := dev["path"]
	if target == "" {
		target = dev["source"]
	}
	n = runtime.Node{Block: dev["type"] == "unix-block", Path: path.Clean(target)}
	major, minor, uid, gid, mode := int64(0), int64(0), int64(0), int64(0), int64(defaultMode)
	for _, o := range []struct {
		name string
		base int
		to   *int64
	}{{"major", 10, &major}, {"minor", 10, &minor}, {"uid", 10, &uid}, {"gid", 10, &gid}, {"mode", 8, &mode}} {
		if dev[o.name] == "" {
			continue
		}
		if *o.to, err = strconv.ParseInt(dev[o.name], o.base, 64); err != nil {
			return n, false, errs.Invalidf("%s: %w", o.name, err)
		}
	}
	n.Major, n.Minor, n.UID, n.GID, n.Mode = uint32(major), uint32(minor), uid, gid, fs.FileMode(mode)
	return n, dev["major"] != "", nil
}

// MayBeLate reports whether a device is a disk that instances run without while
// its source is missing, and are given when it appears.
func MayBeLate(dev profiles.Device) bool {
	return dev["type"] == "disk" && !profiles.IsRoot(dev) && !profiles.IsMemory(dev) && !required(dev)
}

// Target is where inside a disk is.
func Target(dev profiles.Device) string { return path.Clean(dev["path"]) }
