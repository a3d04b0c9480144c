package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
)

// Process is a program that runs in a container. Its methods are safe for
// concurrent use.
type Process struct {
	PID int // On the host.

	// With a terminal, Terminal is its controlling end and the others are
	// nil. The caller closes what it has of these.
	Terminal              *os.File
	Stdin, Stdout, Stderr *os.File

	session *os.File
	pidfd   *os.File
	release sync.Once

	ended  chan struct{} // Closed when the fields below are set.
	status int
	err    error
}

// defaultPath is the PATH of programs where nothing is said.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// An attachServer is the cuib-shim that runs programs in one container.
type attachServer struct {
	shim    *shimProcess
	control *os.File
	init    int // The init that it is for.
}

func (s *attachServer) close() { s.control.Close() }

func (s *attachServer) ended() bool {
	select {
	case <-s.shim.done:
		return true
	default:
		return false
	}
}

// Exec starts a program in a running container. That it cannot be executed
// is told by the program's standard error and exit status, as by a shell.
func (r *Runtime) Exec(ctx context.Context, name string, e Exec) (*Process, error) {
	c, in, err := r.findInit(name)
	if err != nil {
		return nil, err
	}
	frozen, err := r.frozen(in)
	if err != nil {
		return nil, c.during(in, err)
	}
	if frozen {
		return nil, errs.Conflictf("instance %q is frozen", name)
	}
	payload, err := c.payload(e)
	if err != nil {
		return nil, err
	}
	defer payload.Close()
	// A server that ends just now, for it idled or its init did, takes the
	// request with it.
	for range 3 {
		p, err := r.attach(ctx, c, payload, e)
		if !errors.Is(err, errServerEnded) {
			return p, c.during(in, err)
		}
	}
	return nil, c.during(in, errServerEnded)
}

var errServerEnded = errors.New("the helper process for programs in the instance ended")

// payload writes the request as attach.c reads it.
func (c *container) payload(e Exec) (_ *os.File, err error) {
	if len(e.Args) == 0 || e.Args[0] == "" {
		return nil, errs.Invalidf("no program to run is given")
	}
	var b bytes.Buffer
	add := func(kind byte, s string) {
		if strings.Contains(s, "\x00") {
			err = errs.Invalidf("%q has a NUL character", s)
		}
		b.WriteByte(kind)
		b.WriteString(s)
		b.WriteByte(0)
	}
	env := map[string]string{"PATH": defaultPath}
	maps.Copy(env, c.specNow().Env)
	maps.Copy(env, e.Env)
	for _, k := range sortedKeys(env) {
		add('e', k+"="+env[k])
	}
	for _, a := range e.Args {
		add('a', a)
	}
	add('u', fmt.Sprintf("%d:%d", e.UID, e.GID))
	if e.Cwd != "" {
		add('d', e.Cwd)
	} else if env["HOME"] != "" {
		add('h', env["HOME"])
	}
	if e.Terminal {
		add('t', fmt.Sprintf("%dx%d", size(e.Width), size(e.Height)))
	}
	for _, name := range sortedKeys(c.specNow().Rlimits) {
		limit, lerr := numericRlimit(name, c.specNow().Rlimits[name])
		err = errors.Join(err, lerr)
		add('l', limit)
	}
	if err != nil {
		return nil, err
	}
	return memfile(b.Bytes())
}

// size makes a terminal's size one that the kernel takes.
func size(n int) uint16 { return uint16(min(max(n, 0), 1<<16-1)) } //nolint:gosec // It is in range.

func memfile(data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("request", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "request")
	if _, err := f.Write(data); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

var rlimitNumbers = map[string]int{
	"cpu": unix.RLIMIT_CPU, "fsize": unix.RLIMIT_FSIZE, "data": unix.RLIMIT_DATA, "stack": unix.RLIMIT_STACK,
	"core": unix.RLIMIT_CORE, "rss": unix.RLIMIT_RSS, "nproc": unix.RLIMIT_NPROC, "nofile": unix.RLIMIT_NOFILE,
	"memlock": unix.RLIMIT_MEMLOCK, "as": unix.RLIMIT_AS, "locks": unix.RLIMIT_LOCKS, "sigpending": unix.RLIMIT_SIGPENDING,
	"msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "rtprio": unix.RLIMIT_RTPRIO, "rttime": unix.RLIMIT_RTTIME,
}

// numericRlimit turns a limit such as nofile, 1024:unlimited into numbers.
func numericRlimit(name, value string) (string, error) {
	number, ok := rlimitNumbers[name]
	if !ok {
		return "", errs.Invalidf("resource limit %q is not known", name)
	}
	soft, hard, ok := strings.Cut(value, ":")
	if !ok {
		hard = soft
	}
	s, serr := rlimitValue(soft)
	h, herr := rlimitValue(hard)
	if serr != nil || herr != nil {
		return "", errs.Invalidf("resource limit %s has %q: SOFT:HARD in numbers, or unlimited, is allowed", name, value)
	}
	return fmt.Sprintf("%d=%d:%d", number, s, h), nil
}

func rlimitValue(s string) (uint64, error) {
	if s == "unlimited" || s == "infinity" {
		return unix.RLIM_INFINITY, nil
	}
	return strconv.ParseUint(s, 10, 64)
}

// attach sends a request to the container's server.
func (r *Runtime) attach(ctx context.Context, c *container, payload *os.File, e Exec) (p *Process, err error) {
	server, err := r.serverOf(c)
	if err != nil {
		return nil, err
	}
	session, theirs, err := socketpair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	p = &Process{session: session, ended: make(chan struct{})}
	passed := []*os.File{theirs, payload}
	var given []*os.File
	if !e.Terminal {
		if given, err = p.pipes(c.specNow().IDs); err != nil {
			p.closeAll()
			return nil, errors.Join(err, closeFiles(given))
		}
	}
	defer func() { err = errors.Join(err, closeFiles(given)) }()
	if err := sendFiles(server.control, append(passed, given...)); err != nil {
		p.closeAll()
		return nil, errServerEnded
	}
	theirs.Close()
	stop := context.AfterFunc(ctx, func() { session.Close() })
	err = p.readStart(e.Terminal)
	if !stop() {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		p.closeAll()
		return nil, err
	}
	go p.readEnd()
	return p, nil
}

// serverOf returns the server for the container's init, which it starts if
// there is none.
func (r *Runtime) serverOf(c *container) (*attachServer, error) {
	in, err := c.current()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		return nil, errs.NotFoundf("instance %q is not running", c.name)
	}
	if s := c.server; s != nil && s.init == in.pid && !s.ended() {
		return s, nil
	}
	if c.server != nil {
		c.server.close()
		c.server = nil
	}
	control, theirs, err := socketpair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	log, err := os.OpenFile(r.path(c.name, shimLogFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, errors.Join(err, control.Close())
	}
	defer log.Close()
	shim, err := r.runShim(log, []*os.File{theirs, in.fd}, r.attachArgs(c.spec, in)...)
	if err != nil {
		return nil, errors.Join(err, control.Close())
	}
	c.server = &attachServer{shim, control, in.pid}
	if c.spec.OOMScore != 0 { // What it starts has it from it.
		err = ignoreGone(setScore(shim.proc.Pid, c.spec.OOMScore))
	}
	return c.server, err
}

func (r *Runtime) attachArgs(s Spec, in *guestInit) []string {
	args := append([]string{"attach", strconv.Itoa(in.pid)}, r.filterArgs(s)...)
	seen := map[string]bool{}
	for controller, dir := range in.dirs {
		switch {
		case seen[dir]:
		case controller == "":
			args = append(args, "v2="+dir)
		default:
			args = append(args, "v1="+dir+"/cgroup.procs")
		}
		seen[dir] = true
	}
	return args
}

func socketpair(kind int) (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // For Go's poller; theirs blocks.
		return nil, nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs"), nil
}

// sendFiles sends a message with descriptors.
func sendFiles(to *os.File, files []*os.File) error {
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	conn, err := to.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = conn.Write(func(fd uintptr) bool {
		serr = unix.Sendmsg(int(fd), []byte("x"), unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
		return !errors.Is(serr, unix.EAGAIN)
	})
	return errors.Join(err, serr)
}

// receive receives a message with up to two descriptors. Its end is io.EOF.
func receive(from *os.File) (text string, files []*os.File, err error) {
	data, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*2))
	var n, oobn int
	conn, err := from.SyscallConn()
	if err != nil {
		return "", nil, err
	}
	var rerr error
	err = conn.Read(func(fd uintptr) bool {
		n, oobn, _, _, rerr = unix.Recvmsg(int(fd), data, oob, unix.MSG_CMSG_CLOEXEC)
		return !errors.Is(rerr, unix.EAGAIN)
	})
	if err = errors.Join(err, rerr); err != nil {
		return "", nil, err
	}
	if n == 0 {
		return "", nil, io.EOF
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return "", nil, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return "", nil, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return string(data[:n]), files, nil
}

// pipes makes the program's standard streams and returns its ends. They
// belong to the container's root, so that /dev/stdout can be opened there.
func (p *Process) pipes(ids idmap.Map) (given []*os.File, err error) {
	uid, uok := ids.ToHost(idmap.User, 0)
	gid, gok := ids.ToHost(idmap.Group, 0)
	for i, ours := range []**os.File{&p.Stdin, &p.Stdout, &p.Stderr} {
		var ends [2]int // Reading, writing.
		if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
			return given, os.NewSyscallError("pipe", err)
		}
		own, other := ends[0], ends[1]
		if i == 0 {
			own, other = other, own
		}
		theirs := os.NewFile(uintptr(other), "theirs") // Blocks, as programs expect.
		err := unix.SetNonblock(own, true)
		*ours = os.NewFile(uintptr(own), "ours")
		given = append(given, theirs)
		if err != nil {
			return given, err
		}
		if uok && gok {
			if err := theirs.Chown(int(uid), int(gid)); err != nil {
				return given, err
			}
		}
	}
	return given, nil
}

func closeFiles(files []*os.File) error {
	var errList []error
	for _, f := range files {
		errList = append(errList, f.Close())
	}
	return errors.Join(errList...)
}

func (p *Process) closeAll() {
	for _, f := range []*os.File{p.Stdin, p.Stdout, p.Stderr, p.Terminal, p.pidfd, p.session} {
		if f != nil {
			f.Close()
		}
	}
}

// readStart reads the session's first message.
func (p *Process) readStart(terminal bool) error { //nolint:revive // Not exported; says what is expected.
	text, files, err := receive(p.session)
	if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
		return errServerEnded
	}
	if err != nil {
		return err
	}
	if reason, failed := strings.CutPrefix(text, "F"); failed {
		return fmt.Errorf("run a program in the instance: %s", reason)
	}
	want := 1
	if terminal {
		want = 2
	}
	if len(files) != want {
		return errors.Join(fmt.Errorf("the helper process sent %d descriptors, not %d", len(files), want), closeFiles(files))
	}
	p.pidfd = files[0]
	if terminal {
		if p.Terminal, err = pollable(files[1]); err != nil {
			return err
		}
	}
	_, err = fmt.Sscanf(text, "P%d", &p.PID)
	return err
}

// pollable makes a descriptor that was received one of which Go waits
// without a thread, and whose Close ends reads.
func pollable(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	f.Close()
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "terminal"), nil
}

// readEnd waits for the session's last message.
func (p *Process) readEnd() {
	defer close(p.ended)
	text, files, err := receive(p.session)
	p.status = killed // Where the session cannot tell: it went down with the container.
	if err == nil {
		err = closeFiles(files)
	}
	if n, serr := fmt.Sscanf(text, "S%d", &p.status); err == nil && n != 1 {
		p.status, p.err = killed, fmt.Errorf("end of a program: %q: %w", text, serr)
	}
	p.session.Close()
}

// Wait returns the program's exit status, or 128 plus the number of the
// signal that killed it, when it has ended. It can be called many times.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.ended:
		p.release.Do(func() { p.pidfd.Close() })
		return p.status, p.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// Signal sends a signal to the program. That it has ended is no error.
func (p *Process) Signal(sig unix.Signal) error {
	err := process{p.PID, p.pidfd}.signal(sig)
	select {
	case <-p.ended:
		return nil
	default:
		return err
	}
}

// Resize sets the size of the program's terminal.
func (p *Process) Resize(width, height int) error {
	if p.Terminal == nil {
		return errs.Conflictf("the program has no terminal")
	}
	return resize(p.Terminal, width, height)
}

func resize(terminal *os.File, width, height int) error {
	conn, err := terminal.SyscallConn()
	if err != nil {
		return err
	}
	var ierr error
	err = conn.Control(func(fd uintptr) {
		ierr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size(height), Col: size(width)})
	})
	return errors.Join(err, ierr)
}
