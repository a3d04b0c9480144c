package runtime_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/testenv"
)

// The filter that programs get and the profile that init gets are two texts
// for one thing. The host's keys are not found by either.
func TestSystemCallsAreDenied(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	giveKey(t)
	testenv.Run(t, "cp", build(t)+"/calls", s.Root+"/bin/calls")
	writeFile(t, s.Root+"/etc/rc", "calls >/tmp/init\n")
	start(t, r, s)
	const want = "kexec_load 1\nopen_by_handle_at 1\ninit_module 1\nfinit_module 1\ndelete_module 1\numount forced 13\numount 22\nkey 126\ngetpid 0\n"
	if got := run(t, r, s.Name, "", runtime.Exec{Args: []string{"calls"}}); got.out != want {
		t.Errorf("program: %+v", got)
	}
	testenv.Eventually(t, "the same by init", func() bool { return sh(t, r, s.Name, "cat /tmp/init 2>/dev/null; true")+"\n" == want })
}

// giveKey gives this thread, which the test keeps, and so the helpers that it
// starts, a key ring with a key in it.
func giveKey(t *testing.T) {
	t.Helper()
	goruntime.LockOSThread() // For good: the thread ends with the test.
	_, err := unix.KeyctlJoinSessionKeyring(t.Name())
	if errors.Is(err, unix.ENOSYS) {
		return
	}
	if err == nil {
		_, err = unix.AddKey("user", "cuib-test", []byte("secret"), unix.KEY_SPEC_SESSION_KEYRING)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestLXCFS(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	if !hostLXCFS(t) {
		return
	}
	s.Limits = runtime.Limits{Memory: 64 << 20, CPUs: "0"}
	start(t, r, s)
	for range 2 {
		if got := sh(t, r, s.Name, "grep MemTotal /proc/meminfo; grep -c ^processor /proc/cpuinfo"); strings.Join(strings.Fields(got), " ") != "MemTotal: 65536 kB 1" {
			t.Errorf("%q", got)
		}
		if err := r.SetLimits(t.Context(), s.Name, runtime.Limits{Memory: 64 << 20, CPUs: "1"}); err != nil {
			t.Fatal(err)
		}
	}
}

// hostLXCFS runs the test again where lxcfs serves its files, in a mount
// namespace of its own, and reports whether it is there.
func hostLXCFS(t *testing.T) bool {
	t.Helper()
	testenv.Kernel(t, "lxcfs", "unshare")
	const dir = "/var/lib/lxcfs"
	if _, err := os.Stat(dir + "/proc/meminfo"); err == nil {
		return true
	}
	again(t, `mkdir -p /var/lib/lxcfs
lxcfs -f -p "$1/pid" /var/lib/lxcfs >/dev/null 2>&1 &
i=0; while [ ! -e /var/lib/lxcfs/proc/meminfo ] && [ $i -lt 500 ]; do sleep 0.01; i=$((i+1)); done
ok=0; "$2" -test.v -test.run "^$3\$" || ok=$?
umount -l /var/lib/lxcfs; kill $! 2>/dev/null || :; exit $ok`)
	return false
}

// Real systems, which are what containers are for. The later one's systemd
// knows no v1 cgroups.
func TestDebian(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) { runDebian(t, suite) })
	}
}

func runDebian(t *testing.T, suite string, nics ...runtime.NIC) {
	t.Helper()
	r, s := newRuntime(t), newSpec(t)
	s.Root = debian(t, suite)
	s.Nesting, s.NICs = true, nics
	exits := start(t, r, s)
	var state string
	testenv.Eventually(t, "a system that runs", func() bool {
		res, err := tryRun(t.Context(), r, s.Name, "", runtime.Exec{Args: []string{"systemctl", "is-system-running"}})
		state = strings.TrimSpace(res.out)
		return err == nil && (state == "running" || state == "degraded")
	})
	if state != "running" {
		t.Errorf("the system is %s: %s", state, sh(t, r, s.Name, "systemctl --failed --no-legend"))
	}
	if got := sh(t, r, s.Name, "systemd-detect-virt; cat /proc/1/comm"); got != "lxc\nsystemd" {
		t.Errorf("%q", got)
	}
	sh(t, r, s.Name, "unshare --user --map-root-user --net --pid --fork --mount --mount-proc mount -t sysfs none /sys")
	reboot(t, r, s.Name)
	if err := r.Shutdown(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	if e := wait(t, exits); e.Status != 0 {
		t.Errorf("%+v", e)
	}
	leftovers(t, r, s.Name)
}

// debian returns the root of a Debian system, made once and kept for later
// runs, in $CUIB_TEST_CACHE.
func debian(t *testing.T, suite string) string {
	t.Helper()
	testenv.Kernel(t, "mmdebstrap", "tar")
	cache := os.Getenv("CUIB_TEST_CACHE")
	if cache == "" {
		cache = filepath.Join(os.TempDir(), "cuib-test-cache")
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	tarball := filepath.Join(cache, "runtime-"+suite+".tar")
	if _, err := os.Stat(tarball); err != nil {
		half := filepath.Join(t.TempDir(), "system.tar")
		testenv.Run(t, "mmdebstrap", "--quiet", "--variant=minbase", "--include=systemd,systemd-sysv,dbus",
			"--customize-hook=ln -s /dev/null $1/etc/systemd/system/sys-kernel-debug.mount",
			"--customize-hook=rm -f $1/etc/machine-id; : >$1/etc/machine-id", suite, half)
		moveFile(t, half, tarball)
	}
	root := filepath.Join(t.TempDir(), "rootfs")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "tar", "--numeric-owner", "-xf", tarball, "-C", root)
	return root
}

// moveFile moves a file, also to another file system, where it appears at
// once.
func moveFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), "half-")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(out.Name(), to); err != nil {
		t.Fatal(err)
	}
}

// A guest boots again as often as it likes, and each time liblxc has something
// to say.
func TestRebootsDoNotFillTheDisk(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	start(t, r, s)
	log := filepath.Join(r.Dir, s.Name, "lxc.log")
	if err := os.Truncate(log, 64<<20); err != nil {
		t.Fatal(err)
	}
	reboot(t, r, s.Name)
	if st, err := os.Stat(log); err != nil || st.Size() > 1<<20 {
		t.Errorf("the log has %d bytes, %v", st.Size(), err)
	}
}
