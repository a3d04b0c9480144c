package uevents_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/uevents"
	"github.com/cuib/cuib/shared/testenv"
)

// ofUdev is a message as udev sends it.
func ofUdev(properties string) string {
	header := "libudev\x00\xfe\xed\xca\xfe\x28\x00\x00\x00\x28\x00\x00\x00" + string([]byte{byte(len(properties)), 0, 0, 0})
	return header + strings.Repeat("\x00", 40-len(header)) + properties
}

func TestParse(t *testing.T) {
	want := uevents.Event{Action: "add", Path: "/devices/x", Properties: []string{"SUBSYSTEM=block", "DEVNAME=sda"}}
	for name, tt := range map[string]struct {
		msg  string
		want uevents.Event
	}{
		"of the kernel":   {"add@/devices/x\x00ACTION=add\x00DEVPATH=/devices/x\x00SUBSYSTEM=block\x00DEVNAME=sda\x00", want},
		"of udev":         {ofUdev("ACTION=add\x00DEVPATH=/devices/x\x00SUBSYSTEM=block\x00DEVNAME=sda\x00"), want},
		"its own":         {string(want.Message()), want},
		"cut short":       {"add@/devices/x", uevents.Event{}},
		"without a name":  {"add@/devices/x\x00ACTION=add\x00DEVPATH", uevents.Event{}},
		"of udev, forged": {"libudev\x00\xfe\xed\xca\xfe\x28\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff", uevents.Event{}},
		"nothing":         {"", uevents.Event{}},
	} {
		got, ok := uevents.Parse([]byte(tt.msg))
		if ok != (tt.want.Action != "") || ok && !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, %t", name, got, ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("add@/devices/x\x00ACTION=add\x00DEVPATH=/devices/x\x00"))
	f.Add([]byte(ofUdev("ACTION=add\x00DEVPATH=/x\x00")))
	f.Fuzz(func(_ *testing.T, data []byte) { uevents.Parse(data) })
}

// TestListen has the kernel tell of a device again.
func TestListen(t *testing.T) {
	testenv.Kernel(t)
	l, err := uevents.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.WriteFile("/sys/devices/virtual/mem/null/uevent", []byte("change"), 0); err != nil {
		t.Fatal(err)
	}
	for {
		e, err := l.Next()
		if errors.Is(err, uevents.ErrLost) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Action == "change" && e.Path == "/devices/virtual/mem/null" && e.Get("DEVNAME") == "null" && e.Get("SUBSYSTEM") == "mem" {
			return
		}
	}
}

// TestSend tells those in the network namespace of a user namespace.
func TestSend(t *testing.T) {
	testenv.Kernel(t, "sleep")
	guest := exec.CommandContext(t.Context(), "sleep", "infinity")
	guest.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: 1000000, Size: 65536}}, GidMappings: []syscall.SysProcIDMap{{HostID: 1000000, Size: 65536}},
	}
	if err := guest.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = guest.Process.Kill(), guest.Wait() })
	ns, err := os.Open(filepath.Join("/proc", strconv.Itoa(guest.Process.Pid), "ns/net"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	l := listenIn(t, ns)
	defer l.Close()
	want := uevents.Event{Action: "add", Path: "/devices/x", Properties: []string{"SUBSYSTEM=block", "DEVNAME=sda"}}
	if err := uevents.Send(ns, want); err != nil {
		t.Fatal(err)
	}
	got, err := l.Next()
	if err != nil || got.Action != "add" || got.Path != want.Path || got.Get("DEVNAME") != "sda" || got.Get("SEQNUM") == "" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// listenIn listens in another network namespace.
func listenIn(t *testing.T, ns *os.File) *uevents.Listener {
	t.Helper()
	type result struct {
		l   *uevents.Listener
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // For good: the thread ends with the goroutine.
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		var l *uevents.Listener
		if err == nil {
			l, err = uevents.Listen()
		}
		done <- result{l, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.l
}

// TestPaths has a file come and go, with the directory that it is in.
func TestPaths(t *testing.T) {
	testenv.Kernel(t)
	dir := t.TempDir()
	p, err := uevents.WatchPaths()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	at := filepath.Join(dir, "a/b/node")
	if err := p.Set([]string{at, "/dev/null"}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"a directory on the way is made", func() error { return os.MkdirAll(filepath.Dir(at), 0o700) }},
		{"it comes", func() error { return os.WriteFile(at, nil, 0o600) }},
		{"it goes", func() error { return os.Remove(at) }},
		{"another takes its place", func() error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "x"), nil, 0o600), os.Rename(filepath.Join(dir, "x"), at))
		}},
		{"the directory goes", func() error { return os.RemoveAll(filepath.Join(dir, "a")) }},
		{"and comes", func() error { return os.MkdirAll(filepath.Dir(at), 0o700) }},
		{"with it", func() error { return os.WriteFile(at, nil, 0o600) }},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if err := p.Next(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
	}
}

// TestPathsLeft has a directory go that Set leaves before anybody has read
// what happened in it.
func TestPathsLeft(t *testing.T) {
	testenv.Kernel(t)
	dir := t.TempDir()
	p, err := uevents.WatchPaths()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	at := filepath.Join(dir, "a/node")
	if err := errors.Join(os.Mkdir(filepath.Dir(at), 0o700), os.WriteFile(at, nil, 0o600), p.Set([]string{at})); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(filepath.Dir(at)), p.Set([]string{at})); err != nil {
		t.Fatal(err)
	}
	seen := make(chan error, 1)
	go func() { seen <- p.Next() }()
	select {
	case err := <-seen:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(testenv.Patience):
		t.Error("nobody is told that it has gone")
	}
}
