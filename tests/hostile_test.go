package tests

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A siege is a host with a hostile guest, c1, and one that must not notice,
// c2.
type siege struct {
	*escape

	api    *apiClient
	victim string // A directory of the host, with files of root's.
}

func newSiege(t *testing.T, config ...string) *siege {
	t.Helper()
	h := startTiny(t)
	s := &siege{escape: newEscape(t, h), api: newAPI(h.socket()), victim: filepath.Join(h.dir, "victim")}
	if err := errors.Join(
		os.MkdirAll(filepath.Join(s.victim, "sub"), 0o755),
		os.WriteFile(filepath.Join(s.victim, "x"), []byte("host\n"), 0o644),
		os.WriteFile(filepath.Join(s.victim, "sub/x"), []byte("host\n"), 0o644),
	); err != nil {
		t.Fatal(err)
	}
	for _, c := range config {
		s.cuib(t, "config", "set", "c1", c)
	}
	s.cuib(t, "file", "push", filepath.Join(binDir, "hostile"), "c1/bin/hostile")
	return s
}

// background has a shell of the guest run something that goes on.
func (s *siege) background(t *testing.T, text string) {
	t.Helper()
	s.cuib(t, "exec", "c1", "--", "sh", "-c", "{ "+text+"; } >/dev/null 2>&1 </dev/null &")
}

// unharmed fails if the victim is not as it was, or something is mounted there.
func (s *siege) unharmed(t *testing.T) {
	t.Helper()
	var have []string
	err := filepath.WalkDir(s.victim, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && path == s.victim {
			return err
		}
		rel, _ := filepath.Rel(s.victim, path)
		if data, _ := os.ReadFile(path); !d.IsDir() && string(data) != "host\n" {
			rel += " with " + string(data)
		}
		have = append(have, rel)
		return nil
	})
	if want := []string{"sub", "sub/x", "x"}; err != nil || !slices.Equal(have, want) {
		t.Errorf("in the host's directory there are %q (%v), want %q", have, err, want)
	}
	for _, m := range s.h.mounts() {
		if strings.HasPrefix(m, s.victim) {
			t.Errorf("%s is mounted", m)
		}
	}
}

// others fails if the other instance or the API do not answer. There can be more
// instances, later in the list.
func (s *siege) others(t *testing.T) {
	t.Helper()
	if got := s.cuib(t, "exec", "c2", "--", "echo", "well"); got != "well\n" {
		t.Errorf("the other instance says %q", got)
	}
	if got := s.cuib(t, "list", "--format", "csv", "--columns", "n"); !strings.HasPrefix(got, "c1\nc2\n") {
		t.Errorf("the instances are %q", got)
	}
}

// TestGuestSwapsWays has a guest exchange directories for links to the host
// all the time, while the host goes those ways for all that it does with
// files, devices, sockets and programs.
func TestGuestSwapsWays(t *testing.T) {
	s := newSiege(t)
	var ways []string
	for i, target := range []string{s.victim, "../../../../../../../../.." + s.victim, "/proc/self/root" + s.victim, filepath.Join(s.h.dir, "run/c2/rootfs/root")} {
		way := fmt.Sprintf("/t/%d", i)
		s.background(t, "hostile swap "+way+" "+target)
		s.cuib(t, "exec", "c1", "--", "sh", "-c", "until [ -e "+way+"/a/x ]; do sleep 0.1; done")
		ways = append(ways, way)
	}
	var wg sync.WaitGroup
	for _, way := range ways {
		wg.Go(func() { s.byAPI(t, way) })
	}
	wg.Go(func() { s.byCommands(t, ways) })
	wg.Go(func() {
		for range 10 {
			s.others(t)
		}
	})
	wg.Wait()
	s.unharmed(t)
	if got := s.cuib(t, "exec", "c2", "--", "sh", "-c", "echo /root/*"); got != "/root/the-mark-of-c2\n" {
		t.Errorf("the other instance has %q", got)
	}
	s.cuib(t, "stop", "--force", "c1")
	s.unharmed(t)
}

// byAPI reads, writes, lists and runs in a way again and again. Whether it can
// is up to the guest.
func (s *siege) byAPI(t *testing.T, way string) {
	file := func(name string) string { return "/1.0/instances/c1/files?path=" + url.QueryEscape(way+"/a"+name) }
	var read, failed int
	for range 100 {
		if err := s.api.push(file("/x"), []byte("pushed\n")); err != nil {
			failed++
		}
		_ = s.api.push(file("/new"), []byte("pushed\n"))
		text, err := s.api.pull(file("/x"))
		if err == nil {
			read++
			if !slices.Contains([]string{"", "guest\n", "pushed\n"}, text) {
				t.Errorf("%s/a/x has %q", way, text)
			}
		}
		var names []string
		if s.api.list(file(""), &names) == nil {
			for _, name := range names {
				if !slices.Contains([]string{"x", "new", "m", "dev", "s", "tree"}, name) {
					t.Errorf("%s/a has %q", way, names)
				}
			}
		}
		_ = s.api.call(http.MethodDelete, file("/new"), nil, nil)
	}
	t.Logf("%s: %d reads and %d failed writes of 100", way, read, failed)
}

// byCommands adds and removes devices, copies trees, and starts programs.
func (s *siege) byCommands(t *testing.T, ways []string) {
	cuib := func(args ...string) string {
		out, _ := s.h.user(append([]string{filepath.Join(binDir, "cuib")}, args...)...)
		return out
	}
	source := filepath.Join(t.TempDir(), "tree")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Error(err)
		return
	}
	for i := range 8 {
		way := ways[i%len(ways)]
		cuib("config", "device", "add", "c1", "m", "disk", "source="+source, "path="+way+"/a/m")
		cuib("config", "device", "add", "c1", "dev", "unix-char", "source=/dev/zero", "path="+way+"/a/dev")
		cuib("config", "device", "add", "c1", "s", "proxy", "bind=instance", "listen=unix:"+way+"/a/s", "connect=tcp:127.0.0.1:1")
		for _, device := range []string{"m", "dev", "s"} {
			cuib("config", "device", "remove", "c1", device)
		}
		if out := cuib("exec", "c1", "--cwd", way+"/a", "--", "cat", "x"); out == "host\n" {
			t.Errorf("a program in %s reads the host's file", way)
		}
		to := t.TempDir()
		cuib("file", "pull", "--recursive", "c1"+way, to)
		s.noneOfHost(t, to)
		cuib("file", "push", "--recursive", source, "c1"+way+"/a")
		s.unharmed(t)
	}
	cuib("snapshot", "create", "c1", "snap")
	cuib("snapshot", "diff", "c1", "snap")
	cuib("copy", "c1/snap", "c3")
	archive := filepath.Join(t.TempDir(), "c1.tar.gz")
	cuib("export", "c1", archive)
	if out, err := run("sh", "-c", "tar -xzOf "+archive+" --wildcards '*/t/*' | grep -x host"); err == nil {
		t.Errorf("the archive has files of the host: %s", out)
	}
	if out := cuib("file", "pull", "c3/t/0/a/x", "-"); out == "host\n" {
		t.Error("the copy has a file of the host")
	}
	cuib("delete", "--force", "c3")
}

// noneOfHost fails if there are files of the host in a directory.
func (s *siege) noneOfHost(t *testing.T, dir string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if data, _ := os.ReadFile(path); string(data) == "host\n" {
				t.Errorf("%s has what a file of the host has", path)
			}
		}
		return nil
	})
}

// traps are what a guest can leave behind for its next start, or for the host
// to meet in its files.
var traps = []struct{ name, text string }{
	{"link to the host", `for f in $FILES; do mkdir -p ${f%/*}; rm -rf $f; ln -s $VICTIM/x $f; done`},
	{"link upwards", `for f in $FILES; do rm -rf $f; ln -s ../../../../../../../../../..$VICTIM/x $f; done`},
	{"dangling link to the host", `for f in $FILES; do rm -rf $f; ln -s $VICTIM/new $f; done`},
	{"link to the kernel", `for f in $FILES; do rm -rf $f; ln -s /proc/sys/kernel/core_pattern $f; done`},
	{"magic link", `for f in $FILES; do rm -rf $f; ln -s /proc/self/fd/3 $f; done`},
	{"link to itself", `for f in $FILES; do rm -rf $f; ln -s ${f##*/} $f; done`},
	{"pipe", `for f in $FILES; do rm -rf $f; mkfifo $f; done`},
	{"directory", `for f in $FILES; do rm -rf $f; mkdir -p $f/x; done`},
	{"huge file", `for f in $FILES; do rm -rf $f; truncate -s 1000G $f; done`},
	{"file of many bytes without a line", `for f in $FILES; do rm -rf $f; head -c 1000000 /dev/zero | tr '\0' x >$f; done`},
	{"directories that are links", `rm -rf /etc /var /t; for d in /etc /var /t; do ln -s $VICTIM $d; done`},
	{"directories that are links upwards", `rm -rf /etc /var /t; for d in /etc /var /t; do ln -s ../../../../../../../..$VICTIM $d; done`},
	{"nothing", `rm -rf /etc /var /t /root /tmp /usr; true`},
}

// TestGuestSetsTraps has a guest put all that in the place of the files that
// the host reads, writes and mounts on when it starts. It starts, or that is
// refused, and the host and other instances are well.
func TestGuestSetsTraps(t *testing.T) {
	s := newSiege(t)
	s.cuib(t, "stop", "--force", "c1")
	s.cuib(t, "config", "device", "add", "c1", "file", "disk", "source="+filepath.Join(s.victim, "sub/x"), "path=/t/file", "readonly=true", "required=false")
	s.cuib(t, "config", "set", "c1", "user.user-data=x", "cloud-init.user-data=#cloud-config\n{}")
	s.templates(t)
	started := 0
	for _, trap := range traps {
		s.cuib(t, "copy", "c1", "c3")
		if _, err := s.h.user(filepath.Join(binDir, "cuib"), "start", "c3"); err != nil {
			t.Fatal(err)
		}
		s.cuib(t, "exec", "c3", "--", "sh", "-c",
			"VICTIM="+s.victim+"; FILES='/etc/hostname /etc/hosts /etc/resolv.conf /etc/machine-id /etc/passwd /etc/group /var/lib/cloud/seed/nocloud-net/user-data /var/lib/dbus/machine-id /t/file /t/template /root'; mkdir -p /t /var/lib/cloud/seed/nocloud-net /var/lib/dbus; "+trap.text)
		s.cuib(t, "stop", "--force", "c3")
		if _, err := s.h.user(filepath.Join(binDir, "cuib"), "start", "c3"); err != nil {
			t.Logf("%s: %.300v", trap.name, err)
		} else {
			started++
			s.cuib(t, "exec", "c3", "--", "true")
			s.cuib(t, "exec", "c3", "--user", "1000", "--", "true")
		}
		s.cuib(t, "list", "--format", "csv", "--columns", "ns4u")
		s.unharmed(t)
		s.cuib(t, "copy", "c3", "c4", "--instance-only")
		s.cuib(t, "delete", "--force", "c3", "c4")
		s.others(t)
	}
	t.Logf("%d of %d start", started, len(traps))
}

// templates gives c1 a template that is written at each start.
func (s *siege) templates(t *testing.T) {
	t.Helper()
	if err := s.api.push("/1.0/instances/c1/metadata/templates?path=x.tpl", []byte("template {{ container.name }}\n")); err != nil {
		t.Fatal(err)
	}
	targets := map[string]any{}
	for _, path := range []string{"/etc/hostname", "/etc/hosts", "/t/template", "/var/lib/cloud/seed/nocloud-net/user-data"} {
		targets[path] = map[string]any{"when": []string{"start", "create", "copy"}, "template": "x.tpl"}
	}
	err := s.api.call(http.MethodPatch, "/1.0/instances/c1/metadata", map[string]any{"templates": targets}, nil)
	if err != nil {
		t.Fatal(err)
	}
}
