package runtime_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/lxcfs"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/testenv"
)

// An lxcfs of ours comes, is killed and comes back, and each time guests that
// run get its files, and have them after a reboot too.
func TestLXCFSComesBack(t *testing.T) {
	testenv.Kernel(t, "lxcfs", "unshare")
	if os.Getenv("CUIB_TEST_AGAIN") == "" {
		again(t, `"$2" -test.v -test.run "^$3\$"`)
		return
	}
	r, s := newRuntime(t), newSpec(t)
	dir := filepath.Join(reachable(t), "lxcfs")
	k := &lxcfs.Keeper{
		Host: "/nonexistent", Dir: dir, Program: lxcfs.Program, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Changed: r.ShowLXCFS,
	}
	r.LXCFS = k.Served
	s.Limits = runtime.Limits{Memory: 64 << 20, CPUs: "0"}
	start(t, r, s)
	if got := memory(t, r, s.Name); got == 65536 {
		t.Errorf("without lxcfs it has %d kB", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := k.Stop(); err != nil {
			t.Error(err)
		}
	})
	shown := func(what string) {
		t.Helper()
		testenv.Eventually(t, "the limit inside "+what, func() bool { return memory(t, r, s.Name) == 65536 })
		// One file comes after the other.
		comes(t, r, s.Name, "grep -c ^processor /proc/cpuinfo; grep -c '^cpu[0-9]' /proc/stat; grep -c meminfo /proc/mounts", "1\n1\n1\n")
	}
	shown("of a guest that ran before")
	for range 2 {
		pid, err := os.ReadFile(dir + ".pid")
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(pid)))
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(n, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		shown("after lxcfs was killed")
	}
	reboot(t, r, s.Name)
	shown("after a reboot")
	if err := r.SetLimits(t.Context(), s.Name, runtime.Limits{Memory: 96 << 20}); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the new limit inside", func() bool { return memory(t, r, s.Name) == 98304 })
}

// What lxcfs writes it writes as the host's root: guests get nothing that they
// can write to, neither from the host's own nor from ours, which takes over when
// that ends.
func TestLXCFSCannotBeWrittenTo(t *testing.T) {
	testenv.Kernel(t, "lxcfs", "unshare")
	if os.Getenv("CUIB_TEST_AGAIN") == "" {
		again(t, `"$2" -test.v -test.run "^$3\$"`)
		return
	}
	r, s := newRuntime(t), newSpec(t)
	dir := filepath.Join(reachable(t), "lxcfs")
	k := &lxcfs.Keeper{
		Host: dir + "-host", Dir: dir, Program: lxcfs.Program, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Changed: r.ShowLXCFS,
	}
	r.LXCFS = k.Served
	s.Limits = runtime.Limits{Memory: 64 << 20}
	hosts := hostsOwn(t, k.Host)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, k.Stop()); err != nil {
			t.Error(err)
		}
	})
	testenv.Eventually(t, "that of the host", func() bool { return k.Served().Device != "" })
	first := k.Served().Device
	start(t, r, s)
	for _, what := range []string{"of the host", "of ours"} {
		testenv.Eventually(t, "the limit inside", func() bool { return memory(t, r, s.Name) == 65536 })
		comes(t, r, s.Name, "cat /sys/devices/system/cpu/uevent >/dev/null && grep -c ' /sys/devices/system/cpu fuse' /proc/mounts", "1\n") // The last one to come.
		got := sh(t, r, s.Name, `f=/sys/devices/system/cpu/uevent
			mount -o remount,bind,rw /sys/devices/system/cpu 2>/dev/null && echo remounted
			echo change 2>/dev/null >$f && echo written; grep -c ' /sys/devices/system/cpu fuse' /proc/mounts`)
		if got != "1" {
			t.Errorf("%s: %q", what, got)
		}
		if what == "of ours" {
			break
		}
		if err := hosts.Kill(); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, "one of ours", func() bool { return k.Served().Device != "" && k.Served().Device != first })
	}
}

// hostsOwn starts an lxcfs that is none of ours.
func hostsOwn(t *testing.T, dir string) *os.Process {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), lxcfs.Program, "-f", "-l", "-p", dir+".pid", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err := mounts.Detach(dir); err != nil {
			t.Error(err)
		}
	})
	testenv.Eventually(t, "an lxcfs of the host", func() bool { return lxcfs.Look(dir).Dir != "" })
	return cmd.Process
}

// comes waits until a line of shell in a guest says what is wanted.
func comes(t *testing.T, r *runtime.Runtime, name, line, want string) {
	t.Helper()
	var got result
	defer func() {
		if got.out != want {
			t.Logf("%s: got %+v, want %q", line, got, want)
		}
	}()
	testenv.Eventually(t, line, func() bool {
		var err error
		if got, err = tryRun(t.Context(), r, name, "", runtime.Exec{Args: []string{"sh", "-c", line}}); err != nil {
			t.Fatal(err)
		}
		return got.out == want
	})
}

// memory returns how much memory a guest believes to have, in kB; 0 if it
// cannot be read now.
func memory(t *testing.T, r *runtime.Runtime, name string) int {
	t.Helper()
	res, err := tryRun(t.Context(), r, name, "", runtime.Exec{Args: []string{"grep", "MemTotal", "/proc/meminfo"}})
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(res.out)
	if len(fields) < 2 {
		time.Sleep(time.Millisecond)
		return 0
	}
	n, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
