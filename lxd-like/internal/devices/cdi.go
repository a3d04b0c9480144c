package devices

import (
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/cdi"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// named plans what a specification of the Container Device Interface names.
func named(name string, dev profiles.Device, env Env) (Plan, error) {
	e, err := cdi.Find(env.CDI, dev["id"])
	if err != nil {
		return Plan{}, errs.Newf(errs.Invalid, "id: %w", err)
	}
	p := Plan{Env: map[string]string{}}
	for _, n := range e.Nodes {
		one, err := cdiNode(name, dev, env, n)
		if err != nil {
			return Plan{}, err
		}
		p.Nodes = append(p.Nodes, one)
	}
	for _, m := range e.Mounts {
		if _, err := fs.Stat(env.Host.Files, strings.TrimPrefix(path.Clean(m.HostPath), "/")); err != nil {
			return Plan{}, errs.Invalidf("id: the CDI specification of %s mounts what the host lacks: %w", dev["id"], err)
		}
		p.Mounts = append(p.Mounts, runtime.Mount{
			Device: name, Source: path.Clean(m.HostPath), Target: path.Clean(m.ContainerPath),
			ReadOnly: slices.Contains(m.Options, "ro"), Recursive: slices.Contains(m.Options, "rbind"),
		})
	}
	for _, v := range e.Env {
		key, value, _ := strings.Cut(v, "=")
		p.Env[key] = value
	}
	return p, nil
}

// Hooks returns the hooks of what a device names by the Container Device
// Interface, which are not run; none of other devices.
func Hooks(dev profiles.Device, env Env) []string {
	if !profiles.IsCDI(dev) {
		return nil
	}
	e, err := cdi.Find(env.CDI, dev["id"])
	if err != nil {
		return nil // Who plans the device reports it.
	}
	out := make([]string, len(e.Hooks))
	for i, h := range e.Hooks {
		out[i] = h.String()
	}
	return out
}

// cdiNode plans a node: its numbers are the specification's, or those that the
// host's has; its owner and mode the device's, the specification's or the
// host's.
func cdiNode(name string, dev profiles.Device, env Env, n cdi.Node) (runtime.Node, error) {
	at := n.HostPath
	if at == "" {
		at = n.Path
	}
	one := runtime.Node{Block: n.Type == "b", Major: uint32(n.Major), Minor: uint32(n.Minor), Mode: defaultMode} //nolint:gosec // The kernel refuses others.
	if st, err := env.stat(at); err == nil {
		had, ok := nodeOf(st, at)
		if ok && (n.Type == "" || n.Major == 0 && n.Minor == 0) {
			one = had
		}
		one.Mode = fs.FileMode(st.Mode).Perm()
	} else if n.Major == 0 && n.Minor == 0 {
		return one, errs.Invalidf("id: the CDI specification of %s has a device node that the host lacks: %w", dev["id"], err)
	}
	if n.Mode != nil {
		one.Mode = n.Mode.Perm()
	}
	if n.UID != nil {
		one.UID = *n.UID
	}
	if n.GID != nil {
		one.GID = *n.GID
	}
	mode := one.Mode
	own(dev, &one)
	if dev["mode"] == "" {
		one.Mode = mode
	}
	one.Device, one.Path = name, path.Clean(n.Path)
	return one, nil
}

// stat looks at a path of the host.
func (env Env) stat(at string) (syscall.Stat_t, error) {
	at = strings.TrimPrefix(path.Clean(at), "/")
	info, err := fs.Stat(env.Host.Files, at)
	if err != nil {
		return syscall.Stat_t{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return syscall.Stat_t{}, &fs.PathError{Op: "stat", Path: at, Err: fs.ErrInvalid}
	}
	return *st, nil
}

// nodeOf is the device node that somebody has looked at, if it is one.
func nodeOf(st syscall.Stat_t, at string) (runtime.Node, bool) {
	n := runtime.Node{Block: st.Mode&unix.S_IFMT == unix.S_IFBLK, Path: path.Clean(at), Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}
	return n, n.Block || st.Mode&unix.S_IFMT == unix.S_IFCHR
}
