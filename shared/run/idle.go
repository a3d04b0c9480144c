package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// ErrIdle is in the error of a program that was ended because it did nothing.
var ErrIdle = errors.New("it did nothing")

// guarded is a program that is ended when it is idle.
type guarded struct {
	patience         time.Duration
	said, complained atomic.Int64 // Bytes.
}

// counted counts what is written.
type counted struct {
	io.Writer

	bytes *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.bytes.Add(int64(len(p)))
	return c.Writer.Write(p)
}

// watch has what the command says counted, and returns what begins to watch it
// once it runs.
func (g *guarded) watch(ctx context.Context, cmd *exec.Cmd, end context.CancelCauseFunc) func() {
	cmd.Stdout, cmd.Stderr = counted{cmd.Stdout, &g.said}, counted{cmd.Stderr, &g.complained}
	return func() { go g.guard(ctx, cmd.Process.Pid, end) }
}

// A pulse is what a program has done since it began.
type pulse struct {
	cpu   time.Duration // That it and those children of it took that have ended.
	moved int64         // Bytes that it read and wrote, of any file, pipe or socket.
}

// What an idle program does in passing: its timers take some time of a
// processor, and what it says of its progress, which is that of before, is
// written.
const (
	idleCPU   = 100      // One part of so many of the time.
	idleMoved = 64 << 10 // Bytes.
)

// idle reports whether a program has done nothing for a time, in which it said
// so many bytes.
func (p pulse) idle(before pulse, in time.Duration, said int64) bool {
	return p.cpu-before.cpu < in/idleCPU && p.moved-before.moved-said < idleMoved
}

// feel takes the pulse of a process.
func feel(pid int) (pulse, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return pulse{}, err
	}
	// The name can have spaces and parentheses in it. The times are the 14th to
	// the 17th of all fields.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const times, first = 4, 14 - 3
	if len(fields) < first+times {
		return pulse{}, fmt.Errorf("%s/stat: %q", dir, stat)
	}
	var p pulse
	for _, f := range fields[first : first+times] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return pulse{}, fmt.Errorf("%s/stat: %w", dir, err)
		}
		p.cpu += time.Duration(ticks) * time.Second / 100 // USER_HZ, on all architectures.
	}
	count, err := os.ReadFile(dir + "/io")
	if err != nil {
		return pulse{}, err
	}
	var read, wrote int64
	_, err = fmt.Sscanf(string(count), "rchar: %d\nwchar: %d", &read, &wrote)
	p.moved = read + wrote
	return p, err
}

// guard calls end when the process has been idle for a time. Complaints show
// that it is not, as those of a program that tries again and again.
func (g *guarded) guard(ctx context.Context, pid int, end context.CancelCauseFunc) {
	every := time.NewTicker(g.patience)
	defer every.Stop()

	before, known := pulse{}, false // It has just begun.
	var said, complained int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		now, err := feel(pid)
		nowSaid, nowComplained := g.said.Load(), g.complained.Load()
		if known && err == nil && nowComplained == complained && now.idle(before, g.patience, nowSaid-said) {
			end(fmt.Errorf("%w for %s", ErrIdle, g.patience))
			return
		}
		before, known, said, complained = now, err == nil, nowSaid, nowComplained
	}
}
