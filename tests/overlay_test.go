package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// An overlay is some hosts, each with a daemon, in subnets of their own with a
// router between them.
type overlay struct {
	t     *testing.T
	hosts []*host
}

// newOverlay makes hosts that have no network yet.
func newOverlay(t *testing.T, n int) *overlay {
	t.Helper()
	o := &overlay{t: t}
	requireKernel(t)
	router := fmt.Sprintf("cuibt%d-router", os.Getpid())
	o.must("ip", "netns", "add", router)
	t.Cleanup(func() { o.must("ip", "netns", "del", router) })
	o.must("ip", "netns", "exec", router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	for i := range n {
		h := startHost(t)
		o.hosts = append(o.hosts, h)
		port := fmt.Sprintf("to%d", i)
		o.must("ip", "-n", router, "link", "add", port, "type", "veth", "peer", "name", "under0", "netns", h.ns)
		o.must("ip", "-n", router, "addr", "add", fmt.Sprintf("192.0.2.%d/26", 64*i+1), "dev", port)
		o.must("ip", "-n", router, "link", "set", port, "up")
		o.must("ip", "-n", h.ns, "addr", "add", o.address(i)+"/26", "dev", "under0")
		o.must("ip", "-n", h.ns, "link", "set", "under0", "up")
		o.must("ip", "-n", h.ns, "route", "add", "192.0.2.0/24", "via", fmt.Sprintf("192.0.2.%d", 64*i+1))
		if err := h.image("tiny", "tiny"); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func (o *overlay) address(i int) string { return fmt.Sprintf("192.0.2.%d", 64*i+2) }

func (o *overlay) must(args ...string) string {
	o.t.Helper()
	out, err := run(args...)
	if err != nil {
		o.t.Fatal(err)
	}
	return out
}

// cuib runs our client on a host.
func (o *overlay) cuib(i int, args ...string) string {
	o.t.Helper()
	out, err := o.hosts[i].user(append([]string{filepath.Join(binDir, "cuib")}, args...)...)
	if err != nil {
		o.t.Fatal(err)
	}
	return out
}

// eventually waits until a command of our client on a host succeeds, and
// prints what is wanted.
func (o *overlay) eventually(i int, want string, args ...string) string {
	o.t.Helper()
	var out string
	var err error
	said := func() bool {
		out, err = o.hosts[i].user(append([]string{filepath.Join(binDir, "cuib")}, args...)...)
		return err == nil && strings.Contains(out, want)
	}
	if !soon(said) {
		o.t.Fatalf("host %d, %v: got %q, %v; want %q\n%s", i, args, out, err, want, o.hosts[i].logs())
	}
	return out
}

// create makes the network on host i, with peers.
func (o *overlay) create(i int, peers ...int) {
	o.t.Helper()
	o.cuib(i, "network", "create", "mesh", "--type", "vxlan", "ipv4.address=10.77.0.1/24", "ipv6.address=fd42:77::1/64",
		"vxlan.encryption=none", "vxlan.key=0123456789abcdef0123", "vxlan.peers="+o.peers(peers))
}

func (o *overlay) peers(all []int) string {
	var out []string
	for _, p := range all {
		out = append(out, o.address(p))
	}
	return strings.Join(out, ",")
}

// ipv4 waits until the instance has an address, and returns it.
func (o *overlay) ipv4(i int, name string) string {
	o.t.Helper()
	out := o.eventually(i, "10.77.0.", "list", name, "--format", "csv", "--columns", "4")
	return strings.Fields(strings.Trim(strings.TrimSpace(out), `"`))[0]
}

// TestOverlay has instances of three hosts on one network: they get addresses
// that nobody else has, know each other by name, and keep their addresses when
// they move; a host that goes and comes back finds all as it was.
func TestOverlay(t *testing.T) {
	o := newOverlay(t, 3)
	o.create(0, 1, 2)
	o.create(1, 0, 2)
	o.create(2, 0, 1)
	given := map[string]bool{}
	for i := range o.hosts {
		name := fmt.Sprintf("web%d", i)
		o.cuib(i, "launch", "tiny", name, "--network", "mesh")
		given[o.ipv4(i, name)] = true
	}
	if len(given) != len(o.hosts) {
		t.Errorf("an address was given twice: %v", given)
	}
	for i := range o.hosts {
		for j := range o.hosts {
			for _, name := range []string{fmt.Sprintf("web%d", j), fmt.Sprintf("web%d.cuib", j)} {
				o.eventually(i, "1 packets received", "exec", fmt.Sprintf("web%d", i), "--", "ping", "-c", "1", "-W", "1", name)
			}
		}
	}
	o.moves()
	o.comesBack()
}

// moves takes an instance from one host to another.
func (o *overlay) moves() {
	before := o.ipv4(0, "web0")
	mac := o.cuib(0, "config", "get", "web0", "volatile.eth0.hwaddr")
	archive := filepath.Join(o.t.TempDir(), "web0.tar.gz")
	o.cuib(0, "stop", "--force", "web0")
	o.cuib(0, "export", "web0", archive)
	o.cuib(1, "import", archive)
	o.cuib(0, "delete", "web0")
	o.cuib(1, "start", "web0")
	if after := o.ipv4(1, "web0"); after != before {
		o.t.Errorf("got %s on the other host, and before %s", after, before)
	}
	if now := o.cuib(1, "config", "get", "web0", "volatile.eth0.hwaddr"); now != mac {
		o.t.Errorf("got %s on the other host, and before %s", now, mac)
	}
	o.eventually(2, "1 packets received", "exec", "web2", "--", "ping", "-c", "1", "-W", "1", "web0")
}

// comesBack kills a daemon and its way to the others, and brings both back.
func (o *overlay) comesBack() {
	if err := o.hosts[2].stop(syscall.SIGKILL); err != nil {
		o.t.Fatal(err)
	}
	// Who was there stays known.
	o.eventually(1, "1 packets received", "exec", "web1", "--", "ping", "-c", "1", "-W", "1", "web2")
	o.eventually(1, o.address(2)+" is not reached", "warning", "list", "--format", "csv")
	o.must("ip", "-n", o.hosts[2].ns, "link", "set", "under0", "down")
	o.must("ip", "-n", o.hosts[2].ns, "link", "set", "under0", "up")
	o.must("ip", "-n", o.hosts[2].ns, "route", "replace", "192.0.2.0/24", "via", "192.0.2.129")
	if err := o.hosts[2].start(); err != nil {
		o.t.Fatal(err)
	}
	o.eventually(2, "1 packets received", "exec", "web2", "--", "ping", "-c", "1", "-W", "1", "web1")
	o.cuib(2, "launch", "tiny", "late", "--network", "mesh")
	o.ipv4(2, "late")
	o.eventually(1, "1 packets received", "exec", "web1", "--", "ping", "-c", "1", "-W", "1", "late")
}
