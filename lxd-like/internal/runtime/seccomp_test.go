package runtime_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/seccomp"
	"github.com/cuib/cuib/shared/testenv"
)

// newAsking returns a container with testdata/asks.c, some of whose system
// calls are intercepted.
func newAsking(t testing.TB, intercept ...string) runtime.Spec {
	t.Helper()
	spec := newSpec(t)
	spec.Syscalls = seccomp.Policy{Intercept: intercept}
	testenv.Run(t, "cp", build(t)+"/asks", spec.Root+"/bin/asks")
	for _, dir := range []string{"/tmp", "/root"} {
		if err := os.Chmod(spec.Root+dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	return spec
}

// asks runs it, and returns what it says.
func asks(t testing.TB, r *runtime.Runtime, name string, args ...string) string {
	t.Helper()
	return run(t, r, name, "", runtime.Exec{Args: append([]string{"/bin/asks"}, args...)}).out
}

// fromInit has init run lines of shell when it starts, and returns what they
// say when all have run.
func fromInit(t testing.TB, r *runtime.Runtime, spec runtime.Spec, lines ...string) string {
	t.Helper()
	script := "exec >/root/said 2>&1\n" + strings.Join(lines, "\n") + "\ntouch /root/all\n"
	writeFile(t, spec.Root+"/etc/rc", script)
	start(t, r, spec)
	testenv.Eventually(t, "the end of the script", func() bool {
		_, err := os.Stat(spec.Root + "/root/all")
		return err == nil
	})
	said, err := os.ReadFile(spec.Root + "/root/said")
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}

// What is denied, or not intercepted, is so for init as for programs of exec.
func TestSyscallPolicies(t *testing.T) {
	t.Parallel()
	r := newRuntime(t)
	tests := map[string]struct {
		policy seccomp.Policy
		want   string
	}{
		"as usual":   {seccomp.Policy{}, fmt.Sprintf("sysinfo 0 mknod %d", unix.EPERM)},
		"denied":     {seccomp.Policy{Deny: "sysinfo errno 71"}, fmt.Sprintf("sysinfo 71 mknod %d", unix.EPERM)},
		"not usual":  {seccomp.Policy{NoDefault: true, Deny: "mknod errno 72\nmknodat errno 72"}, "sysinfo 0 mknod 72"},
		"raw":        {seccomp.Policy{Raw: "2\ndenylist\n[all]\nsysinfo errno 73\nmknod errno 74\nmknodat errno 74\n"}, "sysinfo 73 mknod 74"},
		"no compat":  {seccomp.Policy{Compat: seccomp.DenyCompat}, fmt.Sprintf("sysinfo 0 mknod %d", unix.EPERM)},
		"allow list": {seccomp.Policy{Allow: allowed(t, "sysinfo")}, fmt.Sprintf("sysinfo %d mknod %d", 38, unix.EPERM)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := newAsking(t)
			spec.Syscalls = tt.policy
			says := func(text string) string {
				var words []string
				for line := range strings.Lines(text) {
					if f := strings.Fields(line); len(f) == 2 && len(words) < 4 {
						words = append(words, f...)
					}
				}
				return strings.Join(words, " ")
			}
			if got := says(fromInit(t, r, spec, "asks sysinfo", "asks mknod /root/null 1 3")); got != tt.want {
				t.Errorf("init: got %q, want %q", got, tt.want)
			}
			got := says(asks(t, r, spec.Name, "sysinfo") + asks(t, r, spec.Name, "mknod", "/root/null", "1", "3"))
			if got != tt.want {
				t.Errorf("exec: got %q, want %q", got, tt.want)
			}
		})
	}
}

// allowed is a profile's list of all calls but one, which fails with ENOSYS.
func allowed(t *testing.T, but string) string {
	t.Helper()
	text, err := os.ReadFile("../../../shared/seccomp/calls.txt")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, " ")
		switch name {
		case "#":
		case but:
			lines = append(lines, name+" errno 38")
		default:
			lines = append(lines, name)
		}
	}
	return strings.Join(lines, "\n")
}

// An allow list need not have what it takes to start a container or to become
// a user, only what programs do.
func TestAllowListOfFew(t *testing.T) {
	t.Parallel()
	r := newRuntime(t)
	spec := newAsking(t)
	list := allowed(t, "sysinfo")
	for _, name := range []string{"setresuid", "setresgid", "setgroups", "capset", "close_range", "prctl", "sendmsg", "mount", "socket"} {
		list = strings.Replace(list, "\n"+name+"\n", "\n"+name+" errno 1\n", 1)
	}
	spec.Syscalls = seccomp.Policy{Allow: list, Intercept: []string{"sysinfo"}}
	start(t, r, spec)
	res := run(t, r, spec.Name, "", runtime.Exec{Args: []string{"id", "-u"}, UID: 1000, GID: 1000, Cwd: "/home/user"})
	if res.status != 0 || strings.TrimSpace(res.out) != "1000" {
		t.Errorf("got %+v", res)
	}
	res = run(t, r, spec.Name, "", runtime.Exec{Args: []string{"grep", "Cap", "/proc/self/status"}, UID: 1000, GID: 1000})
	for line := range strings.Lines(res.out) {
		if f := strings.Fields(line); f[0] != "CapBnd:" && strings.Trim(f[1], "0") != "" {
			t.Errorf("a user has capabilities: %s", line)
		}
	}
}

func TestInterceptMknod(t *testing.T) {
	t.Parallel()
	r := newRuntime(t)
	spec := newAsking(t, "mknod")
	if err := os.Symlink("/tmp", spec.Root+"/root/link"); err != nil {
		t.Fatal(err)
	}
	said := fromInit(t, r, spec, "asks mknod /tmp/null 1 3", "asks mknod /tmp/sda 8 0", "cd /tmp; asks mknod zero 1 5; echo test >null; head -c 3 zero | wc -c")
	if want := fmt.Sprintf("mknod 0\nmknod %d\nmknod 0\n3\n", unix.EPERM); said != want {
		t.Errorf("init: got %q, want %q", said, want)
	}
	for _, tt := range []struct {
		path, major, minor string
		want               unix.Errno
	}{
		{"/root/null", "1", "3", 0},
		{"/root/null", "1", "3", unix.EEXIST},
		{"/root/link/full", "1", "7", 0},
		{"/root/link", "1", "7", unix.EEXIST},
		{"/root/console", "5", "1", 0},
		{"/root/sda", "8", "0", unix.EPERM},
		{"/root/kmsg", "1", "11", unix.EPERM},
		{"/root/mem", "1", "1", unix.EPERM},
		{"/none/null", "1", "3", unix.ENOENT},
		{"", "1", "3", unix.ENOENT},
		{"/root/..", "1", "3", unix.EEXIST},
		{"/sys/null", "1", "3", unix.EACCES},
		{"/proc/self/fd/null", "1", "3", unix.ENOENT},
		{"/proc/1/root/tmp/x", "1", "3", unix.ELOOP},
		{"/" + strings.Repeat("x/", 2100), "1", "3", unix.ENAMETOOLONG},
	} {
		got := asks(t, r, spec.Name, "mknod", tt.path, tt.major, tt.minor)
		if want := fmt.Sprintf("mknod %d\n", tt.want); got != want {
			t.Errorf("%.20s %s:%s: got %q, want %q", tt.path, tt.major, tt.minor, got, want)
		}
	}
	if got := sh(t, r, spec.Name, "stat -c '%u %g %a %F' /root/null; echo x >/root/null"); got != "0 0 644 character special file" {
		t.Errorf("got %q", got)
	}
	// Who is not root of the container is nobody here either.
	res := run(t, r, spec.Name, "", runtime.Exec{Args: []string{"/bin/asks", "mknod", "/tmp/mine", "1", "3"}, UID: 1000, GID: 1000})
	if want := fmt.Sprintf("mknod %d\n", unix.EPERM); res.out != want {
		t.Errorf("got %q, want %q", res.out, want)
	}
}

// The owners of what is on the disk are those of the container.
func TestInterceptSetxattr(t *testing.T) {
	t.Parallel()
	r := newRuntime(t)
	spec := newAsking(t, "setxattr")
	foreign := filepath.Join(spec.Root, "foreign")
	spec.Mounts = append(spec.Mounts, runtime.Mount{Source: reachable(t), Target: "/foreign"})
	if err := os.MkdirAll(foreign, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(spec.Mounts[0].Source, 0o777); err != nil {
		t.Fatal(err)
	}
	const opaque = "trusted.overlay.opaque"
	said := fromInit(t, r, spec, "mkdir /root/a", "asks setxattr /root/a "+opaque+" y", "asks setxattr /root/a trusted.overlay.redirect y", "asks setxattr /root/a user.x y")
	if want := fmt.Sprintf("setxattr 0\nsetxattr %d\nsetxattr 0\n", unix.EPERM); said != want {
		t.Errorf("init: got %q, want %q", said, want)
	}
	for _, tt := range []struct {
		call, path, name, value string
		want                    unix.Errno
	}{
		{"setxattr", "/root/a", opaque, "x", 0},
		{"fsetxattr", "/root/a", opaque, "y", 0},
		{"setxattr", "/root/none", opaque, "y", unix.ENOENT},
		{"setxattr", "/root/a", opaque, "z", unix.EPERM},
		{"setxattr", "/root/a", "trusted.x", "y", unix.EPERM},
		{"setxattr", "/foreign", opaque, "y", unix.EPERM},
		{"setxattr", "/sys", opaque, "y", unix.EACCES},
	} {
		got := asks(t, r, spec.Name, tt.call, tt.path, tt.name, tt.value)
		if want := fmt.Sprintf("%s %d\n", tt.call, tt.want); got != want {
			t.Errorf("%+v: got %q, want %q", tt, got, want)
		}
	}
	value := make([]byte, 8)
	n, err := unix.Getxattr(spec.Root+"/root/a", opaque, value)
	if err != nil || string(value[:n]) != "y" {
		t.Errorf("got %q, %v", value[:max(n, 0)], err)
	}
}

func TestInterceptSysinfo(t *testing.T) {
	t.Parallel()
	r := newRuntime(t)
	spec := newAsking(t, "sysinfo")
	spec.Limits.Memory = 64 << 20
	said := fromInit(t, r, spec, "asks sysinfo")
	for who, text := range map[string]string{"init": said, "exec": asks(t, r, spec.Name, "sysinfo")} {
		var total, free, processes, uptime, swap int64
		if _, err := fmt.Sscanf(text, "sysinfo 0\n%d %d %d %d %d", &total, &free, &processes, &uptime, &swap); err != nil {
			t.Fatal(err, text)
		}
		if total != 64<<20 || free <= 0 || free >= total || processes < 1 || processes > 20 || uptime > 600 {
			t.Errorf("%s: got %s", who, text)
		}
	}
	if got := asks(t, r, spec.Name, "flood", "50", "40"); got != "flood 0\n" {
		t.Errorf("got %q", got)
	}
	if err := r.SetLimits(t.Context(), spec.Name, runtime.Limits{Memory: 32 << 20}); err != nil {
		t.Fatal(err)
	}
	if got := asks(t, r, spec.Name, "sysinfo"); !strings.HasPrefix(got, fmt.Sprintf("sysinfo 0\n%d ", 32<<20)) {
		t.Errorf("after a change: got %q", got)
	}
}

// TestProfileOfAnOlderDaemon has a container whose shim loads the profile that
// an older daemon wrote: neither another daemon nor a change takes it away.
func TestProfileOfAnOlderDaemon(t *testing.T) {
	t.Parallel()
	r := newRuntime(t)
	spec := newSpec(t)
	start(t, r, spec)
	conf := filepath.Join(r.Dir, spec.Name, "lxc.conf")
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	const old = "2\ndenylist\nreject_force_umount\n"
	profile := filepath.Join(r.Dir, "seccomp.profile")
	writeFile(t, profile, old)
	writeFile(t, conf, strings.Replace(string(text), "seccomp.none", "seccomp.profile", 1))
	if err := r.AddMount(t.Context(), spec.Name, runtime.Mount{Source: "/usr", Target: "/srv"}); err != nil {
		t.Fatal(err)
	}
	text, err = os.ReadFile(conf)
	if err != nil || !strings.Contains(string(text), "lxc.seccomp.profile = "+profile+"\n") {
		t.Errorf("%v: the configuration is\n%s", err, text)
	}
	if got, err := os.ReadFile(profile); err != nil || string(got) != old {
		t.Errorf("the profile is %q, %v", got, err)
	}
	reboot(t, r, spec.Name)
}
