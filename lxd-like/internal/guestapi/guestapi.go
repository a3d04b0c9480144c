// Package guestapi serves what guests may ask about their own instance, at
// /dev/incus/sock and /dev/lxd/sock in them.
//
// Each instance that runs has a directory of its own, which its guest gets as
// /dev/incus and /dev/lxd, with a socket in it. Who asks is known by the
// socket: no process is looked up. All sockets that nobody is connected to
// wait in one epoll set; they have no goroutine.
//
// Guests are hostile. Each can have so many connections and requests in a
// time, and of what goes beyond that only it itself suffers.
package guestapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/images"
	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/shared/api"
)

// What a guest can have of us.
const (
	maxConns     = 16 // Connections at a time.
	maxWaiting   = 16 // And so many that are not accepted yet.
	maxListeners = 8  // Of the connections, that are told of events.

	requestRate  = 50 // Connections and requests a second,
	requestBurst = 400
	changeRate   = 1 // and changes of the state.
	changeBurst  = 10
)

// socketName is the name of the socket in an instance's directory.
const socketName = "sock"

// instanceService is what is asked of instances.
type instanceService interface {
	GuestView(ctx context.Context, name string) (instances.GuestView, error)
	SetReady(ctx context.Context, name string, ready instances.Ready) error
}

// imageService is what is asked of images.
type imageService interface {
	Get(ctx context.Context, fingerprint string) (api.Image, error)
	Export(ctx context.Context, fingerprint string) ([]images.File, error)
}

// A Server listens at the sockets of guests. Its methods are safe for
// concurrent use.
type Server struct {
	Dir       string // It has the directories of the instances.
	Instances instanceService
	Images    imageService
	Volumes   volumeService // Nil: guests keep none.
	Log       *slog.Logger

	set     *os.File // The epoll set.
	arrived chan *conn
	active  chan struct{} // Holds one for each request that is being answered.

	mu    sync.Mutex // Guards what follows, and the doors' fields.
	doors map[string]*door
	byFD  map[int]*door
}

// A door is the directory of an instance that runs, with its socket if its
// guest may ask.
type door struct {
	name      string
	dir       string
	root      uint32 // The host's id of the guest's root.
	fd        int    // Of the socket; negative for none.
	armed     bool   // The epoll set looks at it.
	conns     map[*conn]bool
	listeners map[*listener]bool
	requests  bucket
	changes   bucket
	changing  chan struct{} // Holds one while a change that its guest asks for is worked on.
}

// New returns a server whose sockets are in directories below dir. Guests that
// connect before [Server.Run] wait.
func New(dir string) (*Server, error) {
	// The guest's root looks for its directory there before it is confined.
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &Server{
		Dir: dir, set: os.NewFile(uintptr(fd), "guests"),
		arrived: make(chan *conn), active: make(chan struct{}, maxActive),
		doors: map[string]*door{}, byFD: map[int]*door{},
	}, nil
}

// Open makes the directory of an instance and listens there, if its guest may
// ask. For one that has it already it takes on what has changed. It returns
// the directory.
func (s *Server) Open(g instances.Guest) (dir string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.doors[g.Name]
	if d != nil && d.root == g.Root && (d.fd < 0) == g.Off {
		return d.dir, nil
	}
	if d == nil {
		d = &door{
			name: g.Name, dir: filepath.Join(s.Dir, g.Name), fd: -1,
			conns: map[*conn]bool{}, listeners: map[*listener]bool{},
			requests: newBucket(requestRate, requestBurst), changes: newBucket(changeRate, changeBurst),
			changing: make(chan struct{}, 1),
		}
		if err := os.Mkdir(d.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // Who may use the socket, its mode says.
			return "", err
		}
		s.doors[g.Name] = d
	}
	s.close(d)
	d.root = g.Root
	path := filepath.Join(d.dir, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if g.Off {
		return d.dir, nil
	}
	if err := s.listen(d, path); err != nil {
		return "", fmt.Errorf("listen to the guest: %w", err)
	}
	return d.dir, nil
}

// close ends a door's socket and all connections. The caller holds mu.
func (s *Server) close(d *door) {
	for l := range d.listeners {
		d.drop(l)
	}
	for c := range d.conns {
		// Its Close takes mu; connections that wait for a guest end here.
		_ = c.Conn.Close() // Nothing is lost.
	}
	if d.fd >= 0 {
		delete(s.byFD, d.fd)
		_ = unix.Close(d.fd) // It leaves the epoll set too.
	}
	d.fd, d.armed = -1, false
}

// listen makes a door's socket. The caller holds mu.
func (s *Server) listen(d *door, path string) (err error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unix.Close(fd))
		}
	}()

	if err := bind(fd, path); err != nil {
		return err
	}
	// Nobody can connect before it listens.
	if err := errors.Join(os.Chown(path, int(d.root), -1), os.Chmod(path, 0o600)); err != nil {
		return err
	}
	if err := unix.Listen(fd, maxWaiting); err != nil {
		return os.NewSyscallError("listen", err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)} //nolint:gosec // Descriptors are small.
	if err := s.control(unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return err
	}
	d.fd, d.armed, s.byFD[fd] = fd, true, d
	return nil
}

// maxSocketPath is how long the path of a socket can be, see unix(7).
const maxSocketPath = 107

// bind binds a socket to a path, however long that is.
func bind(fd int, path string) error {
	if len(path) > maxSocketPath {
		dir, err := os.Open(filepath.Dir(path))
		if err != nil {
			return err
		}
		defer dir.Close()
		path = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	}
	return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
}

// control changes the epoll set.
func (s *Server) control(op, fd int, event *unix.EpollEvent) error {
	raw, err := s.set.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(set uintptr) { err = unix.EpollCtl(int(set), op, fd, event) })
	return errors.Join(cerr, os.NewSyscallError("epoll_ctl", err))
}

// Shut removes the directory of an instance that has ended.
func (s *Server) Shut(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.doors[name]; d != nil {
		s.close(d)
		delete(s.doors, name)
	}
	return os.RemoveAll(filepath.Join(s.Dir, name))
}

// Keep removes the directories of all other instances than those that are
// named, which run. The daemon calls it at its start.
func (s *Server) Keep(names []string) error {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return err
	}
	var failed error
	for _, e := range entries {
		if !slices.Contains(names, e.Name()) {
			failed = errors.Join(failed, s.Shut(e.Name()))
		}
	}
	return failed
}

// A bucket says who has to wait: each take costs one of what it holds, and it
// fills with time. The zero value is of no use.
type bucket struct {
	rate, burst, left float64
	at                time.Time
}

func newBucket(rate, burst float64) bucket { return bucket{rate: rate, burst: burst, left: burst} }

// wait returns how long it takes until there is something to take.
func (b *bucket) wait(now time.Time) time.Duration {
	if !b.at.IsZero() {
		b.left = min(b.burst, b.left+now.Sub(b.at).Seconds()*b.rate)
	}
	b.at = now
	if b.left >= 1 {
		return 0
	}
	return time.Duration((1 - b.left) / b.rate * float64(time.Second))
}

// take takes one, and returns how long to wait for it.
func (b *bucket) take(now time.Time) time.Duration {
	w := b.wait(now)
	b.left--
	return w
}
