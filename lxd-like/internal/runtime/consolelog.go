package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// LogOptions say how much of a log is read.
type LogOptions struct {
	Last   int  // Only so many lines of what is there; 0 for all.
	Follow bool // Go on with what is written, until the container ends.
}

// followPause is how often a log is looked at while it is followed.
const followPause = 100 * time.Millisecond

// ConsoleLog opens what the container has written to its console, also after
// its end. It is empty if there is none. One that is followed ends with ctx
// too.
func (r *Runtime) ConsoleLog(ctx context.Context, name string, o LogOptions) (io.ReadCloser, error) {
	now := &tail{ctx: ctx, path: r.path(name, consoleFile), goesOn: func() bool { return o.Follow && r.runs(name) }}
	if err := now.open(); err != nil {
		return nil, err
	}
	// liblxc moves a log that is full to .1, perhaps just now.
	full := tail{path: now.path + ".1"}
	if err := full.open(); err != nil {
		return nil, errors.Join(err, now.Close())
	}
	defer full.Close() //nolint:errcheck // It was read.
	var data []byte
	for _, f := range []*os.File{full.file, now.file} { // They are as large as lxc.console.size lets them be.
		if f == nil || f == now.file && sameFile(f, full.file) {
			continue
		}
		some, err := io.ReadAll(f)
		if err != nil {
			return nil, errors.Join(err, now.Close())
		}
		data = append(data, some...)
	}
	if o.Last > 0 {
		data = lastLines(data, o.Last)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(data), now), now}, nil
}

// runs tells whether a container is there, starting or running.
func (r *Runtime) runs(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running[name] != nil
}

// lastLines returns the last n lines of data.
func lastLines(data []byte, n int) []byte {
	at := len(bytes.TrimSuffix(data, []byte("\n")))
	for ; n > 0 && at >= 0; n-- {
		at = bytes.LastIndexByte(data[:at], '\n')
	}
	return data[at+1:]
}

// A tail reads a file to its end, and as long as goesOn says so waits for
// more: also when the file is emptied, or another takes its place. What a file
// held that was the third one meanwhile is lost.
type tail struct {
	ctx    context.Context //nolint:containedctx // It ends what reads.
	path   string
	goesOn func() bool
	file   *os.File // Nil for none yet.
}

// open opens the file, if there is one.
func (t *tail) open() error {
	f, err := os.Open(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		t.file = f
	}
	return err
}

// Read implements [io.Reader].
func (t *tail) Read(b []byte) (int, error) {
	for {
		more := t.goesOn() // Asked first: what was written until then is read.
		replaced := t.replaced()
		if t.file != nil {
			if n, err := t.file.Read(b); n > 0 || err != nil && !errors.Is(err, io.EOF) {
				return n, err
			}
		}
		switch {
		case replaced:
			if err := errors.Join(t.Close(), t.open()); err != nil {
				return 0, err
			}
			continue
		case !more:
			return 0, io.EOF
		}
		select {
		case <-t.ctx.Done():
			return 0, io.EOF
		case <-time.After(followPause):
		}
		if err := t.rewind(); err != nil {
			return 0, err
		}
	}
}

// replaced tells whether another file is at the path.
func (t *tail) replaced() bool {
	now, err := os.Stat(t.path)
	if err != nil {
		return false
	}
	if t.file == nil {
		return true
	}
	old, err := t.file.Stat()
	return err == nil && !os.SameFile(now, old)
}

// rewind goes to the beginning of a file that was emptied.
func (t *tail) rewind() error {
	if t.file == nil {
		return nil
	}
	info, err := t.file.Stat()
	if err != nil {
		return err
	}
	at, err := t.file.Seek(0, io.SeekCurrent)
	if err == nil && at > info.Size() {
		_, err = t.file.Seek(0, io.SeekStart)
	}
	return err
}

// Close implements [io.Closer].
func (t *tail) Close() error {
	if t.file == nil {
		return nil
	}
	err := t.file.Close()
	t.file = nil
	return err
}

func sameFile(a, b *os.File) bool {
	if a == nil || b == nil {
		return false
	}
	one, err := a.Stat()
	if err != nil {
		return false
	}
	other, err := b.Stat()
	return err == nil && os.SameFile(one, other)
}

// ClearConsoleLog empties the console's log.
func (r *Runtime) ClearConsoleLog(name string) error {
	err := os.Remove(r.path(name, consoleFile+".1"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = os.Truncate(r.path(name, consoleFile), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clear the console log of %q: %w", name, err)
	}
	return nil
}
