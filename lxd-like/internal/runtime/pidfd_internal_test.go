package runtime

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// leaderless makes the test's program one whose first thread has ended, until its
// standard input ends. The kernel has it half gone, as any process is on its way
// out.
const leaderless = "CUIB_TEST_LEADERLESS"

func init() { //nolint:gochecknoinits // Nothing later is sure to be on the first thread.
	if os.Getenv(leaderless) == "" {
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	// While packages are initialised the first goroutine is on the first thread.
	_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
}

// TestHalfGone opens what /proc has of a process that has lost it, while its
// pidfd does not tell yet that it has ended.
func TestHalfGone(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), leaderless+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := openProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.fd.Close()
	for _, what := range []string{"ns/net", "root"} {
		for err = nil; err == nil; {
			var file *os.File
			if file, err = p.open(what, unix.O_PATH); err == nil {
				file.Close()
			}
		}
		if !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if p.ended() {
		t.Error("the process has ended as a whole")
	}
	// What comes of that is no failure of the host, and what has nothing to do
	// with it stays.
	self, err := openProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.fd.Close()
	c, lost := &container{name: "c1", shim: self}, &os.PathError{Op: "open", Path: "cgroup.procs", Err: unix.ENODEV}
	if err := c.during(&guestInit{process: p}, lost); !errs.Is(err, errs.Unavailable) {
		t.Errorf("of an init that is half gone: %v", err)
	}
	if err := c.during(&guestInit{process: self}, lost); !errors.Is(err, lost) {
		t.Errorf("of one that is not: %v", err)
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := p.open("stat", os.O_RDONLY); !errs.Is(err, errs.Unavailable) {
		t.Errorf("after its end: %v", err)
	}
}
