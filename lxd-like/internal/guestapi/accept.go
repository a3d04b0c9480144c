package guestapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// How long a guest has for its part of a request, and what a request can have.
const (
	headerTime = 5 * time.Second
	readTime   = 10 * time.Second
	writeTime  = 30 * time.Second // Of an answer, or of a part of a long one.
	idleTime   = 30 * time.Second

	maxHeader = 8 << 10
	maxBody   = 4 << 10

	// maxActive is how many requests of all guests are worked on at a time.
	maxActive = 8

	// scarcePause is how long nobody is let in at a door when the daemon has no
	// descriptor left.
	scarcePause = 100 * time.Millisecond
)

// Run answers guests until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	server := &http.Server{
		Handler: s.handler(), ConnContext: connContext,
		ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader,
		BaseContext:    func(net.Listener) context.Context { return ctx },
		ErrorLog:       slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := server.Serve(hall{s.arrived, ctx.Done()}); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error { return s.admit(ctx) })
	g.Go(func() error {
		<-ctx.Done()
		_ = server.Close()                       // Guests that ask again find the next daemon.
		return s.set.SetReadDeadline(time.Now()) // Ends admit.
	})
	return g.Wait()
}

// hall is the listener of the connections that came in by any door.
type hall struct {
	arrived <-chan *conn
	closed  <-chan struct{}
}

func (h hall) Accept() (net.Conn, error) {
	select {
	case c := <-h.arrived:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (hall) Close() error   { return nil }
func (hall) Addr() net.Addr { return &net.UnixAddr{Name: "guests", Net: "unix"} }

// admit lets guests in until ctx ends.
func (s *Server) admit(ctx context.Context) error {
	raw, err := s.set.SyscallConn()
	if err != nil {
		return err
	}
	var events [64]unix.EpollEvent
	for {
		var n int
		var failed error
		err := raw.Read(func(set uintptr) bool {
			n, failed = unix.EpollWait(int(set), events[:], 0)
			if errors.Is(failed, unix.EINTR) {
				n, failed = 0, nil
			}
			return n > 0 || failed != nil // Else it waits with all else that waits.
		})
		if ctx.Err() != nil {
			return nil //nolint:nilerr // That is what ended it.
		}
		if err := errors.Join(err, failed); err != nil {
			return err
		}
		for _, e := range events[:n] { // One of each: none keeps the others waiting.
			c := s.accept(ctx, int(e.Fd))
			if c == nil {
				continue
			}
			select {
			case s.arrived <- c:
			case <-ctx.Done():
				_ = c.Close() // Nobody has been there yet.
				return nil
			}
		}
	}
}

// accept takes a connection from a door, unless there is none or its guest has
// had enough.
func (s *Server) accept(ctx context.Context, fd int) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.byFD[fd]
	if d == nil {
		return nil // It was closed meanwhile.
	}
	if len(d.conns) >= maxConns {
		s.logged(ctx, d, s.arm(d, false)) // Until one ends.
		return nil
	}
	now := time.Now()
	if wait := d.requests.wait(now); wait > 0 {
		s.pause(ctx, d, wait)
		return nil
	}
	c, err := s.connection(d)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ECONNABORTED), errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		s.Log.WarnContext(ctx, "cannot let a guest in", "instance", d.name, "err", err)
		s.pause(ctx, d, scarcePause)
		return nil
	}
	d.requests.take(now)
	d.conns[c] = true
	return c
}

// connection accepts a connection. The caller holds mu.
func (s *Server) connection(d *door) (*conn, error) {
	fd, _, err := unix.Accept4(d.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return nil, err
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	f := os.NewFile(uintptr(fd), "guest")
	defer f.Close() // FileConn has one of its own.
	nc, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: nc, s: s, d: d, root: cred.Uid == d.root}, nil
}

// arm has the epoll set look at a door, or not. The caller holds mu.
func (s *Server) arm(d *door, on bool) error { //nolint:revive // Not exported.
	if d.fd < 0 || d.armed == on {
		return nil
	}
	event := unix.EpollEvent{Fd: int32(d.fd)} //nolint:gosec // Descriptors are small.
	if on {
		event.Events = unix.EPOLLIN
	}
	if err := s.control(unix.EPOLL_CTL_MOD, d.fd, &event); err != nil {
		return err
	}
	d.armed = on
	return nil
}

func (s *Server) logged(ctx context.Context, d *door, err error) {
	if err != nil {
		s.Log.ErrorContext(ctx, "cannot watch the socket of a guest", "instance", d.name, "err", err)
	}
}

// pause looks away from a door for a while. The caller holds mu.
func (s *Server) pause(ctx context.Context, d *door, wait time.Duration) {
	s.logged(ctx, d, s.arm(d, false))
	time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.logged(ctx, d, s.arm(d, true))
	})
}

// conn is a connection of a guest.
type conn struct {
	net.Conn

	s    *Server
	d    *door
	root bool // The guest's root has connected.
	once sync.Once
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		delete(c.d.conns, c)
		err = errors.Join(err, c.s.arm(c.d, true))
	})
	return err
}

type connKey struct{}

// connContext tells handlers whose connection it is.
func connContext(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, nc)
}

// A paced is a writer whose client has some time for each part.
type paced struct {
	http.ResponseWriter

	control *http.ResponseController
}

// long makes the answer to a request one that can take longer than others.
func long(w http.ResponseWriter) (paced, error) {
	c := http.NewResponseController(w)
	return paced{w, c}, c.SetReadDeadline(time.Time{})
}

// Write implements [io.Writer].
func (p paced) Write(b []byte) (int, error) {
	if err := p.control.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return 0, err
	}
	return p.ResponseWriter.Write(b)
}
