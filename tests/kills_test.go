package tests

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestKills kills the daemon and each of its helpers, alone and two at a time,
// again and again. All is as it was soon after that, and the guests have not
// noticed: their init and what they ran goes on.
func TestKills(t *testing.T) {
	k := newKills(t)
	before, first := k.mounts(), k.lives(t)
	for round, victims := range [][]string{
		{"lxcfs"},
		{"proxy"},
		{"dnsmasq"},
		{"daemon"},
		{"daemon", "lxcfs"},
		{"daemon", "proxy"},
		{"daemon", "dnsmasq"},
		{"lxcfs", "proxy"},
		{"lxcfs", "dnsmasq"},
		{"daemon", "lxcfs", "proxy", "dnsmasq"},
	} {
		for _, v := range victims {
			k.kill(t, v)
		}
		if k.h.daemon == nil { // The host's init would do this.
			if err := k.h.start(); err != nil {
				t.Fatal(err)
			}
		}
		what := fmt.Sprintf("round %d, after %v", round, victims)
		k.whole(t, what)
		// One file after the other comes from another lxcfs.
		k.until(t, what+": what runs", func() error {
			if now := k.lives(t); now != first {
				return fmt.Errorf("it was %q and is %q", first, now)
			}
			return nil
		})
		k.until(t, what+": the mounts", func() error {
			if after := k.mounts(); after != before {
				return fmt.Errorf("there were\n%s\nand are\n%s", before, after)
			}
			return nil
		})
	}
}

// TestKilledShim kills the process that owns a guest, alone and with the
// daemon: the instance is stopped then, nothing is left of it, and it starts
// again. The other one does not notice.
func TestKilledShim(t *testing.T) {
	k := newKills(t)
	for _, victims := range [][]string{{"shim"}, {"daemon", "shim"}, {"proxy", "shim"}, {"lxcfs", "shim"}} {
		for _, v := range victims {
			k.kill(t, v)
		}
		if k.h.daemon == nil {
			if err := k.h.start(); err != nil {
				t.Fatal(err)
			}
		}
		k.until(t, fmt.Sprintf("c1 is stopped after %v", victims), func() error {
			if got := k.cuib(t, "list", "c1", "--format", "csv", "--columns", "s"); got != "STOPPED\n" {
				return errors.New(got)
			}
			return nil
		})
		// It is stopped once its owner is gone; what that had mounted goes a moment later.
		k.until(t, fmt.Sprintf("nothing of c1 is mounted after %v", victims), func() error {
			for _, m := range k.h.mounts() {
				if strings.Contains(m, "/run/c1") {
					return fmt.Errorf("%s is mounted", m)
				}
			}
			return nil
		})
		k.cuib(t, "exec", "c2", "--", "true")
		k.cuib(t, "start", "c1")
		k.serve(t)
		k.whole(t, fmt.Sprint(victims))
	}
}

// kills are two instances with all that has a process of its own.
type kills struct {
	*escape
}

func newKills(t *testing.T) *kills {
	t.Helper()
	h := startTiny(t)
	k := &kills{newEscape(t, h)}
	k.cuib(t, "config", "set", "c1", "limits.memory=96MiB")
	k.cuib(t, "config", "device", "add", "c1", "web", "proxy", "listen=tcp:127.0.0.1:8001", "connect=tcp:127.0.0.1:80")
	k.cuib(t, "exec", "c2", "--", "sh", "-c", "sleep 86400 </dev/null >/dev/null 2>&1 &")
	k.serve(t)
	k.whole(t, "at first")
	return k
}

// serve has c1 answer what the proxy passes on.
func (k *kills) serve(t *testing.T) {
	t.Helper()
	k.cuib(t, "exec", "c1", "--", "sh", "-c", "mkdir -p /www; echo web >/www/x; httpd -p 80 -h /www")
}

// kill kills a process by its role.
func (k *kills) kill(t *testing.T, what string) {
	t.Helper()
	var pids []int
	switch what {
	case "daemon":
		if err := k.h.stop(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		return
	case "lxcfs":
		text, err := os.ReadFile(filepath.Join(k.h.dir, "lxcfs.pid"))
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		pids = []int{pid}
	case "dnsmasq":
		pids = k.processes("dnsmasq", "--conf-file="+k.h.dir)
	case "proxy":
		pids = k.processes("cuib-shim\x00proxy\x00" + k.h.dir)
	case "shim":
		pids = k.processes("cuib-shim\x00start\x00"+k.h.dir, "\x00c1\x00")
	}
	if len(pids) == 0 {
		t.Fatalf("there is no %s", what)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
}

// processes finds processes by parts of their command lines, of which the first
// begins it.
func (*kills) processes(parts ...string) []int {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var out []int
	for _, path := range all {
		line, _ := os.ReadFile(path)
		base := filepath.Base(strings.SplitN(string(line), "\x00", 2)[0])
		_, rest, _ := strings.Cut(string(line), "\x00")
		text := base + "\x00" + rest
		found := strings.HasPrefix(text, parts[0])
		for _, p := range parts[1:] {
			found = found && strings.Contains(text, p)
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); found && err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// whole waits until all works.
func (k *kills) whole(t *testing.T, what string) {
	t.Helper()
	k.until(t, what+": memory of c1", func() error {
		return k.says("98304", "c1", "sed", "-n", `s/^MemTotal: *\([0-9]*\) kB/\1/p`, "/proc/meminfo")
	})
	k.until(t, what+": memory and load of c2", func() error {
		return k.says("1", "c2", "sh", "-c", "cat /proc/uptime /proc/stat >/dev/null && grep -c ^MemTotal /proc/meminfo")
	})
	k.until(t, what+": the proxy", func() error {
		out, err := run(k.h.inside("busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8001/x")...)
		if err == nil && out != "web\n" {
			err = errors.New(out)
		}
		return err
	})
	k.until(t, what+": names of instances", func() error {
		return k.says("ok", "c2", "sh", "-c", "nslookup c1 $(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p') >/dev/null && echo ok")
	})
}

func (k *kills) says(want, name string, args ...string) error {
	got, err := k.h.user(append([]string{filepath.Join(binDir, "cuib"), "exec", name, "--"}, args...)...)
	if err == nil && strings.TrimSpace(got) != want {
		err = fmt.Errorf("%s says %q, want %q", name, got, want)
	}
	return err
}

// until waits until something holds.
func (k *kills) until(t *testing.T, what string, holds func() error) {
	t.Helper()
	var err error
	if !soon(func() bool { err = holds(); return err == nil }) {
		t.Fatalf("%s: %v\n%s", what, err, k.h.logs())
	}
}

// lives is what the guests would notice the end of.
func (k *kills) lives(t *testing.T) string {
	t.Helper()
	out := k.cuib(t, "list", "--format", "csv", "--columns", "np")
	return out + k.cuib(t, "exec", "c2", "--", "pidof", "sleep") + k.cuib(t, "exec", "c1", "--", "pidof", "httpd") +
		k.cuib(t, "exec", "c1", "--", "sh", "-c", "wc -l </proc/mounts")
}

// mounts is what is mounted on the host.
func (k *kills) mounts() string {
	return strings.Join(slices.Sorted(slices.Values(k.h.mounts())), "\n")
}
