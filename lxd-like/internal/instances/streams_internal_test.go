package instances

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/ws"
)

// host is a program on the host that stands for one in an instance.
type host struct {
	cmd   *exec.Cmd
	files stdio

	mu   sync.Mutex
	size string
}

func (h *host) Wait(context.Context) (int, error) {
	_ = h.cmd.Wait()
	if ws, ok := h.cmd.ProcessState.Sys().(interface{ Signaled() bool }); ok && ws.Signaled() {
		return 137, nil
	}
	return h.cmd.ProcessState.ExitCode(), nil
}

func (h *host) Signal(sig unix.Signal) error { return h.cmd.Process.Signal(sig) }

func (h *host) Resize(width, height int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.size = strconv.Itoa(width) + "x" + strconv.Itoa(height)
	return nil
}

// run starts a shell script.
func run(tb testing.TB, script string) *host {
	tb.Helper()
	h := &host{cmd: exec.Command("sh", "-c", script)}
	inR, inW, err1 := os.Pipe()
	outR, outW, err2 := os.Pipe()
	errR, errW, err3 := os.Pipe()
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			tb.Fatal(err)
		}
	}
	h.cmd.Stdin, h.cmd.Stdout, h.cmd.Stderr = inR, outW, errW
	h.files = stdio{in: inW, out: outR, err: errR}
	if err := h.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	for _, f := range []*os.File{inR, outW, errW} {
		f.Close()
	}
	return h
}

// A session is an operation with websockets, and the client of it.
type session struct {
	op    *ops.Op
	conns map[string]*ws.Conn
}

// attach runs h as the program of an operation and connects a client to it.
func attach(t *testing.T, h *host, needed []string, optional ...string) *session {
	t.Helper()
	conns, err := newStreams(needed, optional...)
	if err != nil {
		t.Fatal(err)
	}
	m := ops.NewManager(t.Context(), func(string, string, any) {})
	op, err := m.Start(t.Context(), ops.Job{Class: ops.Websocket, Connect: conns.connect, Run: func(ctx context.Context, op *ops.Op) error {
		defer conns.end()
		if err := conns.wait(ctx); err != nil {
			return err
		}
		status, err := attend(ctx, h, h.files, conns)
		if err == nil {
			op.SetMetadata("return", status)
		}
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	d := serveOp(t, op)
	s := &session{op: op, conns: map[string]*ws.Conn{}}
	for name, secret := range conns.fds() {
		c, err := d.Open(t.Context(), "/?secret="+secret)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Abort)
		s.conns[name] = c
	}
	if _, err := d.Open(t.Context(), "/?secret=guess"); err == nil {
		t.Error("a wrong secret opened a stream")
	}
	return s
}

func serveOp(t *testing.T, op *ops.Op) ws.Dialer {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wg.Add(1)
		defer wg.Done()
		taken := false
		err := op.Connect(r.Context(), r.URL.Query().Get("secret"), func() (*ws.Conn, error) {
			taken = true
			return ws.Upgrade(w, r)
		})
		if err != nil && !taken {
			w.WriteHeader(http.StatusForbidden)
		}
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); wg.Wait() })
	return ws.Dialer{Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
}

// receive collects what the program writes.
func (s *session) receive(names ...string) map[string]string {
	var wg sync.WaitGroup
	out := map[string]*bytes.Buffer{}
	for _, name := range names {
		b := &bytes.Buffer{}
		out[name] = b
		wg.Go(func() { _ = s.conns[name].Receive(b) })
	}
	wg.Wait()
	text := map[string]string{}
	for name, b := range out {
		text[name] = b.String()
	}
	return text
}

func (s *session) result(t *testing.T) (any, api.Operation) {
	t.Helper()
	op := s.op.Wait(t.Context())
	return op.Metadata["return"], op
}

var pipes = []string{streamIn, streamOut, streamErr}

func TestExecStreams(t *testing.T) {
	tests := map[string]struct {
		script, in      string
		out, err        string
		status          int
		leaveStdinAlone bool
	}{
		"streams are apart":             {"cat; echo bad >&2; exit 7", "hello", "hello", "bad\n", 7, false},
		"the end of stdin arrives":      {"wc -c | tr -d ' '", strings.Repeat("x", 300_000), "300000\n", "", 0, false},
		"stdin that nobody reads":       {"exec <&-; echo done", strings.Repeat("x", 300_000), "done\n", "", 0, false},
		"stdin that never ends":         {"echo done", "", "done\n", "", 0, true},
		"a child that keeps the output": {"sleep 30 & echo $!; exit 3", "", "PID\n", "", 3, false},
		"much output":                   {"head -c 3000000 /dev/zero | tr '\\0' x", "", strings.Repeat("x", 3_000_000), "", 0, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := attach(t, run(t, tt.script), pipes, streamControl)
			if !tt.leaveStdinAlone {
				go func() { _ = s.conns[streamIn].Send(strings.NewReader(tt.in)) }()
			}
			got := s.receive(streamOut, streamErr)
			if tt.out == "PID\n" {
				killChild(t, strings.TrimSpace(got[streamOut]))
				got[streamOut] = "PID\n"
			}
			if got[streamOut] != tt.out || got[streamErr] != tt.err {
				t.Errorf("got %.100q and %.100q", got[streamOut], got[streamErr])
			}
			if status, op := s.result(t); status != tt.status {
				t.Errorf("status %v of %+v", status, op)
			}
		})
	}
}

func killChild(t *testing.T, pid string) {
	t.Helper()
	if err := exec.Command("kill", pid).Run(); err != nil {
		t.Error(err)
	}
}

func TestControl(t *testing.T) {
	h := run(t, "trap 'echo got; exit 4' USR1; echo ready; while :; do sleep 0.01; done")
	s := attach(t, h, pipes, streamControl)
	control := s.conns[streamControl]
	if _, data, err := s.conns[streamOut].ReadMessage(); err != nil || string(data) != "ready\n" {
		t.Fatalf("%q, %v", data, err)
	}
	for _, m := range []string{"", "nonsense", `{"command":"else"}`, `{"command":"signal","signal":-4}`, `{"command":"window-resize","args":{"width":"x"}}`} {
		if err := control.WriteText([]byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	_ = control.WriteJSON(api.InstanceExecControl{Command: "window-resize", Args: map[string]string{"width": "132", "height": "50"}})
	_ = control.WriteJSON(api.InstanceExecControl{Command: "signal", Signal: int(unix.SIGUSR1)})
	if got := s.receive(streamOut); got[streamOut] != "got\n" {
		t.Errorf("got %q", got)
	}
	if status, op := s.result(t); status != 4 {
		t.Errorf("status %v of %+v", status, op)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.size != "132x50" {
		t.Errorf("size %q", h.size)
	}
}

func TestLostClientEndsTheProgram(t *testing.T) {
	h := run(t, "exec sleep 100")
	s := attach(t, h, pipes, streamControl)
	s.conns[streamControl].Abort()
	if _, op := s.result(t); op.StatusCode != api.Canceled {
		t.Errorf("operation %+v", op)
	}
	if h.cmd.ProcessState.Success() {
		t.Error("the program was not killed")
	}
}

func TestClosedOutputReachesTheProgram(t *testing.T) {
	s := attach(t, run(t, "yes; exit 5"), pipes, streamControl)
	s.conns[streamOut].Abort()
	if status, op := s.result(t); status != 5 {
		t.Errorf("status %v of %+v", status, op)
	}
}

// terminal opens a pseudo terminal.
func terminal(tb testing.TB) (master, slave *os.File) {
	tb.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		tb.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		tb.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		tb.Fatal(err)
	}
	peer, err := unix.Open("/dev/pts/"+strconv.Itoa(n), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "master"), os.NewFile(uintptr(peer), "slave")
}

func TestTerminal(t *testing.T) {
	master, slave := terminal(t)
	h := &host{cmd: exec.Command("sh", "-c", "stty -echo; read x; echo \"<$x>\"; sleep 60 & echo $!; exit 9")}
	h.cmd.Stdin, h.cmd.Stdout, h.cmd.Stderr = slave, slave, slave
	h.files = stdio{terminal: master}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	s := attach(t, h, []string{streamIn, streamControl})
	if err := s.conns[streamIn].WriteBinary([]byte("hi\n")); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.ReplaceAll(s.receive(streamIn)[streamIn], "\r", ""), "\n")
	if len(lines) < 3 {
		t.Fatalf("got %q", lines)
	}
	killChild(t, lines[len(lines)-2])
	if lines[len(lines)-3] != "<hi>" {
		t.Errorf("got %q", lines)
	}
	if status, op := s.result(t); status != 9 {
		t.Errorf("status %v of %+v", status, op)
	}
}

func TestRecord(t *testing.T) {
	h := run(t, "echo out; echo err >&2; exit 2")
	h.files.in.Close()
	dir := t.TempDir()
	var to stdio
	for name, f := range map[string]**os.File{"out": &to.out, "err": &to.err} {
		var err error
		if *f, err = os.Create(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	status, err := record(t.Context(), h, h.files, to)
	if err != nil || status != 2 {
		t.Fatalf("%d, %v", status, err)
	}
	to.close()
	for name, want := range map[string]string{"out": "out\n", "err": "err\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestDrainDoesNotWaitForMore(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	d := &drain{f: r}
	_, _ = w.WriteString("some")
	d.stop()
	got, err := io.ReadAll(d)
	if err != nil || string(got) != "some" {
		t.Errorf("%q, %v", got, err)
	}
}
