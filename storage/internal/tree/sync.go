package tree

import (
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Sync returns when all that was written to the file system of path is on the
// disk.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()

	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "sync", Path: path, Err: err}
	}
	return nil
}

// A Flusher is [Sync] that nobody waits for. The zero value is ready to use.
type Flusher struct {
	wanted atomic.Int64 // Calls that no Sync has begun for yet.
}

// flushAfter is how long a flush waits: what its caller has still to write down
// before it answers would be held up by it.
const flushAfter = 50 * time.Millisecond

// Flush writes the file system of path, which is always the same, to the disk
// in a moment. What fails is tried again by the kernel, and told in its log.
func (f *Flusher) Flush(path string) {
	if f.wanted.Add(1) > 1 {
		return // One is at it, and looks again when it is done.
	}
	time.AfterFunc(flushAfter, func() {
		for n := f.wanted.Load(); n > 0; n = f.wanted.Add(-n) {
			_ = Sync(path)
		}
	})
}
