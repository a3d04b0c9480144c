package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/storage"
)

// lockDir makes sure that no other daemon has the state directory. The lock
// goes when the file is closed, or the process ends.
func lockDir(dir string) (*os.File, error) {
	// Others may pass through to what is for them, and list nothing.
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("another cuibd has the directory %s", dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ownerOf returns what other daemons are told of this one: the file of its lock,
// and the id in that, which it makes up at the first start.
func ownerOf(lock *os.File) (storage.Owner, error) {
	path, err := filepath.Abs(lock.Name())
	if err != nil {
		return storage.Owner{}, err
	}
	text, err := io.ReadAll(lock)
	if err != nil {
		return storage.Owner{}, err
	}
	id := strings.TrimSpace(string(text))
	if id == "" {
		id = rand.Text()
		if _, err := lock.WriteAt([]byte(id+"\n"), 0); err != nil {
			return storage.Owner{}, err
		}
		if err := lock.Sync(); err != nil {
			return storage.Owner{}, err
		}
	}
	return storage.Owner{ID: id, Lock: path}, nil
}

// firstPassed is the first descriptor that systemd passes, see
// sd_listen_fds(3).
const firstPassed = 3

// listen opens the daemon's socket, or takes the one that systemd has opened.
func listen(ctx context.Context, cfg config) (net.Listener, error) {
	if os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) && os.Getenv("LISTEN_FDS") == "1" {
		f := os.NewFile(firstPassed, "socket")
		defer f.Close() // FileListener has one of its own.
		l, err := net.FileListener(f)
		if err != nil {
			return nil, fmt.Errorf("use the socket of systemd: %w", err)
		}
		return l, errors.Join(os.Unsetenv("LISTEN_PID"), os.Unsetenv("LISTEN_FDS"))
	}
	path := filepath.Join(cfg.dir, "unix.socket")
	// Nobody listens there: we hold the lock.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	old := unix.Umask(0o177) // Nobody gets in before the mode is right.
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, err
	}
	if err := openToGroup(path, cfg.group); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// openToGroup lets the members of a group, if it exists, use the socket.
func openToGroup(path, name string) error {
	group, err := user.LookupGroup(name)
	if _, unknown := errors.AsType[user.UnknownGroupError](err); unknown || name == "" {
		return nil
	}
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		return err
	}
	return errors.Join(os.Chown(path, -1, gid), os.Chmod(path, 0o660)) //nolint:gosec // It is for the group.
}

// notify tells systemd something, if it wants to be told: see sd_notify(3).
func notify(ctx context.Context, state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unixgram", path)
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return errors.Join(err, conn.Close())
}
