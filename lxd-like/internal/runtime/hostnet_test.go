package runtime_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/lxd-like/internal/uevents"
	"github.com/cuib/cuib/networks/nic"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

var hostNIC = runtime.NIC{Device: "net", Kind: nic.Shared}

// namespaceOf is the network namespace that we are in.
func namespaceOf(t *testing.T) string {
	t.Helper()
	link, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// TestHostNetwork has containers in the host's network, of each kind that there
// is: what they see and may, before a reboot of the guest and after that.
func TestHostNetwork(t *testing.T) {
	if !inNetNS(t) {
		return
	}
	for _, line := range []string{"link add up0 type veth peer name far0", "addr add 192.0.2.7/24 dev up0", "link set up0 up", "link set far0 up", "route add default via 192.0.2.1"} {
		testenv.Run(t, append([]string{"ip"}, strings.Fields(line)...)...)
	}
	for name, change := range map[string]func(*runtime.Spec){
		"unprivileged": func(*runtime.Spec) {},
		"nesting":      func(s *runtime.Spec) { s.Nesting = true },
		"privileged":   func(s *runtime.Spec) { s.IDs = nil },
	} {
		t.Run(name, func(t *testing.T) {
			r, s := newRuntime(t), newSpec(t)
			s.NICs = []runtime.NIC{hostNIC}
			change(&s)
			testenv.Run(t, "ln", "-s", "../run/nowhere/resolv.conf", s.Root+"/etc/resolv.conf")
			if err := os.Mkdir(s.Root+"/etc/network", 0o755); err != nil {
				t.Fatal(err)
			}
			writeFile(t, s.Root+"/etc/network/interfaces", "auto eth0\n")
			exits := start(t, r, s)
			lookAtShared(t, r, s)
			pid := pidOf(t, r, s.Name)
			testenv.Run(t, "kill", "-INT", fmt.Sprint(pid))
			testenv.Eventually(t, "another init", func() bool { return pidOf(t, r, s.Name) != pid })
			lookAtShared(t, r, s)
			refused(t, r, s)
			kill(t, r, s.Name)
			wait(t, exits)
			leftovers(t, r, s.Name)
			if got, err := os.Readlink(s.Root + "/etc/resolv.conf"); err != nil || got != "../run/nowhere/resolv.conf" {
				t.Errorf("what the guest had is now %q, %v", got, err)
			}
			if got, err := os.ReadFile(s.Root + "/etc/network/interfaces"); err != nil || string(got) != "auto eth0\n" {
				t.Errorf("what the guest had is now %q, %v", got, err)
			}
		})
	}
}

func pidOf(t *testing.T, r *runtime.Runtime, name string) int {
	t.Helper()
	got, err := r.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	return got.PID
}

func lookAtShared(t *testing.T, r *runtime.Runtime, s runtime.Spec) {
	t.Helper()
	pid := pidOf(t, r, s.Name)
	if got, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); err != nil || got != namespaceOf(t) {
		t.Errorf("its network is %s, %v", got, err)
	}
	if got := sh(t, r, s.Name, "ls /sys/class/net"); got != strings.TrimSpace(testenv.Run(t, "ls", "/sys/class/net")) {
		t.Errorf("it has the interfaces %s", got)
	}
	want, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	if got := sh(t, r, s.Name, "cat /etc/resolv.conf"); got != strings.TrimSuffix(string(want), "\n") {
		t.Errorf("it resolves names by %q", got)
	}
	if got := sh(t, r, s.Name, "grep -v '^#' /etc/network/interfaces || true"); got != "" {
		t.Errorf("it sets up %q", got)
	}
	if s.IDs != nil {
		for _, line := range []string{"echo 1 >/sys/kernel/uevent_seqnum", "mount -o remount,rw /sys", "echo x >>/etc/resolv.conf", "ip link set up0 down", "ip addr add 192.0.2.99/32 dev lo"} {
			if res := run(t, r, s.Name, "", runtime.Exec{Args: []string{"sh", "-c", line}}); res.status == 0 {
				t.Errorf("a guest may %s", line)
			}
		}
	}
	for line := range strings.Lines(sh(t, r, s.Name, "cat /proc/self/mountinfo")) {
		at := strings.Fields(line)[4]
		if at != "/sys" && strings.HasPrefix(at, "/sys/") && !strings.HasPrefix(at, "/sys/fs/cgroup") {
			t.Errorf("it has the host's mount on %s", at)
		}
	}
	if got := sh(t, r, s.Name, "ls -d /sys/fs/cgroup/lxc* /sys/fs/cgroup/*/lxc* 2>/dev/null || true"); got != "" {
		t.Errorf("it has the host's cgroups %s", got)
	}
	if got := sh(t, r, s.Name, "ls /dev/net/tun 2>/dev/null || true"); got != "" {
		t.Errorf("it has %s", got)
	}
	if s.Nesting {
		if got := sh(t, r, s.Name, "ls /dev/.cuib/sys/class/net"); got == "" {
			t.Error("containers in it find no sysfs")
		}
	}
}

// refused is what there is not in the host's network.
func refused(t *testing.T, r *runtime.Runtime, s runtime.Spec) {
	t.Helper()
	other := runtime.NIC{Device: "e", Kind: nic.P2P, Name: "eth9", HostName: "x9"}
	for what, err := range map[string]error{
		"add another":  r.AddNIC(t.Context(), s.Name, other),
		"add it":       r.AddNIC(t.Context(), s.Name, hostNIC),
		"remove it":    r.RemoveNIC(t.Context(), s.Name, hostNIC),
		"remove other": r.RemoveNIC(t.Context(), s.Name, other),
	} {
		if !errs.Is(err, errs.Conflict) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if err := r.Tell(s.Name, uevents.Event{Action: "add", Path: "/devices/none"}); err != nil {
		t.Error(err)
	}
	all, err := r.Interfaces(s.Name)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || !hasAddress(all["up0"], "192.0.2.7/24") {
		t.Errorf("it has %v", all)
	}
	s.Name += "x"
	s.NICs = append(s.NICs, other)
	if _, err := r.Start(t.Context(), s, nil); !errs.Is(err, errs.Invalid) {
		t.Errorf("one with two NICs: %v", err)
	}
}

// TestHostNetworkStrangeFiles starts guests whose files are of other kinds than
// they should be, or not there.
func TestHostNetworkStrangeFiles(t *testing.T) {
	for name, prepare := range map[string]func(root string) []string{
		"nothing":       func(string) []string { return []string{"true"} },
		"no etc":        func(root string) []string { return []string{"mv", root + "/etc", root + "/elsewhere"} },
		"etc is a file": func(root string) []string { return []string{"sh", "-c", "mv $0/etc $0/e; touch $0/etc", root} },
		"etc is a link": func(root string) []string { return []string{"sh", "-c", "rm -r $0/etc; ln -s /proc/self $0/etc", root} },
		"a loop":        func(root string) []string { return []string{"sh", "-c", "rm -r $0/etc; ln -s etc $0/etc", root} },
		"a directory":   func(root string) []string { return []string{"mkdir", root + "/etc/resolv.conf"} },
		"a pipe":        func(root string) []string { return []string{"mkfifo", root + "/etc/resolv.conf"} },
		"out":           func(root string) []string { return []string{"ln", "-s", "/etc/passwd", root + "/etc/resolv.conf"} },
	} {
		t.Run(name, func(t *testing.T) {
			r, s := newRuntime(t), newSpec(t)
			s.NICs = []runtime.NIC{hostNIC}
			args := prepare(s.Root)
			testenv.Run(t, args...)
			start(t, r, s)
			want, err := os.ReadFile("/etc/resolv.conf")
			if err != nil {
				t.Fatal(err)
			}
			got := run(t, r, s.Name, "", runtime.Exec{Args: []string{"/bin/cat", "/etc/resolv.conf"}})
			covered := name == "nothing" || name == "a pipe" || name == "out"
			if covered != (got.out == string(want)) {
				t.Errorf("it resolves names by %q, %s", got.out, got.errOut)
			}
		})
	}
}

// TestHostNetworkFollowsNames looks whether a guest sees what becomes of the
// host's file, for which the host is one of our own.
func TestHostNetworkFollowsNames(t *testing.T) {
	if os.Getenv("CUIB_TEST_AGAIN") == "" {
		testenv.Kernel(t, "busybox")
		again(t, `echo "nameserver 192.0.2.1" >$1/names; mount --bind $1/names /etc/resolv.conf
CUIB_TEST_NAMES=$1/names "$2" -test.v -test.run "^$3\$"`)
		return
	}
	r, s := newRuntime(t), newSpec(t)
	s.NICs = []runtime.NIC{hostNIC}
	start(t, r, s)
	go func() { _ = r.KeepNames(t.Context()) }()
	for _, text := range []string{"nameserver 192.0.2.53\noptions edns0\n", "nameserver 192.0.2.9\n"} {
		if err := os.WriteFile(os.Getenv("CUIB_TEST_NAMES"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, "the host's name servers", func() bool {
			return sh(t, r, s.Name, "cat /etc/resolv.conf") == strings.TrimSuffix(text, "\n")
		})
	}
	kill(t, r, s.Name)
	if found, err := filepath.Glob(r.Dir + "/.resolv.conf"); err != nil || len(found) != 1 {
		t.Errorf("got %v, %v", found, err)
	}
}

// TestDebianInHostNetwork boots real systems, which would set a network up. The
// later one's systemd knows no v1 cgroups.
func TestDebianInHostNetwork(t *testing.T) {
	suites := []string{"bookworm", "trixie"}
	if os.Getenv("CUIB_TEST_AGAIN") == "" {
		for _, suite := range suites { // They come from where the namespace does not lead.
			debian(t, suite)
		}
	}
	if !inNetNS(t) {
		return
	}
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) { runDebian(t, suite, hostNIC) })
	}
}
