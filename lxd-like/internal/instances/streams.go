package instances

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/ws"
)

// connectTimeout is how long a client may take to open its websockets. On a
// busy host that is longer than one would think.
const connectTimeout = 30 * time.Second

// The names of the websockets of an exec or a console.
const (
	streamIn      = "0" // Of a terminal: both ways.
	streamOut     = "1"
	streamErr     = "2"
	streamControl = "control"
)

// A pump carries the data of one websocket, on the goroutine of its request.
type pump func(ctx context.Context, conn *ws.Conn) error

// streams are the websockets that a client opens to one operation. Each waits
// until all that are needed are there, then its pump runs.
type streams struct {
	names map[string]string // By secret.

	mu      sync.Mutex      // Guards what follows.
	taken   map[string]bool // By name.
	missing map[string]bool // Those that are needed and not there yet.
	pumps   map[string]pump // Set before started is closed.

	complete chan struct{} // Closed when none is missing.
	started  chan struct{} // Closed when the pumps can run.
	ended    chan struct{} // Closed when the operation ends.
}

// newStreams returns streams with the given names, all of which are needed but
// for the control of a program without terminal, which old clients leave out.
func newStreams(needed []string, optional ...string) (*streams, error) {
	s := &streams{
		names: map[string]string{}, taken: map[string]bool{}, missing: map[string]bool{},
		complete: make(chan struct{}), started: make(chan struct{}), ended: make(chan struct{}),
	}
	for _, name := range needed {
		s.missing[name] = true
	}
	for _, name := range append(optional, needed...) {
		var b [32]byte
		if _, err := rand.Read(b[:]); err != nil {
			return nil, err
		}
		s.names[hex.EncodeToString(b[:])] = name
	}
	return s, nil
}

// fds are the secrets by name, for the client.
func (s *streams) fds() map[string]string {
	out := make(map[string]string, len(s.names))
	for secret, name := range s.names {
		out[name] = secret
	}
	return out
}

// connect serves one websocket. It is the Connect of the operation.
func (s *streams) connect(ctx context.Context, secret string, upgrade ops.Upgrade) error {
	name, ok := s.names[secret]
	if !ok {
		return errs.Newf(errs.Denied, "the secret is not one of this operation's")
	}
	if err := s.take(name); err != nil {
		return err
	}
	conn, err := upgrade()
	if err != nil {
		return err
	}
	go func() { // It ends the pump too, where that waits for the client.
		<-s.ended
		conn.Close()
	}()
	s.arrive(name)
	select {
	case <-s.started:
	case <-s.ended:
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go conn.KeepAlive(ctx)
	if p := s.pumps[name]; p != nil {
		err = p(ctx, conn)
	}
	<-s.ended // A connection that closes tells some clients that all is over.
	return err
}

func (s *streams) take(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken[name] {
		return errs.Conflictf("stream %q is connected already", name)
	}
	s.taken[name] = true
	return nil
}

func (s *streams) arrive(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.missing[name] {
		delete(s.missing, name)
		if len(s.missing) == 0 {
			close(s.complete)
		}
	}
}

// wait returns when all websockets that are needed are there.
func (s *streams) wait(ctx context.Context) error {
	t := time.NewTimer(connectTimeout)
	defer t.Stop()
	select {
	case <-s.complete:
		return nil
	case <-t.C:
		return errs.Newf(errs.Canceled, "the client did not open its websockets within %s", connectTimeout)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// start lets the pumps run.
func (s *streams) start(pumps map[string]pump) {
	s.pumps = pumps
	close(s.started)
}

// end ends all websockets.
func (s *streams) end() { close(s.ended) }

// A program is what runs at the other end of the streams.
type program interface {
	Signal(sig unix.Signal) error
	Resize(width, height int) error
}

// controlPump does what the client's control messages say. When it goes away
// without an end of the program, lost is called.
func controlPump(p program, ended <-chan struct{}, lost func()) pump {
	return func(_ context.Context, conn *ws.Conn) error {
		for {
			_, data, err := conn.ReadMessage()
			if err != nil {
				select {
				case <-ended:
				default:
					lost()
				}
				return nil
			}
			control(p, data)
		}
	}
}

// control does what one message says. A program may have ended, and clients
// send what they please: what cannot be done is left.
func control(p program, data []byte) {
	var m api.InstanceExecControl
	if len(data) == 0 || json.Unmarshal(data, &m) != nil {
		return
	}
	switch m.Command {
	case "window-resize":
		width, werr := strconv.Atoi(m.Args["width"])
		height, herr := strconv.Atoi(m.Args["height"])
		if werr == nil && herr == nil {
			_ = p.Resize(width, height)
		}
	case "signal":
		if m.Signal > 0 {
			_ = p.Signal(unix.Signal(m.Signal))
		}
	}
}

// A drain reads what a program writes. When stopped it reads to the end of
// what was written until then, but does not wait for more: a program that has
// ended may have left others behind that keep the pipe open.
type drain struct {
	f       *os.File
	stopped bool // Only the reader sees it.
}

// stop ends the wait of a read. It is called from another goroutine.
func (d *drain) stop() {
	_ = d.f.SetReadDeadline(time.Unix(1, 0)) // A file without deadlines has an end of its own.
}

// Read implements [io.Reader].
func (d *drain) Read(b []byte) (int, error) {
	if !d.stopped {
		n, err := d.f.Read(b)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, terminalEnd(err)
		}
		d.stopped = true
	}
	return d.readRest(b)
}

// readRest reads what is there.
func (d *drain) readRest(b []byte) (n int, err error) {
	conn, err := d.f.SyscallConn()
	if err != nil {
		return 0, io.EOF
	}
	var rerr error
	err = conn.Control(func(fd uintptr) {
		for {
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if ready, perr := unix.Poll(poll, 0); ready == 0 && perr == nil {
				rerr = io.EOF
				return
			}
			n, rerr = unix.Read(int(fd), b)
			if !errors.Is(rerr, unix.EINTR) {
				return
			}
		}
	})
	if err != nil || errors.Is(rerr, unix.EAGAIN) || n <= 0 && rerr == nil {
		rerr = io.EOF
	}
	return max(n, 0), terminalEnd(rerr)
}

// terminalEnd makes an end of what a terminal says when nobody has it open
// any more.
func terminalEnd(err error) error {
	if errors.Is(err, unix.EIO) || errors.Is(err, os.ErrClosed) {
		return io.EOF
	}
	return err
}
