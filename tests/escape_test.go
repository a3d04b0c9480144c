package tests

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// An attempt is what the root of an instance tries. It is a shell's text, that
// ends with 0 if it was possible, which it must not be. In its environment,
// HOST is the daemon's directory, SECRET a file of the host's root, ABSTRACT
// the name of a socket of the host, and PROC and SYS are each file system of
// that kind that the instance has.
type attempt struct {
	name, text string
	privileged bool // A privileged instance may not do it either.
}

var attempts = []attempt{
	// Files and devices.
	{name: "read a file of the host", text: `cat "$SECRET" || cat "/proc/1/root/$SECRET" || cat "/proc/1/cwd/../../../../../..$SECRET"`},
	{name: "read a file of the host through a link of proc", text: `for f in /proc/self/fd/* /proc/1/fd/* /proc/1/cwd /proc/1/root; do cat "$f/../../../../../../..$SECRET" 2>/dev/null && exit; done; exit 1`},
	{name: "find the root of another instance", text: `ls "$HOST/run" || ls "$HOST/pools" || ls /var/lib/cuib`},
	{name: "find the mark of another instance", text: `find / -xdev -name the-mark-of-c2 | grep .`},
	{name: "find it in whole mounts", text: `for d in /dev/.cuib /dev/.lxc /dev/incus /dev/lxd; do find $d -name the-mark-of-c2 2>/dev/null; done | grep .`},
	{name: "open files by handle", text: `hostile try handle`, privileged: true},
	{name: "open the memory", text: `hostile try mknod 1 1 c`, privileged: true},
	{name: "open ports", text: `hostile try mknod 1 4 c`, privileged: true},
	{name: "open the kernel's log", text: `hostile try mknod 1 11 c`, privileged: true},
	{name: "open a disk", text: `for major in 3 8 7 9 43 202 252 253 254 259; do hostile try mknod $major 0 b && exit; done; exit 1`, privileged: true},
	{name: "open the root of a loop device", text: `hostile try mknod 10 237 c`, privileged: true},
	{name: "open kvm", text: `hostile try mknod 10 232 c`, privileged: true},
	{name: "open the host's terminal", text: `hostile try mknod 4 1 c || hostile try mknod 4 64 c`, privileged: true},
	{name: "open input", text: `hostile try mknod 13 63 c`, privileged: true},
	{name: "open device mapper", text: `hostile try mknod 10 236 c`, privileged: true},
	{name: "have a device that is there", text: `dd if=/dev/mem bs=1 count=1 || dd if=/dev/sda bs=1 count=1 || dd if=/dev/kmsg bs=1 count=1`, privileged: true},
	{name: "give a file to nobody here", text: `hostile try chown 5000000`},
	{name: "give a file to the host", text: `hostile try chown 4000000000`},
	{name: "become somebody of the host", text: `hostile try setid 5000000`},
	{name: "make a file immutable", text: `hostile try immutable`},
	{name: "mark for overlayfs", text: `hostile try trusted`},

	// Mounts.
	{name: "mount a file system for the host alone", text: `for t in debugfs tracefs securityfs configfs pstore efivarfs devtmpfs selinuxfs smackfs nfsd rpc_pipefs resctrl xenfs; do mount -t $t none /mnt-x && exit; done; exit 1`},
	{name: "mount a file as a disk", text: `dd if=/dev/zero of=/root/disk bs=1M count=1 2>/dev/null; for t in ext4 xfs btrfs vfat squashfs iso9660; do mount -t $t -o loop /root/disk /mnt-x && exit; mount -t $t /root/disk /mnt-x && exit; done; exit 1`},
	{name: "make sys writable", text: `mount -o remount,bind,rw /sys && echo 1 >/sys/kernel/mm/ksm/run`},
	{name: "make proc/sys writable", text: `mount -o remount,bind,rw /proc/sys; echo 1 >/proc/sys/kernel/panic`},
	{name: "press the magic key", text: `for p in $PROC; do echo h >$p/sysrq-trigger && exit; done; exit 1`},
	{name: "press it in a proc of its own", text: `mount -t proc none /mnt-x && echo h >/mnt-x/sysrq-trigger`},
	{name: "change sys in one of its own", text: `mount -t sysfs none /mnt-x && { echo 0 >/mnt-x/kernel/mm/ksm/run || echo 0 >/mnt-x/kernel/profiling || echo add >/mnt-x/devices/virtual/mem/null/uevent; }`},
	{name: "change settings in a proc of its own", text: `mount -t proc none /mnt-x && hostile try settings /mnt-x/sys`},
	{name: "remount a disk that is read-only", text: `[ -d /ro ] && mount -o remount,bind,rw /ro && touch /ro/new`},
	{name: "write to a disk that is read-only", text: `[ -d /ro ] && touch /ro/new`},
	{name: "bind a disk that is read-only", text: `[ -d /ro ] && mount --bind /ro /mnt-x && mount -o remount,bind,rw /mnt-x && touch /mnt-x/new`},
	{name: "run a program of another user from a disk", text: `[ -d /ro ] && cat /ro/private`},
	{name: "leave a disk upwards", text: `[ -d /rw ] && { cat /rw/../../../.."$SECRET" || ls /rw/../secret; }`},
	{name: "link out of a disk", text: `[ -d /rw ] && ln -sf "$SECRET" /rw/link && cat /rw/link`},
	{name: "use a hard link between disks", text: `[ -d /ro ] && hostile try link /ro/private /root/private`},

	// The kernel.
	{name: "load a module", text: `hostile try init-module`, privileged: true},
	{name: "load a module from a file", text: `hostile try finit-module`, privileged: true},
	{name: "unload a module", text: `hostile try delete-module`, privileged: true},
	{name: "load a kernel", text: `hostile try kexec`, privileged: true},
	{name: "set the time", text: `hostile try settimeofday`, privileged: true},
	{name: "adjust the time", text: `hostile try adjtimex`, privileged: true},
	{name: "raise its privilege for ports", text: `hostile try iopl || hostile try ioperm`, privileged: true},
	{name: "change what key combinations do", text: `hostile try reboot`, privileged: true},
	{name: "clear the kernel's log", text: `hostile try clear-log || hostile try console-log`},
	{name: "swap to a file", text: `dd if=/dev/zero of=/root/swap bs=1M count=1 2>/dev/null; mkswap /root/swap; hostile try swapon /root/swap`},
	{name: "end the host's swapping", text: `for s in $(awk 'NR > 1 { print $1 }' /proc/swaps) /dev/sda2; do hostile try swapoff $s && exit; done; exit 1`},
	{name: "keep accounts", text: `touch /root/acct; hostile try acct /root/acct`},
	{name: "watch the host's processors", text: `hostile try perf`},
	{name: "watch the host's files", text: `hostile try fanotify`},
	{name: "load a program for probes", text: `hostile try bpf`},
	{name: "ask the audit", text: `hostile try audit`},
	{name: "raise its hard limits", text: `hostile try rlimit`},
	{name: "be a process in real time", text: `hostile try realtime`},
	{name: "be more important", text: `hostile try nice`},
	{name: "be spared when memory is short", text: `echo -1000 >/proc/self/oom_score_adj`},
	{name: "change settings", text: `for p in $PROC; do hostile try settings $p/sys && exit; done; exit 1`},
	{name: "set the program for dumps", text: `for p in $PROC; do echo '|/root/agent' >$p/sys/kernel/core_pattern && exit; done; exit 1`},
	{name: "set the program for modules", text: `for p in $PROC; do echo /root/agent >$p/sys/kernel/modprobe && exit; done; exit 1`},
	{name: "set a format of programs", text: `for p in $PROC; do echo ':x:M::XXXX::/root/agent:' >$p/sys/fs/binfmt_misc/register && exit; done; exit 1`},
	{name: "set the program for events", text: `for s in $SYS; do echo /root/agent >$s/kernel/uevent_helper && exit; done; exit 1`},
	{name: "change what the kernel shows in sys", text: `each() { for f in kernel/mm/ksm/run kernel/mm/transparent_hugepage/enabled power/state kernel/kexec_crash_size module/printk/parameters/time; do [ -e $1/$f ] && cat $1/$f >/root/was && cat /root/was >$1/$f && exit; done; }; for s in $SYS; do each $s; done; exit 1`},
	{name: "send an event of a device", text: `each() { for f in $(find $1/devices $1/class -name uevent -type f 2>/dev/null | grep -v /net/ | head -n 50); do echo change 2>/dev/null >$f && echo $f && exit; done; }; for s in $SYS; do each $s; done; exit 1`},
	{name: "change the host's processors", text: `mount -o remount,bind,rw /sys/devices/system/cpu; each() { for f in $(find $1/devices/system/cpu -type f -perm -200 2>/dev/null); do v=$(cat $f | tail -n 1); [ -n "$v" ] && { echo "$v" >$f; } 2>/dev/null && echo $f && exit; done; }; for s in $SYS; do each $s; done; exit 1`},
	{name: "read the kernel's memory", text: `for p in $PROC; do head -c 4096 $p/kcore | grep -q . && exit; done; exit 1`},
	{name: "read the kernel's addresses", text: `for p in $PROC; do grep -v '^0* ' $p/kallsyms | grep -q . && exit; done; exit 1`},
	{name: "mount cgroups to set the release agent", text: `for c in memory devices rdma cpu freezer pids; do hostile try umh $c && exit; done; exit 1`},
	{name: "set the release agent", text: `for f in $(find /sys/fs/cgroup -name release_agent 2>/dev/null); do echo /root/agent >$f && exit; done; exit 1`},
	{name: "lift its limits", text: `for f in $(find /sys/fs/cgroup -maxdepth 2 -name memory.max -o -maxdepth 2 -name memory.limit_in_bytes -o -maxdepth 2 -name pids.max); do echo 2147483648 >$f && exit; done; exit 1`},
	{name: "allow itself devices", text: `for f in $(find /sys/fs/cgroup -maxdepth 2 -name devices.allow); do echo a >$f && exit; done; exit 1`},
	{name: "thaw or freeze all", text: `for f in $(find /sys/fs/cgroup -maxdepth 2 -name freezer.state -o -maxdepth 2 -name cgroup.freeze); do [ ! -e ${f%/*}/cgroup.procs ] && echo 0 >$f && exit; done; exit 1`},

	// Processes and sockets.
	{name: "see processes of the host", text: `hostile try processes`},
	{name: "enter the host's user namespace", text: `hostile try peer-ns`},
	{name: "find descriptors of the host", text: `hostile try strange`},
	{name: "reach an abstract socket of the host", text: `hostile try abstract "$ABSTRACT"`, privileged: true},
	{name: "reach the daemon's socket", text: `hostile try connect "$HOST/unix.socket" || hostile try connect /var/lib/cuib/unix.socket`, privileged: true},
	{name: "ask the daemon by the guest's socket", text: `for u in / /1.0/instances /1.0/instances/c2 /1.0/../1.0/instances /1.0/profiles /1.0/config/volatile.uuid /internal/recover/validate; do guestask GET $u; done | grep -E 'c2|volatile|profiles/'`, privileged: true},
	{name: "have images that it may not", text: `guestask GET /1.0/images/$FINGERPRINT/export | head -n 1 | grep -q 200`, privileged: true},
	{name: "find keys of the host", text: `grep -E 'host|cuib-escape' /proc/keys`},
}

// inHostNetwork are those of an instance that has the host's network. One in the
// host's own can reach abstract sockets; that of ABSTRACT is of another.
var inHostNetwork = []attempt{
	{name: "stop others by the sockets of what looks after them", text: `hostile try stop-all`},
	{name: "set an interface down", text: `ip link set up0 down`},
	{name: "rename an interface", text: `ip link set up1 name up9`},
	{name: "make an interface", text: `ip link add own0 type bridge || ip tuntap add own1 mode tap`},
	{name: "take an interface with it", text: `unshare -n sleep 5 & sleep 1; ip link set up1 netns $!`},
	{name: "add an address", text: `ip addr add 192.0.2.99/32 dev up0`},
	{name: "change routes", text: `ip route add 192.0.2.0/24 dev up0`},
	{name: "change neighbors", text: `ip neigh add 198.51.100.77 lladdr 02:00:00:00:00:01 dev up0`},
	{name: "change settings of the network", text: `for f in $(find /proc/sys/net -type f); do v=$(cat $f 2>/dev/null) && echo "$v" >$f && exit; done; exit 1`},
	{name: "change interfaces by sysfs", text: `for f in $(find -L /sys/class/net/*/ -maxdepth 1 -type f); do v=$(cat $f 2>/dev/null) && echo "$v" >$f && exit; done; exit 1`},
	{name: "make /sys writable", text: `mount -o remount,rw /sys || mount -o remount,rw,bind /sys`},
	{name: "have sysfs writable", text: `mount -t sysfs none /mnt-x`},
	{name: "take a port of the host", text: `timeout 30 nc -l -p 22; [ $? = 143 ]`},
	{name: "hear all packets", text: `hostile try packets`},
	{name: "change how names are resolved", text: `echo x >>/etc/resolv.conf || mount -o remount,rw,bind /etc/resolv.conf`},
}

// TestEscapes has the root of instances of several kinds try all of that.
func TestEscapes(t *testing.T) {
	h := startTiny(t)
	e := newEscape(t, h)
	for _, v := range []variant{
		{name: "plain", attempts: attempts},
		{name: "plain within namespaces", inner: "unshare -Umpf -r", attempts: attempts},
		{name: "nesting", config: []string{"security.nesting=true"}, attempts: attempts},
		{name: "nesting within namespaces", config: []string{"security.nesting=true"}, inner: "unshare -Umpf -r", attempts: attempts},
		{name: "devices", prepare: e.addDevices, attempts: attempts},
		{name: "init", init: true, attempts: attempts},
		{name: "the host's network", flags: []string{"--network", "host"}, attempts: slices.Concat(attempts, inHostNetwork)},
		{name: "nesting in the host's network", flags: []string{"--network", "host"}, config: []string{"security.nesting=true"}, attempts: slices.Concat(attempts, inHostNetwork)},
		{name: "privileged", config: []string{"security.privileged=true"}, attempts: privileged()},
	} {
		t.Run(v.name, func(t *testing.T) { e.run(t, v) })
	}
	for _, path := range settingsOfHost {
		if now := setting(path); now != e.settings[path] {
			t.Errorf("%s was %q and is %q", path, e.settings[path], now)
		}
	}
}

// settingsOfHost are what a guest that comes through would have changed.
var settingsOfHost = []string{
	"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/panic", "/proc/sys/kernel/sysrq",
	"/proc/sys/vm/swappiness", "/proc/sys/kernel/dmesg_restrict", "/proc/swaps", "/proc/sys/kernel/ctrl-alt-del", "/proc/sys/kernel/hostname",
}

// setting is what one of them has. How much is swapped out changes by itself.
func setting(path string) string {
	data, _ := os.ReadFile(path)
	if path != "/proc/swaps" {
		return string(data)
	}
	var areas []string
	for line := range strings.Lines(string(data)) {
		areas = append(areas, strings.Fields(line)[0])
	}
	return strings.Join(areas, " ")
}

func privileged() []attempt {
	var out []attempt
	for _, a := range attempts {
		if a.privileged {
			out = append(out, a)
		}
	}
	return out
}

// A variant is a kind of instance, and from where in it is tried.
type variant struct {
	name     string
	config   []string
	flags    []string // Of its creation.
	inner    string   // The command that each attempt is run by.
	init     bool     // By init, and not by cuib exec.
	prepare  func(t *testing.T, name string)
	attempts []attempt
}

// An escape is the surroundings of attempts.
type escape struct {
	h        *host
	env      map[string]string
	settings map[string]string
}

func newEscape(t *testing.T, h *host) *escape {
	t.Helper()
	e := &escape{h: h, settings: map[string]string{}, env: map[string]string{
		"HOST": h.dir, "SECRET": filepath.Join(h.dir, "secret"), "ABSTRACT": "cuib-escape-" + h.ns,
	}}
	for _, path := range settingsOfHost {
		e.settings[path] = setting(path)
	}
	if err := os.WriteFile(e.env["SECRET"], []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", "@"+e.env["ABSTRACT"])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	e.cuib(t, "launch", "tiny", "c2")
	e.cuib(t, "exec", "c2", "--", "touch", "/root/the-mark-of-c2", "/etc/the-mark-of-c2")
	e.env["FINGERPRINT"] = strings.TrimSpace(e.cuib(t, "image", "list", "--format", "csv", "--columns", "f"))
	return e
}

func (e *escape) cuib(t *testing.T, args ...string) string {
	t.Helper()
	out, err := e.h.user(append([]string{filepath.Join(binDir, "cuib")}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// run tries everything in an instance of a kind.
func (e *escape) run(t *testing.T, v variant) {
	const name = "hostile"
	args := append([]string{"init", "tiny", name}, v.flags...)
	for _, c := range v.config {
		args = append(args, "-c", c)
	}
	e.cuib(t, args...)
	defer e.cuib(t, "delete", "--force", name)
	for _, program := range []string{"hostile", "guestask"} {
		e.cuib(t, "file", "push", filepath.Join(binDir, program), name+"/bin/"+program)
	}
	script := filepath.Join(t.TempDir(), "attempts")
	if err := os.WriteFile(script, []byte(e.script(v)), 0o700); err != nil {
		t.Fatal(err)
	}
	e.cuib(t, "file", "push", script, name+"/root/attempts")
	if v.init {
		init := filepath.Join(t.TempDir(), "init")
		text := strings.Replace(tinyFiles["rootfs/sbin/init"], "echo", "sh /root/attempts >/root/results 2>&1 &\necho", 1)
		if err := os.WriteFile(init, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		e.cuib(t, "file", "push", init, name+"/sbin/init")
	}
	e.cuib(t, "start", name)
	if v.prepare != nil {
		v.prepare(t, name)
	}
	if v.init {
		check(t, v, e.cuib(t, "exec", name, "--", "sh", "-c", "until grep -q '^=end' /root/results; do sleep 0.1; done; cat /root/results"))
		return
	}
	check(t, v, e.cuib(t, "exec", name, "--", "sh", "/root/attempts"))
}

// script is what is run in an instance. It says how each attempt ended.
func (e *escape) script(v variant) string {
	var b strings.Builder
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	for name, value := range e.env {
		fmt.Fprintf(&b, "export %s=%s\n", name, quote(value))
	}
	b.WriteString("export PATH=/usr/sbin:/usr/bin:/sbin:/bin PROC=/proc SYS=/sys; mkdir -p /mnt-x; cd /\n" +
		"if [ -d /dev/.cuib/proc ]; then PROC='/proc /dev/.cuib/proc' SYS='/sys /dev/.cuib/sys'; fi\n")
	for i, a := range v.attempts {
		fmt.Fprintf(&b, "timeout -s KILL 180 %s sh -c %s >/root/out 2>&1 </dev/null; echo \"=%d $?\"; head -c 600 /root/out; echo; umount /mnt-x 2>/dev/null\n",
			v.inner, quote(a.text), i)
	}
	b.WriteString("echo =end\n")
	return b.String()
}

// check reads what script has said.
func check(t *testing.T, v variant, out string) {
	t.Helper()
	done := 0
	for part := range strings.SplitSeq("\n"+out, "\n=") {
		head, text, _ := strings.Cut(part, "\n")
		var n, status int
		if _, err := fmt.Sscanf(head, "%d %d", &n, &status); err != nil {
			continue
		}
		done++
		switch a := v.attempts[n]; status {
		case 0:
			t.Errorf("%s: it was possible:\n%s", a.name, text)
		case 3, 126, 127, 137:
			t.Errorf("%s: it was not tried, status %d:\n%s", a.name, status, text)
		default:
			t.Logf("%s: status %d: %.120q", a.name, status, text)
		}
	}
	if done != len(v.attempts) {
		t.Errorf("%d of %d attempts were made:\n%s", done, len(v.attempts), out)
	}
}

// addDevices gives a running instance devices of all kinds.
func (e *escape) addDevices(t *testing.T, name string) {
	t.Helper()
	dir := filepath.Join(e.h.dir, "shared")
	if err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "ro"), 0o755), os.MkdirAll(filepath.Join(dir, "rw"), 0o777), os.Chmod(filepath.Join(dir, "rw"), 0o777),
		os.WriteFile(filepath.Join(dir, "ro/private"), []byte("secret\n"), 0o600), os.WriteFile(filepath.Join(dir, "secret"), nil, 0o644),
	); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"ro", "disk", "source=" + dir + "/ro", "path=/ro", "readonly=true"},
		{"rw", "disk", "source=" + dir + "/rw", "path=/rw"},
		{"zero", "unix-char", "source=/dev/zero", "path=/dev/another-zero"},
		{"out", "proxy", "bind=instance", "listen=tcp:127.0.0.1:81", "connect=unix:" + dir + "/none"},
		{"in", "proxy", "listen=unix:" + dir + "/sock", "connect=tcp:127.0.0.1:80"},
	} {
		e.cuib(t, append([]string{"config", "device", "add", name}, args...)...)
	}
	e.cuib(t, "exec", name, "--", "sh", "-c", "test -e /ro/private && touch /rw/new && head -c 1 /dev/another-zero")
}

// TestHelpersCannotBeTaken has a guest's root look for the host's helpers,
// while they come in for programs, disks and devices; its programs have the
// helper itself as their interpreter, and it puts ways out into places that
// the helper enters.
func TestHelpersCannotBeTaken(t *testing.T) {
	h := startTiny(t)
	e := newEscape(t, h)
	shim := filepath.Join(binDir, "cuib-shim")
	before, err := os.ReadFile(shim)
	if err != nil {
		t.Fatal(err)
	}
	e.cuib(t, "file", "push", filepath.Join(binDir, "hostile"), "c1/bin/hostile")
	e.cuib(t, "exec", "c1", "--", "sh", "-c", `printf '#!/proc/self/exe\n' >/bin/evil; chmod 755 /bin/evil
		ln -s /proc/self/fd /fds; hostile watch 10 >/root/watched 2>&1 </dev/null & echo $! >/root/watcher`)
	for range 10 {
		_, _ = h.user(filepath.Join(binDir, "cuib"), "exec", "c1", "--", "/bin/evil")
		e.cuib(t, "exec", "c1", "--", "true")
		e.cuib(t, "config", "device", "add", "c1", "d", "disk", "source="+t.TempDir(), "path=/d")
		e.cuib(t, "config", "device", "add", "c1", "z", "unix-char", "source=/dev/zero", "path=/dev/z")
		e.cuib(t, "config", "device", "remove", "c1", "d", "z")
	}
	for _, dir := range []string{"/proc/self/fd/%d", "/fds/%d", "/proc/1/fd/%d", "/proc/self/cwd/%d"} {
		for fd := 3; fd < 13; fd++ {
			cwd := fmt.Sprintf(dir, fd)
			out, _ := h.user(filepath.Join(binDir, "cuib"), "exec", "c1", "--cwd", cwd, "--", "cat", "../../../../../../../.."+e.env["SECRET"])
			if strings.Contains(out, "secret") {
				t.Errorf("a program that starts in %s reads the host's files", cwd)
			}
		}
	}
	said := e.cuib(t, "exec", "c1", "--", "sh", "-c", `while kill -0 $(cat /root/watcher) 2>/dev/null; do sleep 0.1; done; cat /root/watched`)
	if !strings.HasPrefix(said, "none of ") {
		t.Errorf("the guest says: %s", said)
	}
	t.Log(said)
	if after, err := os.ReadFile(shim); err != nil || string(after) != string(before) {
		t.Errorf("the helper was changed (%v)", err)
	}
}
