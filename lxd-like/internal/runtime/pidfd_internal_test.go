package runtime

import (
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
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := p.open("stat", os.O_RDONLY); !errs.Is(err, errs.Unavailable) {
		t.Errorf("after its end: %v", err)
	}
}
