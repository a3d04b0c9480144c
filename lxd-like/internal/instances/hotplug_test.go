package instances_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/uevents"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/testenv"
)

// fakeMachine has the files in which the kernel tells of USB devices, which
// tests plug in and out.
type fakeMachine struct {
	mu    sync.Mutex // Guards what follows.
	files fstest.MapFS
}

func (m *fakeMachine) locked() (fstest.MapFS, func()) {
	m.mu.Lock()
	return m.files, m.mu.Unlock
}

func (m *fakeMachine) Open(name string) (fs.File, error) {
	files, unlock := m.locked()
	defer unlock()
	return files.Open(name)
}

func (m *fakeMachine) ReadLink(name string) (string, error) {
	files, unlock := m.locked()
	defer unlock()
	return files.ReadLink(name)
}

func (m *fakeMachine) Lstat(name string) (fs.FileInfo, error) {
	files, unlock := m.locked()
	defer unlock()
	return files.Lstat(name)
}

// plug has USB devices of these numbers plugged in, and no others.
func (m *fakeMachine) plug(numbers ...int) {
	files := fstest.MapFS{}
	for _, n := range numbers {
		dir := fmt.Sprintf("sys/devices/usb1/1-%d", n)
		for file, text := range map[string]string{
			"uevent": fmt.Sprintf("MAJOR=189\nMINOR=%d\nDEVNAME=bus/usb/001/%03d\nDEVTYPE=usb_device", n, n), "dev": fmt.Sprintf("189:%d", n),
			"busnum": "1", "devnum": fmt.Sprint(n), "idVendor": "0403", "idProduct": "6001", "serial": fmt.Sprintf("S%d", n),
		} {
			files[dir+"/"+file] = &fstest.MapFile{Data: []byte(text + "\n")}
		}
		for at, to := range map[string]string{
			dir + "/subsystem": "../../../../sys/bus/usb", fmt.Sprintf("sys/bus/usb/devices/1-%d", n): "../../../../" + dir,
			fmt.Sprintf("sys/dev/char/189:%d", n): "../../../" + dir,
		} {
			files[at] = &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink | 0o777}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files = files
}

// nodes are the device nodes of a container, and toldOf what its programs were told.
func (r *fakeRuntime) nodes(name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	if c := r.running[name]; c != nil {
		for _, n := range c.spec.Nodes {
			all = append(all, fmt.Sprintf("%s=%d:%d", n.Path, n.Major, n.Minor))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (r *fakeRuntime) toldOf(name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.running[name]; c != nil {
		return strings.Join(c.told, ", ")
	}
	return ""
}

// hotplug has the service follow what comes and goes until the test ends.
func (w *world) hotplug() (stop func()) {
	ctx, cancel := context.WithCancel(w.tb.Context())
	done := make(chan struct{})
	svc := w.svc
	go func() {
		defer close(done)
		if err := svc.Hotplug(ctx); err != nil {
			w.tb.Error(err)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// announce has the kernel tell of a device, as if it had come just now: one of
// its memory, which only instances with devices of type unix-char look for.
func announce(t *testing.T) {
	t.Helper()
	must(t, os.WriteFile("/sys/devices/virtual/mem/null/uevent", []byte("add"), 0))
}

func (w *world) eventually(what, name, nodes string) {
	w.tb.Helper()
	got := ""
	defer func() {
		if got != nodes {
			w.tb.Logf("%s: got %q, want %q", what, got, nodes)
		}
	}()
	testenv.Eventually(w.tb, what, func() bool { got = w.rt.nodes(name); return got == nodes })
}

// TestNodesComeAndGo makes a node and removes it, while an instance runs that
// wants it, and while no daemon runs.
func TestNodesComeAndGo(t *testing.T) {
	testenv.Kernel(t)
	w := newWorld(t)
	stop := w.hotplug()
	at := filepath.Join(w.dir, "sub/node")
	mknod := func(minor uint32) {
		t.Helper()
		must(t, os.MkdirAll(filepath.Dir(at), 0o700))
		must(t, unix.Mknod(at, unix.S_IFCHR|0o600, int(unix.Mkdev(1, minor)))) //nolint:gosec // It is small.
	}
	req := post("c1", true)
	req.Devices = api.DevicesMap{
		"n": {"type": "unix-char", "source": at, "path": "/dev/n", "required": "false"},
		"z": {"type": "unix-char", "source": "/dev/zero"},
	}
	w.ok(w.svc.Create(t.Context(), req))
	const zero = "/dev/zero=1:5"
	w.eventually("nothing has come", "c1", zero)
	mknod(3)
	w.eventually("it has come", "c1", "/dev/n=1:3 "+zero)
	must(t, os.Remove(at))
	mknod(7)
	w.eventually("it is another", "c1", "/dev/n=1:7 "+zero)
	must(t, os.RemoveAll(filepath.Dir(at)))
	w.eventually("it has gone", "c1", zero)

	stop()
	w.boot()
	mknod(3)
	stop = w.hotplug()
	w.eventually("it has come before the daemon", "c1", "/dev/n=1:3 "+zero)
	stop()
	w.boot()
	must(t, os.Remove(at))
	stop = w.hotplug()
	defer stop()
	w.eventually("it has gone before the daemon", "c1", zero)

	put := api.InstancePut{Profiles: []string{"default"}, Devices: api.DevicesMap{"n": req.Devices["n"]}}
	must(t, w.updateNow(t.Context(), "c1", put))
	mknod(3)
	w.eventually("it comes after a change", "c1", "/dev/n=1:3")
	must(t, w.updateNow(t.Context(), "c1", api.InstancePut{Profiles: []string{"default"}}))
	w.eventually("nothing is wanted", "c1", "")
}

// TestUSBComesAndGoes has devices plugged in and out, and guests told of it.
func TestUSBComesAndGoes(t *testing.T) {
	testenv.Kernel(t)
	w := newWorld(t)
	stop := w.hotplug()
	defer stop()
	w.machine.plug(4)
	req := post("c1", true)
	req.Devices = api.DevicesMap{
		"all": {"type": "usb", "vendorid": "0403"},
		"one": {"type": "unix-char", "source": "/dev/null", "path": "/dev/one", "required": "false"},
	}
	w.ok(w.svc.Create(t.Context(), req))
	const one, four, five = "/dev/one=1:3", "/dev/bus/usb/001/004=189:4", "/dev/bus/usb/001/005=189:5"
	w.eventually("it is plugged in", "c1", four+" "+one)
	w.machine.plug(4, 5)
	announce(t)
	w.eventually("another is plugged in", "c1", four+" "+five+" "+one)
	w.machine.plug()
	announce(t)
	w.eventually("both are pulled", "c1", one)
	want := "add /dev/bus/usb/001/005, remove /dev/bus/usb/001/004, remove /dev/bus/usb/001/005"
	testenv.Eventually(t, "programs were told", func() bool { return w.rt.toldOf("c1") == want })
	testenv.Eventually(t, "the guest was told", func() bool {
		heard := w.guests.heard()
		return strings.Contains(heard, "c1 device {updated all ") && strings.Contains(heard, "c1 device {removed all ")
	})

	second := post("c2", false)
	second.Devices = api.DevicesMap{"usb": {"type": "usb", "serial": "S5", "required": "true"}, "one": req.Devices["one"]}
	if _, err := w.svc.Create(t.Context(), second); err == nil || !strings.Contains(err.Error(), `device "usb": required: the host has no USB device with serial S5`) {
		t.Errorf("got %v", err)
	}
	w.machine.plug(5)
	w.ok(w.svc.Create(t.Context(), second))
	w.state("c2", "start", true)
	w.machine.plug()
	announce(t)
	w.eventually("a required one is pulled", "c2", one)
	// What has gone is not in the way of a change of something else.
	put := api.InstancePut{Profiles: []string{"default"}, Devices: second.Devices, Config: api.ConfigMap{"user.x": "y"}}
	must(t, w.updateNow(t.Context(), "c2", put))
}

// TestHearsAgain has what tells of devices fail: the daemon listens again, and
// finds out what has come and gone meanwhile.
func TestHearsAgain(t *testing.T) {
	testenv.Kernel(t)
	w := newWorld(t)
	at := filepath.Join(w.dir, "node")
	listeners := make(chan *uevents.Listener, 2)
	begun := 0
	w.svc.HearBy(func() (*uevents.Listener, error) {
		begun++
		if begun == 2 {
			return nil, errors.New("no room for that")
		}
		if begun == 3 { // Nobody watches at this time.
			if err := os.Remove(at); err != nil {
				t.Error(err)
			}
		}
		l, err := uevents.Listen()
		listeners <- l
		return l, err
	})
	must(t, unix.Mknod(at, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	req := post("c1", true)
	req.Devices = api.DevicesMap{"n": {"type": "unix-char", "source": at, "path": "/dev/n", "required": "false"}}
	w.ok(w.svc.Create(t.Context(), req))
	stop := w.hotplug()
	defer stop()
	must(t, os.Remove(at))
	w.eventually("it has gone", "c1", "")
	must(t, unix.Mknod(at, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 7))))
	w.eventually("it has come", "c1", "/dev/n=1:7")
	(<-listeners).Close()
	w.eventually("it has gone while nobody listened", "c1", "")
	must(t, unix.Mknod(at, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	w.eventually("it has come again", "c1", "/dev/n=1:3")
}
