package instances_test

import (
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/lxd-like/internal/uevents"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

// fakeRuntime runs containers in name only. They outlive services.
type fakeRuntime struct {
	w *world

	mu      sync.Mutex // Guards what follows.
	running map[string]*container
	deaf    bool                    // Guests do not hear when they are to shut down.
	log     []string                // Which guests were told to end, in order.
	away    map[string]runtime.Exit // What ended while no daemon ran.
	refuses string                  // A container that cannot be limited.
	noMount string                  // One in which nothing can be mounted.
	dying   string                  // A container that ends while the next daemon looks for it.
	leaving string                  // One that ends or boots again, so that there is not much to see of it.
	hung    chan struct{}           // Closed when what a guest keeps for itself can be opened, if not nil.
	exits   sync.WaitGroup

	told chan string   // Takes a name when its guest was told to shut down, if not nil.
	slow chan struct{} // Takes one when a container begins to start, and gives one before it has, if not nil.
}

type container struct {
	spec   runtime.Spec
	frozen bool
	told   []string // Events of devices.
	late   []string // Targets of mounts that came later.
	onExit func(runtime.Exit)
}

func (c *container) parts() string {
	var all []string
	for _, m := range c.spec.Mounts {
		all = append(all, m.Target)
	}
	for _, n := range c.spec.NICs {
		all = append(all, n.Name+"="+n.HostName)
	}
	for _, n := range c.spec.Nodes {
		all = append(all, n.Path)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (r *fakeRuntime) find(name string) (*container, error) {
	c := r.running[name]
	if c == nil {
		return nil, errs.NotFoundf("instance %q is not running", name)
	}
	return c, nil
}

// with calls fn with a running container, after a tick.
func (r *fakeRuntime) with(name string, fn func(*container)) error {
	if err := r.w.Step("runtime"); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.find(name)
	if err == nil {
		fn(c)
	}
	return err
}

func (r *fakeRuntime) Start(_ context.Context, spec runtime.Spec, onExit func(runtime.Exit)) (runtime.Running, error) {
	if err := r.w.Step("Start"); err != nil {
		return runtime.Running{}, err
	}
	if r.slow != nil {
		r.slow <- struct{}{}
		<-r.slow
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running[spec.Name] != nil {
		return runtime.Running{}, errs.Conflictf("it runs")
	}
	r.running[spec.Name] = &container{spec: spec, onExit: onExit}
	return runtime.Running{Name: spec.Name, PID: 1}, nil
}

func (r *fakeRuntime) Recover(_ context.Context, onExit func(string, runtime.Exit)) ([]runtime.Running, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []runtime.Running
	for name, c := range r.running {
		c.onExit = func(e runtime.Exit) { onExit(name, e) }
		out = append(out, runtime.Running{Name: name, PID: 1})
	}
	if c := r.running[r.dying]; c != nil {
		delete(r.running, r.dying)
		c.onExit(runtime.Exit{Status: 130})
	}
	for name, e := range r.away {
		out = append(out, runtime.Running{Name: name, Ended: &e})
	}
	r.away = nil
	return out, nil
}

func (r *fakeRuntime) Get(name string) (runtime.Running, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.find(name)
	if err != nil {
		return runtime.Running{}, err
	}
	return runtime.Running{Name: name, PID: 1, Frozen: c.frozen, StartedAt: time.Unix(1, 0)}, nil
}

// exit ends a container, as its guest would.
func (r *fakeRuntime) exit(name string, e runtime.Exit) {
	r.mu.Lock()
	c := r.running[name]
	delete(r.running, name)
	r.mu.Unlock()
	if c != nil {
		r.exits.Go(func() { c.onExit(e) })
	}
}

func (r *fakeRuntime) Shutdown(_ context.Context, name string) error {
	if err := r.with(name, func(*container) { r.log = append(r.log, "shut down "+name) }); err != nil {
		return err
	}
	if r.told != nil {
		r.told <- name
	}
	if !r.deaf {
		r.exit(name, runtime.Exit{Status: 130})
	}
	return nil
}

func (r *fakeRuntime) Reboot(context.Context, string) error { return nil }

func (r *fakeRuntime) Kill(_ context.Context, name string) error {
	if err := r.with(name, func(*container) { r.log = append(r.log, "kill "+name) }); err != nil {
		return err
	}
	r.exit(name, runtime.Exit{Status: 137})
	return nil
}

func (r *fakeRuntime) Wait(context.Context, string) error { return nil }

func (r *fakeRuntime) Freeze(_ context.Context, name string) error {
	return r.with(name, func(c *container) { c.frozen = true })
}

func (r *fakeRuntime) Thaw(_ context.Context, name string) error {
	return r.with(name, func(c *container) { c.frozen = false })
}

func (r *fakeRuntime) SetLimits(_ context.Context, name string, l runtime.Limits) error {
	if name == r.refuses {
		return errs.Invalidf("it uses more than that")
	}
	return r.with(name, func(c *container) { c.spec.Limits = l })
}

func (r *fakeRuntime) CheckLimits(runtime.Limits) error { return nil }

func (r *fakeRuntime) SetRlimits(_ context.Context, name string, limits map[string]string) error {
	return r.with(name, func(c *container) { c.spec.Rlimits = limits })
}

func (r *fakeRuntime) SetOOMScore(_ context.Context, name string, score int) error {
	return r.with(name, func(c *container) { c.spec.OOMScore = score })
}

func (r *fakeRuntime) SetMounting(_ context.Context, name string, m runtime.Mounting) error {
	return r.with(name, func(c *container) { c.spec.Mounting = m })
}

func (r *fakeRuntime) AddMount(_ context.Context, name string, m runtime.Mount) error {
	if name == r.noMount {
		return errs.Invalidf("nothing can be mounted")
	}
	return r.with(name, func(c *container) { c.spec.Mounts = append(c.spec.Mounts, m) })
}

func (r *fakeRuntime) RemoveMount(_ context.Context, name, target string) error {
	return r.with(name, func(c *container) {
		c.spec.Mounts = slices.DeleteFunc(c.spec.Mounts, func(m runtime.Mount) bool { return m.Target == target })
	})
}

func (r *fakeRuntime) Missing(name string) (out []string, err error) {
	err = r.with(name, func(c *container) {
		for _, m := range c.spec.Mounts {
			if _, err := os.Stat(m.Source); err != nil && m.Optional {
				out = append(out, m.Target)
			}
		}
	})
	return out, err
}

func (r *fakeRuntime) MountLate(_ context.Context, name string, m runtime.Mount) error {
	return r.with(name, func(c *container) {
		for i, o := range c.spec.Mounts {
			if o.Target == m.Target {
				c.spec.Mounts[i] = m
				c.late = append(c.late, m.Target)
			}
		}
	})
}

func (r *fakeRuntime) AddNode(_ context.Context, name string, n runtime.Node) error {
	return r.with(name, func(c *container) { c.spec.Nodes = append(c.spec.Nodes, n) })
}

func (r *fakeRuntime) RemoveNode(_ context.Context, name string, n runtime.Node) error {
	return r.with(name, func(c *container) {
		c.spec.Nodes = slices.DeleteFunc(c.spec.Nodes, func(o runtime.Node) bool { return o.Path == n.Path && o.Device == n.Device })
	})
}

func (r *fakeRuntime) AddNIC(_ context.Context, name string, n runtime.NIC) error {
	return r.with(name, func(c *container) { c.spec.NICs = append(c.spec.NICs, n) })
}

func (r *fakeRuntime) RemoveNIC(_ context.Context, name string, n runtime.NIC) error {
	return r.with(name, func(c *container) {
		c.spec.NICs = slices.DeleteFunc(c.spec.NICs, func(o runtime.NIC) bool { return o.Name == n.Name })
	})
}

func (r *fakeRuntime) ChangeNIC(_ context.Context, name string, n runtime.NIC) error {
	return r.with(name, func(c *container) {
		for i, o := range c.spec.NICs {
			if o.Name == n.Name {
				c.spec.NICs[i] = n
			}
		}
	})
}

func (r *fakeRuntime) Root(string) (*os.File, error) {
	if r.hung != nil {
		<-r.hung
	}
	return nil, errs.NotFoundf("none")
}

func (r *fakeRuntime) Exec(context.Context, string, runtime.Exec) (*runtime.Process, error) {
	return nil, testenv.ErrBoom
}

func (r *fakeRuntime) Console(context.Context, string) (*runtime.Console, error) {
	return nil, testenv.ErrBoom
}

func (r *fakeRuntime) ConsoleLog(context.Context, string, runtime.LogOptions) (io.ReadCloser, error) {
	return nil, testenv.ErrBoom
}
func (r *fakeRuntime) ClearConsoleLog(string) error { return testenv.ErrBoom }

func (r *fakeRuntime) Usage(name string) (runtime.Usage, error) {
	return runtime.Usage{}, r.stays(name)
}

func (r *fakeRuntime) Interfaces(name string) (map[string]runtime.Interface, error) {
	return map[string]runtime.Interface{}, r.stays(name)
}

func (r *fakeRuntime) stays(name string) error {
	if name == r.leaving {
		return errs.Newf(errs.Unavailable, "it ends or reboots")
	}
	return nil
}

func (r *fakeRuntime) Given(name string) (spec runtime.Spec, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.find(name)
	if err == nil {
		spec = c.spec
		spec.Nodes, spec.Mounts = slices.Clone(spec.Nodes), slices.Clone(spec.Mounts)
	}
	return spec, err
}

func (r *fakeRuntime) Tell(name string, e uevents.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.find(name)
	if err == nil {
		c.told = append(c.told, e.Action+" "+e.Get("DEVNAME"))
	}
	return err
}
