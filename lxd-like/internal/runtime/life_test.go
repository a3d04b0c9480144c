package runtime_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

func TestStartExecKill(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	s.Env["LINES"] = "\"one\n two\" "
	exits := start(t, r, s)
	running, err := r.Get(s.Name)
	if err != nil || running.PID == 0 || running.Frozen {
		t.Fatalf("%+v, %v", running, err)
	}
	if _, err := r.Start(t.Context(), s, nil); !errs.Is(err, errs.Conflict) {
		t.Errorf("second start: %v", err)
	}
	res := run(t, r, s.Name, "", runtime.Exec{Args: []string{"sh", "-c", "echo $GREETING; id -u; cat /proc/1/comm; hostname; exit 3"}})
	if res.status != 3 || res.out != "good day\n0\ninit\n"+s.Name+"\n" || res.errOut != "" {
		t.Errorf("%+v", res)
	}
	if got := sh(t, r, s.Name, "cat /proc/1/environ"); !strings.Contains(got, "\x00LINES=\"one\n two\" \x00") {
		t.Errorf("%q", got)
	}
	if err := r.Kill(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	if e := wait(t, exits); e.Status != 137 || e.Reboot {
		t.Errorf("%+v", e)
	}
	if _, err := r.Get(s.Name); !errs.Is(err, errs.NotFound) {
		t.Errorf("after the end: %v", err)
	}
	leftovers(t, r, s.Name)
}

func TestShutdown(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	exits := start(t, r, s)
	if err := r.Shutdown(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	if err := r.Wait(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	if e := wait(t, exits); e.Status != 7 { // As testdata/init.c has it.
		t.Errorf("%+v", e)
	}
	leftovers(t, r, s.Name)
}

// TestInitEndsAtOnce starts what ends before or after it is seen to run.
func TestInitEndsAtOnce(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	if err := os.Remove(s.Root + "/sbin/init"); err != nil {
		t.Fatal(err)
	}
	writeFile(t, s.Root+"/sbin/init", "#!/bin/sh\nexit 3\n")
	exits := make(chan runtime.Exit, 1)
	_, err := r.Start(t.Context(), s, func(e runtime.Exit) { exits <- e })
	if err == nil {
		if e := wait(t, exits); e.Status != 3 {
			t.Errorf("%+v", e)
		}
	} else if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "/sbin/init of the instance ended at once, with status 3") {
		t.Error(err)
	}
	leftovers(t, r, s.Name)
}

// TestEndAfterReboot ends inits of a guest that booted again, in ways that are
// no failed start: nothing may start it once more.
func TestEndAfterReboot(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(t *testing.T, r *runtime.Runtime, name string, pid int)
		want int
	}{
		"killed": {func(t *testing.T, _ *runtime.Runtime, _ string, pid int) {
			t.Helper()
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}, 137},
		"status 7": {func(t *testing.T, r *runtime.Runtime, name string, _ int) { // As testdata/init.c has it.
			t.Helper()
			if err := r.Shutdown(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}, 7},
	} {
		t.Run(name, func(t *testing.T) {
			r, s := newRuntime(t), newSpec(t)
			exits := start(t, r, s)
			reboot(t, r, s.Name)
			now, err := r.Get(s.Name)
			if err != nil {
				t.Fatal(err)
			}
			test.end(t, r, s.Name, now.PID)
			if e := wait(t, exits); e.Status != test.want || e.Reboot {
				t.Errorf("got %+v, want status %d", e, test.want)
			}
			leftovers(t, r, s.Name)
		})
	}
}

func TestGuestReboots(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	exits := start(t, r, s)
	for range 3 {
		before, err := r.Get(s.Name)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Reboot(t.Context(), s.Name); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, "a new init", func() bool {
			now, err := r.Get(s.Name)
			return err == nil && now.PID != before.PID
		})
		if got := sh(t, r, s.Name, "echo again"); got != "again" {
			t.Errorf("%q", got)
		}
	}
	if err := r.Kill(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	if e := wait(t, exits); e.Status != 137 {
		t.Errorf("%+v", e)
	}
	leftovers(t, r, s.Name)
}

func TestEndsAtReboot(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	s.EndsAtReboot = true
	exits := start(t, r, s)
	if err := r.Reboot(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	if e := wait(t, exits); !e.Reboot || e.Status != 0 {
		t.Errorf("%+v", e)
	}
	leftovers(t, r, s.Name)
}

func TestGuestRebootsWithConsole(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	writeFile(t, s.Root+"/etc/rc", "echo booted >/dev/console; exec cat /dev/console >/tmp/typed\n")
	start(t, r, s)
	for range 2 {
		console, err := r.Console(t.Context(), s.Name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = console.Close() })
		before, err := r.Get(s.Name)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Reboot(t.Context(), s.Name); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, "a new init", func() bool {
			now, err := r.Get(s.Name)
			return err == nil && now.PID != before.PID
		})
		if _, err := io.ReadAll(console.Stdout); err == nil {
			t.Log("the console ended without an error")
		}
	}
}

func TestConsole(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	writeFile(t, s.Root+"/etc/rc", "echo booted; read x; echo \"read $x\"; stty size; exec sleep 1000\n")
	start(t, r, s)
	console, err := r.Console(t.Context(), s.Name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = console.Close() })
	if _, err := r.Console(t.Context(), s.Name); !errs.Is(err, errs.Conflict) {
		t.Errorf("second console: %v", err)
	}
	if err := console.Resize(77, 33); err != nil {
		t.Fatal(err)
	}
	if _, err := console.Stdin.WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	var seen strings.Builder
	buf := make([]byte, 1000)
	for !strings.Contains(seen.String(), "33 77") {
		n, err := console.Stdout.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, seen.String())
		}
		seen.Write(buf[:n])
	}
	if err := console.Close(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "a console again", func() bool {
		again, err := r.Console(t.Context(), s.Name)
		if err != nil {
			return false
		}
		return again.Close() == nil
	})
	log := func() string {
		t.Helper()
		f, err := r.ConsoleLog(t.Context(), s.Name, runtime.LogOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		data, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if got := log(); !strings.Contains(got, "booted") || !strings.Contains(got, "read hello") {
		t.Errorf("log: %q", got)
	}
	if err := r.ClearConsoleLog(s.Name); err != nil {
		t.Fatal(err)
	}
	if got := log(); got != "" {
		t.Errorf("log after clearing: %q", got)
	}
}

func TestFreeze(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	exits := start(t, r, s)
	for range 3 {
		if err := r.Freeze(t.Context(), s.Name); err != nil {
			t.Fatal(err)
		}
		if now, err := r.Get(s.Name); err != nil || !now.Frozen {
			t.Errorf("%+v, %v", now, err)
		}
		if _, err := r.Exec(t.Context(), s.Name, runtime.Exec{Args: []string{"true"}}); !errs.Is(err, errs.Conflict) {
			t.Errorf("exec while frozen: %v", err)
		}
		if err := r.Thaw(t.Context(), s.Name); err != nil {
			t.Fatal(err)
		}
		if now, err := r.Get(s.Name); err != nil || now.Frozen {
			t.Errorf("%+v, %v", now, err)
		}
		sh(t, r, s.Name, "true")
	}
	if err := r.Freeze(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	if err := r.Kill(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	wait(t, exits)
	leftovers(t, r, s.Name)
}

func TestRecover(t *testing.T) {
	r, s, dead := newRuntime(t), newSpec(t), newSpec(t)
	if _, err := r.Start(t.Context(), s, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Start(t.Context(), dead, nil); err != nil {
		t.Fatal(err)
	}
	before, err := r.Get(s.Name)
	if err != nil {
		t.Fatal(err)
	}
	sh(t, r, s.Name, "true") // So that there is a server, that this runtime keeps.

	next := &runtime.Runtime{Dir: r.Dir, Shim: r.Shim, Log: r.Log}
	exits := make(chan runtime.Exit, 2)
	list, err := next.Recover(t.Context(), func(name string, e runtime.Exit) {
		if name == s.Name {
			exits <- e
		}
	})
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	now, err := next.Get(s.Name)
	if err != nil || now.PID != before.PID || !now.StartedAt.Equal(before.StartedAt) {
		t.Errorf("got %+v, %v, want %+v", now, err, before)
	}
	if got := sh(t, next, s.Name, "echo $GREETING"); got != "good day" {
		t.Errorf("%q", got)
	}
	if err := next.Reboot(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "a new init", func() bool {
		again, err := next.Get(s.Name)
		return err == nil && again.PID != before.PID
	})
	for _, name := range []string{s.Name, dead.Name} {
		if err := next.Kill(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if err := r.Wait(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if e := wait(t, exits); e.Status != 137 {
		t.Errorf("%+v", e)
	}
	leftovers(t, r, s.Name)
	list, err = (&runtime.Runtime{Dir: r.Dir, Shim: r.Shim, Log: r.Log}).Recover(t.Context(), nil)
	if err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestStartFails(t *testing.T) {
	tests := map[string]struct {
		change func(*runtime.Spec)
		kind   errs.Kind
		says   string
	}{
		"no root":         {func(s *runtime.Spec) { s.Root += "/nonesuch" }, errs.Internal, "nonesuch"},
		"no init":         {func(s *runtime.Spec) { s.Init = []string{"/sbin/nonesuch"} }, errs.Invalid, "/sbin/nonesuch"},
		"init no program": {func(s *runtime.Spec) { s.Init = []string{"/etc/passwd"} }, errs.Invalid, "/etc/passwd"},
		"line break":      {func(s *runtime.Spec) { s.Hostname = "a\nlxc.cap.drop = x" }, errs.Invalid, "line break"},
		"raw":             {func(s *runtime.Spec) { s.Raw = "lxc.rootfs.path = /" }, errs.Invalid, "lxc.rootfs.path"},
		"raw unknown":     {func(s *runtime.Spec) { s.Raw = "lxc.nonesuch = 1" }, errs.Invalid, "raw.lxc"},
		"no source":       {func(s *runtime.Spec) { s.Mounts = []runtime.Mount{{Source: "/nonesuch", Target: "/mnt"}} }, errs.NotFound, "/nonesuch"},
		"no bridge": {func(s *runtime.Spec) {
			s.NICs = []runtime.NIC{{Kind: "bridged", Parent: "nonesuch", HostName: "vethnone", Name: "eth0"}}
		}, errs.Internal, "nonesuch"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r, s := newRuntime(t), newSpec(t)
			if err := os.Chmod(s.Root+"/etc/passwd", 0o644); err != nil {
				t.Fatal(err)
			}
			test.change(&s)
			_, err := r.Start(t.Context(), s, func(runtime.Exit) { t.Error("an exit was reported") })
			if !errs.Is(err, test.kind) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v", err)
			}
			if _, err := r.Get(s.Name); !errs.Is(err, errs.NotFound) {
				t.Errorf("it runs: %v", err)
			}
			leftovers(t, r, s.Name)
		})
	}
}

// TestRecoverEnded has a container that ended when no daemon ran: what its
// shim leaves then is put where it was.
func TestRecoverEnded(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	exits := make(chan runtime.Exit, 1)
	if _, err := r.Start(t.Context(), s, func(e runtime.Exit) { exits <- e }); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(r.Dir, s.Name, "state.json")
	state, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Kill(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	wait(t, exits)
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(string(boot))
	other := strings.Replace(string(state), id, strings.Repeat("0", len(id)), 1)
	for name, tt := range map[string]struct {
		state, status string
		want          *runtime.Exit
	}{
		"halted":          {string(state), "0\n", &runtime.Exit{}},
		"shim was killed": {string(state), "", &runtime.Exit{Status: 137}},
		"host rebooted":   {other, "0\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(tt.state), 0o600); err != nil {
				t.Fatal(err)
			}
			if tt.status != "" {
				if err := os.WriteFile(filepath.Join(filepath.Dir(path), "status"), []byte(tt.status), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			list, err := (&runtime.Runtime{Dir: r.Dir, Shim: r.Shim, Log: r.Log}).Recover(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case tt.want == nil && len(list) != 0:
				t.Errorf("%+v", list)
			case tt.want != nil && (len(list) != 1 || list[0].Ended == nil || *list[0].Ended != *tt.want):
				t.Errorf("%+v, want %+v", list, tt.want)
			}
			list, err = (&runtime.Runtime{Dir: r.Dir, Shim: r.Shim, Log: r.Log}).Recover(t.Context(), nil)
			if err != nil || len(list) != 0 {
				t.Errorf("again: %+v, %v", list, err)
			}
		})
	}
	leftovers(t, r, s.Name)
}

func TestStartCanceled(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Start(ctx, s, func(runtime.Exit) { t.Error("an exit was reported") })
	if !errs.Is(err, errs.Canceled) {
		t.Errorf("%v", err)
	}
	leftovers(t, r, s.Name)
	start(t, r, s)
}

// TestStartGivenUp does not know how far the shim has come when it is killed.
func TestStartGivenUp(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	for n := range 30 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*500*time.Microsecond)
		_, err := r.Start(ctx, s, func(runtime.Exit) {})
		cancel()
		if err == nil {
			if err := r.Kill(t.Context(), s.Name); err != nil {
				t.Fatal(err)
			}
		}
		leftovers(t, r, s.Name)
	}
}

// TestShutdownOfWhoIsNotReady asks an init to end that cannot hear it for
// longer than is waited for that.
func TestShutdownOfWhoIsNotReady(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	s.Init = []string{"/bin/busybox", "sh", "-c", "sleep 2; trap 'exit 3' USR2; while :; do sleep 0.1; done"}
	exits := start(t, r, s)
	if err := r.Shutdown(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	if e := wait(t, exits); e.Status != 3 {
		t.Errorf("%+v", e)
	}
}

// TestConsoleWithoutTerminal has a helper that hands out nothing, as what it hands
// out is lost where the daemon has no descriptor left.
func TestConsoleWithoutTerminal(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	start(t, r, s)
	r.Shim = filepath.Join(t.TempDir(), "shim")
	writeFile(t, r.Shim, "#!/bin/sh\nprintf C >&3\n")
	if _, err := r.Console(t.Context(), s.Name); !errs.Is(err, errs.Unavailable) {
		t.Errorf("got %v, want one of kind Unavailable", err)
	}
}
