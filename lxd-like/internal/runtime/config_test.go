package runtime_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/lxcfs"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
)

var (
	v1 = runtime.Cgroups{
		V1: map[string]string{"cpu": "/c/cpu", "cpuset": "/c/cpuset", "memory": "/c/memory", "pids": "/c/pids", "devices": "/c/devices", "freezer": "/c/freezer"},
		V2: "/c/unified", SwapV1: true, AllCPUs: "0-7", AllNodes: "0",
		HugePages: map[string]int64{"2MB": 2 << 20},
	}
	v2 = runtime.Cgroups{V2: "/c", V2Has: map[string]bool{"cpu": true, "cpuset": true, "memory": true, "pids": true}}
)

// lines returns the lines of a configuration that begin with one of the keys.
func lines(text string, keys ...string) []string {
	var found []string
	for line := range strings.Lines(text) {
		if slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(line, k) }) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

func TestRender(t *testing.T) {
	spec := runtime.Spec{Name: "web", Hostname: "web", IDs: idmap.Default(1_000_000, 65536)}
	files := runtime.Files{Dir: "/run/web", Seccomp: "/run/seccomp"}
	tests := map[string]struct {
		change func(s *runtime.Spec, h *runtime.Host, f *runtime.Files)
		keys   []string
		want   []string
	}{
		"ids": {nil, []string{"lxc.idmap", "lxc.rootfs", "lxc.cap"}, []string{
			"lxc.idmap = u 0 1000000 65536", "lxc.idmap = g 0 1000000 65536", "lxc.rootfs.path = dir:/run/web/rootfs",
			"lxc.rootfs.mount = /run/web/rootfs", "lxc.cap.drop = sys_time sys_module sys_rawio",
		}},
		"ids of several ranges": {
			func(s *runtime.Spec, _ *runtime.Host, _ *runtime.Files) {
				s.IDs = idmap.Map{{UID: true, Host: 5, Size: 1}, {GID: true, Inside: 7, Host: 8, Size: 9}}
			},
			[]string{"lxc.idmap"},
			[]string{"lxc.idmap = u 0 5 1", "lxc.idmap = g 7 8 9"},
		},
		"privileged": {
			func(s *runtime.Spec, _ *runtime.Host, _ *runtime.Files) { s.IDs = nil },
			[]string{"lxc.idmap", "lxc.cap", "lxc.mount.auto"},
			[]string{"lxc.cap.drop = sys_time sys_module sys_rawio mac_admin mac_override", "lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed"},
		},
		"nesting": {
			func(s *runtime.Spec, h *runtime.Host, _ *runtime.Files) {
				s.Nesting, h.AppArmor, h.AppArmorParser = true, true, "/sbin/apparmor_parser"
			},
			[]string{"lxc.apparmor", "lxc.mount.auto", "lxc.mount.entry = proc ", "lxc.mount.entry = sysfs "},
			[]string{
				"lxc.apparmor.profile = generated", "lxc.apparmor.allow_nesting = 1", "lxc.mount.auto = proc:rw sys:mixed cgroup:rw:force",
				"lxc.mount.entry = proc dev/.cuib/proc proc rw,nosuid,nodev,noexec,create=dir,optional 0 0",
				"lxc.mount.entry = sysfs dev/.cuib/sys sysfs rw,nosuid,nodev,noexec,create=dir,optional 0 0",
			},
		},
		"privileged, systemd, AppArmor": {
			func(s *runtime.Spec, h *runtime.Host, f *runtime.Files) {
				s.IDs, h.AppArmor, h.AppArmorParser, f.Systemd = nil, true, "/sbin/apparmor_parser", true
			},
			[]string{"lxc.apparmor"},
			[]string{"lxc.apparmor.profile = generated", "lxc.apparmor.allow_nesting = 1"},
		},
		"privileged, AppArmor": {
			func(s *runtime.Spec, h *runtime.Host, _ *runtime.Files) {
				s.IDs, h.AppArmor, h.AppArmorParser = nil, true, "/sbin/apparmor_parser"
			},
			[]string{"lxc.apparmor"},
			[]string{"lxc.apparmor.profile = generated"},
		},
		"only cgroup2": {
			func(_ *runtime.Spec, _ *runtime.Host, f *runtime.Files) { f.OnlyV2 = true },
			[]string{"lxc.mount.auto", "lxc.mount.entry = cgroup2"},
			[]string{"lxc.mount.auto = proc:rw sys:mixed", "lxc.mount.entry = cgroup2 sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime 0 0"},
		},
		"mounts": {
			func(_ *runtime.Spec, h *runtime.Host, f *runtime.Files) {
				h.LXCFS = lxcfs.Served{Dir: "/var/lib/lxcfs", Files: []string{"proc/meminfo"}}
				f.Staged = []runtime.Staged{{Source: "/run/web/mounts/1", Target: `/a b/../c\d e`}, {Source: "/run/web/mounts/2", Target: "/etc/x", File: true}}
			},
			[]string{"lxc.mount.entry = /run", "lxc.mount.entry = /var"},
			[]string{
				"lxc.mount.entry = /var/lib/lxcfs/proc/meminfo proc/meminfo none bind,optional 0 0",
				`lxc.mount.entry = /run/web/mounts/1 c\134d\040e none rbind,create=dir 0 0`,
				"lxc.mount.entry = /run/web/mounts/2 etc/x none rbind,create=file 0 0",
			},
		},
		"nics": {
			func(s *runtime.Spec, _ *runtime.Host, _ *runtime.Files) {
				s.NICs = []runtime.NIC{
					{Kind: "bridged", Parent: "br0", Name: "eth0", HostName: "veth1", MAC: "10:66:6a:00:00:01", MTU: 1400},
					{Kind: "macvlan", Parent: "en0", Name: "eth1", Mode: "vepa"},
				}
			},
			[]string{"lxc.net"},
			[]string{
				"lxc.net.0.type = veth", "lxc.net.0.link = br0", "lxc.net.0.veth.pair = veth1", "lxc.net.0.name = eth0",
				"lxc.net.0.flags = up", "lxc.net.0.hwaddr = 10:66:6a:00:00:01", "lxc.net.0.mtu = 1400",
				"lxc.net.1.type = macvlan", "lxc.net.1.link = en0", "lxc.net.1.macvlan.mode = vepa", "lxc.net.1.name = eth1", "lxc.net.1.flags = up",
			},
		},
		"credentials and rules": {
			func(s *runtime.Spec, h *runtime.Host, f *runtime.Files) {
				s.Credentials, s.AppArmor = map[string][]byte{"a": nil}, []string{"deny /x r,", "deny /y r,"}
				h.AppArmor, h.AppArmorParser, f.Dir = true, "/sbin/apparmor_parser", "/run/a b"
			},
			[]string{"lxc.apparmor.raw", "lxc.environment", "lxc.mount.entry = /"},
			[]string{
				"lxc.apparmor.raw = deny /x r,", "lxc.apparmor.raw = deny /y r,",
				`lxc.mount.entry = /run/a\040b/credentials dev/.cuib/credentials none bind,ro,nosuid,nodev,noexec,create=dir 0 0`,
				"lxc.environment = CREDENTIALS_DIRECTORY=/dev/.cuib/credentials",
			},
		},
		"no nic": {nil, []string{"lxc.net"}, []string{"lxc.net.0.type = empty"}},
		"devices": {
			func(s *runtime.Spec, _ *runtime.Host, _ *runtime.Files) {
				s.Nodes = []runtime.Node{{Major: 10, Minor: 232, Path: "/dev/kvm"}, {Block: true, Major: 7, Path: "/dev/loop0"}}
			},
			[]string{"lxc.cgroup.devices.deny", "lxc.cgroup.devices.allow = c 10:232", "lxc.cgroup.devices.allow = b 7", "lxc.cgroup2.devices"},
			[]string{"lxc.cgroup.devices.deny = a", "lxc.cgroup.devices.allow = c 10:232 rwm", "lxc.cgroup.devices.allow = b 7:0 rwm"},
		},
		"devices of v2": {
			func(_ *runtime.Spec, h *runtime.Host, _ *runtime.Files) { h.Cgroups = v2 },
			[]string{"lxc.cgroup.", "lxc.cgroup2.devices.deny"},
			[]string{"lxc.cgroup2.devices.deny = a"},
		},
		"the rest": {
			func(s *runtime.Spec, _ *runtime.Host, _ *runtime.Files) {
				s.Rlimits = map[string]string{"nofile": "1:2", "core": "0:0"}
				s.Sysctls = map[string]string{"net.ipv4.ip_forward": "1"}
				s.OOMScore, s.Arch, s.Raw = -5, "i686", "# a comment\nlxc.prlimit.as = 5"
			},
			[]string{"lxc.prlimit", "lxc.sysctl", "lxc.proc", "lxc.arch"},
			[]string{
				"lxc.arch = i686", "lxc.prlimit.core = 0:0", "lxc.prlimit.nofile = 1:2", "lxc.sysctl.net.ipv4.ip_forward = 1",
				"lxc.proc.oom_score_adj = -5", "lxc.prlimit.as = 5",
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, h, f := spec, runtime.Host{Cgroups: v1}, files
			if test.change != nil {
				test.change(&s, &h, &f)
			}
			text, err := runtime.Render(s, h, f)
			if err != nil {
				t.Fatal(err)
			}
			if got := lines(text, test.keys...); !slices.Equal(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

func TestRenderRefuses(t *testing.T) {
	tests := map[string]func(*runtime.Spec){
		"line break in a name":    func(s *runtime.Spec) { s.Hostname = "a\nb" },
		"NUL in a sysctl":         func(s *runtime.Spec) { s.Sysctls = map[string]string{"a": "\x00"} },
		"line break in a key":     func(s *runtime.Spec) { s.Rlimits = map[string]string{"a = 1\nlxc.hook.start": "x"} },
		"line break in a MAC":     func(s *runtime.Spec) { s.NICs = []runtime.NIC{{Kind: "bridged", MAC: "\n"}} },
		"kind of NIC":             func(s *runtime.Spec) { s.NICs = []runtime.NIC{{Kind: "sriov"}} },
		"negative limit":          func(s *runtime.Spec) { s.Limits.Memory = -1 },
		"share above all":         func(s *runtime.Spec) { s.Limits.CPUShare = 101 },
		"processors":              func(s *runtime.Spec) { s.Limits.CPUs = "all" },
		"time too short":          func(s *runtime.Spec) { s.Limits.CPUQuota = time.Microsecond },
		"raw: root":               func(s *runtime.Spec) { s.Raw = "lxc.rootfs.path = /" },
		"raw: root, in disguise":  func(s *runtime.Spec) { s.Raw = "lxc.net.0.type = empty\n \t LXC.Rootfs.Path=/" },
		"raw: ids":                func(s *runtime.Spec) { s.Raw = "lxc.idmap = u 0 0 1" },
		"raw: log":                func(s *runtime.Spec) { s.Raw = "lxc.log.file = /etc/passwd" },
		"raw: include":            func(s *runtime.Spec) { s.Raw = "lxc.include = /etc/x" },
		"raw: our hook":           func(s *runtime.Spec) { s.Raw = "lxc.hook.post-stop = /bin/x" },
		"raw: no key":             func(s *runtime.Spec) { s.Raw = "hello" },
		"raw: another program's":  func(s *runtime.Spec) { s.Raw = "lxd.x = 1" },
		"raw: hidden line":        func(s *runtime.Spec) { s.Raw = "# comment\rlxc.idmap = x" },
		"environment, impossible": func(s *runtime.Spec) { s.Raw = "\x00" },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			s := runtime.Spec{Name: "web", Hostname: "web"}
			change(&s)
			if text, err := runtime.Render(s, runtime.Host{Cgroups: v1}, runtime.Files{}); !errs.Is(err, errs.Invalid) {
				t.Errorf("%v, %s", err, text)
			}
		})
	}
}

func TestLimitSettings(t *testing.T) {
	tests := map[string]struct {
		limits         runtime.Limits
		wantV1, wantV2 map[string]string
	}{
		"none": {},
		"processors": {
			runtime.Limits{CPUs: "0-1,3"},
			map[string]string{"cpuset.cpus": "0-1,3"},
			map[string]string{"cpuset.cpus": "0-1,3"},
		},
		"share": {runtime.Limits{CPUShare: 25}, map[string]string{"cpu.shares": "256"}, map[string]string{"cpu.weight": "25"}},
		"time": {
			runtime.Limits{CPUQuota: 10 * time.Millisecond, CPUPeriod: 20 * time.Millisecond},
			map[string]string{"cpu.cfs_quota_us": "10000", "cpu.cfs_period_us": "20000"},
			map[string]string{"cpu.max": "10000 20000"},
		},
		"memory": {runtime.Limits{Memory: 100}, map[string]string{"memory.limit_in_bytes": "100"}, map[string]string{"memory.max": "100"}},
		"memory and swap": {
			runtime.Limits{Memory: 100, Swap: 50},
			map[string]string{"memory.limit_in_bytes": "100", "memory.memsw.limit_in_bytes": "150"},
			map[string]string{"memory.max": "100", "memory.swap.max": "50"},
		},
		"no swap": {
			runtime.Limits{Memory: 100, NoSwap: true, Swap: 50},
			map[string]string{"memory.limit_in_bytes": "100", "memory.memsw.limit_in_bytes": "100", "memory.swappiness": "0"},
			map[string]string{"memory.max": "100", "memory.swap.max": "0"},
		},
		"soft":      {runtime.Limits{Memory: 100, Soft: true}, map[string]string{"memory.soft_limit_in_bytes": "100"}, map[string]string{"memory.low": "100"}},
		"nodes":     {runtime.Limits{Nodes: "0"}, map[string]string{"cpuset.mems": "0"}, map[string]string{"cpuset.mems": "0"}},
		"priority":  {runtime.Limits{CPUYield: 3}, map[string]string{"cpu.shares": "1021"}, map[string]string{"cpu.weight": "97"}},
		"least":     {runtime.Limits{CPUShare: 1, CPUYield: 10}, map[string]string{"cpu.shares": "2"}, map[string]string{"cpu.weight": "1"}},
		"processes": {runtime.Limits{Processes: 5}, map[string]string{"pids.max": "5"}, map[string]string{"pids.max": "5"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for i, host := range []runtime.Cgroups{v1, v2} {
				settings, err := test.limits.Settings(host)
				if err != nil {
					t.Fatal(err)
				}
				got := map[string]string{}
				for _, s := range settings {
					if !s.Default {
						got[s.File] = s.Value
					}
				}
				if want := []map[string]string{test.wantV1, test.wantV2}[i]; !maps.Equal(got, want) {
					t.Errorf("v%d: %v, want %v", i+1, got, want)
				}
			}
		})
	}
	if _, err := (runtime.Limits{Processes: 1}).Settings(runtime.Cgroups{}); !errs.Is(err, errs.Unsupported) {
		t.Errorf("without a controller: %v", err)
	}
}

func TestCgroupDirs(t *testing.T) {
	hybrid, err := runtime.ParseCgroups(strings.NewReader(`24 1 0:20 / / rw - ext4 /dev/vda rw
30 24 0:26 / /sys/fs/cgroup rw,relatime - tmpfs none rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup none rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/systemd rw,relatime - cgroup none rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/unified rw,relatime shared:6 master:1 - cgroup2 none rw
34 24 0:27 /lxc /mnt/part rw - cgroup none rw,memory
`))
	if err != nil {
		t.Fatal(err)
	}
	// The guest makes cgroups with names as it likes.
	got := hybrid.Dirs("web", `12:cpu,cpuacct:/lxc.payload.web/system.slice/lxc.payload.web-2/x
9:name=systemd:/lxc.payload.web2/lxc.payload.web-1/init.scope
8:memory:/elsewhere
0::/lxc.payload.web/lxc.payload.web/init.scope
`)
	want := map[string]string{
		"cpu": "/sys/fs/cgroup/cpu,cpuacct/lxc.payload.web", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/lxc.payload.web",
		"name=systemd": "/sys/fs/cgroup/systemd/lxc.payload.web2/lxc.payload.web-1", "": "/sys/fs/cgroup/unified/lxc.payload.web",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if here, err := runtime.ParseCgroups(f); err != nil {
		t.Errorf("%+v, %v", here, err)
	}
}
