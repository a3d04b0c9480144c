package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A networkOp is a change of networks or of what belongs to them, and what
// takes it back. In it "new" is a name that nothing has.
type networkOp struct {
	name string
	do   string // Of cuib.
	undo []string
	done bool // What base made is as undo leaves it when it has been done, and not before.
}

// networkBase is what the changes work on.
var networkBase = []string{
	"network address-set create office", "network address-set add office 192.0.2.0/24",
	"network acl create web", "network acl rule add web ingress action=allow source=$office",
	"network zone create example.org",
	"network create one ipv4.address=10.88.1.1/24 ipv6.address=fd42:88:1::1/64 security.acls=web",
	"network create two ipv4.address=10.88.2.1/24 ipv4.nat=true ipv6.address=none dns.domain=two",
	"network forward create one 192.0.2.1", "network forward port add one 192.0.2.1 tcp 80 10.88.1.9",
	"network peer create two to-one one",
}

var networkOps = []networkOp{
	{name: "create a bridge", do: "network create new ipv4.address=10.88.9.1/24 ipv6.address=fd42:88:9::1/64", undo: []string{"network delete new"}},
	{name: "create an overlay", do: "network create new --type vxlan ipv4.address=10.88.9.1/24 ipv6.address=none vxlan.peers=198.51.100.9 vxlan.key=0123456789abcdef vxlan.encryption=none", undo: []string{"network delete new"}},
	{name: "create a macvlan network", do: "network create new --type macvlan parent=up0", undo: []string{"network delete new"}},
	{name: "update", do: "network set two ipv4.nat=false ipv4.address=10.88.3.1/24", undo: []string{"network set two ipv4.nat=true ipv4.address=10.88.2.1/24"}},
	{name: "rename", do: "network rename one new", undo: []string{"network rename new one"}},
	{
		name: "delete", do: "network delete one",
		undo: []string{networkBase[5], networkBase[7], networkBase[8]}, done: true,
	},
	{name: "create a forward", do: "network forward create one 192.0.2.5 target_address=10.88.1.8", undo: []string{"network forward delete one 192.0.2.5"}},
	{name: "change a forward", do: "network forward port add one 192.0.2.1 udp 53 10.88.1.8", undo: []string{"network forward port remove one 192.0.2.1 udp 53"}},
	{
		name: "create a load balancer", do: `query --request POST --data {"listen_address":"192.0.2.6","backends":[{"name":"a","target_address":"10.88.1.7"}],"ports":[{"protocol":"tcp","listen_port":"80","target_backend":["a"]}]} /1.0/networks/one/load-balancers`,
		undo: []string{"network load-balancer delete one 192.0.2.6"},
	},
	{name: "change an ACL", do: "network acl rule add web egress action=drop protocol=udp", undo: []string{"network acl rule remove web egress protocol=udp"}},
	{name: "change an address set", do: "network address-set add office 198.51.100.7", undo: []string{"network address-set remove office 198.51.100.7"}},
	{name: "create a peer", do: "network peer create one to-two two", undo: []string{"network peer delete one to-two"}},
	{name: "create a record", do: "network zone record create example.org www", undo: []string{"network zone record delete example.org www"}},
}

// TestCrashNetworks kills the daemon at each step of each change of networks,
// and starts it again: the records and the host have all of the change, or
// nothing.
func TestCrashNetworks(t *testing.T) {
	t.Parallel()
	requireKernel(t)
	h, err := newHost(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := &matrix{host: h, crash: filepath.Join(h.work, "crash")}
	h.bin, h.extra = crashBinary(t), []string{"CUIB_CRASH_FILE=" + m.crash}
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	})
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	m.networks(t, networkBase)
	for _, op := range networkOps { // What follows would fail of one that fails.
		m.crashNetwork(t, op)
	}
}

// crashNetwork makes a change again and again, and kills the daemon a step
// later each time.
func (m *matrix) crashNetwork(t *testing.T, op networkOp) {
	before := m.networkPicture(t)
	m.networks(t, []string{op.do})
	after := m.networkPicture(t)
	if after == before {
		t.Fatalf("%s: it changes nothing:\n%s", op.name, after)
	}
	first, stride := 1+len(op.name)%3, 3 // All steps take long, and each has its turn by some change.
	if os.Getenv("CUIB_TEST_MATRIX") == "all" {
		first, stride = 1, 1
	}
	for n := first; ; n += stride {
		if after != before { // It is done.
			m.networks(t, op.undo)
		}
		m.settle(t, op.name+", undone", before)
		if err := m.arm(fmt.Sprintf("%d\n^(before|after)", n)); err != nil {
			t.Fatal(err)
		}
		_, err := m.cuib(strings.Fields(op.do)...)
		at, crashed := m.crashed(t)
		if !crashed {
			if err != nil {
				t.Fatalf("%s, without a crash: %v\n%s", op.name, err, m.logs())
			}
			m.settle(t, op.name+", without a crash", after)
			m.networks(t, op.undo)
			m.settle(t, op.name+", undone", before)
			t.Logf("%s: no more than %d steps", op.name, n-1)
			return
		}
		if m.settle(t, op.name+", killed "+at, before, after) == before {
			m.networks(t, []string{op.do})
		}
		m.settle(t, op.name+", killed "+at+", and done again", after)
	}
}

// networks has the client do what it is to, one after the other.
func (m *matrix) networks(t *testing.T, commands []string) {
	t.Helper()
	for _, c := range commands {
		m.must(t, strings.Fields(c)...)
	}
}

// settle waits until all is as in one of the pictures, and returns it.
func (m *matrix) settle(t *testing.T, when string, pictures ...string) string {
	t.Helper()
	var got string
	if !soon(func() bool { got = m.networkPicture(t); return slices.Contains(pictures, got) }) {
		t.Fatalf("%s, there is\n%s\nwant\n%s", when, got, strings.Join(pictures, "\nor\n"))
	}
	return got
}

// networkPicture is all that there is of networks in the records, and on the
// host.
func (m *matrix) networkPicture(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, list := range []string{
		"/1.0/networks", "/1.0/network-acls", "/1.0/network-address-sets", "/1.0/network-zones", "/1.0/network-zones/example.org/records",
		"/1.0/networks/one/forwards", "/1.0/networks/one/load-balancers", "/1.0/networks/one/peers", "/1.0/networks/two/peers",
	} {
		var all []map[string]any
		if err := newAPI(m.socket()).call("GET", list+"?recursion=1", nil, &all); err != nil && !strings.Contains(err.Error(), "404") {
			t.Fatal(err)
		}
		for _, o := range all {
			delete(o, "obstacles") // They are found later.
			if o["managed"] == false {
				continue
			}
			text, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s %s\n", list, text)
		}
	}
	out, err := run(m.inside("sh", "-ec", networkKernel, "sh", m.dir)...)
	if err != nil {
		t.Fatal(err)
	}
	// Tables are in the order in which they were made.
	parts := strings.Split(counted.ReplaceAllString(out, ""), "\ntable ")
	slices.Sort(parts[1:])
	for _, part := range parts {
		fmt.Fprintln(&b, strings.TrimSpace(part))
	}
	return b.String()
}

// counted is what the kernel counts, and numbers that are new each time.
var counted = regexp.MustCompile(`counter packets \d+ bytes \d+|@if\d+|(?m)^\d+: `)

// networkKernel shows interfaces, addresses, routes, the daemon's files, its
// dnsmasq processes, and the rules of nftables.
const networkKernel = `
ip -o link | awk '{ print $2 }' | sed 's/:$//' | sort
ip -o addr show scope global | awk '{ print $2, $4 }' | sort
ip route | sort
cd "$1" && find networks | sort
pgrep -a -x dnsmasq | grep -o "$1/networks/[^ ]*" | sort || :
nft list ruleset
`
