package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
)

// shimPatience bounds what a guest can do to who mounts in it, by a file system
// of its own that does not answer: it holds locks meanwhile.
const shimPatience = 10 * time.Second

// shimRun runs cuib-shim for a short task on the container's init, to its
// end.
func (r *Runtime) shimRun(ctx context.Context, in *guestInit, args ...string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, shimPatience,
		errs.Newf(errs.Unavailable, "it is not done within %s: a file system of the instance, or the host, does not answer", shimPatience))
	defer cancel()
	said, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer said.Close()
	files := []*os.File{nil}
	if in != nil {
		files = append(files, in.fd)
	}
	s, err := r.runShim(w, files, args...)
	w.Close()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.proc.Kill() }) // It has ended, else.
	defer stop()
	text, err := io.ReadAll(said)
	<-s.done
	if s.end != nil && s.end.Success() {
		return err
	}
	return errors.Join(errors.New(strings.TrimSpace(string(text))), context.Cause(ctx), err)
}

// changing finds a container and locks it for changes.
func (r *Runtime) changing(name string) (c *container, in *guestInit, err error) {
	if c, err = r.find(name); err != nil {
		return nil, nil, err
	}
	c.change.Lock()
	if in, err = c.current(); err != nil {
		c.change.Unlock()
		return nil, nil, err
	}
	return c, in, nil
}

// AddMount mounts a directory or file of the host in a running container.
func (r *Runtime) AddMount(ctx context.Context, name string, m Mount) (err error) {
	c, in, err := r.changing(name)
	if err != nil {
		return err
	}
	defer c.change.Unlock()
	if taken(c.spec, m.Target) {
		return errs.Conflictf("instance %q has a device at %s already", name, m.Target)
	}
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	at := r.spot(name, mountsDir, m.Target)
	u.Push("unstage "+m.Target, func(context.Context) error { return unstageOne(at) })
	one, err := r.stageMount(c.spec, m)
	if err != nil {
		return err
	}
	if one != nil {
		if err := r.mountIn(ctx, in, one); err != nil {
			return c.during(in, fmt.Errorf("mount on %s: %w", m.Target, err))
		}
		u.Push("unmount "+m.Target, func(ctx context.Context) error { return r.unmountIn(ctx, in, m.Target) })
	}
	m.Absent = one == nil
	return r.respec(c, func(s *Spec) { s.Mounts = append(slices.Clone(s.Mounts), m) })
}

func taken(s Spec, target string) bool {
	target = path.Clean(target)
	return slices.ContainsFunc(s.Mounts, func(m Mount) bool { return path.Clean(m.Target) == target }) ||
		slices.ContainsFunc(s.Nodes, func(n Node) bool { return path.Clean(n.Path) == target })
}

func (r *Runtime) mountIn(ctx context.Context, in *guestInit, s *Staged) error {
	args := []string{"mount", path.Dir(s.Source), path.Base(s.Source), path.Clean(s.Target)}
	if s.Propagation != "" {
		args = append(args, s.Propagation)
	}
	return r.shimRun(ctx, in, args...)
}

func (r *Runtime) unmountIn(ctx context.Context, in *guestInit, target string) error {
	return r.shimRun(ctx, in, "unmount", path.Clean(target))
}

// RemoveMount unmounts what [Runtime.AddMount] or the start mounted. Programs
// that use it keep what they have open.
func (r *Runtime) RemoveMount(ctx context.Context, name, target string) error {
	c, in, err := r.changing(name)
	if err != nil {
		return err
	}
	defer c.change.Unlock()
	is := func(m Mount) bool { return path.Clean(m.Target) == path.Clean(target) }
	if !slices.ContainsFunc(c.spec.Mounts, is) {
		return errs.NotFoundf("instance %q has no mount at %s", name, target)
	}
	if err := r.unmountIn(ctx, in, target); err != nil {
		return c.during(in, fmt.Errorf("unmount %s: %w", target, err))
	}
	if err := r.respec(c, func(s *Spec) { s.Mounts = slices.DeleteFunc(slices.Clone(s.Mounts), is) }); err != nil {
		return err
	}
	return unstageOne(r.spot(name, mountsDir, target))
}

// AddNode makes a device node in a running container, which may then use the
// device.
func (r *Runtime) AddNode(ctx context.Context, name string, n Node) (err error) {
	c, in, err := r.changing(name)
	if err != nil {
		return err
	}
	defer c.change.Unlock()
	if slices.ContainsFunc(c.spec.Nodes, func(o Node) bool { return o.shares(n) }) {
		return r.respec(c, func(s *Spec) { s.Nodes = append(slices.Clone(s.Nodes), n) })
	}
	if taken(c.spec, n.Path) {
		return errs.Conflictf("instance %q has a device at %s already", name, n.Path)
	}
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	at := r.spot(name, devicesDir, n.Path)
	u.Push("remove the node", func(context.Context) error { return ignoreGone(os.Remove(at)) })
	one, err := r.stageNode(c.spec, n)
	if err != nil {
		return err
	}
	if err := r.allow(ctx, c, in, n); err != nil {
		return c.during(in, err)
	}
	u.Push("deny the device", func(ctx context.Context) error { return r.deny(ctx, c, in, n) })
	if err := r.mountIn(ctx, in, &one); err != nil {
		return c.during(in, fmt.Errorf("make %s: %w", n.Path, err))
	}
	u.Push("remove the node inside", func(ctx context.Context) error { return r.unmountIn(ctx, in, n.Path) })
	return r.respec(c, func(s *Spec) { s.Nodes = append(slices.Clone(s.Nodes), n) })
}

// RemoveNode removes a device node, and the container's right to use the
// device unless another of its nodes is for it.
func (r *Runtime) RemoveNode(ctx context.Context, name string, n Node) error {
	c, in, err := r.changing(name)
	if err != nil {
		return err
	}
	defer c.change.Unlock()
	is := func(o Node) bool {
		return path.Clean(o.Path) == path.Clean(n.Path) && (o.Device == n.Device || o.Device == "")
	}
	i := slices.IndexFunc(c.spec.Nodes, is)
	if i < 0 {
		return errs.NotFoundf("instance %q has no device at %s", name, n.Path)
	}
	was := c.spec.Nodes[i]
	if slices.ContainsFunc(c.spec.Nodes, func(o Node) bool { return o.shares(was) }) {
		return r.respec(c, func(s *Spec) { s.Nodes = slices.DeleteFunc(slices.Clone(s.Nodes), is) })
	}
	if err := r.unmountIn(ctx, in, was.Path); err != nil {
		return c.during(in, fmt.Errorf("remove %s: %w", was.Path, err))
	}
	if err := r.respec(c, func(s *Spec) { s.Nodes = slices.DeleteFunc(slices.Clone(s.Nodes), is) }); err != nil {
		return err
	}
	if err := r.deny(ctx, c, in, was); err != nil {
		return c.during(in, err)
	}
	return ignoreGone(os.Remove(r.spot(name, devicesDir, was.Path)))
}

func (r *Runtime) allow(ctx context.Context, c *container, in *guestInit, n Node) error {
	return r.device(ctx, c, in, "allow", n.rule())
}

// deny takes a device away unless something else of the container needs it.
func (r *Runtime) deny(ctx context.Context, c *container, in *guestInit, n Node) error {
	rule := n.rule()
	if slices.Contains(allowedDevices, rule) || !n.Block && n.Major >= 136 && n.Major <= 143 {
		return nil
	}
	same := func(o Node) bool { return o.rule() == rule && path.Clean(o.Path) != path.Clean(n.Path) }
	if slices.ContainsFunc(c.spec.Nodes, same) {
		return nil
	}
	return r.device(ctx, c, in, "deny", rule)
}

func (r *Runtime) device(ctx context.Context, c *container, in *guestInit, verb, rule string) error {
	if dir := in.dirs["devices"]; dir != "" {
		return writeValue(dir, "devices."+verb, rule)
	}
	if in.dirs[""] == "" {
		return nil
	}
	if err := r.shimRun(ctx, nil, "device", r.Dir, c.name, verb, rule); err != nil {
		return fmt.Errorf("%s device %q: %w", verb, rule, err)
	}
	return nil
}
