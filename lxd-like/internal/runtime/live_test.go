package runtime_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

// share returns a host directory that no other user can reach, with a file
// of root's.
func share(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, dir+"/file", "content")
	return dir
}

func TestMounts(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	dir := share(t)
	s.Mounts = []runtime.Mount{
		{Source: dir, Target: "/mnt/at start", Mapped: true},
		{Source: dir, Target: "/mnt/ro", ReadOnly: true, Mapped: true},
		{Source: dir, Target: "/mnt/ro/../unmapped"},
		{Source: dir + "/file", Target: "/etc/one file", Mapped: true},
		{Source: "/nonesuch", Target: "/mnt/optional", Optional: true},
	}
	start(t, r, s)
	for range 2 { // The second time after a reboot.
		checkMounts(t, r, s)
		reboot(t, r, s.Name)
	}
}

func checkMounts(t *testing.T, r *runtime.Runtime, s runtime.Spec) {
	t.Helper()
	for line, want := range map[string]string{
		"stat -c '%u %n' '/mnt/at start/file' /mnt/ro/file /mnt/unmapped/file": "0 /mnt/at start/file\n0 /mnt/ro/file\n65534 /mnt/unmapped/file",
		"cat '/etc/one file'":                                         "content",
		"touch /mnt/ro/x 2>&1 || echo refused":                        "touch: /mnt/ro/x: Read-only file system\nrefused",
		"mount -o remount,bind,rw /mnt/ro 2>/dev/null || echo locked": "locked",
		"touch '/mnt/at start/new'; ls /mnt":                          "at start\nro\nunmapped",
	} {
		if got := sh(t, r, s.Name, line); got != want {
			t.Errorf("%s: %q", line, got)
		}
	}
	info, err := os.Stat(s.Mounts[0].Source + "/new")
	if err != nil {
		t.Fatal(err)
	}
	if st, ok := info.Sys().(*unix.Stat_t); ok && st.Uid != 0 {
		t.Errorf("owner on the host: %d", st.Uid)
	}
}

func reboot(t *testing.T, r *runtime.Runtime, name string) {
	t.Helper()
	before, err := r.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Reboot(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "a new init", func() bool {
		now, err := r.Get(name)
		return err == nil && now.PID != before.PID
	})
}

func TestLiveMounts(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	dir := share(t)
	start(t, r, s)
	rw := runtime.Mount{Source: dir, Target: "/new/deep/dir", Mapped: true}
	ro := runtime.Mount{Source: dir, Target: "/new/ro", Mapped: true, ReadOnly: true}
	file := runtime.Mount{Source: dir + "/file", Target: "/new/file", Mapped: true}
	for _, m := range []runtime.Mount{rw, ro, file} {
		if err := r.AddMount(t.Context(), s.Name, m); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.AddMount(t.Context(), s.Name, rw); !errs.Is(err, errs.Conflict) {
		t.Errorf("again: %v", err)
	}
	if err := r.AddMount(t.Context(), s.Name, runtime.Mount{Source: "/nonesuch", Target: "/x"}); !errs.Is(err, errs.NotFound) {
		t.Errorf("no source: %v", err)
	}
	for range 2 {
		for line, want := range map[string]string{
			"cat /new/deep/dir/file; echo; stat -c %u /new/deep/dir/file; cat /new/file": "content\n0\ncontent",
			"touch /new/ro/x 2>/dev/null || echo refused":                                "refused",
			"mount -o remount,bind,rw /new/ro 2>/dev/null || echo locked":                "locked",
			"stat -c %u /new/deep": "0",
		} {
			if got := sh(t, r, s.Name, line); got != want {
				t.Errorf("%s: %q", line, got)
			}
		}
		reboot(t, r, s.Name)
	}
	for _, m := range []runtime.Mount{rw, ro, file} {
		if err := r.RemoveMount(t.Context(), s.Name, m.Target); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.RemoveMount(t.Context(), s.Name, rw.Target); !errs.Is(err, errs.NotFound) {
		t.Errorf("again: %v", err)
	}
	if got := sh(t, r, s.Name, "grep -c /new/ /proc/self/mounts; ls -A /new/deep/dir /new"); got != "0\n/new:\ndeep\nro\n\n/new/deep/dir:" {
		t.Errorf("%q", got)
	}
}

func TestMountsOfTheGuestsChoosing(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	outside, dir := t.TempDir(), share(t)
	if err := os.Symlink(outside, s.Root+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/self/cwd", s.Root+"/magic"); err != nil {
		t.Fatal(err)
	}
	start(t, r, s)
	// A link leads to what it leads to inside.
	_ = r.AddMount(t.Context(), s.Name, runtime.Mount{Source: dir, Target: "/link/x"})
	if err := r.AddMount(t.Context(), s.Name, runtime.Mount{Source: dir, Target: "/magic/x"}); err == nil {
		t.Error("mounted through a magic link")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("%v, %v", entries, err)
	}
	if err := r.Kill(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	leftovers(t, r, s.Name)
}

func TestNodes(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	early := runtime.Node{Major: 1, Minor: 11, Path: "/dev/early", UID: 1000, GID: 5, Mode: 0o640} // kmsg
	late := runtime.Node{Major: 10, Minor: 237, Path: "/dev/sub/late", Mode: 0o600}                // loop-control
	s.Nodes = []runtime.Node{early}
	start(t, r, s)
	if err := r.AddNode(t.Context(), s.Name, late); err != nil {
		t.Fatal(err)
	}
	if err := r.AddNode(t.Context(), s.Name, late); !errs.Is(err, errs.Conflict) {
		t.Errorf("again: %v", err)
	}
	for range 2 {
		got := sh(t, r, s.Name, "stat -c '%F %t:%T %u:%g %a' /dev/early /dev/sub/late; : </dev/sub/late && echo opened")
		if got := sh(t, r, s.Name, "stat -c '%F %t:%T %u:%g %a' /dev/net/tun"); got != "character special file a:c8 0:0 666" {
			t.Errorf("%q", got)
		}
		want := "character special file 1:b 1000:5 640\ncharacter special file a:ed 0:0 600\nopened"
		if got != want {
			t.Errorf("got %q\nwant %q", got, want)
		}
		reboot(t, r, s.Name)
	}
	if err := r.RemoveNode(t.Context(), s.Name, late); err != nil {
		t.Fatal(err)
	}
	if got := sh(t, r, s.Name, "ls /dev/sub"); got != "" {
		t.Errorf("%q", got)
	}
}

func TestDevicesAreDenied(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	s.IDs = nil // Its root can make nodes, so the cgroup has to stop it.
	node := runtime.Node{Major: 10, Minor: 237, Path: "/dev/loop-control", Mode: 0o600}
	start(t, r, s)
	open := func() string {
		t.Helper()
		return sh(t, r, s.Name, "rm -f /tmp/n; mknod /tmp/n c 10 237; (: </tmp/n) 2>/dev/null && echo opened || echo refused")
	}
	if got := open(); got != "refused" {
		t.Errorf("at first: %s", got)
	}
	if err := r.AddNode(t.Context(), s.Name, node); err != nil {
		t.Fatal(err)
	}
	if got := open(); got != "opened" {
		t.Errorf("with the device: %s", got)
	}
	if err := r.RemoveNode(t.Context(), s.Name, node); err != nil {
		t.Fatal(err)
	}
	if got := open(); got != "refused" {
		t.Errorf("after it: %s", got)
	}
}

// inNetNS runs the test again in a network namespace of its own, with the
// view of it in /sys that liblxc looks at, and reports whether it is there.
func inNetNS(t *testing.T) bool {
	t.Helper()
	testenv.Kernel(t, "unshare", "mount", "ip")
	if os.Getenv("CUIB_TEST_AGAIN") != "" {
		return true
	}
	again(t, `mount --rbind /sys "$1"; mount -t sysfs none /sys
mount --rbind "$1/fs/cgroup" /sys/fs/cgroup; mount --rbind "$1/kernel/security" /sys/kernel/security; umount -l "$1"
exec "$2" -test.v -test.run "^$3\$"`, "--net")
	return false
}

func TestNICs(t *testing.T) {
	if !inNetNS(t) {
		return
	}
	r, s := newRuntime(t), newSpec(t)
	testenv.Run(t, "ip", "link", "add", "br0", "mtu", "1400", "type", "bridge")
	testenv.Run(t, "ip", "addr", "add", "10.99.0.1/24", "dev", "br0")
	testenv.Run(t, "ip", "link", "set", "br0", "up")
	host := fmt.Sprintf("vt%d", os.Getpid())
	eth0 := runtime.NIC{Device: "eth0", Kind: "bridged", Parent: "br0", Name: "eth0", HostName: host + "a", MAC: "10:66:6a:00:00:01"}
	eth1 := runtime.NIC{Device: "eth1", Kind: "bridged", Parent: "br0", Name: "eth1", HostName: host + "b", MAC: "10:66:6a:00:00:02", MTU: 1300}
	mac0 := runtime.NIC{Device: "mac0", Kind: "macvlan", Parent: "br0", Name: "mac0", MAC: "10:66:6a:00:00:03"}
	mac1 := runtime.NIC{Device: "mac1", Kind: "macvlan", Parent: "br0", Name: "mac1", MAC: "10:66:6a:00:00:04"}
	s.NICs = []runtime.NIC{eth0, mac0}
	start(t, r, s)
	for _, n := range []runtime.NIC{eth1, mac1} {
		if err := r.AddNIC(t.Context(), s.Name, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.AddNIC(t.Context(), s.Name, eth1); !errs.Is(err, errs.Conflict) {
		t.Errorf("again: %v", err)
	}
	if err := r.AddNIC(t.Context(), s.Name, runtime.NIC{Kind: "bridged", Parent: "nonesuch", Name: "x", HostName: host + "c"}); !errs.Is(err, errs.NotFound) {
		t.Errorf("no bridge: %v", err)
	}
	for range 2 {
		sh(t, r, s.Name, "ip addr add 10.99.0.2/24 dev eth0")
		all, err := r.Interfaces(s.Name)
		if err != nil {
			t.Fatal(err)
		}
		if all["lo"].Type != "loopback" || !all["lo"].Up {
			t.Errorf("%+v", all)
		}
		for _, n := range []runtime.NIC{eth0, eth1, mac0, mac1} {
			got := all[n.Name]
			if got.MAC != n.MAC || !got.Up || got.HostName != n.HostName || got.Type != "broadcast" || n.MTU != 0 && got.MTU != n.MTU {
				t.Errorf("%s: %+v", n.Name, got)
			}
		}
		if !hasAddress(all["eth0"], "10.99.0.2/24") {
			t.Errorf("%+v", all["eth0"])
		}
		reboot(t, r, s.Name)
	}
	for _, n := range []runtime.NIC{eth1, mac1, eth0} {
		if err := r.RemoveNIC(t.Context(), s.Name, n); err != nil {
			t.Fatal(err)
		}
	}
	if got := sh(t, r, s.Name, "ls -d /sys/class/net/*[hc][01]"); got != "/sys/class/net/mac0" {
		t.Errorf("%q", got)
	}
	if err := r.AddNIC(t.Context(), s.Name, eth1); err != nil {
		t.Fatal(err)
	}
	if err := r.Kill(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "no interface", func() bool {
		return !strings.Contains(testenv.Run(t, "ip", "link"), host)
	})
}

// TestRebootIsTriedAgain boots a guest again while what it needs is away for a
// moment, as an interface of its last boot can be in the way for one.
func TestRebootIsTriedAgain(t *testing.T) {
	if !inNetNS(t) {
		return
	}
	r, s := newRuntime(t), newSpec(t)
	bridge := func() {
		testenv.Run(t, "ip", "link", "add", "br0", "type", "bridge")
		testenv.Run(t, "ip", "link", "set", "br0", "up")
	}
	bridge()
	s.NICs = []runtime.NIC{{Device: "eth0", Kind: "bridged", Parent: "br0", Name: "eth0", HostName: fmt.Sprintf("vr%d", os.Getpid()), MAC: "10:66:6a:00:00:05"}}
	start(t, r, s)
	before, err := r.Get(s.Name)
	if err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "ip", "link", "del", "br0")
	if err := r.Reboot(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "a start that fails", func() bool {
		log, err := os.ReadFile(filepath.Join(r.Dir, s.Name, "lxc.log"))
		return err == nil && strings.Contains(string(log), "bridge interface doesn't exist")
	})
	bridge()
	testenv.Eventually(t, "a new init", func() bool {
		now, err := r.Get(s.Name)
		return err == nil && now.PID != before.PID
	})
}

func hasAddress(i runtime.Interface, want string) bool {
	for _, a := range i.Addresses {
		if a == netip.MustParsePrefix(want) {
			return true
		}
	}
	return false
}

func TestLimits(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	s.Limits = runtime.Limits{CPUs: "0", CPUShare: 50, CPUQuota: 20 * time.Millisecond, CPUPeriod: 50 * time.Millisecond, Memory: 64 << 20, Processes: 100}
	start(t, r, s)
	checkLimits(t, r, s.Name, map[string]string{
		"cpuset/cpuset.cpus": "0", "cpu/cpu.shares": "512", "cpu/cpu.cfs_quota_us": "20000", "cpu/cpu.cfs_period_us": "50000",
		"memory/memory.limit_in_bytes": "67108864", "pids/pids.max": "100",
		"/cpuset.cpus": "0", "/cpu.weight": "50", "/cpu.max": "20000 50000", "/memory.max": "67108864", "/pids.max": "100",
	})
	u, err := r.Usage(s.Name)
	if err != nil || u.MemoryMax != 64<<20 || u.Memory <= 0 || u.Memory > 64<<20 || u.CPU <= 0 || u.Processes < 1 {
		t.Errorf("%+v, %v", u, err)
	}
	steps := []struct {
		limits runtime.Limits
		want   map[string]string
	}{
		{runtime.Limits{Memory: 32 << 20, NoSwap: true, Processes: 50}, map[string]string{
			"memory/memory.limit_in_bytes": "33554432", "memory/memory.memsw.limit_in_bytes": "33554432", "pids/pids.max": "50",
			"cpu/cpu.shares": "1024", "cpu/cpu.cfs_quota_us": "-1", "cpuset/cpuset.cpus": "0-1",
			"/memory.max": "33554432", "/memory.swap.max": "0", "/pids.max": "50", "/cpu.max": "max 100000", "/cpu.weight": "100", "/cpuset.cpus": "",
		}},
		{runtime.Limits{Memory: 128 << 20, Swap: 64 << 20}, map[string]string{
			"memory/memory.limit_in_bytes": "134217728", "memory/memory.memsw.limit_in_bytes": "201326592", "pids/pids.max": "max",
			"/memory.max": "134217728", "/memory.swap.max": "67108864", "/pids.max": "max",
		}},
		{runtime.Limits{Memory: 16 << 20, NoSwap: true}, map[string]string{
			"memory/memory.limit_in_bytes": "16777216", "memory/memory.memsw.limit_in_bytes": "16777216", "/memory.max": "16777216",
		}},
		{runtime.Limits{Memory: 16 << 20, Soft: true}, map[string]string{
			"memory/memory.soft_limit_in_bytes": "16777216", "memory/memory.limit_in_bytes": "9223372036854771712",
			"/memory.low": "16777216", "/memory.max": "max",
		}},
		{runtime.Limits{}, map[string]string{"memory/memory.soft_limit_in_bytes": "9223372036854771712", "/memory.low": "0"}},
	}
	for _, step := range steps {
		if err := r.SetLimits(t.Context(), s.Name, step.limits); err != nil {
			t.Fatalf("%+v: %v", step.limits, err)
		}
		checkLimits(t, r, s.Name, step.want)
	}
	if err := r.SetLimits(t.Context(), s.Name, runtime.Limits{Memory: 48 << 20, Processes: 33}); err != nil {
		t.Fatal(err)
	}
	reboot(t, r, s.Name)
	checkLimits(t, r, s.Name, map[string]string{"memory/memory.limit_in_bytes": "50331648", "pids/pids.max": "33", "/memory.max": "50331648", "/pids.max": "33"})
}

// checkLimits compares files of the container's cgroups. Names are those of
// v1, with the controller, or those of v2, with none; only one kind is there.
func checkLimits(t *testing.T, r *runtime.Runtime, name string, want map[string]string) {
	t.Helper()
	running, err := r.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	host := parsedCgroups(t)
	file, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", running.PID))
	if err != nil {
		t.Fatal(err)
	}
	dirs := host.Dirs(name, string(file))
	checked := 0
	for path, value := range want {
		controller, file, _ := strings.Cut(path, "/")
		dir, ok := dirs[controller]
		if !ok {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, file))
		if os.IsNotExist(err) {
			continue // cgroup2 without controllers, or a kernel without accounting of swap.
		}
		checked++
		if got := strings.TrimSpace(string(data)); err != nil || got != value {
			t.Errorf("%s is %q, %v, want %q", path, got, err, value)
		}
	}
	if checked == 0 {
		t.Errorf("the host has none of %v", want)
	}
}

func parsedCgroups(t *testing.T) runtime.Cgroups {
	t.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	host, err := runtime.ParseCgroups(f)
	if err != nil {
		t.Fatal(err)
	}
	return host
}

func TestLimitsBelowUse(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	s.Limits = runtime.Limits{Memory: 256 << 20, NoSwap: true}
	start(t, r, s)
	p, err := r.Exec(t.Context(), s.Name, runtime.Exec{Args: []string{"sh", "-c", "mkdir /mnt; mount -t tmpfs none /mnt; dd if=/dev/zero of=/mnt/x bs=1M count=64 2>/dev/null; echo; cat"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stdin.Close()
	if _, err := io.ReadFull(p.Stdout, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	err = r.SetLimits(t.Context(), s.Name, runtime.Limits{Memory: 8 << 20, NoSwap: true, Processes: 10})
	if !errs.Is(err, errs.Conflict) {
		t.Errorf("%v", err)
	}
	checkLimits(t, r, s.Name, map[string]string{
		"memory/memory.limit_in_bytes": "268435456", "memory/memory.memsw.limit_in_bytes": "268435456", "pids/pids.max": "max",
		"/memory.max": "268435456", "/memory.swap.max": "0", "/pids.max": "max",
	})
	if err := r.SetLimits(t.Context(), s.Name, runtime.Limits{CPUs: "0-99999"}); err == nil {
		t.Error("processors that are not there")
	}
}

func TestRoot(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	start(t, r, s)
	root, err := r.Root(s.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	fd, err := unix.Openat(int(root.Fd()), "proc/1/comm", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "comm")
	defer f.Close()
	if data, err := io.ReadAll(f); err != nil || string(data) != "init\n" {
		t.Errorf("%q, %v", data, err)
	}
}

// TestMountsInWhatDoesNotAnswer mounts on a file system of the guest's whose
// program does not answer. Whoever mounts holds locks, which others want.
func TestMountsInWhatDoesNotAnswer(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	dir := share(t)
	start(t, r, s)
	p, err := r.Exec(t.Context(), s.Name, runtime.Exec{Args: []string{
		"sh", "-c", "mkdir /hung && exec 5<>/dev/fuse && mount -t fuse -o fd=5,rootmode=40000,user_id=0,group_id=0 none /hung && echo ready && sleep 1000",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(p.Stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the guest says %q, %v", line, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience)
	defer cancel()
	for _, err := range []error{
		r.AddMount(ctx, s.Name, runtime.Mount{Source: dir, Target: "/hung/dir"}),
		r.AddNode(ctx, s.Name, runtime.Node{Major: 1, Minor: 3, Path: "/hung/null"}),
	} {
		if !errs.Is(err, errs.Unavailable) || ctx.Err() != nil {
			t.Errorf("got %v, want one of kind Unavailable", err)
		}
	}
	if err := r.AddMount(t.Context(), s.Name, runtime.Mount{Source: dir, Target: "/dir"}); err != nil {
		t.Error(err)
	}
}

// TestSourceThatGoes removes what a container has mounted. That it has it still is
// no reason to refuse other changes, and it has it when it boots again.
func TestSourceThatGoes(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	dir := t.TempDir()
	for _, name := range []string{"needed", "optional"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, name, "file"), name)
		s.Mounts = append(s.Mounts, runtime.Mount{Source: filepath.Join(dir, name), Target: "/" + name, Optional: name == "optional"})
	}
	start(t, r, s)
	if err := os.Rename(filepath.Join(dir, "needed"), filepath.Join(dir, "gone")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "optional"), filepath.Join(dir, "gone too")); err != nil {
		t.Fatal(err)
	}
	if err := r.SetMounting(t.Context(), s.Name, runtime.Mounting{}); err != nil {
		t.Error(err)
	}
	for range 2 {
		if got := sh(t, r, s.Name, "cat /needed/file /optional/file"); got != "neededoptional" {
			t.Errorf("got %q", got)
		}
		reboot(t, r, s.Name)
	}
}
