package run_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/run"
)

func TestProgram(t *testing.T) {
	var out strings.Builder
	var lines []string
	err := run.Program{
		Args:   []string{"sh", "-c", `cat; echo $X $LC_ALL; printf 'a\rb\n\nc' >&2`},
		Env:    []string{"X=1"},
		Stdin:  strings.NewReader("in "),
		Stdout: &out,
		Line:   func(l string) { lines = append(lines, l) },
	}.Run(t.Context())
	if err != nil || out.String() != "in 1 C\n" || !slices.Equal(lines, []string{"a", "b"}) && !slices.Equal(lines, []string{"a", "b", "c"}) {
		t.Errorf("got %q, %q, %v", out.String(), lines, err)
	}
	err = run.Program{Args: []string{"sh", "-c", "echo because >&2; exit 3"}}.Run(t.Context())
	if failed, ok := errors.AsType[*run.Error](err); !ok || failed.Stderr != "because" {
		t.Errorf("got %v", err)
	}
	boom := errors.New("boom")
	if err := (run.Program{Args: []string{"true"}, Cage: func() error { return boom }}).Run(t.Context()); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
}

func TestProgramIsCanceled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	boom := errors.New("boom")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = r.Read(make([]byte, 1))
		cancel(boom)
	}()
	err = run.Program{Args: []string{"sh", "-c", "echo; exec sleep 1000"}, Stdout: w}.Run(ctx)
	if !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
}

func TestProgramIsAskedToStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out strings.Builder
	err := run.Program{
		Args: []string{"sh", "-c", `trap 'pwd; exit 3' INT; echo ready >&2; while :; do sleep 0.01; done`},
		Dir:  "/proc", Stop: os.Interrupt, Stdout: &out, Line: func(string) { cancel() },
	}.Run(ctx)
	if !errors.Is(err, context.Canceled) || out.String() != "/proc\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

func TestFilter(t *testing.T) {
	f, err := run.Filter(t.Context(), strings.NewReader("b\na\n"), "sort")
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(f); err != nil || string(data) != "a\nb\n" {
		t.Errorf("got %q, %v", data, err)
	}
	f.Close()
	f, err = run.Filter(t.Context(), strings.NewReader("x"), "sh", "-c", "echo part; echo oh >&2; exit 1")
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(f); err == nil || !strings.Contains(err.Error(), "oh") || string(data) != "part\n" {
		t.Errorf("got %q, %v", data, err)
	}
	f.Close()
	f, err = run.Filter(t.Context(), nil, "cat", "/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(f, make([]byte, 1<<20)); err != nil {
		t.Error(err)
	}
	f.Close()
}

// slow is a writer that takes its time for what it is given first.
type slow struct {
	strings.Builder

	pause time.Duration
}

func (s *slow) Write(p []byte) (int, error) {
	time.Sleep(s.pause)
	s.pause = 0
	return s.Builder.Write(p)
}

// TestSlowReader has a program end long before its output is taken.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	out := &slow{pause: 6 * time.Second}
	err := run.Program{Args: []string{"sh", "-c", "head -c 40000 /dev/zero; sleep 0.1; head -c 40000 /dev/zero"}, Stdout: out}.Run(t.Context())
	if err != nil || out.Len() != 80000 {
		t.Errorf("got %d bytes, %v", out.Len(), err)
	}
}

// TestOrphan has a program leave another behind that says nothing, and keeps
// its output open.
func TestOrphan(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	began := time.Now()
	err := run.Program{Args: []string{"sh", "-c", "echo x; sleep 30 2>/dev/null &"}, Stdout: &out}.Run(t.Context())
	if !errors.Is(err, exec.ErrWaitDelay) || out.String() != "x\n" || time.Since(began) > 20*time.Second {
		t.Errorf("got %q, %v after %s", out.String(), err, time.Since(began))
	}
}

// TestCageIsNotTheFirstThread has the first thread of the process keep what it has:
// it does not end with the program, and /proc/self is about it.
func TestCageIsNotTheFirstThread(t *testing.T) {
	for range 200 {
		cage := func() error {
			if unix.Gettid() == unix.Getpid() {
				t.Error("the cage is around the first thread")
			}
			return nil
		}
		if err := (run.Program{Args: []string{"true"}, Cage: cage}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
