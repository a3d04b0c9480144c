package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cuib/cuib/tests/internal/surroundings"
)

// patience is how long something that is to happen may take on a machine that
// is busy with other tests: nothing waits for that long if it does happen.
const patience = 3 * time.Minute

// soon waits until ok returns true, and reports whether there was the patience.
func soon(ok func() bool) bool {
	for end := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// eventually waits until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !soon(ok) {
		t.Fatalf("this did not come about in %v: %s", patience, what)
	}
}

// binDir has the binaries under test; runMain makes it.
var binDir string

func runMain(m *testing.M) int {
	if os.Getenv("CUIB_TEST_KERNEL") == "" {
		return m.Run()
	}
	if binDir = os.Getenv("CUIB_TEST_BUILT"); binDir != "" { // In the lab.
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "cuib-bin-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for _, args := range [][]string{
		{"go", "build", "-race", "-o", dir + "/cuibd", "../lxd-like/cuibd"},
		{"go", "build", "-o", dir + "/cuib", "../client/cmd/cuib"},
		{"env", "CGO_ENABLED=0", "go", "build", "-o", dir, "./internal/guestask", "./internal/hostile"},
		{"make", "-s", "-C", "..", "bin/cuib-shim"},
		{"cp", "../bin/cuib-shim", dir + "/cuib-shim"},
	} {
		if out, err := command(args...).CombinedOutput(); err != nil {
			panic(fmt.Sprintf("%v: %v\n%s", args, err, out))
		}
	}
	binDir = dir
	return m.Run()
}

func requireKernel(t *testing.T) {
	t.Helper()
	if os.Getenv("CUIB_TEST_KERNEL") == "" {
		t.Skip("set CUIB_TEST_KERNEL=1 to run tests of the real kernel")
	}
	if os.Getuid() != 0 {
		t.Fatal("tests of the real kernel need root")
	}
	for _, p := range []string{"ip", "nsenter", "incus", "lxc", "mmdebstrap", "dnsmasq", "mkfs.btrfs"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("%s is missing: run scripts/deps test", p)
		}
	}
}

func command(args ...string) *exec.Cmd {
	return exec.CommandContext(context.Background(), args[0], args[1:]...)
}

func run(args ...string) (string, error) {
	out, err := command(args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%v: %w\n%s", args, err, out)
	}
	return string(out), nil
}

type hostKey struct{}

// A host is a daemon's surroundings: a state directory, and a network
// namespace with an uplink that leads nowhere. It has a mount namespace too,
// for /sys to show the interfaces of the network namespace.
type host struct {
	work   string                   // Scratch directory.
	dir    string                   // CUIB_DIR.
	ns     string                   // Name of the network namespace.
	spaces *surroundings.Namespaces // Nil for the test's own.
	log    *os.File
	daemon *exec.Cmd
	bin    string   // The daemon's program, if it is not the one of all.
	extra  []string // Of its environment.
}

// hosts counts the hosts, which tests make at the same time.
var hosts atomic.Int64

// newDir makes a state directory that others than root can pass through, as
// /var/lib/cuib is.
func newDir() (string, error) {
	dir, err := os.MkdirTemp("/var/tmp", "cuibt-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
}

func newHost(work string) (*host, error) {
	dir, err := newDir()
	if err != nil {
		return nil, err
	}
	h := &host{work: work, dir: dir, ns: fmt.Sprintf("cuibt%d-%d", os.Getpid(), hosts.Add(1))}
	log, err := os.Create(filepath.Join(work, "cuibd.log"))
	if err != nil {
		return nil, err
	}
	h.log = log
	if h.spaces, err = surroundings.New(context.Background(), h.ns); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"ip", "-n", h.ns, "link", "add", "up0", "type", "veth", "peer", "name", "up1"},
		{"ip", "-n", h.ns, "addr", "add", "198.51.100.2/24", "dev", "up0"},
		{"ip", "-n", h.ns, "link", "set", "up0", "up"},
		{"ip", "-n", h.ns, "link", "set", "up1", "up"},
	} {
		if _, err := run(args...); err != nil {
			return nil, errors.Join(err, h.close())
		}
	}
	return h, nil
}

// makeHost returns a host on which no daemon runs yet.
func makeHost(t *testing.T) *host {
	t.Helper()
	requireKernel(t)
	h, err := newHost(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// startHost returns a host with a daemon that runs. Both go with the test.
func startHost(t *testing.T) *host {
	t.Helper()
	h := makeHost(t)
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) env() map[string]string {
	socket := h.socket()
	return map[string]string{
		"CUIB_DIR": h.dir, "INCUS_SOCKET": socket, "LXD_SOCKET": socket, "LXD_DIR": h.dir, "INCUS_DIR": h.dir,
		"INCUS_CONF": filepath.Join(h.work, "incus-conf"), "LXD_CONF": filepath.Join(h.work, "lxc-conf"),
		"PATH":  binDir + string(filepath.ListSeparator) + os.Getenv("PATH"),
		"NETNS": h.ns, "LC_ALL": "C.UTF-8", "CUIB_TEST_CACHE": cacheDir(),
	}
}

// inside returns the command that runs args in the host's namespaces.
func (h *host) inside(args ...string) []string {
	if h.spaces == nil {
		return args
	}
	return h.spaces.Inside(args...)
}

func (h *host) socket() string { return filepath.Join(h.dir, "unix.socket") }

// start starts the daemon and waits until it answers.
func (h *host) start() error {
	if h.daemon != nil {
		return errors.New("the daemon runs already")
	}
	bin := h.bin
	if bin == "" {
		bin = filepath.Join(binDir, "cuibd")
	}
	cmd := command(h.inside(bin, "--debug")...)
	cmd.Env = append(append(os.Environ(), "CUIB_DIR="+h.dir), h.extra...)
	cmd.Stdout, cmd.Stderr = h.log, h.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// A daemon that is killed while it makes another process leaves its socket
	// to that for a moment.
	before, _ := os.Stat(h.socket())
	if err := cmd.Start(); err != nil {
		return err
	}
	h.daemon = cmd
	answers := func() bool {
		now, err := os.Stat(h.socket())
		if err != nil || before != nil && os.SameFile(before, now) && now.ModTime().Equal(before.ModTime()) {
			return false
		}
		conn, err := net.Dial("unix", h.socket())
		return err == nil && conn.Close() == nil
	}
	if !soon(answers) {
		return fmt.Errorf("the daemon does not answer:\n%s", h.logs())
	}
	return nil
}

// stop ends the daemon with sig and waits for its end. Its instances go on.
func (h *host) stop(sig syscall.Signal) error {
	if h.daemon == nil {
		return errors.New("the daemon does not run")
	}
	if err := h.daemon.Process.Signal(sig); err != nil {
		return err
	}
	err := h.wait()
	if _, ended := errors.AsType[*exec.ExitError](err); ended && sig == syscall.SIGKILL {
		return nil
	}
	return err
}

// wait waits for the end of the daemon, that it was told of or not.
func (h *host) wait() error {
	if h.daemon == nil {
		return errors.New("the daemon does not run")
	}
	cmd := h.daemon
	h.daemon = nil
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		return fmt.Errorf("the daemon did not end:\n%s", h.logs())
	}
}

func (h *host) logs() string {
	data, _ := os.ReadFile(h.log.Name())
	return string(data)
}

// close removes all that there is, and reports what should not have been
// there: data races in the daemon, mounts, cgroups and links left over after
// all instances were deleted.
func (h *host) close() (err error) {
	if h.daemon == nil {
		err = errors.Join(err, h.start())
	}
	err = errors.Join(err, h.removeAll())
	if h.daemon != nil {
		err = errors.Join(err, h.stop(syscall.SIGTERM))
	}
	err = errors.Join(err, h.nothingLeft())
	if log := h.logs(); strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic:") {
		err = errors.Join(err, errors.New("the daemon's log has a data race or a panic:\n"+log))
	}
	h.sweep()
	return errors.Join(err, h.spaces.Close(context.Background()))
}

// removeAll deletes the instances, and the projects that were made, through
// the API as a user would.
func (h *host) removeAll() error {
	cuib := filepath.Join(binDir, "cuib")
	paths, err := h.user(cuib, "query", "/1.0/projects")
	if err != nil {
		return err
	}
	var projects []string
	if err := json.Unmarshal([]byte(paths), &projects); err != nil {
		return fmt.Errorf("projects: %q: %w", paths, err)
	}
	for _, path := range projects {
		if path == "/1.0/projects/default" {
			continue
		}
		if _, err := h.user(cuib, "query", "-X", "DELETE", path+"?force=true"); err != nil {
			return err
		}
	}
	out, err := h.user(cuib, "list", "--format", "csv", "--columns", "n")
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(out) {
		if _, err := h.user(cuib, "delete", "--force", name); err != nil {
			return err
		}
	}
	return nil
}

// user runs a program with the environment of a user of this host.
func (h *host) user(args ...string) (string, error) {
	cmd := command(args...)
	cmd.Env = os.Environ()
	for k, v := range h.env() {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%v: %w\n%s", args, err, stderr.String())
	}
	return stdout.String(), nil
}

// nothingLeft waits until there are no leftovers: with a guest that was killed
// the kernel takes away what was its own, which it does when it has the time.
func (h *host) nothingLeft() (err error) {
	soon(func() bool { err = h.leftovers(); return err == nil })
	return err
}

// leftovers reports mounts of instances, and links in the namespace, that
// are there although no instance is. What a pool needs mounted may stay.
func (h *host) leftovers() error {
	var left []string
	for _, m := range h.mounts() {
		if strings.Contains(m, "/instance/") || strings.Contains(m, "/custom/") || strings.Contains(m, "/run/") {
			left = append(left, "mount "+m)
		}
	}
	links, err := run("ip", "-n", h.ns, "-br", "link")
	if err != nil {
		return err
	}
	for line := range strings.Lines(links) {
		if strings.HasPrefix(line, "veth") {
			left = append(left, "link "+strings.Fields(line)[0])
		}
	}
	runs, _ := os.ReadDir(filepath.Join(h.dir, "run"))
	for _, e := range runs {
		if e.IsDir() {
			left = append(left, "directory run/"+e.Name())
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("left over without instances:\n%s", strings.Join(left, "\n"))
	}
	return nil
}

// mounts returns the mount points below the host's directory, deepest first.
func (h *host) mounts() []string {
	data, _ := run(h.inside("cat", "/proc/self/mountinfo")...)
	var all []string
	for line := range strings.Lines(data) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], h.dir+"/") {
			all = append([]string{f[4]}, all...)
		}
	}
	return all
}

// sweep ends what is left in the namespace and unmounts what is left, so that
// one failed test does not fail the next.
func (h *host) sweep() {
	if h.spaces != nil {
		_ = h.spaces.Kill(context.Background()) // Closing them fails too.
	}
	for _, m := range h.mounts() {
		_, _ = run(h.inside("umount", "-l", m)...)
	}
	h.log.Close()
	if dir := os.Getenv("CUIB_TEST_LOGS"); dir != "" { // To look into a failure.
		_, _ = run("cp", h.log.Name(), filepath.Join(dir, h.ns+".log"))
	}
	_ = os.RemoveAll(h.dir)
}

func hostOf(ts *testscript.TestScript) *host {
	h, ok := ts.Value(hostKey{}).(*host)
	if !ok {
		ts.Fatalf("no host")
	}
	return h
}

// cmdDaemon starts and ends the daemon: "daemon start", "daemon stop" (by
// SIGTERM), "daemon kill" (by SIGKILL), "daemon restart"; "daemon wait" waits
// for an end that something else has asked it for.
func cmdDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: daemon start|stop|kill|restart|wait")
	}
	h := hostOf(ts)
	var err error
	switch args[0] {
	case "start":
		err = h.start()
	case "stop":
		err = h.stop(syscall.SIGTERM)
	case "kill":
		err = h.stop(syscall.SIGKILL)
	case "wait":
		err = h.wait()
	case "restart":
		err = errors.Join(h.stop(syscall.SIGTERM), h.start())
	default:
		err = fmt.Errorf("daemon %s: unknown", args[0])
	}
	ts.Check(err)
}

// cmdHost runs a command in the namespaces of the daemon: "host mount ...".
func cmdHost(ts *testscript.TestScript, neg bool, args []string) {
	inside := hostOf(ts).inside(args...)
	err := ts.Exec(inside[0], inside[1:]...)
	if (err != nil) != neg {
		ts.Fatalf("%v: %v", args, err)
	}
}

// cmdRetry runs a command until it succeeds, for as long as there is patience:
// "retry cuib exec c1 -- true", "retry host test -e /file".
func cmdRetry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: retry [host] COMMAND...")
	}
	if args[0] == "host" {
		args = hostOf(ts).inside(args[1:]...)
	}
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(250 * time.Millisecond) {
		if err = ts.Exec(args[0], args[1:]...); err == nil {
			return
		}
	}
	ts.Fatalf("%v: %v", args, err)
}

// cmdTree waits until a directory below CUIB_DIR, as the host sees it, is empty:
// "tree guests", "tree pools/default/data/trash". What is thrown away goes in
// the background.
func cmdTree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tree DIRECTORY")
	}
	h, entries := hostOf(ts), ""
	empty := func() bool {
		var err error
		if entries, err = run(h.inside("ls", "-A", filepath.Join(h.dir, args[0]))...); err != nil {
			ts.Fatalf("%v", err)
		}
		return entries == ""
	}
	if !soon(empty) {
		ts.Fatalf("%s has %s", args[0], entries)
	}
}
