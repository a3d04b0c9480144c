package proxies_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/proxies"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

const ownNamespace = "CUIB_TEST_OWN_NETWORK"

// TestMain runs the tests in a network namespace of their own, where no port
// is taken.
func TestMain(m *testing.M) {
	if what := os.Getenv(relayVariable); what != "" {
		fmt.Fprintln(os.Stderr, relay(context.Background(), what))
		os.Exit(1)
	}
	if os.Getenv("CUIB_TEST_KERNEL") != "" && os.Getenv(ownNamespace) == "" {
		args := append([]string{"--net", "sh", "-ec", `ip link set lo up; exec "$0" "$@"`}, os.Args...)
		cmd := exec.Command("unshare", args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.Env = append(os.Environ(), ownNamespace+"=1")
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// built is cuib-shim, made once.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func shim(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "cuib-proxies-"); built.err != nil { //nolint:usetesting // For all tests.
			return
		}
		sources, err := filepath.Glob("../../cuib-shim/*.c")
		if err != nil {
			built.err = err
			return
		}
		args := append([]string{"-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", built.dir + "/cuib-shim"}, sources...)
		if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
			built.err = fmt.Errorf("gcc: %w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.dir + "/cuib-shim"
}

// guest is what proxies see of an instance: a process that is the init of its
// own namespaces, with a root file system of its own.
type guest struct {
	name string
	root string
	cmd  *exec.Cmd
}

const firstID = 300_000_000

// newGuest starts a guest that ends with the test.
func newGuest(t testing.TB) *guest {
	t.Helper()
	testenv.Kernel(t, "busybox", "unshare", "gcc")
	dir, err := os.MkdirTemp("", "cuib-proxies-") //nolint:usetesting // Guests can go through it.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	g := &guest{name: "c" + strconv.Itoa(os.Getpid()), root: dir}
	for _, d := range []string{"bin", "tmp", "run", "old"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "cp", busybox, dir+"/bin/busybox")
	testenv.Run(t, "chown", "-R", fmt.Sprintf("%d:%d", firstID, firstID), dir)
	testenv.Run(t, "chmod", "755", dir)
	g.start(t)
	return g
}

func (g *guest) start(t testing.TB) {
	t.Helper()
	const script = `mount --bind "$1" "$1"; cd "$1"; pivot_root . old; bin/busybox umount -l old; bin/busybox ip link set lo up; : >ready; exec /bin/busybox sleep 100000`
	g.cmd = exec.Command("sh", "-ec", script, "sh", g.root)
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: firstID, Size: 65536}}
	g.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID,
		UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{}, Pdeathsig: 0,
	}
	g.cmd.Stderr = t.Output()
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.kill)
	testenv.Eventually(t, "the guest", func() bool {
		_, err := os.Stat(g.root + "/ready")
		return err == nil
	})
	if err := os.Remove(g.root + "/ready"); err != nil {
		t.Fatal(err)
	}
}

func (g *guest) kill() {
	_ = g.cmd.Process.Kill()
	_, _ = g.cmd.Process.Wait()
}

// init is what a service asks for.
func (g *guest) init(name string) (int, *os.File, error) {
	fd, err := unix.PidfdOpen(g.cmd.Process.Pid, 0)
	if err != nil || name != g.name || g.cmd.Process.Signal(syscall.Signal(0)) != nil {
		return 0, nil, errs.NotFoundf("%s does not run: %w", name, err)
	}
	return g.cmd.Process.Pid, os.NewFile(uintptr(fd), "pidfd"), nil
}

// in calls fn with the guest's network.
func (g *guest) in(t testing.TB, fn func()) {
	t.Helper()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // The thread ends with the goroutine.
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// newService returns a service for one guest. Its proxies end with the test.
func newService(t testing.TB, g *guest) *proxies.Service {
	t.Helper()
	s := &proxies.Service{
		Dir: filepath.Join(t.TempDir(), "proxies"), Shim: shim(t), Forward: nft.NewForwards(t.TempDir()),
		Guest: g.init, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), testenv.Patience)
		defer cancel()
		if err := s.End(ctx, g.name); err != nil {
			t.Error(err)
		}
	})
	return s
}

// side is where something listens or connects: the host, or a guest.
type side struct{ guest *guest }

func (s side) do(t testing.TB, fn func()) {
	t.Helper()
	if s.guest == nil {
		fn()
		return
	}
	s.guest.in(t, fn)
}

// split is an address of a proxy as package net has it. Paths are those that
// the test sees.
func (s side) split(address string) (network, name string) {
	network, name, _ = strings.Cut(address, ":")
	if s.guest != nil && strings.HasPrefix(name, "/") {
		name = s.guest.root + name
	}
	return network, name
}

// serve has fn answer who connects to an address, until the test's end.
func (s side) serve(t testing.TB, address string, fn func(net.Conn)) {
	t.Helper()
	network, name := s.split(address)
	s.do(t, func() {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), network, name)
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { l.Close() })
		if path, ok := strings.CutPrefix(name, "/"); ok && network == "unix" {
			if err := os.Chown("/"+path, firstID, firstID); err != nil {
				t.Error(err)
			}
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer func() { _ = c.Close() }()
					fn(c)
				}()
			}
		}()
	})
}

// echo sends back what comes, until its end.
func echo(c net.Conn) { _, _ = io.Copy(c, c) }

// echoDatagrams sends back datagrams.
func (s side) echoDatagrams(t testing.TB, address string) {
	t.Helper()
	network, name := s.split(address)
	s.do(t, func() {
		c, err := (&net.ListenConfig{}).ListenPacket(t.Context(), network, name)
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { _ = c.Close() })
		go func() {
			buf := make([]byte, 64<<10)
			for {
				n, from, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = c.WriteTo(buf[:n], from)
			}
		}()
	})
}

// dial connects to an address.
func (s side) dial(t testing.TB, address string) (c net.Conn) {
	t.Helper()
	network, name := s.split(address)
	s.do(t, func() {
		var err error
		if c, err = (&net.Dialer{Timeout: testenv.Patience}).DialContext(t.Context(), network, name); err != nil {
			t.Error(err)
		}
	})
	if c == nil {
		t.FailNow()
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(testenv.Patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// talk says something and wants to hear it again.
func talk(t testing.TB, c net.Conn, what string) {
	t.Helper()
	if _, err := io.WriteString(c, what); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len(what))
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != what {
		t.Fatalf("said %q, heard %q, %v", what, buf, err)
	}
}

// processes are the proxies of a service that run.
func processes(t testing.TB, s *proxies.Service) []int {
	t.Helper()
	return slices.DeleteFunc(withKeepers(t, s), func(pid int) bool {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		return string(comm) != "cuib-proxy\n"
	})
}

// withKeepers are the proxies of a service, and their processes in the guest.
func withKeepers(t testing.TB, s *proxies.Service) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err == nil && strings.HasPrefix(string(data), "cuib-shim\x00proxy\x00"+s.Dir+"\x00") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			out = append(out, pid)
		}
	}
	return out
}
