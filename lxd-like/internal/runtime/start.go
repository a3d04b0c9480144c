package runtime

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/undo"
)

const defaultInit = "/sbin/init"

// Start starts a container and returns when its init runs. onExit is called
// once, on a goroutine of the runtime, when the container has ended and all of
// it is gone.
func (r *Runtime) Start(ctx context.Context, spec Spec, onExit func(Exit)) (_ Running, err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if len(spec.Init) == 0 {
		spec.Init = []string{defaultInit}
	}
	spec.Mounts = withAbsent(spec.Mounts)
	c := &container{runtime: r, name: spec.Name, spec: spec, started: time.Now(), gone: make(chan struct{})}
	c.kind, err = detectInit(spec)
	if err != nil {
		return Running{}, err
	}
	if err := r.add(c); err != nil {
		return Running{}, err
	}
	u.Push("forget the instance", func(context.Context) error {
		r.remove(c)
		close(c.gone)
		return nil
	})

	u.Push("remove the instance's files", func(ctx context.Context) error { return r.clear(ctx, c) })
	if err := r.provideFor(c.spec.Limits); err != nil {
		return Running{}, err
	}
	if err := r.prepare(c); err != nil {
		return Running{}, fmt.Errorf("prepare: %w", err)
	}
	if err := r.makeNICs(ctx, c); err != nil { // The files say what is to be removed.
		return Running{}, err
	}
	pid, err := r.launch(ctx, c)
	if err != nil {
		return Running{}, err
	}
	r.setUp(c)
	if in, err := c.lookup(); err == nil && in != nil {
		c.hold(in)
	}
	if c.shown != r.served().Device { // Another one came while it started.
		go r.showIn(context.WithoutCancel(ctx), c)
	}
	go r.watch(context.WithoutCancel(ctx), c, onExit)
	return Running{Name: spec.Name, PID: pid, StartedAt: c.started}, nil
}

// prepare makes the files and mounts that the shim starts the container from.
func (r *Runtime) prepare(c *container) error {
	name := c.name
	if err := os.MkdirAll(r.path(name), 0o711); err != nil {
		return err
	}
	// The guest's root looks for its mounts there before it is confined.
	// Other users of the host must not: programs of guests can be setuid.
	uid, err := hostID(c.spec.IDs, idmap.User, 0)
	if err != nil {
		return fmt.Errorf("id map: %w", err)
	}
	if err := errors.Join(os.Chown(r.path(name), uid, -1), os.Chmod(r.path(name), 0o500)); err != nil { //nolint:gosec // A directory.
		return err
	}
	if err := r.clearFiles(name); err != nil {
		return err
	}
	if err := r.stageRoot(c.spec); err != nil {
		return err
	}
	if err := r.cover(c.spec); err != nil {
		return err
	}
	if err := r.writeCredentials(c.spec); err != nil {
		return err
	}
	return r.writeConf(c)
}

// writeConf stages what is not staged yet and writes the configuration and
// all that goes with it.
func (r *Runtime) writeConf(c *container) error {
	spec := c.specNow()
	name := spec.Name
	profile, err := r.writeSeccomp()
	if err != nil {
		return err
	}
	staged, err := r.stage(spec)
	if err != nil {
		return err
	}
	host, err := r.probe()
	if err != nil {
		return err
	}
	if host.Cgroups, err = r.hostOf(spec.Limits); err != nil {
		return err
	}
	c.shown = host.LXCFS.Device
	if err := r.linkPrograms(host); err != nil {
		return err
	}
	if err := errors.Join(r.writeOwnSeccomp(spec, host), r.writeBPF(spec)); err != nil {
		return err
	}
	onlyV2, err := c.kind.onlyV2(host.Cgroups)
	if err != nil {
		return err
	}
	files := Files{
		Dir: r.path(name), Seccomp: r.profileOf(c, profile), Shim: r.Shim, Staged: staged,
		OnlyV2: onlyV2, Systemd: c.kind.Name == "systemd",
	}
	if err := r.stageShared(spec, &files); err != nil {
		return err
	}
	text, err := Render(spec, host, files)
	if err != nil {
		return err
	}
	env, err := environ(spec.Env)
	if err != nil {
		return err
	}
	if err := replaceFile(r.path(name, environFile), env); err != nil {
		return err
	}
	if err := replaceFile(r.path(name, confFile), []byte(text)); err != nil {
		return err
	}
	if err := r.markEnd(spec); err != nil {
		return err
	}
	return r.writeState(c)
}

// markEnd has the shim end when the guest reboots, if what the guest has must
// be made anew then.
func (r *Runtime) markEnd(spec Spec) error {
	if spec.EndsAtReboot || len(prepared(spec)) > 0 {
		return replaceFile(r.path(spec.Name, endsFile), nil)
	}
	return ignoreGone(os.Remove(r.path(spec.Name, endsFile)))
}

// environ returns variables as the shim reads them.
func environ(env map[string]string) ([]byte, error) {
	var out strings.Builder
	for _, k := range sortedKeys(env) {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.Contains(env[k], "\x00") {
			return nil, errs.Invalidf("environment variable %q: the name or the value is not possible", k)
		}
		out.WriteString(k + "=" + env[k] + "\x00")
	}
	return []byte(out.String()), nil
}

// launch starts the shim and waits until the container's init runs.
func (r *Runtime) launch(ctx context.Context, c *container) (pid int, err error) {
	name := c.name
	unlock, err := lockName(ctx, name)
	if err != nil {
		return 0, err
	}
	defer unlock()
	log, err := r.openLog(name, shimLogFile)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	if err := r.resetLogs(name); err != nil {
		return 0, err
	}
	report, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer report.Close()
	hook, err := r.awaitHook(ctx, c)
	if err != nil {
		w.Close()
		return 0, err
	}
	defer func() { _ = hook.close() }()
	s, err := r.spawnShim(log, []*os.File{w}, append([]string{"start", r.Dir, name, "3"}, c.initArgs()...)...)
	w.Close()
	if err != nil {
		return 0, err
	}
	c.shim, err = openProcess(s.proc.Pid)
	s.reap()
	if err != nil {
		return 0, errors.Join(err, s.proc.Kill())
	}
	stop := context.AfterFunc(ctx, func() { report.Close() })
	defer stop()
	pid, err = r.readReport(report)
	if err == nil {
		err = r.meet(c)
	}
	if err == nil {
		return pid, nil
	}
	return 0, r.notStarted(ctx, c, started{s, hook}, errors.Join(context.Cause(ctx), err))
}

// started is what a start consists of on the host.
type started struct {
	shim *shimProcess
	hook *startHook
}

// notStarted ends a start that has failed, and says why.
func (r *Runtime) notStarted(ctx context.Context, c *container, what started, err error) error {
	name := c.name
	r.abandon(c)
	<-what.shim.done
	if host, herr := r.cgroups(); herr == nil {
		if herr := host.removeUnentered(name); herr != nil {
			r.Log.WarnContext(ctx, "cannot remove the cgroups of a start that was given up", "instance", name, "err", herr)
		}
	}
	if herr := what.hook.close(); herr != nil {
		return herr
	}
	err = r.startError(c, err)
	if errs.Is(err, errs.NotFound) && what.shim.end != nil { // Nobody else has said why.
		err = fmt.Errorf("%w: cuib-shim ended with %s", err, what.shim.end)
	}
	return err
}

// abandon ends a start. The end of the shim is init's too. It is stopped
// first, so that what it has made until then can be seen.
func (r *Runtime) abandon(c *container) {
	_ = c.shim.signal(unix.SIGSTOP) // Fails only if it has ended, as all below.
	c.shim.awaitStop()
	_, _ = c.lookup() // To know its cgroups. It need not run.
	children, _ := childrenOf(c.shim.pid)
	for _, pid := range append(children, c.shim.pid) {
		_ = c.see(pid)
	}
	var ending []process
	for _, pid := range children { // Theirs, as their parent cannot reap them.
		if p, err := openProcess(pid); err == nil {
			_ = p.signal(unix.SIGKILL)
			ending = append(ending, p)
		}
	}
	_ = c.shim.signal(unix.SIGKILL)
	for _, p := range ending {
		p.awaitEnd()
		p.fd.Close()
	}
}

func (r *Runtime) readReport(report *os.File) (pid int, err error) {
	line, err := bufio.NewReader(report).ReadString('\n')
	if err != nil {
		return 0, errNoReport
	}
	_, err = fmt.Sscanf(line, "R %d\n", &pid)
	return pid, err
}

var errNoReport = errors.New("init did not run")

// meet takes note of a container that has started.
func (r *Runtime) meet(c *container) error {
	if err := c.see(c.shim.pid); err != nil {
		return err
	}
	if _, err := c.current(); err != nil {
		return err
	}
	return r.writeState(c)
}

// startError says why a container did not start.
func (r *Runtime) startError(c *container, err error) error {
	name := c.name
	all := func(line string) string { return line }
	for _, said := range []string{
		firstLines(r.path(name, lxcLogFile), lxcError),
		firstLines(r.path(name, shimLogFile), all),
	} {
		switch {
		case strings.Contains(said, "liblxc refuses") && c.spec.Raw != "":
			return errs.Newf(errs.Invalid, "%w: %s: look for what is wrong in raw.lxc", err, said)
		case said != "":
			return fmt.Errorf("%w: %s", err, said)
		}
	}
	// It may have ended before it was seen, or before it was met.
	ended := errors.Is(err, errNoReport) || errs.Is(err, errs.NotFound)
	if status, serr := readValue(r.path(name), statusFile); serr == nil && ended {
		return errs.Newf(errs.Invalid, "init %s of the instance ended at once, with status %s: look at its console's log", strings.Join(c.spec.Init, " "), status)
	}
	return err
}

// resetLogs starts the logs of a start anew.
func (r *Runtime) resetLogs(name string) error {
	for _, file := range []string{lxcLogFile, consoleFile, consoleFile + ".1"} {
		if err := os.RemoveAll(r.path(name, file)); err != nil {
			return err
		}
	}
	return nil
}
