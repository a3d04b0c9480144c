package profiles_test

import (
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/seccomp"
)

func TestSyscalls(t *testing.T) {
	t.Parallel()
	const prefix = "security.syscalls."
	for _, tt := range []struct {
		opts map[string]string
		want profiles.Syscalls
	}{
		{map[string]string{}, profiles.Syscalls{}},
		{map[string]string{prefix + "deny_default": "true", prefix + "deny_compat": "false"}, profiles.Syscalls{}},
		{map[string]string{prefix + "deny_default": "no", prefix + "deny": "ptrace\n"}, profiles.Syscalls{Policy: seccomp.Policy{NoDefault: true, Deny: "ptrace"}}},
		{map[string]string{prefix + "blacklist_default": "no", prefix + "blacklist": "ptrace"}, profiles.Syscalls{Policy: seccomp.Policy{NoDefault: true, Deny: "ptrace"}}},
		{map[string]string{prefix + "blacklist_compat": "yes"}, profiles.Syscalls{Policy: seccomp.Policy{Compat: seccomp.DenyCompat}}},
		{map[string]string{prefix + "whitelist": "read", prefix + "allow": "read"}, profiles.Syscalls{Policy: seccomp.Policy{Allow: "read"}}},
		{map[string]string{"raw.seccomp": "2\ndenylist\n"}, profiles.Syscalls{Policy: seccomp.Policy{Raw: "2\ndenylist\n"}}},
		{map[string]string{prefix + "intercept.sysinfo": "true", prefix + "intercept.mknod": "true"}, profiles.Syscalls{Policy: seccomp.Policy{Intercept: []string{"mknod", "sysinfo"}}}},
		{
			map[string]string{prefix + "intercept.sysinfo": "true", prefix + "intercept.mknod": "true", "security.privileged": "true"},
			profiles.Syscalls{Policy: seccomp.Policy{Intercept: []string{"sysinfo"}}},
		},
		{
			map[string]string{
				prefix + "intercept.mount": "true", prefix + "intercept.mount.allowed": "ext4, xfs", prefix + "intercept.mount.fuse": "ext4=fuse2fs,zip=/bin/mount-zip",
				prefix + "intercept.mount.shift": "1",
			},
			profiles.Syscalls{
				Policy:   seccomp.Policy{Intercept: []string{"mount"}},
				Mounting: profiles.Mounting{FileSystems: []string{"ext4", "xfs"}, Programs: map[string]string{"ext4": "fuse2fs", "zip": "/bin/mount-zip"}, Shift: true},
			},
		},
	} {
		got, err := profiles.Parse(tt.opts, profiles.Host{})
		if err != nil || !reflect.DeepEqual(got.Syscalls, tt.want) {
			t.Errorf("%v: got %+v, %v", tt.opts, got.Syscalls, err)
		}
	}
}

func TestWrongSyscalls(t *testing.T) {
	t.Parallel()
	const prefix = "security.syscalls."
	for _, tt := range []struct {
		opts map[string]string
		want string
	}{
		{map[string]string{prefix + "deny": "no_such_call"}, "no_such_call"},
		{map[string]string{prefix + "allow": "read", prefix + "deny": "write"}, prefix + "allow"},
		{map[string]string{prefix + "whitelist": "read", prefix + "deny_compat": "true"}, prefix + "allow"},
		{map[string]string{prefix + "whitelist": "read", prefix + "allow": "write"}, "two names"},
		{map[string]string{"raw.seccomp": "2\nallowlist\nread", prefix + "deny": "write"}, "raw.seccomp"},
		{map[string]string{"raw.seccomp": "3\nallowlist"}, "line 1"},
		{map[string]string{prefix + "allow": strings.Repeat("read [0,1,==]\n", 2000)}, "too long"},
		{map[string]string{prefix + "intercept.mount.allowed": "ext4,proc"}, "want names"},
		{map[string]string{prefix + "intercept.mount.fuse": "ext4"}, "want pairs"},
		{map[string]string{prefix + "intercept.mount.fuse": "ext4=a b"}, "want pairs"},
		{map[string]string{prefix + "intercept.mount.fuse": "ext4=a,ext4=b"}, "want pairs"},
		{map[string]string{"security.bpffs.path": "/a/../b"}, "absolute path"},
		{map[string]string{"security.bpffs.delegate_cmds": "prog_lode"}, "prog_lode"},
		{map[string]string{"security.delegate_bpf.map_types": "0"}, "want"},
		{map[string]string{"raw.lxc": "lxc.seccomp.profile = /x"}, "raw.seccomp"},
	} {
		_, err := profiles.Parse(tt.opts, profiles.Host{})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60v: got %v, want %q", tt.opts, err, tt.want)
		}
	}
}

func TestBPF(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		opts map[string]string
		path string
		want map[string]string
	}{
		{map[string]string{"security.delegate_bpf.cmd_types": "any"}, "", nil},
		{map[string]string{"security.delegate_bpf": "true", "security.privileged": "true"}, "", nil},
		{map[string]string{"security.delegate_bpf": "true"}, "/sys/fs/bpf", map[string]string{}},
		{
			map[string]string{"security.delegate_bpf": "true", "security.delegate_bpf.cmd_types": "map_create, PROG_LOAD", "security.delegate_bpf.prog_types": "any"},
			"/sys/fs/bpf",
			map[string]string{"delegate_cmds": "0x21", "delegate_progs": "any"},
		},
		{
			map[string]string{"security.bpffs.path": "/run/bpf", "security.bpffs.delegate_maps": "hash:array", "security.bpffs.delegate_attachs": "0x10"},
			"/run/bpf",
			map[string]string{"delegate_maps": "0x6", "delegate_attachs": "0x10"},
		},
	} {
		got, err := profiles.Parse(tt.opts, profiles.Host{})
		if err != nil || got.BPF.Path != tt.path || !maps.Equal(got.BPF.Options, tt.want) {
			t.Errorf("%v: got %+v, %v", tt.opts, got.BPF, err)
		}
	}
}
