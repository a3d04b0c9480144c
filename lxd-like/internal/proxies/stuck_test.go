package proxies_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/proxies"
	"github.com/cuib/cuib/shared/testenv"
)

// hang mounts a file system that never answers, as a guest can, until the end of
// the test.
func (g *guest) hang(t *testing.T, dir string) {
	t.Helper()
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { fuse.Close() }) // From then on it fails all calls.
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", g.cmd.Process.Pid))
	must(t, err)
	defer ns.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // The thread ends with the goroutine.
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS)
		}
		if err == nil {
			options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fuse.Fd())
			err = unix.Mount("hang", dir, "fuse", 0, options)
		}
		done <- err
	}()
	must(t, <-done)
}

// blocked reports whether a process waits for a file system.
func blocked(pid int) bool {
	where, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", pid))
	return err == nil && (strings.HasPrefix(string(where), "fuse") || string(where) == "request_wait_answer")
}

// TestStuck has a guest's file system not answer when a proxy is to listen in it,
// and later when it looks after its socket: no process stays.
func TestStuck(t *testing.T) {
	g := newGuest(t)
	s := newService(t, g)
	for _, d := range []string{"/tmp/early", "/tmp/late"} {
		must(t, os.Mkdir(g.root+d, 0o755))
		must(t, os.Chown(g.root+d, firstID, firstID))
	}
	inside := func(dir string) proxies.Rule {
		return proxies.Rule{Inside: true, Listen: "unix:" + dir + "/socket", Connect: "tcp:127.0.0.1:80"}
	}
	start(t, s, owner(g, "late"), inside("/tmp/late"))
	g.hang(t, "/tmp/late")
	g.hang(t, "/tmp/early")
	testenv.Eventually(t, "the keeper to be stuck", func() bool { return slices.ContainsFunc(withKeepers(t, s), blocked) })
	both := withKeepers(t, s)
	must(t, unix.Kill(processes(t, s)[0], unix.SIGKILL))
	testenv.Eventually(t, "the end of the proxy and its keeper", func() bool { // Others may come after them.
		return !slices.ContainsFunc(withKeepers(t, s), func(pid int) bool { return slices.Contains(both, pid) })
	})
	must(t, s.Stop(t.Context(), owner(g, "late")))

	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := s.Start(ctx, owner(g, "early"), inside("/tmp/early")); err == nil {
		t.Error("it listens in a file system that does not answer")
	}
	testenv.Eventually(t, "the end of what began", func() bool { return len(withKeepers(t, s)) == 0 })
}
