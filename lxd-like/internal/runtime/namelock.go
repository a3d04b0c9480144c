package runtime

import (
	"context"
	"errors"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// nameLocks is a file of which each byte stands for the names with one hash.
const nameLocks = "/run/lxc/cuib.lock"

// nameLockPause is between two looks at whether a name is free.
const nameLockPause = 2 * time.Millisecond

// lockName keeps other daemons on this host from starting a container of the
// same name until unlock is called. When liblxc finds a cgroup with the name
// that it wants it takes another name, and removes what it found if that is
// empty: it would take it from a start that has not entered it yet.
func lockName(ctx context.Context, name string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(nameLocks), 0o755); err != nil { //nolint:gosec // Who may do what there is liblxc's.
		return nil, err
	}
	f, err := os.OpenFile(nameLocks, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	hash := fnv.New32a()
	_, _ = io.WriteString(hash, name) // It never fails.
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(hash.Sum32()), Len: 1}
	for {
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil // Which gives it back.
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES):
			return nil, errors.Join(os.NewSyscallError("lock the name", err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), f.Close())
		case <-time.After(nameLockPause):
		}
	}
}
