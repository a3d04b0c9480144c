package runtime_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/testenv"
)

// built are the programs that the tests need, made once.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// build compiles cuib-shim and what tests run in containers. CUIB_TEST_BUILT names a
// directory that has them, where there is no compiler.
func build(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("CUIB_TEST_BUILT"); dir != "" {
		return dir
	}
	built.once.Do(func() {
		built.dir, built.err = os.MkdirTemp("", "cuib-runtime-") //nolint:usetesting // For all tests.
		if built.err != nil {
			return
		}
		sources, err := filepath.Glob("../../cuib-shim/*.c")
		if err != nil {
			built.err = err
			return
		}
		for _, args := range [][]string{
			append([]string{"-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wl,--export-dynamic-symbol=seccomp_load,--export-dynamic-symbol=execvp", "-o", built.dir + "/cuib-shim"}, sources...),
			{"-O2", "-static", "-o", built.dir + "/init", "testdata/init.c"},
			{"-O2", "-static", "-o", built.dir + "/calls", "testdata/calls.c"},
			{"-O2", "-static", "-o", built.dir + "/asks", "testdata/asks.c"},
		} {
			if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
				built.err = fmt.Errorf("gcc: %w: %s", err, out)
				return
			}
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.dir
}

// newRuntime returns a runtime in a new directory. Containers that run at
// the test's end are killed.
func newRuntime(t testing.TB) *runtime.Runtime {
	t.Helper()
	testenv.Kernel(t, "busybox")
	return &runtime.Runtime{
		Dir:  reachable(t) + "/run",
		Shim: build(t) + "/cuib-shim",
		Log:  slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// reachable returns a new directory that users of the host can go through, as
// the roots of guests must.
func reachable(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cuib-runtime-") //nolint:usetesting // Only we can go through that of the test.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

var lastID atomic.Int64

// newSpec returns a container with a small system of its own: busybox, and
// an init as testdata/init.c has it.
func newSpec(t testing.TB) runtime.Spec {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"bin", "sbin", "etc", "proc", "sys", "dev", "tmp", "root", "usr/bin", "home/user"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "cp", busybox, root+"/bin/busybox")
	testenv.Run(t, "cp", build(t)+"/init", root+"/sbin/init")
	for name := range strings.FieldsSeq("sh true false cat echo sleep tty stty id pwd env kill ls mount stat wc dd head grep sync ip hostname touch mknod nproc free ps rm mkdir yes sysctl test") {
		if err := os.Symlink("busybox", root+"/bin/"+name); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, root+"/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
	if err := os.Chown(root+"/home/user", 1000, 1000); err != nil {
		t.Fatal(err)
	}
	id := lastID.Add(1)
	name := fmt.Sprintf("t%d-%d", os.Getpid(), id)
	return runtime.Spec{
		Name: name, Root: root, Hostname: name,
		IDs: idmap.Default(200_000_000+id*65536, 65536),
		Env: map[string]string{"GREETING": "good day"},
	}
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}

// start starts a container that is killed at the test's end.
func start(t testing.TB, r *runtime.Runtime, s runtime.Spec) <-chan runtime.Exit {
	t.Helper()
	exits := make(chan runtime.Exit, 1)
	if _, err := r.Start(t.Context(), s, func(e runtime.Exit) { exits <- e }); err != nil {
		log, _ := os.ReadFile(filepath.Join(r.Dir, s.Name, "lxc.log"))
		t.Fatalf("%v\n%s", err, log)
	}
	t.Cleanup(func() { kill(t, r, s.Name) })
	return exits
}

func kill(t testing.TB, r *runtime.Runtime, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), testenv.Patience)
	defer cancel()
	if _, err := r.Get(name); err != nil {
		return
	}
	if err := r.Kill(ctx, name); err != nil {
		t.Error(err)
	}
}

// result is what a program did.
type result struct {
	status      int
	out, errOut string
}

// run runs a program in a container to its end.
func run(t testing.TB, r *runtime.Runtime, name, stdin string, e runtime.Exec) result {
	t.Helper()
	res, err := tryRun(t.Context(), r, name, stdin, e)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func tryRun(ctx context.Context, r *runtime.Runtime, name, stdin string, e runtime.Exec) (result, error) {
	p, err := r.Exec(ctx, name, e)
	if err != nil {
		return result{}, err
	}
	go func() {
		_, _ = io.WriteString(p.Stdin, stdin)
		p.Stdin.Close()
	}()
	var out, errOut bytes.Buffer
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(&out, p.Stdout) })
	wg.Go(func() { _, _ = io.Copy(&errOut, p.Stderr) })
	wg.Wait()
	p.Stdout.Close()
	p.Stderr.Close()
	status, err := p.Wait(ctx)
	return result{status, out.String(), errOut.String()}, err
}

// sh runs a line of shell in a container, which must succeed, and returns
// its output without the final newline.
func sh(t testing.TB, r *runtime.Runtime, name, line string) string {
	t.Helper()
	res := run(t, r, name, "", runtime.Exec{Args: []string{"sh", "-c", line}})
	if res.status != 0 {
		t.Fatalf("%s: status %d, %s", line, res.status, res.errOut)
	}
	return strings.TrimSuffix(res.out, "\n")
}

// leftovers fails the test if anything of a container is left.
func leftovers(t testing.TB, r *runtime.Runtime, name string) {
	t.Helper()
	for _, pattern := range []string{
		"/sys/fs/cgroup/lxc.*." + name + "*", "/sys/fs/cgroup/*/lxc.*." + name + "*",
		"/run/lxc/lock" + r.Dir + "/*" + name + "*",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) > 0 {
			t.Errorf("left: %v %v", found, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || bytes.Contains(mounts, []byte(r.Dir)) {
		t.Errorf("mounts below %s are left: %v", r.Dir, err)
	}
	// What reported the start ends by itself when it sees that all is over.
	testenv.Eventually(t, "the end of all processes", func() bool {
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(lines, func(file string) bool {
			data, err := os.ReadFile(file)
			return err == nil && bytes.Contains(data, []byte(r.Dir))
		})
	})
}

func wait(t testing.TB, exits <-chan runtime.Exit) runtime.Exit {
	t.Helper()
	select {
	case e := <-exits:
		return e
	case <-time.After(testenv.Patience):
		t.Fatal("the container does not end")
		return runtime.Exit{}
	}
}

// again runs this test once more in new namespaces, by a script that has a
// new directory, the program and the test's name as its arguments.
func again(t *testing.T, script string, namespaces ...string) {
	t.Helper()
	args := append([]string{"--mount", "--propagation", "private"}, namespaces...)
	args = append(args, "sh", "-ec", testenv.LetGo+script, "sh", t.TempDir(), os.Args[0], t.Name())
	cmd := exec.Command("unshare", args...)
	cmd.Env = append(os.Environ(), "CUIB_TEST_AGAIN=1", "CUIB_TEST_BUILT="+build(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
