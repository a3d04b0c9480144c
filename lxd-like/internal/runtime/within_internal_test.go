package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// withinTree has the directories own, other and secret, and links in own.
func withinTree(t *testing.T) (at func(name string) string) {
	t.Helper()
	top := t.TempDir()
	at = func(name string) string { return filepath.Join(top, name) }
	for _, dir := range []string{"own/deep", "other", "ownx", "secret"} {
		if err := os.MkdirAll(at(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	links := map[string]string{"own/out": "../secret", "own/abs": at("secret"), "own/in": "deep", "own/proc": "/proc/self/root"}
	for name, to := range links {
		if err := os.Symlink(to, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	return at
}

// TestWithin opens sources that must be in one of two directories.
func TestWithin(t *testing.T) {
	t.Parallel()
	at := withinTree(t)
	within := at("own") + ", " + at("other") + "/"
	for _, good := range []string{"own", "own/deep", "own/in", "own/deep/..", "other"} {
		if info, err := (Mount{Source: at("") + "/" + good, Within: within}).Look(); err != nil || !info.IsDir() {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"own/out", "own/abs", "own/proc", "secret", "ownx", "own/../secret", ""} {
		m := Mount{Source: at("") + "/" + bad, Within: within}
		if _, err := m.Look(); !errs.Is(err, errs.Denied) {
			t.Errorf("%q: got %v, want it refused", bad, err)
		}
		if fd, err := m.openTree(unix.OPEN_TREE_CLOEXEC); !errs.Is(err, errs.Denied) {
			t.Errorf("%q: opened as %d, %v", bad, fd, err)
		}
	}
	if _, err := (Mount{Source: at("own/nonesuch"), Within: within}).Look(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a source that is not there: %v", err)
	}
}

// TestWithinRace has a directory become a link that leads out, and a directory
// again, while it is opened: what is opened is never what is out.
func TestWithinRace(t *testing.T) {
	t.Parallel()
	at := withinTree(t)
	var secret, st unix.Stat_t
	if err := unix.Stat(at("secret"), &secret); err != nil {
		t.Fatal(err)
	}
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
			}
			if err := unix.Renameat2(unix.AT_FDCWD, at("own/deep"), unix.AT_FDCWD, at("own/out"), unix.RENAME_EXCHANGE); err != nil {
				t.Error(err)
				return
			}
		}
	})
	opened, refused := 0, 0
	for range 3000 {
		fd, err := Mount{Source: at("own/deep"), Within: at("own")}.openTree(unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			refused++
			continue
		}
		opened++
		err = unix.Fstat(fd, &st)
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			t.Fatal(err)
		}
		if st.Ino == secret.Ino && st.Dev == secret.Dev {
			t.Fatal("a directory was opened that is out")
		}
	}
	close(end)
	wg.Wait()
	t.Logf("opened %d times, refused %d times", opened, refused)
	if opened == 0 {
		t.Error("nothing was ever opened")
	}
}
