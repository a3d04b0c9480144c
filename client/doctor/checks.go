package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

func (h Host) daemon(ctx context.Context) Result {
	err := h.Daemon(ctx)
	r := Result{Name: "daemon", Status: Missing}
	switch {
	case err == nil:
		return ok("daemon", "it answers")
	case errs.Is(err, errs.Denied):
		r.Found, r.Remedy = "no access", "usermod -aG cuib "+h.User+", and log in again"
	default:
		r.Found, r.Remedy = err.Error(), "systemctl enable --now cuibd, or run cuibd as root"
	}
	return r
}

func (h Host) group() Result {
	text, _ := h.read("etc/group")
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "cuib:") {
			return ok("group", "cuib exists")
		}
	}
	return Result{Name: "group", Status: Advice, Found: "no group cuib: only root reaches the daemon", Remedy: "groupadd --system cuib, and restart cuibd"}
}

// The kernels that idmapped mounts need: at all, and below overlay.
var idmapped, idmappedOverlay = [2]int{5, 12}, [2]int{5, 19}

func (h Host) kernel() Result {
	var got [2]int
	if _, err := fmt.Sscanf(h.Release, "%d.%d", &got[0], &got[1]); err != nil {
		return Result{Name: "kernel", Status: Advice, Found: "unknown version " + h.Release, Remedy: "use Linux 5.19 or later"}
	}
	switch {
	case less(got, idmapped):
		return Result{Name: "kernel", Status: Missing, Found: h.Release + " has no idmapped mounts", Remedy: "use Linux 5.19 or later"}
	case less(got, idmappedOverlay):
		return Result{Name: "kernel", Status: Advice, Found: h.Release + " has no idmapped mounts below overlay", Remedy: "use Linux 5.19 or later, or btrfs pools"}
	}
	return ok("kernel", "%s", h.Release)
}

func less(a, b [2]int) bool { return a[0] < b[0] || a[0] == b[0] && a[1] < b[1] }

func (h Host) userNamespaces() Result {
	const name = "user namespaces"
	limit, _ := h.read("proc/sys/user/max_user_namespaces")
	switch {
	case !h.exists("proc/self/ns/user"):
		return Result{Name: name, Status: Missing, Found: "the kernel has none", Remedy: "use a kernel with CONFIG_USER_NS"}
	case limit == "0":
		return Result{Name: name, Status: Missing, Found: "switched off", Remedy: "sysctl user.max_user_namespaces=15000"}
	}
	return ok(name, "there are")
}

// fileSystem tells whether the kernel has a file system loaded.
func (h Host) fileSystem(name string) bool {
	text, _ := h.read("proc/filesystems")
	for line := range strings.Lines(text) {
		if strings.TrimSpace(strings.TrimPrefix(line, "nodev")) == name {
			return true
		}
	}
	return false
}

// module tells whether a module is there to be loaded.
func (h Host) module(name string) bool {
	for _, list := range []string{"modules.dep", "modules.builtin"} {
		text, _ := h.read("lib/modules/" + h.Release + "/" + list)
		if strings.Contains(text, "/"+name+".ko") {
			return true
		}
	}
	return false
}

func (h Host) overlay() Result {
	return h.fileSystemOr(Result{Name: "overlay", Status: Advice, Found: "the kernel does not have it", Remedy: "modprobe overlay, or use btrfs pools"})
}

func (h Host) btrfs() Result {
	return h.fileSystemOr(Result{Name: "btrfs", Status: Advice, Found: "the kernel does not have it: no btrfs pools", Remedy: "use a kernel with CONFIG_BTRFS_FS, or another driver"})
}

// fileSystemOr looks for the file system that missing names, and returns
// missing if there is none.
func (h Host) fileSystemOr(missing Result) Result {
	switch {
	case h.fileSystem(missing.Name):
		return ok(missing.Name, "the kernel has it")
	case h.module(missing.Name):
		return ok(missing.Name, "it is loaded when it is needed")
	}
	return missing
}

func (h Host) seccomp() Result {
	if h.exists("proc/sys/kernel/seccomp/actions_avail") {
		return ok("seccomp", "the kernel has it")
	}
	return Result{Name: "seccomp", Status: Missing, Found: "the kernel does not have it", Remedy: "use a kernel with CONFIG_SECCOMP_FILTER"}
}

func (h Host) fuse() Result {
	if h.exists("dev/fuse") {
		return ok("fuse", "/dev/fuse")
	}
	return Result{Name: "fuse", Status: Advice, Found: "no /dev/fuse: neither \"cuib file mount\" nor lxcfs works", Remedy: "modprobe fuse"}
}

func (h Host) nftables() Result {
	if h.exists("sys/module/nf_tables") || h.exists("proc/net/netfilter") || h.module("nf_tables") {
		return ok("nftables", "the kernel has them")
	}
	return Result{Name: "nftables", Status: Advice, Found: "no sign of them in the kernel: networks may have no NAT", Remedy: "modprobe nf_tables"}
}

// controllers are those of cgroups that limits of instances need.
func (h Host) controllers() []Result {
	have := h.activeControllers()
	var out []Result
	for _, c := range []struct{ name, remedy string }{
		{"cpu", ""}, {"cpuset", ""}, {"memory", ": boot with cgroup_enable=memory swapaccount=1"}, {"pids", ""},
	} {
		name := "cgroup " + c.name
		if have[c.name] {
			out = append(out, ok(name, "there is"))
			continue
		}
		out = append(out, Result{
			Name: name, Status: Advice, Found: "the controller is missing: its limits do nothing", Remedy: "mount it" + c.remedy,
		})
	}
	return out
}

// activeControllers returns the controllers of version 2, or those of version
// 1 that are mounted.
func (h Host) activeControllers() map[string]bool {
	out := map[string]bool{}
	text, _ := h.read("sys/fs/cgroup/cgroup.controllers")
	for c := range strings.FieldsSeq(text) {
		out[c] = true
	}
	mounts, _ := h.read("proc/self/mounts")
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 4 || f[2] != "cgroup" {
			continue
		}
		for option := range strings.SplitSeq(f[3], ",") {
			out[option] = true
		}
	}
	return out
}

// A program is one that the daemon runs.
type program struct {
	name, pkg, without string
	need               Status // What it is when the program is not there.
}

var programs = []program{
	{"dnsmasq", "dnsmasq-base", "bridges have no DHCP and no DNS", Missing},
	{"unsquashfs", "squashfs-tools", "squashfs images can't be imported", Advice},
	{"mmdebstrap", "mmdebstrap", "Debian images can't be built", Advice},
	{"restic", "restic", "there are no backups in repositories", Advice},
	{"swtpm", "swtpm", "no instance can have a device of type tpm", Advice},
	{"mkfs.btrfs", "btrfs-progs", "btrfs pools can't be made", Advice},
}

func (h Host) program(p program) Result {
	if h.Program(p.name) {
		return ok(p.name, "installed")
	}
	return Result{Name: p.name, Status: p.need, Found: "not installed: " + p.without, Remedy: "apt install " + p.pkg}
}

// plugins looks for those of networks.
func (h Host) plugins() Result {
	const name = "network plugins"
	for _, dir := range []string{"usr/lib/cni", "opt/cni/bin"} {
		if h.exists(dir + "/bridge") {
			return ok(name, "/%s", dir)
		}
	}
	return Result{Name: name, Status: Advice, Found: "not installed: no instance can have a nic of type cni", Remedy: "apt install containernetworking-plugins"}
}

func (h Host) liblxc() Result {
	for _, pattern := range []string{"usr/lib/*/liblxc.so.1", "usr/lib/liblxc.so.1", "usr/lib64/liblxc.so.1", "usr/local/lib/liblxc.so.1"} {
		if found, err := fs.Glob(h.Files, pattern); err == nil && len(found) > 0 {
			return ok("liblxc", "/%s", found[0])
		}
	}
	return Result{Name: "liblxc", Status: Missing, Found: "not installed", Remedy: "apt install liblxc1"}
}

// lxcfs looks for one that serves: the host's own, or that of a daemon.
func (h Host) lxcfs() Result {
	mounts, _ := h.read("proc/self/mounts")
	if strings.Contains(mounts, " fuse.lxcfs ") || h.exists("var/lib/lxcfs/proc/meminfo") {
		return ok("lxcfs", "it runs")
	}
	r := Result{
		Name: "lxcfs", Status: Advice, Found: "it does not run: programs in instances see the memory and the uptime of the host",
		Remedy: "apt install lxcfs; the daemon starts it",
	}
	switch {
	case !h.exists("dev/fuse"):
		r.Remedy = "modprobe fuse; the daemon starts it"
	case h.Program("lxcfs"):
		r.Remedy = "start the daemon, which starts it, or see its log"
	}
	return r
}

// versionTwo says what version 1 of control groups cannot do.
func (h Host) versionTwo() Result {
	const name = "cgroup version"
	if h.exists("sys/fs/cgroup/cgroup.controllers") {
		return ok(name, "2")
	}
	return Result{
		Name: name, Status: Advice, Found: "1: no limits.memory.high and no limits.io.latency, and disk limits spare what is written through the cache",
		Remedy: "boot with systemd.unified_cgroup_hierarchy=1",
	}
}

// pressure looks whether the kernel measures how long programs wait.
func (h Host) pressure() Result {
	if h.exists("proc/pressure/cpu") {
		return ok("pressure", "the kernel measures it")
	}
	return Result{Name: "pressure", Status: Advice, Found: "the kernel does not measure it: the state of instances is without it", Remedy: "boot with psi=1"}
}

// minIDs is how many ids an instance has.
const minIDs = 65536

// ids looks at the ranges that root may give to instances. Without one the
// daemon takes ids that nobody else has.
func (h Host) ids() Result {
	for _, file := range []string{"subuid", "subgid"} {
		text, _ := h.read("etc/" + file)
		largest, given := 0, false
		for line := range strings.Lines(text) {
			f := strings.Split(strings.TrimSpace(line), ":")
			if len(f) != 3 || f[0] != "root" && f[0] != "0" {
				continue
			}
			given = true
			if n, err := strconv.Atoi(f[2]); err == nil {
				largest = max(largest, n)
			}
		}
		if given && largest < minIDs {
			return Result{
				Name: "ids", Status: Missing, Found: fmt.Sprintf("root has %d ids in /etc/%s, an instance needs %d", largest, file, minIDs),
				Remedy: "give root more, such as root:1000000:1000000000, or remove its line",
			}
		}
	}
	return ok("ids", "there are enough")
}

func (h Host) forwarding() Result {
	if v, _ := h.read("proc/sys/net/ipv4/ip_forward"); v == "1" {
		return ok("forwarding", "switched on")
	}
	return Result{
		Name: "forwarding", Status: Advice, Found: "switched off until the daemon makes its first network",
		Remedy: "if it stays so: sysctl net.ipv4.ip_forward=1",
	}
}

func (h Host) docker() Result {
	if !h.exists("sys/class/net/docker0") {
		return ok("firewall", "no Docker")
	}
	if h.Program("iptables") {
		return ok("firewall", "Docker is here, in whose chain DOCKER-USER the daemon lets networks pass")
	}
	return Result{
		Name: "firewall", Status: Advice, Found: "Docker is here, and drops what instances send to other networks: without iptables the daemon cannot let it pass",
		Remedy: "apt install iptables",
	}
}

// A limit of the kernel is shared by all instances.
type limit struct {
	key   string
	least int
	what  string
}

var limits = []limit{
	{"fs.inotify.max_user_instances", 512, "systemd fails in some instances when there are many"},
	{"kernel.keys.maxkeys", 2000, "some instances do not start when there are many"},
}

func (h Host) limit(l limit) Result {
	text, there := h.read("proc/sys/" + strings.ReplaceAll(l.key, ".", "/"))
	n, err := strconv.Atoi(text)
	if !there || err != nil || n >= l.least {
		return ok(l.key, "%s", text)
	}
	return Result{
		Name: l.key, Status: Advice, Found: text + ": " + l.what,
		Remedy: fmt.Sprintf("sysctl %s=%d", l.key, 2*l.least),
	}
}
