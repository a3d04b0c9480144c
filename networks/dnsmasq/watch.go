package dnsmasq

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A LeaseWatch sees that addresses are given out, by the files with them.
type LeaseWatch struct{ *os.File }

// WatchLeases returns a watch of nothing yet.
func WatchLeases() (LeaseWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return LeaseWatch{}, os.NewSyscallError("inotify_init1", err)
	}
	return LeaseWatch{os.NewFile(uintptr(fd), "inotify")}, nil
}

// Add watches the directories of all networks, which are in dir. To watch one
// again does no harm.
func (l LeaseWatch) Add(dir string) error {
	all, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	conn, err := l.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Control(func(fd uintptr) {
		for _, e := range all {
			// One that goes meanwhile has no addresses any more.
			_, _ = unix.InotifyAddWatch(int(fd), filepath.Join(dir, e.Name()), unix.IN_MODIFY|unix.IN_MOVED_TO|unix.IN_ONLYDIR)
		}
	})
}

// Next waits for a change. It fails when the watch is closed.
func (l LeaseWatch) Next() error {
	const room = 4 << 10
	_, err := l.Read(make([]byte, room))
	return err
}
