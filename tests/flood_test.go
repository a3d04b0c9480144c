package tests

import (
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// maxKept is what an instance may have the host keep of what it says: of its
// console, of liblxc, of the helper, and of programs whose output is recorded.
const maxKept = (2 + 1 + 1 + 2*64 + 8) << 20

// TestGuestFloods has a guest with limits take all that it can get: processes,
// memory, its console, the guest API, output that is recorded, reboots,
// terminals and key rings. The other instance and the API answer all the time,
// and what is kept of it is bounded.
func TestGuestFloods(t *testing.T) {
	s := newSiege(t, "limits.memory=128MiB", "limits.processes=200", "limits.cpu.allowance=50%")
	s.cuib(t, "file", "push", filepath.Join(binDir, "guestask"), "c1/bin/guestask")
	for _, flood := range []struct{ name, text string }{
		{"processes", "hostile fork"},
		{"memory", "while :; do hostile hog; done"},
		{"console", "yes 'the console is full of this line' >/dev/console"},
		{"guest API", "for i in 1 2 3 4; do guestask flood 60 & done; while :; do guestask hold 60; done"},
		{"guest API's events", "for i in 1 2 3 4 5 6 7 8 9; do guestask follow /1.0/events 1 & done; wait"},
		{"large requests", "while :; do head -c 10000000 /dev/zero | tr '\\0' x >/root/large; guestask PATCH /1.0 \"$(head -c 100000 /root/large)\"; guestask GET /1.0/config/$(head -c 100000 /root/large); done"},
		{"terminals", "while :; do script -q -c 'sleep 60' /dev/null & done"},
	} {
		s.background(t, flood.text)
		for range 2 {
			s.others(t)
		}
		s.bounded(t, flood.name)
		s.again(t)
	}
	s.background(t, "hostile fork")
	s.cuib(t, "launch", "tiny", "c3")
	s.cuib(t, "delete", "--force", "c3")
	s.again(t)
	s.recorded(t)
	s.bounded(t, "recorded output")
}

// again restarts c1. Its init may have ended for lack of memory.
func (s *siege) again(t *testing.T) {
	t.Helper()
	_, err := s.h.user(filepath.Join(binDir, "cuib"), "restart", "--force", "c1")
	if err != nil && strings.Contains(err.Error(), "is not running") {
		s.cuib(t, "start", "c1")
	} else if err != nil {
		t.Fatal(err)
	}
}

// bounded fails if more is kept of c1 than may be.
func (s *siege) bounded(t *testing.T, what string) {
	t.Helper()
	kept := s.kept(t)
	t.Logf("%s: %d bytes are kept", what, kept)
	if kept > maxKept {
		t.Errorf("%s: %d bytes are kept, more than %d", what, kept, maxKept)
	}
}

// recorded has programs write more than is recorded of them.
func (s *siege) recorded(t *testing.T) {
	t.Helper()
	err := s.api.call(http.MethodPost, "/1.0/instances/c1/exec", map[string]any{
		"command": []string{"sh", "-c", "yes | head -c 100000000; yes | head -c 100000000 >&2"}, "record-output": true,
	}, nil)
	if err != nil {
		t.Errorf("a program with much output: %v", err)
	}
}

// kept returns how many bytes of the host's disk the logs of c1 take.
func (s *siege) kept(t *testing.T) (sum int64) {
	t.Helper()
	for _, dir := range []string{"run/c1", "logs/c1"} {
		err := filepath.WalkDir(filepath.Join(s.h.dir, dir), func(_ string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() && d.Name() == "rootfs" {
				return fs.SkipDir
			}
			info, ierr := d.Info()
			if err == nil && ierr == nil && d.Type().IsRegular() {
				st, _ := info.Sys().(*syscall.Stat_t)
				sum += max(info.Size(), st.Blocks*512)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	return sum
}

// TestStrangeTrees has a guest make many files, names of all kinds, and
// directories deeper than a path can say. The host makes snapshots and copies of
// all of it, lists, compares and writes archives of all else, and can delete it.
func TestStrangeTrees(t *testing.T) {
	s := newSiege(t)
	s.cuib(t, "storage", "create", "plain", "dir")
	s.cuib(t, "snapshot", "create", "c1", "before")
	s.cuib(t, "exec", "c1", "--", "hostile", "tree", "/t")

	var names []string
	if err := s.api.list("/1.0/instances/c1/files?path="+url.QueryEscape("/t/many"), &names); err != nil || len(names) != 2_000 {
		t.Errorf("there are %d names (%v)", len(names), err)
	}
	if err := s.api.list("/1.0/instances/c1/files?path=/t", &names); err != nil {
		t.Error(err)
	}
	for _, name := range names {
		if strings.Contains(name, "\ufffd") || name == "sparse" || name == "long" || name == "loop" {
			continue // JSON knows no such name; the others are no files, or have much.
		}
		if text, err := s.api.pull("/1.0/instances/c1/files?path=" + url.QueryEscape("/t/"+name)); err == nil && !strings.HasPrefix(text, "{") && text != name {
			t.Errorf("the file %q has %.100q", name, text)
		}
	}
	cuib := func(args ...string) error {
		_, err := s.h.user(append([]string{filepath.Join(binDir, "cuib")}, args...)...)
		return err
	}
	archive := filepath.Join(t.TempDir(), "c1.tar.gz")
	for _, args := range [][]string{
		{"snapshot", "create", "c1", "after"},
		{"snapshot", "diff", "c1", "before"},
		{"snapshot", "diff", "c1", "before", "after"},
		{"copy", "c1/after", "c3"},
		{"copy", "c1/after", "c4", "--storage", "plain"},
		{"export", "c1", archive, "--instance-only"},
		{"import", archive, "c5"},
		{"publish", "c1/after", "--alias", "strange"},
	} {
		if err := cuib(args...); err != nil {
			t.Errorf("%v", err)
		}
	}
	s.cuib(t, "exec", "c1", "--", "hostile", "deep", "/t")
	for _, args := range [][]string{
		{"snapshot", "create", "c1", "deep"},
		{"copy", "c1/deep", "c6"},
		{"copy", "c1/deep", "c7", "--storage", "plain"},
		{"snapshot", "create", "c7", "again"},
		{"snapshot", "restore", "c7", "again"},
		{"snapshot", "restore", "c1", "deep"},
		{"exec", "c1", "--", "hostile", "bottom", "/t"},
		{"info", "c1"},
	} {
		if err := cuib(args...); err != nil {
			t.Errorf("what is too deep for a path: %v", err)
		}
	}
	deep := filepath.Join(t.TempDir(), "deep.tar.gz")
	for _, args := range [][]string{
		{"snapshot", "diff", "c1", "before", "deep"}, {"export", "c1", deep, "--instance-only"}, {"publish", "c1/deep", "--alias", "deep"},
	} {
		if err := cuib(args...); err == nil || !strings.Contains(err.Error(), "longer than the 4096 bytes") {
			t.Errorf("%s of what no path can name: %v", args[0], err)
		}
	}
	if got := s.cuib(t, "exec", "c2", "--", "echo", "well"); got != "well\n" {
		t.Errorf("the other instance says %q", got)
	}
	for _, name := range []string{"c1", "c3", "c4", "c5", "c6", "c7"} {
		_ = cuib("delete", "--force", name)
	}
	if out := s.cuib(t, "list", "--format", "csv", "--columns", "n"); out != "c2\n" {
		t.Errorf("not all could be deleted: %q", out)
	}
}
