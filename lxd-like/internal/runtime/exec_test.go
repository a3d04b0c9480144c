package runtime_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

func TestExec(t *testing.T) {
	signal.Ignore(unix.SIGUSR2) // As of a daemon that was started so.
	t.Cleanup(func() { signal.Reset(unix.SIGUSR2) })
	r, s := newRuntime(t), newSpec(t)
	s.Rlimits = map[string]string{"nofile": "123:456"}
	start(t, r, s)
	sh := func(line string) []string { return []string{"sh", "-c", line} }
	tests := map[string]struct {
		exec  runtime.Exec
		stdin string
		want  result
	}{
		"status":         {exec: runtime.Exec{Args: sh("exit 42")}, want: result{status: 42}},
		"streams":        {exec: runtime.Exec{Args: sh("echo out; echo err >&2")}, want: result{0, "out\n", "err\n"}},
		"streams opened": {exec: runtime.Exec{Args: sh("echo out >/dev/stdout; echo err >/proc/self/fd/2")}, want: result{0, "out\n", "err\n"}},
		"end of stdin":   {exec: runtime.Exec{Args: []string{"wc", "-c"}}, stdin: "12345", want: result{0, "5\n", ""}},
		"killed":         {exec: runtime.Exec{Args: sh("kill -9 $$")}, want: result{status: 137}},
		"no program":     {exec: runtime.Exec{Args: []string{"nonesuch", "-x"}}, want: result{127, "", "nonesuch: command not found\n"}},
		"no path":        {exec: runtime.Exec{Args: []string{"/bin/nonesuch"}}, want: result{127, "", "/bin/nonesuch: command not found\n"}},
		"no executable":  {exec: runtime.Exec{Args: []string{"/etc"}}, want: result{126, "", "cannot execute /etc: Permission denied\n"}},
		"user":           {exec: runtime.Exec{Args: sh("id -u; id -g; id -G; cat /proc/self/uid_map | wc -l"), UID: 1000, GID: 100}, want: result{0, "1000\n100\n100\n1\n", ""}},
		"user's streams": {exec: runtime.Exec{Args: sh("cat; echo e >&2"), UID: 1000, GID: 1000}, stdin: "x", want: result{0, "x", "e\n"}},
		"directory":      {exec: runtime.Exec{Args: []string{"pwd"}, Cwd: "/home/user"}, want: result{0, "/home/user\n", ""}},
		"no directory":   {exec: runtime.Exec{Args: []string{"pwd"}, Cwd: "/nonesuch"}, want: result{126, "", "cannot enter /nonesuch: No such file or directory\n"}},
		"home":           {exec: runtime.Exec{Args: []string{"pwd"}, Env: map[string]string{"HOME": "/root"}}, want: result{0, "/root\n", ""}},
		"no home":        {exec: runtime.Exec{Args: []string{"pwd"}, Env: map[string]string{"HOME": "/nonesuch"}}, want: result{0, "/\n", ""}},
		"environment": {
			exec: runtime.Exec{Args: []string{"env"}, Env: map[string]string{"A": "b=c\nd", "GREETING": "night"}},
			want: result{0, "A=b=c\nd\nGREETING=night\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n", ""},
		},
		"own path":        {exec: runtime.Exec{Args: []string{"env"}, Env: map[string]string{"PATH": "/nonesuch"}}, want: result{127, "", "env: command not found\n"}},
		"descriptors":     {exec: runtime.Exec{Args: sh("ls /proc/self/fd | wc -l")}, want: result{0, "4\n", ""}}, // And that of the directory.
		"rlimits":         {exec: runtime.Exec{Args: sh("ulimit -Sn; ulimit -Hn")}, want: result{0, "123\n456\n", ""}},
		"signals":         {exec: runtime.Exec{Args: []string{"grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status"}}, want: result{0, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n", ""}},
		"signals of init": {exec: runtime.Exec{Args: []string{"grep", "SigIgn", "/proc/1/status"}}, want: result{0, "SigIgn:\t0000000000000000\n", ""}},
		"confined": {
			exec: runtime.Exec{Args: sh("grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; grep CapBnd /proc/1/status >/tmp/1; grep CapBnd /proc/self/status >/tmp/2; test \"$(cat /tmp/1)\" = \"$(cat /tmp/2)\"")},
			want: result{0, "NoNewPrivs:\t0\nSeccomp:\t2\n", ""},
		},
		"seen inside": {exec: runtime.Exec{Args: sh("ps | grep -c [c]uib")}, want: result{1, "0\n", ""}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := run(t, r, s.Name, test.stdin, test.exec); got != test.want {
				t.Errorf("got %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestExecIsConfinedAsInit(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	start(t, r, s)
	p, err := r.Exec(t.Context(), s.Name, runtime.Exec{Args: []string{"cat"}})
	if err != nil {
		t.Fatal(err)
	}
	running, err := r.Get(s.Name)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", running.PID))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.PID))
	if err != nil {
		t.Fatal(err)
	}
	if strings.ReplaceAll(string(got), "/.cuib\n", "\n") != string(want) {
		t.Errorf("the program is in\n%s\ninit in\n%s", got, want)
	}
	label := func(pid int) string {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/attr/current", pid))
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, os.ErrNotExist) { // Without an LSM.
			t.Error(err)
		}
		return string(data)
	}
	testenv.Eventually(t, "the label of init", func() bool { return label(p.PID) == label(running.PID) }) // At its exec.
	p.Stdin.Close()
	if status, err := p.Wait(t.Context()); status != 0 || err != nil {
		t.Errorf("%d, %v", status, err)
	}
}

func TestExecSignal(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	start(t, r, s)
	p, err := r.Exec(t.Context(), s.Name, runtime.Exec{Args: []string{"sh", "-c", "trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.01; done"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stdin.Close()
	defer p.Stdout.Close()
	defer p.Stderr.Close()
	line := make([]byte, 6)
	if _, err := io.ReadFull(p.Stdout, line); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if status, err := p.Wait(t.Context()); status != 5 || err != nil {
		t.Errorf("%d, %v", status, err)
	}
	if err := p.Signal(unix.SIGUSR1); err != nil {
		t.Errorf("signal after the end: %v", err)
	}
}

func TestExecTerminal(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	start(t, r, s)
	p, err := r.Exec(t.Context(), s.Name, runtime.Exec{
		Args:     []string{"sh", "-c", "tty; stty size; stat -c %u $(tty); read x; stty size; echo tty >/dev/tty; exit 3"},
		Terminal: true, Width: 100, Height: 30, UID: 1000, GID: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Terminal.Close()
	out := make(chan string)
	go func() {
		data, _ := io.ReadAll(p.Terminal) // Ends with EIO.
		out <- string(data)
	}()
	if err := p.Resize(132, 43); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Terminal.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	status, err := p.Wait(t.Context())
	got := strings.ReplaceAll(<-out, "\r\n", "\n")
	if status != 3 || err != nil {
		t.Errorf("%d, %v", status, err)
	}
	// The first size can be either: the program may come to it late.
	for _, part := range []string{"/dev/pts/", "\n1000\n", "43 132\n", "tty\n"} {
		if !strings.Contains(got, part) {
			t.Errorf("%q lacks %q", got, part)
		}
	}
}

func TestExecManyAtOnce(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	start(t, r, s)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			text := fmt.Sprintf("number %d", i)
			res, err := tryRun(t.Context(), r, s.Name, text, runtime.Exec{Args: []string{"sh", "-c", fmt.Sprintf("cat; exit %d", i)}})
			if err != nil || res != (result{i, text, ""}) {
				t.Errorf("%+v, %v", res, err)
			}
		})
	}
	wg.Wait()
}

func TestExecLosesNothing(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	start(t, r, s)
	p, err := r.Exec(t.Context(), s.Name, runtime.Exec{Args: []string{"cat"}})
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 4<<20) // 64 MiB
	go func() {
		_, _ = p.Stdin.Write(data)
		p.Stdin.Close()
	}()
	sum := sha256.New()
	if _, err := io.Copy(sum, p.Stdout); err != nil {
		t.Fatal(err)
	}
	if got, want := sum.Sum(nil), sha256.Sum256(data); !bytes.Equal(got, want[:]) {
		t.Error("what came back differs")
	}
	if status, err := p.Wait(t.Context()); status != 0 || err != nil {
		t.Errorf("%d, %v", status, err)
	}
}

func TestExecEndsWithContainer(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	start(t, r, s)
	p, err := r.Exec(t.Context(), s.Name, runtime.Exec{Args: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Kill(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	if status, err := p.Wait(t.Context()); status != 137 || err != nil {
		t.Errorf("%d, %v", status, err)
	}
	leftovers(t, r, s.Name)
}

func TestExecErrors(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	start(t, r, s)
	if _, err := r.Exec(t.Context(), "nonesuch", runtime.Exec{Args: []string{"true"}}); !errs.Is(err, errs.NotFound) {
		t.Errorf("unknown container: %v", err)
	}
	for name, e := range map[string]runtime.Exec{
		"no program": {},
		"NUL":        {Args: []string{"a\x00b"}},
		"NUL in env": {Args: []string{"a"}, Env: map[string]string{"A": "\x00"}},
	} {
		if _, err := r.Exec(t.Context(), s.Name, e); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p, err := r.Exec(t.Context(), s.Name, runtime.Exec{Args: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait: %v", err)
	}
}
