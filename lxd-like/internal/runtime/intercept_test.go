package runtime_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/seccomp"
	"github.com/cuib/cuib/shared/testenv"
)

// blockDevice returns a loop device with a new file system on it, and a node
// of it for a container.
func blockDevice(t testing.TB, mkfs ...string) runtime.Node {
	t.Helper()
	testenv.Kernel(t, "losetup", mkfs[0])
	image := filepath.Join(t.TempDir(), "image")
	testenv.Run(t, "truncate", "-s", "64M", image)
	testenv.Run(t, append(mkfs, image)...)
	loop := testenv.Run(t, "losetup", "--find", "--show", image)
	loop = strings.TrimSpace(loop)
	t.Cleanup(func() { testenv.Run(t, "losetup", "-d", loop) })
	var st unix.Stat_t
	if err := unix.Stat(loop, &st); err != nil {
		t.Fatal(err)
	}
	return runtime.Node{
		Device: "disk", Block: true, Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev), Path: "/dev/disk", Mode: 0o660,
	}
}

func TestInterceptMount(t *testing.T) {
	t.Parallel()
	r := newRuntime(t)
	spec := newAsking(t, "mount")
	spec.Nodes = []runtime.Node{blockDevice(t, "mkfs.ext4", "-q")}
	spec.Mounting = runtime.Mounting{FileSystems: []string{"ext4"}, Shift: true}
	foreign := blockDevice(t, "mkfs.ext4", "-q")
	foreign.Path = "/dev/foreign"
	if err := os.MkdirAll(spec.Root+"/mnt", 0o755); err != nil {
		t.Fatal(err)
	}
	said := fromInit(
		t, r, spec, "cd /mnt; asks mount /dev/disk . ext4 noload ro; touch /mnt/x; busybox umount /mnt",
		"asks mount /dev/disk /mnt ext4 errors=continue; stat -c '%u %g' /mnt; touch /mnt/x; asks mknod /mnt/null 1 3; busybox umount /mnt",
	)
	want := fmt.Sprintf("mount 0\ntouch: /mnt/x: Read-only file system\nmount 0\n0 0\nmknod %d\n", unix.EPERM)
	if said != want {
		t.Errorf("init: got %q, want %q", said, want)
	}
	node := func(n runtime.Node) { // A node that is there, but that the container was not given.
		path := filepath.Join(spec.Root, "root", filepath.Base(n.Path))
		if err := unix.Mknod(path, unix.S_IFBLK|0o666, int(unix.Mkdev(n.Major, n.Minor))); err != nil {
			t.Error(err)
		}
	}
	node(foreign)
	for _, tt := range []struct {
		args []string
		want unix.Errno
	}{
		{[]string{"/dev/disk", "/mnt", "ext4", ""}, 0},
		{[]string{"/root/foreign", "/tmp", "ext4", ""}, unix.EACCES},
		{[]string{"/dev/null", "/tmp", "ext4", ""}, unix.EACCES},
		{[]string{"/dev/none", "/tmp", "ext4", ""}, unix.ENOENT},
		{[]string{"/dev/disk", "/none", "ext4", ""}, unix.ENOENT},
		{[]string{"/dev/disk", "/tmp", "xfs", ""}, unix.EPERM},
		{[]string{"/dev/disk", "/tmp", "ext4", "journal_path=/dev/foreign"}, unix.EINVAL},
		{[]string{"/dev/disk", "/tmp", "ext4", "errors=continue,journal_dev=0x700"}, unix.EINVAL},
		{[]string{"tmpfs", "/tmp", "tmpfs", "size=4k"}, 0},
	} {
		got := asks(t, r, spec.Name, append([]string{"mount"}, tt.args...)...)
		if want := fmt.Sprintf("mount %d\n", tt.want); got != want {
			t.Errorf("%q: got %q, want %q", tt.args, got, want)
		}
	}
	if got, want := asks(t, r, spec.Name, "fsopen"), fmt.Sprintf("fsopen %d\n", unix.ENOSYS); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	res := run(t, r, spec.Name, "", runtime.Exec{Args: []string{"/bin/asks", "mount", "/dev/disk", "/home/user", "ext4"}, UID: 1000, GID: 1000})
	if want := fmt.Sprintf("mount %d\n", unix.EPERM); res.out != want {
		t.Errorf("user: got %q, want %q", res.out, want)
	}
	// What may be mounted changes at once.
	if err := r.SetMounting(t.Context(), spec.Name, runtime.Mounting{Programs: map[string]string{"ext4": "/bin/fuse"}}); err != nil {
		t.Fatal(err)
	}
	writeFile(t, spec.Root+"/bin/fuse", "#!/bin/sh\necho \"$@\" $(id -u) >/root/fuse\ngrep -c Seccomp_filters:.2 /proc/self/status >>/root/fuse\n")
	if got := asks(t, r, spec.Name, "mount", "/dev/disk", "/home", "ext4", "x=y", "ro"); got != "mount 0\n" {
		t.Errorf("fuse: got %q", got)
	}
	if got := sh(t, r, spec.Name, "cat /root/fuse"); got != "/dev/disk /home -o ro,x=y 0\n1" {
		t.Errorf("fuse: got %q", got)
	}
	writeFile(t, spec.Root+"/bin/fuse", "#!/bin/sh\nexit 3\n")
	if got, want := asks(t, r, spec.Name, "mount", "/dev/disk", "/home", "ext4", ""), fmt.Sprintf("mount %d\n", unix.EIO); got != want {
		t.Errorf("fuse: got %q, want %q", got, want)
	}
	sh(t, r, spec.Name, "busybox umount /mnt")
}

func TestInterceptScheduler(t *testing.T) {
	t.Parallel()
	r := newRuntime(t)
	spec := newAsking(t, "sched_setscheduler")
	// Where the kernel shares out real time by cgroup, there may be none.
	want := []string{"policy 0\n1\n", fmt.Sprintf("policy %d\n", unix.EPERM)}
	said := fromInit(t, r, spec, "asks policy 1 10")
	if !slices.Contains(want, said) {
		t.Errorf("init: got %q", said)
	}
	if got := asks(t, r, spec.Name, "policy", "1", "10"); !slices.Contains(want, got) {
		t.Errorf("exec: got %q", got)
	}
	if got, want := asks(t, r, spec.Name, "policy", "1", "1000"), fmt.Sprintf("policy %d\n", unix.EINVAL); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := asks(t, r, spec.Name, "policy", "3", "0"); got != "policy 0\n3\n" {
		t.Errorf("batch: got %q", got)
	}
}

func TestInterceptBPF(t *testing.T) {
	t.Parallel()
	r := newRuntime(t)
	spec := newAsking(t, "bpf")
	spec.DevicePrograms = true
	start(t, r, spec)
	const devices, socketFilter, trace = "15", "1", "6" // Types of programs, and a function of the kernel.
	for _, tt := range []struct {
		args []string
		want unix.Errno
	}{
		{[]string{"bpf", devices, "0"}, 0},
		{[]string{"bpf", devices, trace}, unix.EPERM},
		{[]string{"bpf", socketFilter, "0"}, unix.EPERM},
	} {
		got := asks(t, r, spec.Name, tt.args...)
		if want := fmt.Sprintf("bpf %d\n", tt.want); got != want {
			t.Errorf("%q: got %q, want %q", tt.args, got, want)
		}
	}
	at := sh(t, r, spec.Name, "for d in /sys/fs/cgroup/unified /sys/fs/cgroup; do [ ! -e $d/cgroup.controllers ] || { echo $d; break; }; done")
	if at == "" {
		at = "/root/v2"
		sh(t, r, spec.Name, "mkdir /root/v2; busybox mount -t cgroup2 none /root/v2")
	}
	sh(t, r, spec.Name, "mkdir -p "+at+"/below")
	if got := asks(t, r, spec.Name, "attach", at+"/below"); got != "load 0\nattach 0\ndetach 0\n" {
		t.Errorf("below: got %q", got)
	}
	if got, want := asks(t, r, spec.Name, "attach", at), fmt.Sprintf("load 0\nattach %d\ndetach %[1]d\n", unix.EPERM); got != want {
		t.Errorf("its own: got %q, want %q", got, want)
	}
	if got, want := asks(t, r, spec.Name, "attach", "/tmp"), fmt.Sprintf("load 0\nattach %d\ndetach %[1]d\n", unix.EPERM); got != want {
		t.Errorf("none: got %q, want %q", got, want)
	}
}

func TestBPFToken(t *testing.T) {
	t.Parallel()
	r := newRuntime(t)
	spec := newAsking(t)
	spec.BPF = runtime.BPF{Path: "/root/bpf", Options: map[string]string{"delegate_cmds": "any", "delegate_progs": "0x2"}}
	if err := os.MkdirAll(spec.Root+"/root/bpf", 0o755); err != nil {
		t.Fatal(err)
	}
	said := fromInit(t, r, spec, "asks token /root/bpf", "asks token /root", "grep /root/bpf /proc/mounts")
	if !strings.HasPrefix(said, fmt.Sprintf("token 0\ntoken %d\nnone /root/bpf bpf ", unix.EINVAL)) || !strings.Contains(said, "delegate_cmds=any") {
		t.Errorf("got %q", said)
	}
	if got := asks(t, r, spec.Name, "token", "/root/bpf"); got != "token 0\n" {
		t.Errorf("got %q", got)
	}
	wrong := newAsking(t)
	wrong.BPF = runtime.BPF{Path: "/root/bpf", Options: map[string]string{"delegate_cmds": "nothing"}}
	if _, err := r.Start(t.Context(), wrong, nil); err == nil || !strings.Contains(err.Error(), "delegate_cmds") {
		t.Errorf("got %v", err)
	}
}

// handlers returns the processes that answer a container's system calls.
func handlers(t *testing.T, r *runtime.Runtime, name string) []int {
	t.Helper()
	var found []int
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		line, _ := os.ReadFile(dir + "/cmdline")
		out, _ := exec.Command("ls", "-l", dir+"/fd").Output()
		if strings.HasPrefix(string(line), "cuib-shim\x00calls\x00"+r.Dir+"\x00"+name+"\x00") && strings.Contains(string(out), "seccomp notify") {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			found = append(found, pid)
		}
	}
	slices.Sort(found)
	return found
}

// Each of the two processes puts another in the place of the other, and only
// if both end are the calls answered by the kernel. What a daemon that is gone
// has started goes on.
func TestHandlerEnds(t *testing.T) {
	t.Parallel()
	r := newRuntime(t)
	spec := newAsking(t, "mknod")
	writeFile(t, spec.Root+"/etc/rc", "while [ ! -e /root/stop ]; do asks mknod /root/null 1 3 >/root/said; rm -f /root/null; done\ntouch /root/all\n")
	start(t, r, spec)
	makes := func(want unix.Errno) func() bool {
		return func() bool {
			return asks(t, r, spec.Name, "mknod", "/tmp/null", "1", "3") == fmt.Sprintf("mknod %d\n", want)
		}
	}
	for i := range 4 {
		var pids []int
		testenv.Eventually(t, "two processes", func() bool {
			pids = handlers(t, r, spec.Name)
			return len(pids) >= 2
		})
		if err := unix.Kill(pids[i%2], unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
		testenv.Eventually(t, "an answer", makes(0))
		sh(t, r, spec.Name, "rm -f /tmp/null")
	}
	again := &runtime.Runtime{Dir: r.Dir, Shim: r.Shim, Log: r.Log}
	list, err := again.Recover(t.Context(), func(string, runtime.Exit) {})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if got := asks(t, again, spec.Name, "mknod", "/tmp/again", "1", "3"); got != "mknod 0\n" {
		t.Errorf("with the next daemon: got %q", got)
	}
	writeFile(t, spec.Root+"/root/stop", "")
	testenv.Eventually(t, "the end of the script", func() bool {
		_, err := os.Stat(spec.Root + "/root/all")
		return err == nil
	})
	testenv.Eventually(t, "the end of all handlers", func() bool {
		pids := handlers(t, r, spec.Name)
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGSTOP)
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		return len(pids) == 0
	})
	testenv.Eventually(t, "the usual answer", makes(unix.EPERM))
}

// A guest that changes what a call is about while somebody looks gets only what
// it may have.
func TestRaces(t *testing.T) {
	t.Parallel()
	r := newRuntime(t)
	spec := newAsking(t, seccomp.Interceptable()...)
	outside := reachable(t)
	if err := os.Chmod(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	spec.Mounts = []runtime.Mount{{Source: outside, Target: "/outside"}}
	start(t, r, spec)
	if got := asks(t, r, spec.Name, "race", "/root/ok1", "/outside/x", "400"); got != "race 1\n" {
		t.Errorf("got %q", got)
	}
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 0 {
		t.Errorf("made where it may not: %v %v", entries, err)
	}
}
