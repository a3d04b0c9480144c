package db

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/mounts"
)

// reserveSize is room on the database's disk that is kept for deletions.
const reserveSize = 8 << 20

type freeingKey struct{}

// Freeing marks a change that makes room, such as a deletion, or that it takes
// to make some, such as the end of what fills the disk. It may take the
// reserve when the disk that holds the database is full, where others fail.
func Freeing(ctx context.Context) context.Context {
	return context.WithValue(ctx, freeingKey{}, true)
}

// Restock keeps room for deletions again, if they took it and there is enough
// by now. The daemon calls it every minute.
func (d *DB) Restock() error {
	if d.reserve == "" {
		return nil
	}
	if st, err := os.Stat(d.reserve); err == nil && st.Size() == reserveSize {
		return nil
	}
	free, _, err := mounts.Room(filepath.Dir(d.reserve))
	if err != nil {
		return err
	}
	if free < 2*reserveSize {
		return nil // What is there is for the changes.
	}
	return allocate(d.reserve, reserveSize)
}

// room adds to an error of a full disk which it is, and what room it has.
func (d *DB) room(err error) error {
	if d.reserve == "" || !d.isFull(err) {
		return err
	}
	return errs.Newf(errs.Unavailable, "%w%s", err, mounts.DescribeRoom(filepath.Dir(d.reserve)))
}

// allocate makes a file for which the file system has all the room.
func allocate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = nil // Such as on ZFS, which could not promise it.
	}
	err = errors.Join(err, f.Close())
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// release gives the reserve to a change that makes room, and reports whether
// there was one.
func (d *DB) release(ctx context.Context) bool {
	if d.reserve == "" || ctx.Value(freeingKey{}) == nil {
		return false
	}
	err := os.Remove(d.reserve)
	return err == nil || !errors.Is(err, fs.ErrNotExist)
}
