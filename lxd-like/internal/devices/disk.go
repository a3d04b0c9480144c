package devices

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// defaultMode is that of device nodes for which nothing is said.
const defaultMode = 0o660

// disk plans a directory, file or socket of the host.
func disk(dev profiles.Device, env Env) (Plan, error) {
	m := mount(dev, env)
	info, err := os.Stat(m.Source)
	switch {
	case errors.Is(err, fs.ErrNotExist) && m.Optional:
	case errors.Is(err, fs.ErrNotExist):
		return Plan{}, errs.Invalidf("source: there is no %s on the host", m.Source)
	case err != nil:
		return Plan{}, errs.Invalidf("source: %w", err)
	case !info.IsDir() && !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSocket:
		return Plan{}, errs.Invalidf("source: %s is no directory, file or socket; a device of the host is of type unix-char or unix-block", m.Source)
	}
	return Plan{Mounts: []runtime.Mount{m}}, nil
}

func mount(dev profiles.Device, env Env) runtime.Mount {
	return runtime.Mount{
		Source: path.Clean(dev["source"]), Target: path.Clean(dev["path"]),
		ReadOnly: yes(dev, "readonly"), Recursive: yes(dev, "recursive"),
		Mapped: yes(dev, "shift") && env.IDs != nil, Optional: !required(dev),
	}
}

// volumeDisk plans a custom volume of a pool, which is shown with the
// instance's ids. The file systems of discs have no idmapped mounts: they are
// shown as they are, for all to read.
func volumeDisk(ctx context.Context, dev profiles.Device, env Env) (Plan, error) {
	v, err := env.Volume(ctx, dev["pool"], dev["source"])
	if errs.Is(err, errs.NotFound) {
		if !required(dev) {
			return Plan{}, nil
		}
		return Plan{}, errs.Newf(errs.Invalid, "source: %w", err)
	}
	if err != nil {
		return Plan{}, err
	}
	p := volumePlan(dev, env)
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
	return Plan{
		Volume: Volume{Pool: dev["pool"], Source: dev["source"]},
		Mounts: []runtime.Mount{{
			Target: path.Clean(dev["path"]), ReadOnly: yes(dev, "readonly") || strings.Contains(dev["source"], "/"),
			Mapped: env.IDs != nil, Optional: !required(dev),
		}},
	}
}

// node plans a device node.
func node(dev profiles.Device) (Plan, error) {
	n, complete, err := numbers(dev)
	if err != nil {
		return Plan{}, err
	}
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
		return Plan{}, errs.Invalidf("source: there is no %s on the host", source)
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
