package uevents

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Paths sees files that come and go at certain paths, of which no event of a
// device tells: links that udev makes, nodes that somebody makes by hand.
type Paths struct {
	file *os.File
	buf  []byte

	mu    sync.Mutex                // Guards what follows.
	names map[int32]map[string]bool // What is awaited in the directories that are watched.
	paths []string
}

// WatchPaths begins to look at no path.
func WatchPaths() (*Paths, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	const room = 16 << 10
	return &Paths{file: os.NewFile(uintptr(fd), "inotify"), buf: make([]byte, room), names: map[int32]map[string]bool{}}, nil
}

// Set says which paths to look at instead of those before.
func (p *Paths) Set(paths []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paths = paths
	return p.rewatch()
}

const watched = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// rewatch watches the directories of the paths as far as there are any, each
// for the next part of the way.
func (p *Paths) rewatch() error {
	names := map[int32]map[string]bool{}
	var failed error
	err := p.control(func(fd int) {
		for _, path := range p.paths {
			wd, name, err := watchWayTo(fd, path)
			if err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			if names[wd] == nil {
				names[wd] = map[string]bool{}
			}
			names[wd][name] = true
		}
		for old := range p.names {
			if names[old] == nil {
				_, _ = unix.InotifyRmWatch(fd, uint32(old)) //nolint:gosec // As above; it can be gone.
			}
		}
	})
	p.names = names
	return errors.Join(failed, err)
}

// watchWayTo watches the nearest directory on the way to a path, and returns
// what is awaited there.
func watchWayTo(fd int, path string) (wd int32, name string, err error) {
	for at := filepath.Clean(path); ; at = filepath.Dir(at) {
		n, err := unix.InotifyAddWatch(fd, filepath.Dir(at), watched)
		if at != "/" && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)) {
			continue
		}
		if err != nil {
			return 0, "", &os.PathError{Op: "watch", Path: filepath.Dir(at), Err: err}
		}
		return int32(n), filepath.Base(at), nil //nolint:gosec // The kernel counts with as many bits.
	}
}

func (p *Paths) control(fn func(fd int)) error {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Control(func(fd uintptr) { fn(int(fd)) })
}

// Next waits until something has come or gone at one of the paths, or on the
// way to it. It fails with [os.ErrClosed].
func (p *Paths) Next() error {
	for {
		n, err := p.file.Read(p.buf)
		if err != nil {
			return err
		}
		p.mu.Lock()
		ours := p.concerns(p.buf[:n])
		if ours {
			err = p.rewatch()
		}
		p.mu.Unlock()
		if ours || err != nil {
			return err
		}
	}
}

// concerns reports whether one of the events that were read is of a path.
func (p *Paths) concerns(data []byte) bool {
	const sizeAt, maskAt = 12, 4
	for len(data) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(data)) //nolint:gosec // It is one, or -1.
		mask := binary.NativeEndian.Uint32(data[maskAt:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(data[sizeAt:]))
		if end > len(data) {
			return true
		}
		name := strings.TrimRight(string(data[unix.SizeofInotifyEvent:end]), "\x00")
		data = data[end:]
		// A directory that has gone can have been left already: Set may look
		// after it went, and before one reads what happened in it.
		if mask&(unix.IN_Q_OVERFLOW|unix.IN_IGNORED|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_UNMOUNT) != 0 || p.names[wd][name] {
			return true
		}
	}
	return false
}

// Close ends it.
func (p *Paths) Close() { p.file.Close() }
