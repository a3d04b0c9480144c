package tests

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestUpgrade has an older daemon start an instance, with the cuib-shim of its
// time, and this one take it over: all that can be done with an instance that
// runs works, also after it has booted again.
func TestUpgrade(t *testing.T) {
	old := os.Getenv("CUIB_TEST_OLD")
	if old == "" {
		t.Skip("set CUIB_TEST_OLD to a directory with cuibd and cuib-shim of an older version")
	}
	h := makeHost(t)
	h.bin = filepath.Join(old, "cuibd")
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	if err := h.image("tiny", "tiny"); err != nil {
		t.Fatal(err)
	}
	h.must(t, "launch", "tiny", "c1")
	h.must(t, "exec", "c1", "--", "true")
	shim := h.shimOf(t)
	if filepath.Dir(shim) != old {
		t.Fatalf("the instance has the shim %s", shim)
	}
	if err := h.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	h.bin = ""
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	h.useAll(t)
	h.mark(t)
	if err := h.exec(nil, nil, "sh", "-c", "kill -INT 1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has booted again", h.fresh)
	if now := h.shimOf(t); now != shim {
		t.Errorf("it has the shim %s, had %s", now, shim)
	}
	h.useAll(t)
	h.must(t, "stop", "c1", "--timeout", "60")
	h.must(t, "start", "c1")
	h.useAll(t)
	if now := h.shimOf(t); now == shim {
		t.Errorf("after a start it has the shim %s", now)
	}
}

// useAll does with c1 what concerns its shim or what that has started.
func (h *host) useAll(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{
		{"exec", "c1", "--", "true"},
		{"config", "device", "add", "c1", "usr", "disk", "source=/usr", "path=/srv", "readonly=true"},
		{"config", "device", "add", "c1", "null", "unix-char", "path=/dev/nothing", "major=1", "minor=3"},
		{"config", "device", "add", "c1", "eth1", "nic", "nictype=p2p", "name=eth1"},
		{"config", "device", "add", "c1", "web", "proxy", "listen=tcp:127.0.0.1:1234", "connect=tcp:127.0.0.1:80"},
		{"exec", "c1", "--", "sh", "-c", "test -e /srv/bin/true && test -c /dev/nothing && ip link show eth1"},
		{"config", "set", "c1", "limits.memory=64MiB"},
		{"config", "set", "c1", "limits.processes=100"},
		{"pause", "c1"},
		{"start", "c1"},
		{"console", "c1", "--show-log"},
		{"snapshot", "create", "c1"},
		{"config", "device", "remove", "c1", "usr", "null", "eth1", "web"},
		{"exec", "c1", "--", "sh", "-c", "test ! -e /srv/bin && test ! -e /dev/nothing && ! ip link show eth1"},
	} {
		if _, err := h.cuib(args...); err != nil {
			t.Errorf("%v", err)
		}
	}
	var out strings.Builder
	if err := h.exec(nil, &out, "cat", "/proc/1/status"); err != nil || !strings.Contains(out.String(), "Seccomp:\t2") {
		t.Errorf("its init has no filter of system calls: %v", err)
	}
}

// shimOf returns the program that keeps c1.
func (h *host) shimOf(t *testing.T) string {
	t.Helper()
	out, err := run("pgrep", "-f", "^cuib-shim start "+filepath.Join(h.dir, "run")+" c1 ")
	if err != nil {
		t.Fatal(err)
	}
	pid, _, _ := strings.Cut(out, "\n")
	exe, err := os.Readlink("/proc/" + pid + "/exe")
	if err != nil {
		t.Fatal(err)
	}
	return exe
}
