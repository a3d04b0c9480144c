package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	processes "github.com/cuib/cuib/shared/process"
)

// A container is one that runs, or starts.
type container struct {
	runtime *Runtime
	name    string
	spec    Spec // Changed under change and mu.
	shim    process
	started time.Time
	up      bool          // The start has succeeded; guarded by Runtime.mu.
	gone    chan struct{} // Closed when all of it is gone.
	kind    initKind
	shown   string // The device of the lxcfs that it was started with; empty for none.

	change sync.Mutex // Held by those who change limits or devices.

	mu     sync.Mutex // Guards the fields below.
	init   *guestInit
	groups []group // All its cgroups that were seen.
	server *attachServer
	netns  *os.File // Of a guest that has interfaces of the host: they are taken back from there.
	ending bool
}

// guestInit is the container's init between two boots of the guest.
type guestInit struct {
	process
	dirs map[string]string // Its cgroups, as by Cgroups.Dirs.
	v2   group             // That of version 2, if liblxc has made it.
}

// state is what a later daemon needs to know. It is written before the
// container is started, and after changes.
type state struct {
	Spec    Spec
	Started time.Time
	Kind    initKind
	Cgroups []string // Those that were seen, to be removed at its end; none before it runs.
	Inodes  []uint64 // Theirs.
	Boot    string   // The host's boot that it was started in.
}

// rebootWait is how long a guest that reboots has no init at most.
const (
	rebootWait  = 10 * time.Second
	rebootPause = time.Millisecond
)

// current returns the container's init. While the guest reboots it waits for
// the next one.
func (c *container) current() (*guestInit, error) {
	deadline := time.Now().Add(rebootWait)
	for {
		in, err := c.lookup()
		if in != nil || err != nil {
			return in, err
		}
		if c.shim.ended() {
			return nil, errs.NotFoundf("instance %q is not running", c.name)
		}
		if time.Now().After(deadline) {
			return nil, errs.Newf(errs.Unavailable, "instance %q has no init: it reboots", c.name)
		}
		select {
		case <-c.gone:
		case <-time.After(rebootPause):
		}
	}
}

// lookup returns the init that runs now, or nil.
func (c *container) lookup() (*guestInit, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.init != nil && !c.init.ended() {
		return c.init, nil
	}
	pid, err := initOf(c.shim.pid)
	if err != nil || pid == 0 || !executes(pid, c.shim.pid) {
		return nil, ignoreGone(err)
	}
	p, err := openProcess(pid)
	if err != nil {
		return nil, ignoreGone(err)
	}
	if parent, perr := parentOf(pid); perr != nil || parent != c.shim.pid {
		return nil, ignoreGone(errors.Join(perr, p.fd.Close()))
	}
	if c.init != nil {
		c.init.fd.Close()
	}
	dirs, err := c.runtime.cgroupDirs(c.name, pid)
	if err != nil {
		return nil, ignoreGone(errors.Join(err, p.fd.Close()))
	}
	c.note(dirs)
	c.init = &guestInit{process: p, dirs: dirs}
	if v2 := (group{dirs[""], inodeOf(dirs[""])}); isOurs(v2.dir) && !p.ended() { // Until it ends its cgroup is no other's.
		c.init.v2 = v2
	}
	return c.init, nil
}

// ignoreGone drops an error that says that a process has ended.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// orGone makes an error of kind NotFound of one that came from the
// container's end.
func (c *container) orGone(err error) error {
	if err != nil && c.shim.ended() {
		return errs.NotFoundf("instance %q has ended", c.name)
	}
	return err
}

// during is orGone for who has looked at what belongs to an init, which can be
// gone before the rest of the container: an error from that is of kind
// Unavailable.
func (c *container) during(in *guestInit, err error) error {
	err = c.orGone(err)
	if err != nil && errs.KindOf(err) == errs.Internal && in.ends() {
		return errs.Newf(errs.Unavailable, "instance %q ends or reboots", c.name)
	}
	return err
}

// executes reports whether a process runs another program than the shim.
func executes(pid, shim int) bool {
	a, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return false
	}
	b, err := os.Stat(fmt.Sprintf("/proc/%d/exe", shim))
	return err == nil && !os.SameFile(a, b)
}

func parentOf(pid int) (int, error) {
	data, err := readFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	s := string(data)
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/%d/stat is cut off", pid)
	}
	return strconv.Atoi(fields[1])
}

func (r *Runtime) writeState(c *container) error {
	boot, err := processes.Boot()
	if err != nil {
		return err
	}
	c.mu.Lock()
	s := state{Spec: c.spec, Started: c.started, Kind: c.kind, Boot: boot}
	for _, g := range c.groups {
		s.Cgroups, s.Inodes = append(s.Cgroups, g.dir), append(s.Inodes, g.inode)
	}
	data, err := json.Marshal(s)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return replaceFile(r.path(s.Spec.Name, stateFile), data)
}

func (r *Runtime) readState(name string) (state, error) {
	data, err := os.ReadFile(r.path(name, stateFile))
	if err != nil {
		return state{}, err
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return state{}, fmt.Errorf("state of %q: %w", name, err)
	}
	return s, nil
}

// watch waits for the end of the container, clears up after it and reports.
func (r *Runtime) watch(ctx context.Context, c *container, onExit func(Exit)) {
	name := c.name
	if err := c.shim.wait(); err != nil {
		r.Log.ErrorContext(ctx, "cannot watch instance", "instance", name, "err", err)
	}
	exit := r.readExit(name)
	if err := r.clear(ctx, c); err != nil {
		r.Log.WarnContext(ctx, "instance left something behind", "instance", name, "err", err)
	}
	r.remove(c)
	close(c.gone)
	if onExit != nil {
		onExit(exit)
	}
}

// killed is the status of a container whose shim was killed.
const killed = 128 + int(unix.SIGKILL)

// rebooted is what the shim writes for a container that ended to boot again.
const rebooted = 256

func (r *Runtime) readExit(name string) Exit {
	data, err := os.ReadFile(r.path(name, statusFile))
	if err != nil {
		return Exit{Status: killed}
	}
	status, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return Exit{Status: killed}
	}
	return Exit{Status: status % rebooted, Reboot: status == rebooted}
}

// clear removes all of a container but its logs.
func (r *Runtime) clear(ctx context.Context, c *container) error {
	c.mu.Lock()
	server, init, groups := c.server, c.init, c.groups
	c.server, c.init, c.ending = nil, nil, true
	c.mu.Unlock()
	if server != nil {
		server.close()
	}
	if init != nil {
		init.fd.Close()
	}
	err := errors.Join(removeCgroups(groups), r.removeNICs(ctx, c.specNow(), c.letGo()))
	if c.shim.fd != nil {
		c.shim.fd.Close()
	}
	return errors.Join(err, r.clearFiles(c.name))
}

// clearFiles removes what is in Dir/NAME but for the logs.
func (r *Runtime) clearFiles(name string) error {
	errList := []error{r.unstage(name)}
	for _, file := range []string{confFile, environFile, stateFile, statusFile, "." + statusFile, endsFile, devicesDir, appArmorDir, credentialsDir, filterFile, notifyFile, interceptFile, interceptSocket, bpfFile, networkSocket} {
		errList = append(errList, os.RemoveAll(r.path(name, file)))
	}
	errList = append(errList, ignoreGone(os.Remove("/run/lxc/lock"+r.path("."+name))))
	return errors.Join(errList...)
}

// see notes the cgroups of a process of the container, for when it is gone.
func (c *container) see(pid int) error {
	dirs, err := c.runtime.cgroupDirs(c.name, pid)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note(dirs)
	return nil
}

func (c *container) note(dirs map[string]string) {
	for _, dir := range dirs {
		if g := (group{dir, inodeOf(dir)}); isOurs(dir) && !slices.Contains(c.groups, g) {
			c.groups = append(c.groups, g)
		}
	}
}

// isOurs reports whether liblxc has made a cgroup, for one container.
func isOurs(dir string) bool {
	return strings.Contains(dir, payload) || strings.Contains(dir, monitor)
}

// specNow returns the spec as it is now.
func (c *container) specNow() Spec {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spec
}

// respec changes the spec of a running container, whose change lock is held,
// and what a reboot of the guest starts from.
func (r *Runtime) respec(c *container, change func(*Spec)) error {
	old := c.specNow()
	now := old
	change(&now)
	c.setSpec(now)
	if err := r.writeConf(c); err != nil {
		c.setSpec(old)
		return errors.Join(err, r.writeConf(c))
	}
	return nil
}

func (c *container) setSpec(s Spec) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spec = s
}
