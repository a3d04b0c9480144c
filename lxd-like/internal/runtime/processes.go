package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
)

// rounds is how often all processes are looked at: those that were made while
// others were changed are seen the next time.
const rounds = 10

// A changer changes a process, and reports whether it did. Those that are late
// were made after others were changed.
type changer func(p process, late bool) (bool, error)

// eachProcess calls change with each process of the guest, until there is none
// that it has changed.
func (r *Runtime) eachProcess(c *container, in *guestInit, change changer) error {
	controller, dir, err := in.ownGroup()
	if err != nil {
		return err
	}
	host, err := r.cgroups()
	if err != nil {
		return err
	}
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return err
	}
	for round := range rounds {
		again := false
		pids, err := processesBelow(dir)
		if err != nil {
			return err
		}
		for _, pid := range pids {
			isGuests := func(p process) bool {
				return isForeign(p, own) && host.has(c.name, controller, dir, p.pid) && !p.ended()
			}
			changed, err := changeProcess(pid, isGuests, func(p process) (bool, error) { return change(p, round > 0) })
			if err != nil {
				return err
			}
			again = again || changed
		}
		if !again {
			return nil
		}
	}
	return nil
}

// ownGroup returns a cgroup that all processes of the container are in or below.
func (in *guestInit) ownGroup() (controller, dir string, err error) {
	for _, controller := range append([]string{""}, slices.Sorted(maps.Keys(in.dirs))...) {
		if dir := in.dirs[controller]; isOurs(dir) {
			return controller, dir, nil
		}
	}
	return "", "", errs.Newf(errs.Unsupported, "the instance has no cgroup")
}

// changeProcess changes a process if it is one of those that match. It is no
// error that it has ended.
func changeProcess(pid int, match func(process) bool, change func(process) (bool, error)) (changed bool, err error) {
	p, err := openProcess(pid)
	if err != nil {
		return false, nil // It has ended.
	}
	defer p.fd.Close()
	if !match(p) {
		return false, nil
	}
	changed, err = change(p)
	if p.ended() {
		return false, nil
	}
	return changed, err
}

// isForeign reports whether a process is the guest's, and no helper of ours
// that is in its cgroups.
func isForeign(p process, own string) bool {
	ns, err := os.Readlink(filepath.Join(procDir(p.pid), "ns/pid"))
	return err == nil && ns != own
}

// has reports whether a process is in a container's cgroup.
func (c Cgroups) has(name, controller, dir string, pid int) bool {
	file, err := readFile(filepath.Join(procDir(pid), "cgroup"))
	return err == nil && c.Dirs(name, string(file))[controller] == dir
}

// processesBelow returns the processes of a cgroup and of those below.
func processesBelow(dir string) ([]int, error) {
	var pids []int
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return ignoreGone(err)
		}
		text, err := readValue(path, "cgroup.procs")
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) { // Of threads, whose processes are listed above.
			return ignoreGone(err)
		}
		for line := range strings.Lines(text) {
			if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids, err
}

// SetRlimits changes the limits of a running container's processes, all of them
// or none: of those that run, unless they have set others for themselves, which
// are kept below the new ones; and of all later ones.
func (r *Runtime) SetRlimits(ctx context.Context, name string, limits map[string]string) (err error) {
	c, in, err := r.changing(name)
	if err != nil {
		return err
	}
	defer c.change.Unlock()
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	before := c.spec.Rlimits
	for _, resource := range changedKeys(before, limits) {
		was, err := c.rlimit(resource, before)
		if err != nil {
			return err
		}
		is, err := c.rlimit(resource, limits)
		if err != nil {
			return err
		}
		if is.Max > was.Max && !mayRaise() {
			return errs.Newf(errs.Unsupported, "limits.kernel.%s: %w", resource, errMayNotRaise)
		}
		u.Push("restore the limit "+resource, func(context.Context) error { return r.setRlimit(c, in, resource, is, was) })
		if err := r.setRlimit(c, in, resource, was, is); err != nil {
			return c.during(in, fmt.Errorf("limits.kernel.%s: %w", resource, err))
		}
	}
	return r.respec(c, func(s *Spec) { s.Rlimits = limits })
}

var errMayNotRaise = errors.New("the daemon runs without CAP_SYS_RESOURCE, so that limits of processes and their scores cannot be eased")

// mayRaise reports whether the kernel lets us ease limits of processes.
var mayRaise = sync.OnceValue(func() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&hdr, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
})

func changedKeys(a, b map[string]string) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, b)
	maps.DeleteFunc(all, func(k, _ string) bool {
		before, had := a[k]
		after, has := b[k]
		return had == has && before == after
	})
	return slices.Sorted(maps.Keys(all))
}

// rlimit returns a limit of those given or, where they say nothing, the one that
// the container's init was started with, which is the shim's.
func (c *container) rlimit(resource string, limits map[string]string) (unix.Rlimit, error) {
	value, ok := limits[resource]
	if !ok {
		var l unix.Rlimit
		number, known := rlimitNumbers[resource]
		if !known {
			return l, errs.Invalidf("resource limit %q is not known", resource)
		}
		return l, c.orGone(unix.Prlimit(c.shim.pid, number, nil, &l))
	}
	text, err := numericRlimit(resource, value)
	if err != nil {
		return unix.Rlimit{}, err
	}
	var number int
	var l unix.Rlimit
	_, err = fmt.Sscanf(text, "%d=%d:%d", &number, &l.Cur, &l.Max)
	return l, err
}

func (r *Runtime) setRlimit(c *container, in *guestInit, resource string, was, is unix.Rlimit) error {
	number := rlimitNumbers[resource]
	return r.eachProcess(c, in, func(p process, _ bool) (bool, error) {
		var has unix.Rlimit
		if err := unix.Prlimit(p.pid, number, nil, &has); err != nil {
			return false, os.NewSyscallError("prlimit", err)
		}
		gets := is
		if has.Max != was.Max {
			gets.Max = min(has.Max, is.Max)
		}
		if has.Cur != was.Cur {
			gets.Cur = has.Cur
		}
		gets.Cur = min(gets.Cur, gets.Max)
		if gets == has {
			return false, nil
		}
		return true, os.NewSyscallError("prlimit", unix.Prlimit(p.pid, number, &gets, nil))
	})
}

const oomFile = "oom_score_adj"

// SetOOMScore changes who goes first when there is no memory left: all processes
// of a running container move by as much as the score does.
func (r *Runtime) SetOOMScore(ctx context.Context, name string, score int) (err error) {
	c, in, err := r.changing(name)
	if err != nil {
		return err
	}
	defer c.change.Unlock()
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	was := c.spec.OOMScore
	if score < was && !mayRaise() {
		return errs.Newf(errs.Unsupported, "limits.memory.oom_priority: %w", errMayNotRaise)
	}
	u.Push("restore the score", func(context.Context) error { return r.moveScores(c, in, score, was) })
	if err := r.moveScores(c, in, was, score); err != nil {
		return c.during(in, err)
	}
	if err := r.respec(c, func(s *Spec) { s.OOMScore = score }); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server != nil {
		return ignoreGone(setScore(c.server.shim.proc.Pid, score))
	}
	return nil
}

// moveScores moves each process once, and those that come meanwhile, which have
// the score of who made them.
func (r *Runtime) moveScores(c *container, in *guestInit, was, is int) error {
	moved := map[int]bool{}
	return r.eachProcess(c, in, func(p process, late bool) (bool, error) {
		if moved[p.pid] {
			return false, nil
		}
		moved[p.pid] = true
		dir, err := os.OpenFile(procDir(p.pid), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil || p.ended() {
			return false, ignoreGone(err)
		}
		defer dir.Close()
		at := fmt.Sprintf("/proc/self/fd/%d", dir.Fd())
		has, err := readNumber(at, oomFile)
		if err != nil {
			return false, ignoreGone(err)
		}
		gets := max(-1000, min(1000, int(has)+is-was))
		if late && int(has) != was || gets == int(has) {
			return false, nil // What made it has moved.
		}
		return true, ignoreGone(writeValue(at, oomFile, strconv.Itoa(gets)))
	})
}

// setScore gives a helper of ours the score that the programs are to have that
// it starts in a container.
func setScore(pid, score int) error {
	return writeValue(procDir(pid), oomFile, strconv.Itoa(score))
}
