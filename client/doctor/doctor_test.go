package doctor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cuib/cuib/client/doctor"
	"github.com/cuib/cuib/shared/errs"
)

// healthy returns a host that lacks nothing.
func healthy() doctor.Host {
	files := fstest.MapFS{}
	for name, text := range map[string]string{
		"etc/group": "root:x:0:\ncuib:x:990:ann\n", "proc/self/ns/user": "", "proc/sys/user/max_user_namespaces": "15000\n",
		"proc/filesystems": "nodev\tproc\nnodev\toverlay\n\text4\n", "proc/sys/kernel/seccomp/actions_avail": "kill\n", "dev/fuse": "",
		"lib/modules/6.1.0/modules.dep":    "kernel/fs/btrfs/btrfs.ko: \nkernel/net/netfilter/nf_tables.ko.xz:\n",
		"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n", "usr/lib/x86_64-linux-gnu/liblxc.so.1": "", "usr/lib/cni/bridge": "",
		"var/lib/lxcfs/proc/meminfo": "", "etc/subuid": "root:1000000:65536000\n", "proc/sys/net/ipv4/ip_forward": "1\n",
		"proc/sys/fs/inotify/max_user_instances": "1024\n", "proc/sys/kernel/keys/maxkeys": "2000\n",
		"proc/pressure/cpu": "",
	} {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return doctor.Host{
		Files: files, Release: "6.1.0", User: "ann",
		Program: func(string) bool { return true },
		Daemon:  func(context.Context) error { return nil },
	}
}

// dump returns what is not ok, one a line.
func dump(results []doctor.Result) string {
	var b strings.Builder
	for _, r := range results {
		if r.Status != doctor.OK {
			fmt.Fprintf(&b, "%s %s: %s -> %s\n", r.Status, r.Name, r.Found, r.Remedy)
		}
	}
	return b.String()
}

func TestExamine(t *testing.T) {
	files := func(h *doctor.Host) fstest.MapFS { return h.Files.(fstest.MapFS) } //nolint:forcetypeassert // healthy makes it.
	set := func(name, text string) func(*doctor.Host) {
		return func(h *doctor.Host) { files(h)[name] = &fstest.MapFile{Data: []byte(text)} }
	}
	unset := func(name string) func(*doctor.Host) { return func(h *doctor.Host) { delete(files(h), name) } }
	tests := map[string]struct {
		change func(*doctor.Host)
		want   []string // Beginnings of the lines.
		worst  doctor.Status
	}{
		"healthy":        {func(*doctor.Host) {}, nil, doctor.OK},
		"old kernel":     {func(h *doctor.Host) { h.Release = "5.10.0-8" }, []string{"advice btrfs", "advice nftables", "missing kernel: 5.10.0-8 has no idmapped"}, doctor.Missing},
		"oldish kernel":  {func(h *doctor.Host) { h.Release = "5.15" }, []string{"advice btrfs", "advice kernel: 5.15", "advice nftables"}, doctor.Advice},
		"namespaces off": {set("proc/sys/user/max_user_namespaces", "0"), []string{"missing user namespaces: switched off -> sysctl"}, doctor.Missing},
		"no namespaces":  {unset("proc/self/ns/user"), []string{"missing user namespaces"}, doctor.Missing},
		"no overlay":     {set("proc/filesystems", "\text4"), []string{"advice overlay"}, doctor.Advice},
		"no seccomp":     {unset("proc/sys/kernel/seccomp/actions_avail"), []string{"missing seccomp"}, doctor.Missing},
		"no fuse":        {unset("dev/fuse"), []string{"advice fuse"}, doctor.Advice},
		"no pressure":    {unset("proc/pressure/cpu"), []string{"advice pressure"}, doctor.Advice},
		"no lxcfs": {func(h *doctor.Host) {
			unset("var/lib/lxcfs/proc/meminfo")(h)
			h.Program = func(p string) bool { return p != "lxcfs" }
		}, []string{"advice lxcfs: it does not run: programs in instances see the memory and the uptime of the host -> apt install lxcfs"}, doctor.Advice},
		"lxcfs of the daemon": {func(h *doctor.Host) {
			unset("var/lib/lxcfs/proc/meminfo")(h)
			set("proc/self/mounts", "lxcfs /var/lib/cuib/lxcfs fuse.lxcfs rw 0 0\n")(h)
		}, nil, doctor.OK},
		"no plugins":    {unset("usr/lib/cni/bridge"), []string{"advice network plugins: not installed: no instance can have a nic of type cni -> apt install containernetworking-plugins"}, doctor.Advice},
		"no liblxc":     {unset("usr/lib/x86_64-linux-gnu/liblxc.so.1"), []string{"missing liblxc: not installed -> apt install liblxc1"}, doctor.Missing},
		"no group":      {set("etc/group", "root:x:0:\n"), []string{"advice group"}, doctor.Advice},
		"no dnsmasq":    {func(h *doctor.Host) { h.Program = func(p string) bool { return p != "dnsmasq" } }, []string{"missing dnsmasq: not installed: bridges have no DHCP and no DNS -> apt install dnsmasq-base"}, doctor.Missing},
		"no memory":     {set("sys/fs/cgroup/cgroup.controllers", "cpuset cpu pids"), []string{"advice cgroup memory"}, doctor.Advice},
		"few ids":       {set("etc/subgid", "root:100000:1000"), []string{"missing ids: root has 1000 ids in /etc/subgid"}, doctor.Missing},
		"ids of others": {set("etc/subgid", "ann:100000:1000"), nil, doctor.OK},
		"no forwarding": {set("proc/sys/net/ipv4/ip_forward", "0"), []string{"advice forwarding"}, doctor.Advice},
		"docker":        {set("sys/class/net/docker0", ""), nil, doctor.OK},
		"docker without iptables": {func(h *doctor.Host) {
			set("sys/class/net/docker0", "")(h)
			h.Program = func(p string) bool { return p != "iptables" }
		}, []string{"advice firewall: Docker is here"}, doctor.Advice},
		"few watches":   {set("proc/sys/fs/inotify/max_user_instances", "128"), []string{"advice fs.inotify.max_user_instances: 128"}, doctor.Advice},
		"no daemon":     {func(h *doctor.Host) { h.Daemon = func(context.Context) error { return errors.New("no daemon at x") } }, []string{"missing daemon: no daemon at x -> systemctl"}, doctor.Missing},
		"no membership": {func(h *doctor.Host) { h.Daemon = func(context.Context) error { return errs.Newf(errs.Denied, "no") } }, []string{"missing daemon: no access -> usermod -aG cuib ann"}, doctor.Missing},
		"version 1": {func(h *doctor.Host) {
			unset("sys/fs/cgroup/cgroup.controllers")(h)
			set("proc/self/mounts", "cgroup /a cgroup rw,cpu,cpuacct 0 0\ncgroup /b cgroup rw,memory 0 0\ncgroup /c cgroup rw,pids 0 0\ncgroup2 /d cgroup2 rw 0 0\n")(h)
		}, []string{"advice cgroup cpuset", "advice cgroup version: 1: no limits.memory.high"}, doctor.Advice},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := healthy()
			tt.change(&h)
			results := doctor.Examine(t.Context(), h)
			lines := slices.Sorted(strings.Lines(dump(results)))
			bad := len(lines) != len(tt.want)
			for i := 0; !bad && i < len(lines); i++ {
				bad = !strings.HasPrefix(lines[i], tt.want[i])
			}
			if bad {
				t.Errorf("got %q, want beginnings %q", lines, tt.want)
			}
			if got := doctor.Worst(results); got != tt.worst {
				t.Errorf("the worst is %s, want %s", got, tt.worst)
			}
		})
	}
}

func TestThisHost(t *testing.T) {
	h := doctor.ThisHost(func(context.Context) error { return nil })
	if h.Release == "" || h.User == "" || !h.Program("sh") || h.Program("no-such-program") {
		t.Errorf("this host is %+v", h)
	}
	for _, r := range doctor.Examine(t.Context(), h) {
		if r.Name == "" || r.Found == "" && r.Status != doctor.OK || (r.Status == doctor.OK) != (r.Remedy == "") {
			t.Errorf("odd result %+v", r)
		}
	}
}
