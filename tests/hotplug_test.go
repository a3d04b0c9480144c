package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A plug is a block device of the kernel, a disk in memory, that a test has
// come and go.
type plug struct {
	t  *testing.T
	at string // Its node; where it is when it comes again, too.
	in bool
}

const zramControl = "/sys/class/zram-control/"

func newPlug(t *testing.T) *plug {
	t.Helper()
	if _, err := os.Stat(zramControl); err != nil {
		t.Fatal("the kernel has no disks in memory (zram) that come and go")
	}
	p := &plug{t: t}
	p.plugIn()
	t.Cleanup(func() {
		if p.in {
			p.pull()
		}
	})
	return p
}

// plugIn has the device come.
func (p *plug) plugIn() {
	p.t.Helper()
	n, err := os.ReadFile(zramControl + "hot_add")
	if err != nil {
		p.t.Fatal(err)
	}
	at := "/dev/zram" + strings.TrimSpace(string(n))
	if p.at != "" && p.at != at {
		p.t.Fatalf("the kernel has made %s where %s was", at, p.at)
	}
	p.at, p.in = at, true
	if err := os.WriteFile(filepath.Join("/sys/block", filepath.Base(at), "disksize"), []byte("1M"), 0); err != nil {
		p.t.Fatal(err)
	}
}

// pull has it go, as soon as nobody uses it.
func (p *plug) pull() {
	p.t.Helper()
	number := strings.TrimPrefix(p.at, "/dev/zram")
	eventually(p.t, p.at+" goes", func() bool {
		return os.WriteFile(zramControl+"hot_remove", []byte(number), 0) == nil
	})
	p.in = false
}

// cuib runs the client.
func (h *host) cuib(args ...string) (string, error) {
	return h.user(append([]string{filepath.Join(binDir, "cuib")}, args...)...)
}

// must is cuib for what has to succeed.
func (h *host) must(t *testing.T, args ...string) {
	t.Helper()
	if _, err := h.cuib(args...); err != nil {
		t.Fatal(err)
	}
}

// inC1 reports whether c1 has a file.
func (h *host) inC1(test, at string) bool { return h.exec(nil, nil, "test", test, at) == nil }

// TestBlockDeviceComesAndGoes has a device of the host come and go while an
// instance runs that wants it, with the daemon there and away.
func TestBlockDeviceComesAndGoes(t *testing.T) {
	h := startTiny(t)
	p := newPlug(t)
	p.pull()
	add := []string{"config", "device", "add", "c1", "disk", "unix-block", "source=" + p.at, "path=/dev/disk0", "uid=7"}
	if _, err := h.cuib(add...); err == nil || !strings.Contains(err.Error(), "there is no "+p.at) {
		t.Errorf("a missing device that is required: got %v", err)
	}
	h.must(t, append(add, "required=false")...)
	h.must(t, "exec", "c1", "--", "sh", "-c", "setsid busybox uevent sh -c 'env >>/tmp/events' </dev/null >/dev/null 2>&1 &")
	eventually(t, "a program inside listens to the kernel", func() bool {
		return h.exec(nil, nil, "grep", "-Eq", " 15 +[0-9]+ +00000001 ", "/proc/net/netlink") == nil
	})
	arrives := func() {
		t.Helper()
		eventually(t, "the instance has the device", func() bool { return h.inC1("-b", "/dev/disk0") })
	}
	leaves := func() {
		t.Helper()
		eventually(t, "the instance has lost the device", func() bool { return !h.inC1("-e", "/dev/disk0") })
	}
	p.plugIn()
	arrives()
	h.must(t, "exec", "c1", "--", "sh", "-c", "test $(stat -c %u /dev/disk0) = 7 && dd if=/dev/zero of=/dev/disk0 bs=4096 count=2")
	p.pull()
	leaves()
	eventually(t, "programs inside were told", func() bool {
		var out strings.Builder
		err := h.exec(nil, &out, "cat", "/tmp/events")
		return err == nil && strings.Contains(out.String(), "ACTION=add") && strings.Contains(out.String(), "ACTION=remove") &&
			strings.Contains(out.String(), "DEVNAME=/dev/disk0") && strings.Contains(out.String(), "SUBSYSTEM=block")
	})

	h.restartWhile(t, p.plugIn)
	arrives()
	h.must(t, "exec", "c1", "--", "dd", "if=/dev/zero", "of=/dev/disk0", "bs=4096", "count=2")
	h.restartWhile(t, p.pull)
	leaves()
	p.plugIn()
	arrives()
	h.must(t, "restart", "--force", "c1")
	arrives()
	h.must(t, "config", "device", "remove", "c1", "disk")
	leaves()
	p.pull()
	p.plugIn()
	if h.inC1("-e", "/dev/disk0") {
		t.Error("a device that was removed has come back")
	}
}

// restartWhile does something while no daemon runs.
func (h *host) restartWhile(t *testing.T, fn func()) {
	t.Helper()
	if err := h.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	fn()
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
}

// TestNodesOfSubsystemComeAndGo has the kernel make the nodes of a virtual
// terminal, which are of the subsystem vc, and remove them.
func TestNodesOfSubsystemComeAndGo(t *testing.T) {
	h := startTiny(t)
	const number = 57 // Nobody has a terminal that high.
	node := fmt.Sprintf("/dev/vcs%d", number)
	if _, err := os.Stat("/sys/class/vc"); err != nil {
		t.Fatal("the kernel has no virtual terminals")
	}
	free := func() {
		f, err := os.OpenFile("/dev/tty0", os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		const disallocate = 0x5608
		if err := unix.IoctlSetInt(int(f.Fd()), disallocate, number); err != nil {
			t.Fatal(err)
		}
	}
	allocate := func() {
		f, err := os.OpenFile(fmt.Sprintf("/dev/tty%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Fatal("this host has no virtual terminal to spare: ", err)
		}
		f.Close()
	}
	allocate()
	t.Cleanup(free)
	h.must(t, "config", "device", "add", "c1", "vc", "unix-hotplug", "subsystem=vc", "mode=0600")
	if !h.inC1("-c", node) {
		t.Errorf("the instance has no %s", node)
	}
	free()
	eventually(t, node+" is gone", func() bool { return !h.inC1("-e", node) })
	allocate()
	eventually(t, node+" is back", func() bool { return h.inC1("-c", node) })
	h.must(t, "restart", "--force", "c1")
	if !h.inC1("-c", node) {
		t.Errorf("the instance has no %s when it has started again", node)
	}
}
