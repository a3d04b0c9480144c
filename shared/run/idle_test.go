package run_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/cuib/cuib/shared/run"
)

func TestProgramIsIdle(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	err = run.Program{Args: []string{"cat"}, Stdin: r, Stop: os.Interrupt, Idle: time.Second}.Run(t.Context())
	if !errors.Is(err, run.ErrIdle) {
		t.Errorf("got %v", err)
	}
}

func TestIdle(t *testing.T) {
	for name, tt := range map[string]struct {
		cpu         time.Duration
		moved, said int64
		idle        bool
	}{
		"nothing":             {0, 0, 0, true},
		"timers":              {200 * time.Millisecond, 4096, 0, true},
		"computes":            {time.Minute, 0, 0, false},
		"reads":               {0, 1 << 20, 0, false},
		"says where it is":    {0, 1 << 20, 1 << 20, true},
		"says it and reads":   {0, 2 << 20, 1 << 20, false},
		"as slow as a limit":  {time.Second, 300 << 10, 60 << 10, false},
		"a lock is refreshed": {0, 2000, 0, true},
	} {
		if got := run.Idle(tt.cpu, tt.moved, tt.said); got != tt.idle {
			t.Errorf("%s: idle is %t", name, got)
		}
	}
}

func TestFeel(t *testing.T) {
	before, err := run.Moved(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Read(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if after, err := run.Moved(os.Getpid()); err != nil || after-before < 1<<20 {
		t.Errorf("moved %d and then %d, %v", before, after, err)
	}
	if _, err := run.Moved(1 << 30); err == nil {
		t.Error("a process that is not has a pulse")
	}
}
