package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	processes "github.com/cuib/cuib/shared/process"
)

// Recover finds the containers that run already, and those that have ended
// while no daemon ran, and clears up after the latter and after those that
// were cut short in their start or by the end of the host. onExit is as that
// of Start; it is called for those that run.
func (r *Runtime) Recover(ctx context.Context, onExit func(name string, e Exit)) ([]Running, error) {
	shims, err := r.findShims()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(r.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Running
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		name := e.Name()
		running, err := r.recoverOne(ctx, name, shims[name], func(e Exit) { onExit(name, e) })
		if err != nil {
			r.Log.WarnContext(ctx, "cannot take over instance", "instance", name, "err", err)
			continue
		}
		if running.PID != 0 || running.Ended != nil {
			list = append(list, running)
		}
	}
	r.Reconnect(ctx, "")
	if err := r.takeFilters(); err != nil {
		r.Log.ErrorContext(ctx, "what comes from instances is not filtered", "err", err)
	}
	r.settlePlugins(ctx)
	return list, nil
}

// findShims returns the processes that own containers of ours, by name. Their
// arguments say so; what guests run cannot pretend to, as it is in another
// PID namespace.
func (r *Runtime) findShims() (map[string]int, error) {
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	shims := map[string]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		name, ok := r.shimOf(pid)
		if !ok {
			continue
		}
		if ns, err := os.Readlink(filepath.Join(procDir(pid), "ns/pid")); err == nil && ns == own {
			if _, err := initOf(pid); err == nil {
				shims[name] = pid
			}
		}
	}
	return shims, nil
}

// shimOf returns the name of the container that a process owns by its
// arguments.
func (r *Runtime) shimOf(pid int) (name string, ok bool) {
	data, err := os.ReadFile(filepath.Join(procDir(pid), "cmdline"))
	if err != nil {
		return "", false
	}
	args := strings.Split(string(data), "\x00")
	if len(args) < 5 || args[0] != "cuib-shim" || args[1] != "start" || args[2] != r.Dir {
		return "", false
	}
	var st unix.Stat_t
	if err := unix.Stat(procDir(pid), &st); err != nil || st.Uid != uint32(os.Geteuid()) { //nolint:gosec // Ids are not negative.
		return "", false
	}
	return args[3], true
}

// recoverOne takes over a container. It returns the zero value if it does not
// run.
func (r *Runtime) recoverOne(ctx context.Context, name string, shim int, onExit func(Exit)) (Running, error) {
	s, err := r.readState(name)
	if shim == 0 {
		return r.clearRest(ctx, name)
	}
	c := &container{
		runtime: r, name: name, spec: s.Spec, started: s.Started, kind: s.Kind, groups: s.groups(),
		gone: make(chan struct{}),
	}
	c.spec.Name = name // Also where the state cannot be read.
	if err != nil {
		r.Log.WarnContext(ctx, "instance runs without its state", "instance", name, "err", err)
	}
	if _, err := r.writeSeccomp(); err != nil {
		return Running{}, err
	}
	if c.shim, err = openProcess(shim); err != nil {
		if ignoreGone(err) == nil {
			return r.clearRest(ctx, name)
		}
		return Running{}, err
	}
	if again, ok := r.shimOf(shim); !ok || again != name {
		c.shim.fd.Close()
		return r.clearRest(ctx, name)
	}
	if err := r.add(c); err != nil {
		return Running{}, errors.Join(err, c.shim.fd.Close())
	}
	if err := c.see(shim); err != nil && ignoreGone(err) != nil {
		r.Log.WarnContext(ctx, "cannot see the cgroups of instance", "instance", name, "err", err)
	}
	r.setUp(c)
	in, err := c.current()
	if err == nil {
		c.hold(in)
	}
	go r.watch(context.WithoutCancel(ctx), c, onExit)
	if err != nil {
		return Running{}, fmt.Errorf("find its init: %w", err)
	}
	frozen, err := r.frozen(in)
	return Running{Name: name, PID: in.pid, StartedAt: s.Started, Frozen: frozen}, err
}

// clearRest clears up after a container that ended without us, and says how
// it ended, if the host did not end with it.
func (r *Runtime) clearRest(ctx context.Context, name string) (Running, error) {
	s, err := r.readState(name)
	if errors.Is(err, fs.ErrNotExist) { // It ended under a daemon's eyes.
		err = nil
	}
	out := Running{Name: name, StartedAt: s.Started}
	boot, berr := processes.Boot()
	if berr == nil && s.Boot == boot && len(s.Cgroups) > 0 {
		exit := r.readExit(name)
		out.Ended = &exit
	}
	s.Spec.Name = name
	if berr == nil && s.Boot != boot {
		for i := range s.Spec.NICs { // Another interface can have the number by now.
			s.Spec.NICs[i].Before.Index = 0
		}
	}
	return out, errors.Join(err, berr, removeCgroups(s.groups()), r.removeNICs(ctx, s.Spec, nil), r.clearFiles(name))
}
