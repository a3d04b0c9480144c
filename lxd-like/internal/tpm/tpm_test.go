package tpm_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/tpm"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

// wires are devices of TPMs whose kernel is the test.
type wires struct {
	mu   sync.Mutex
	ends []*os.File // Where commands are written, by number.
}

func (w *wires) Check(context.Context) error { return nil }

func (w *wires) New() (*os.File, int, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ends = append(w.ends, os.NewFile(uintptr(fds[0]), "client"))
	return os.NewFile(uintptr(fds[1]), "server"), len(w.ends) - 1, nil
}

func (w *wires) end(n int) *os.File {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ends[n]
}

// getRandom is TPM2_GetRandom, of 8 bytes.
var getRandom = []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7b, 0, 8}

// Await waits for the TPM's first answer.
func (w *wires) Await(ctx context.Context, n int) (tpm.Nodes, error) {
	done := make(chan error, 1)
	go func() { done <- ask(w.end(n)) }()
	select {
	case err := <-done:
		return tpm.Nodes{Device: tpm.Number{Major: 10, Minor: 224}, Manager: tpm.Number{Major: 240, Minor: uint32(n)}}, err //nolint:gosec // It is small.
	case <-ctx.Done():
		return tpm.Nodes{}, context.Cause(ctx)
	}
}

// ask has a TPM give random bytes.
func ask(f *os.File) error {
	if _, err := f.Write(getRandom); err != nil {
		return err
	}
	const head, length = 10, 20
	answer := make([]byte, length)
	if _, err := io.ReadFull(f, answer); err != nil {
		return err
	}
	if !bytes.Equal(answer[6:head], make([]byte, 4)) {
		return errors.New("the TPM refuses")
	}
	return nil
}

// keeper returns a service whose TPMs end with the test.
func keeper(t *testing.T, dir string, w *wires, lost func(tpm.Owner)) *tpm.Service {
	t.Helper()
	s := &tpm.Service{Dir: dir, Devices: w, Log: slog.New(slog.DiscardHandler), Lost: lost}
	t.Cleanup(func() {
		if err := s.Settle(func(string) bool { return false }); err != nil {
			t.Error(err)
		}
	})
	return s
}

const root = 1000000

// stateDir returns a directory that root of a guest has.
func stateDir(t *testing.T) tpm.State {
	t.Helper()
	at := filepath.Join(testenv.MemoryDir(t), "state")
	if err := errors.Join(os.Mkdir(at, 0o700), os.Chown(at, root, root)); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), at)
	t.Cleanup(func() { f.Close() })
	return tpm.State{Dir: f, User: root, Group: root}
}

// process returns the number of the process of a TPM, from its record.
func process(t *testing.T, dir string, of tpm.Owner) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, of.Instance, of.Device))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), `"PID":`)
	number, _, _ := strings.Cut(rest, ",")
	pid, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// TestLife starts a TPM, has another daemon find it, and ends it.
func TestLife(t *testing.T) {
	testenv.Kernel(t, "swtpm")
	dir, w, st := filepath.Join(t.TempDir(), "tpms"), &wires{}, stateDir(t)
	lost := make(chan tpm.Owner, 1)
	s := keeper(t, dir, w, func(of tpm.Owner) { lost <- of })
	of := tpm.Owner{Instance: "c1", Device: "tpm"}
	nodes, err := s.Start(t.Context(), of, st)
	if err != nil || nodes.Device.Minor != 224 {
		t.Fatalf("got %+v, %v", nodes, err)
	}
	pid := process(t, dir, of)
	var stat unix.Stat_t
	if err := unix.Stat("/proc/"+strconv.Itoa(pid), &stat); err != nil || stat.Uid != root && stat.Uid != 0 {
		t.Errorf("the process is of user %d: %v", stat.Uid, err)
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil || !strings.Contains(string(status), "Uid:\t1000000\t1000000\t1000000\t1000000") || !strings.Contains(string(status), "CapEff:\t0000000000000000") {
		t.Errorf("the process may more than it needs: %v\n%s", err, status)
	}

	next := keeper(t, dir, w, func(of tpm.Owner) { lost <- of })
	have, err := next.Recover("c1", func(device string) bool { return device == "tpm" })
	if err != nil || !have["tpm"] {
		t.Errorf("another daemon has found %v, %v", have, err)
	}
	if err := ask(w.end(0)); err != nil {
		t.Error(err)
	}
	if err := next.End("c1"); err != nil {
		t.Error(err)
	}
	if err := ask(w.end(0)); err == nil {
		t.Error("it answers after its end")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
	if len(lost) != 0 && <-lost == of {
		t.Log("the first daemon has lost it, as it should")
	}
	files, err := os.ReadDir(st.Dir.Name())
	if err != nil || len(files) == 0 {
		t.Errorf("it has kept %v, %v", files, err)
	}
	again, err := next.Start(t.Context(), of, st)
	if err != nil || again.Manager.Minor != 1 {
		t.Errorf("it starts again with what it kept: %+v, %v", again, err)
	}
}

// TestLost kills a process.
func TestLost(t *testing.T) {
	testenv.Kernel(t, "swtpm")
	dir, w := filepath.Join(t.TempDir(), "tpms"), &wires{}
	lost := make(chan tpm.Owner, 1)
	s := keeper(t, dir, w, func(of tpm.Owner) { lost <- of })
	of := tpm.Owner{Instance: "c1", Device: "tpm"}
	if _, err := s.Start(t.Context(), of, stateDir(t)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(process(t, dir, of), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := <-lost; got != of {
		t.Errorf("lost %v", got)
	}
	have, err := s.Recover("c1", func(string) bool { return true })
	if err != nil || have["tpm"] {
		t.Errorf("found %v, %v", have, err)
	}
}

func TestWhatTheHostLacks(t *testing.T) {
	w := &wires{}
	s := &tpm.Service{Program: "/no/such/swtpm", Devices: w}
	if err := s.Check(t.Context()); !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "install the package swtpm") {
		t.Errorf("got %v", err)
	}
	s = &tpm.Service{Program: "/bin/true", Devices: tpm.Proxy{Root: t.TempDir()}}
	if err := s.Check(t.Context()); !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "/dev/vtpmx of the host's kernel, which lacks it (CONFIG_TCG_VTPM_PROXY)") {
		t.Errorf("got %v", err)
	}
	s.Devices = tpm.Proxy{Root: t.TempDir(), Load: func(context.Context, string) error { return testenv.ErrBoom }}
	if err := s.Check(t.Context()); !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "module tpm_vtpm_proxy") {
		t.Errorf("got %v", err)
	}
}

// TestEndsAtOnce has a program that is no TPM.
func TestEndsAtOnce(t *testing.T) {
	testenv.Kernel(t)
	bad := filepath.Join(t.TempDir(), "swtpm")
	if err := os.WriteFile(bad, []byte("#!/bin/sh\necho no such state >&2\nexit 1\n"), 0o700); err != nil { //nolint:gosec // It is a program.
		t.Fatal(err)
	}
	st := stateDir(t)
	st.User, st.Group = 0, 0
	s := keeper(t, filepath.Join(t.TempDir(), "tpms"), &wires{}, nil)
	s.Program = bad
	before := 0
	for range 2 {
		before = descriptors(t) // The first start opens some for good.
		if _, err := s.Start(t.Context(), tpm.Owner{Instance: "c1", Device: "tpm"}, st); err == nil {
			t.Fatal("it started")
		}
	}
	if after := descriptors(t); after != before+1 { // The test's end of the wire.
		t.Errorf("%d descriptors are open, want %d", after, before+1)
	}
	if names, _ := s.Recover("c1", func(string) bool { return true }); len(names) != 0 {
		t.Errorf("there is %v", names)
	}
}

// descriptors is how many are open.
func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
