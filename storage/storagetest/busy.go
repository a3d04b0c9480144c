package storagetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
)

// busyTests have others keep mounts that are taken away here.
var busyTests = []test{
	{"a mount held in foreign mount namespaces", testHeldElsewhere},
	{"a file held open", testHeldOpen},
}

// holding keeps the mounts at $1 and below.
const holding = "mount --make-rprivate /\n" + testenv.LetGo + `echo ready
exec sleep 1000`

// Hold has a process in each of n new mount namespaces, which have copies of
// all mounts below dir, until the test ends or release is called.
func Hold(t *testing.T, dir string, n int) (release func()) {
	t.Helper()
	// They die with the thread that starts them, which nobody else may have:
	// package run ends some of those that it runs on.
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	var held []*exec.Cmd
	release = func() {
		for _, cmd := range held {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // It was killed.
		}
		held = nil
	}
	t.Cleanup(release)
	for range n {
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", holding, "sh", dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		ok(t, err)
		ok(t, cmd.Start())
		held = append(held, cmd)
		_, err = out.Read(make([]byte, 1))
		ok(t, err)
	}
	return release
}

func testHeldElsewhere(t *testing.T, p Pool) {
	d := p.Driver
	for _, v := range []storage.Volume{c1, {Kind: storage.Custom, Name: "data"}} {
		s := v
		s.Snapshot = "s0"
		ok(t, d.Create(t.Context(), v))
		write(t, d, v, "one")
		ok(t, d.Snapshot(t.Context(), s))
		dir, err := d.Mount(t.Context(), v, ids)
		ok(t, err)
		_, err = d.Mount(t.Context(), s, nil)
		ok(t, err)
		kinds := filepath.Dir(filepath.Dir(dir)) // Below it are the mounts of volumes.
		release := Hold(t, filepath.Dir(kinds), 3)
		holders, err := mounts.Holders(func(i mounts.Info) bool { return i.Point == dir })
		ok(t, err)
		if len(holders) < 3 || !strings.Contains(mounts.Names(holders), "(sleep)") {
			t.Errorf("%d hold %s: %s", len(holders), dir, mounts.Names(holders))
		}
		ok(t, d.Unmount(t.Context(), v))
		ok(t, d.Unmount(t.Context(), s))

		// It is as if they were not there.
		again, err := d.Mount(t.Context(), v, ids)
		ok(t, err)
		if again != dir {
			t.Errorf("mounted on %s, then on %s", dir, again)
		}
		ok(t, d.Unmount(t.Context(), v))
		ok(t, d.Restore(t.Context(), s))
		ok(t, d.Rename(t.Context(), v, "other"))
		v.Name, s.Name = "other", "other"
		wantFile(t, d, v, "one")
		ok(t, d.Delete(t.Context(), s))
		ok(t, d.Delete(t.Context(), v))
		wantList(t, d)
		release()
	}
}

func testHeldOpen(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, "one")
	dir, err := d.Mount(t.Context(), c1, ids)
	ok(t, err)
	f, err := os.Open(dir + "/f")
	ok(t, err)
	users, err := mounts.Users(dir)
	if err != nil || len(users) != 0 {
		t.Errorf("this process counts itself: %v, %v", users, err)
	}
	ok(t, d.Unmount(t.Context(), c1))
	ok(t, d.Delete(t.Context(), c1))
	wantList(t, d)
	ok(t, f.Close())
}
