package files_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"

	"github.com/cuib/cuib/client/cmd/cuib/internal/files"
	"github.com/cuib/cuib/shared/errs"
)

// guest serves the files of this host, of which only those below a new
// directory are used, and returns it.
func guest(t *testing.T) (*sftp.Client, string) {
	t.Helper()
	theirs, ours := net.Pipe()
	server, err := sftp.NewServer(theirs)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve() }()
	c, err := files.Open(ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.Close(), server.Close() })
	return c, t.TempDir()
}

func write(t *testing.T, name, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

// want compares a file.
func want(t *testing.T, name, text string, mode fs.FileMode) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil || string(data) != text {
		t.Errorf("%s is %q, %v; want %q", name, data, err, text)
		return
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != mode {
		t.Errorf("%s has the mode %v, %v; want %v", name, info.Mode(), err, mode)
	}
}

func TestParsePath(t *testing.T) {
	for in, out := range map[string]files.Path{
		"web/etc/hosts":       {Instance: "web", File: "/etc/hosts"},
		"web/srv/":            {Instance: "web", File: "/srv", IsDir: true},
		"web/":                {Instance: "web", File: "/", IsDir: true},
		"web/../../../etc/..": {Instance: "web", File: "/"},
	} {
		if got, err := files.ParsePath(in); err != nil || got != out {
			t.Errorf("%s: %+v, %v; want %+v", in, got, err, out)
		}
	}
	for _, in := range []string{"web", "/etc", ""} {
		if _, err := files.ParsePath(in); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestPushAndPull(t *testing.T) {
	c, dir := guest(t)
	source := filepath.Join(t.TempDir(), "in.txt")
	write(t, source, "hello", 0o640)
	p := files.Pusher{FS: c, To: files.Path{File: dir + "/a/b/out.txt"}, Attributes: files.Attributes{UID: -1, GID: -1}}
	if err := p.File(source); !errs.Is(err, errs.NotFound) {
		t.Errorf("no directory: %v", err)
	}
	p.CreateDirs = true
	if err := p.File(source); err != nil {
		t.Fatal(err)
	}
	want(t, dir+"/a/b/out.txt", "hello", 0o640)

	// A directory takes the file's own name, and a given mode counts.
	p.To.File = dir + "/a"
	p.Attributes.Mode, p.Attributes.HasMode = 0o600, true
	if err := p.File(source); err != nil {
		t.Fatal(err)
	}
	want(t, dir+"/a/in.txt", "hello", 0o600)
	if err := p.File(t.TempDir()); !errs.Is(err, errs.Invalid) {
		t.Errorf("a directory: %v", err)
	}

	// What is replaced is not longer than what replaces it.
	p.To.File = dir + "/a/in.txt"
	if err := p.Stream("-", strings.NewReader("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	want(t, dir+"/a/in.txt", "x", 0o600)

	to := filepath.Join(t.TempDir(), "back")
	if err := files.PullFile(c, dir+"/a/b/out.txt", to, nil); err != nil {
		t.Fatal(err)
	}
	want(t, to, "hello", 0o640)
	var out bytes.Buffer
	if _, err := files.Pull(c, dir+"/a", &out, nil); !errs.Is(err, errs.Invalid) {
		t.Errorf("pull of a directory: %v", err)
	}
	if err := files.PullFile(c, dir+"/a", to, nil); !errs.Is(err, errs.Invalid) {
		t.Errorf("pull of a directory to a file: %v", err)
	}
	want(t, to, "hello", 0o640)
	if err := files.PullFile(c, dir+"/none", filepath.Join(t.TempDir(), "x"), nil); !errs.Is(err, errs.NotFound) {
		t.Errorf("pull of nothing: %v", err)
	}
}

func TestTrees(t *testing.T) {
	c, dir := guest(t)
	source := filepath.Join(t.TempDir(), "tree")
	write(t, source+"/a/b", "deep", 0o755)
	write(t, source+"/secret", "s", 0o400)
	if err := os.Symlink("a/b", source+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(source+"/a", 0o711); err != nil {
		t.Fatal(err)
	}
	p := files.Pusher{FS: c, To: files.Path{File: dir}, Attributes: files.Attributes{UID: -1, GID: -1}}
	for range 2 { // Again over itself.
		if err := p.Tree(source); err != nil {
			t.Fatal(err)
		}
	}
	to := filepath.Join(t.TempDir(), "new", "place")
	pull := files.Puller{FS: c, Skip: func(name string) { t.Errorf("%s skipped", name) }}
	if err := pull.Tree(dir+"/tree", to); err != nil {
		t.Fatal(err)
	}
	want(t, to+"/tree/a/b", "deep", 0o755)
	want(t, to+"/tree/secret", "s", 0o400)
	if target, err := os.Readlink(to + "/tree/link"); err != nil || target != "a/b" {
		t.Errorf("the link leads to %q, %v", target, err)
	}
	if info, err := os.Stat(to + "/tree/a"); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("the directory has the mode %v, %v", info.Mode(), err)
	}
}

// trap is an instance that lists a link, and then a directory of that name
// with a file in it.
type trap struct{ link, name string }

func (h trap) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	switch {
	case r.Method == "Readlink":
		return list{entry{h.link, fs.ModeSymlink}}, nil
	case r.Method == "List" && r.Filepath == "/top":
		return list{entry{h.name, fs.ModeSymlink}, entry{h.name, fs.ModeDir}}, nil
	case r.Method == "List":
		return list{entry{"owned", 0}}, nil
	}
	return list{entry{"top", fs.ModeDir}}, nil
}

func (trap) Fileread(*sftp.Request) (io.ReaderAt, error) { return strings.NewReader("owned"), nil }

type list []fs.FileInfo

func (l list) ListAt(into []fs.FileInfo, from int64) (int, error) {
	if from >= int64(len(l)) {
		return 0, io.EOF
	}
	return copy(into, l[from:]), nil
}

type entry struct {
	name string
	mode fs.FileMode
}

func (e entry) Name() string       { return e.name }
func (e entry) Size() int64        { return 5 }
func (e entry) Mode() fs.FileMode  { return e.mode | 0o755 }
func (e entry) ModTime() time.Time { return time.Time{} }
func (e entry) IsDir() bool        { return e.mode.IsDir() }
func (e entry) Sys() any           { return nil }

func TestPullStaysInItsDirectory(t *testing.T) {
	for _, name := range []string{"x", "../x", "..", "a/b"} {
		t.Run(name, func(t *testing.T) {
			outside := t.TempDir()
			theirs, ours := net.Pipe()
			h := trap{link: outside, name: name}
			server := sftp.NewRequestServer(theirs, sftp.Handlers{FileGet: h, FileList: h})
			go func() { _ = server.Serve() }()
			c, err := files.Open(ours)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _, _ = c.Close(), server.Close() }()
			to := t.TempDir()
			if err := (files.Puller{FS: c, Skip: func(string) {}}).Tree("/top", filepath.Join(to, "in")); err == nil && name != ".." { // The library leaves that out.
				t.Error("the trap was not noticed")
			}
			left, err := os.ReadDir(outside)
			if err != nil || len(left) > 0 {
				t.Errorf("the instance made %v outside", left)
			}
			if names, _ := os.ReadDir(to); len(names) > 1 {
				t.Errorf("the instance made %v beside the directory", names)
			}
		})
	}
}

func TestMaker(t *testing.T) {
	c, dir := guest(t)
	maker := func(name string, force bool) files.Maker {
		return files.Maker{
			Pusher: files.Pusher{FS: c, To: files.Path{File: dir + name}, CreateDirs: true, Attributes: files.Attributes{UID: -1, GID: -1}},
			Force:  force,
		}
	}
	if err := maker("/d/f", false).File(); err != nil {
		t.Fatal(err)
	}
	want(t, dir+"/d/f", "", 0o644)
	if err := maker("/d/f", false).File(); !errs.Is(err, errs.Conflict) {
		t.Errorf("again: %v", err)
	}
	if err := maker("/d/f", true).File(); err != nil {
		t.Errorf("again with force: %v", err)
	}
	if err := maker("/d/f", true).Dir(); !errs.Is(err, errs.Conflict) {
		t.Errorf("a directory in place of a file: %v", err)
	}
	if err := maker("/d/e", false).Dir(); err != nil {
		t.Error(err)
	}
	for _, target := range []string{"f", "e"} {
		if err := maker("/d/l", true).Link(target); err != nil {
			t.Error(err)
		}
		if got, err := os.Readlink(dir + "/d/l"); err != nil || got != target {
			t.Errorf("the link leads to %q, %v", got, err)
		}
	}
	p := maker("/d/f", false).Pusher
	if err := os.Chmod(dir+"/d/f", 0o604); err != nil {
		t.Fatal(err)
	}
	if err := p.Replace(strings.NewReader("new")); err != nil {
		t.Fatal(err)
	}
	want(t, dir+"/d/f", "new", 0o604)
}

func TestDelete(t *testing.T) {
	c, dir := guest(t)
	write(t, filepath.Join(dir, "d/f"), "x", 0o644)
	if err := files.Delete(c, dir+"/d"); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("a directory with something in it: %v", err)
	}
	for _, name := range []string{"/d/f", "/d"} {
		if err := files.Delete(c, dir+name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := files.Delete(c, dir+"/d"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is not there: %v", err)
	}
}
