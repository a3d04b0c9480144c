package proxies_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/proxies"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/testenv"
)

// asked notes whose rules are looked at, by their ports, and where instances are.
type asked struct {
	mu     sync.Mutex
	rules  map[uint16]int
	places map[string]int
}

func (a *asked) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rules, a.places = map[uint16]int{}, map[string]int{}
}

func (a *asked) admit(_ context.Context, list []networks.Published) []networks.Published {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range list {
		a.rules[e.First]++
	}
	return list
}

func (a *asked) follow(_ context.Context, instance, _ string) (proxies.Place, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.places[instance]++
	return proxies.Place{Four: netip.MustParseAddr("10.9.0.11")}, nil
}

func (a *asked) others(rule uint16, place string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for port := range a.rules {
		if port != rule {
			n++
		}
	}
	for name := range a.places {
		if name != place {
			n++
		}
	}
	return n
}

func (a *asked) rule(port uint16) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rules[port]
}

// TestChangesAreNobodysBusiness has others use the network, and somebody flush the
// rules of one of many: those of nobody else are looked at. They are when it is
// theirs: a bridge with another address is that of all.
func TestChangesAreNobodysBusiness(t *testing.T) {
	testenv.Kernel(t, "ip", "nft")
	testenv.Run(t, "ip", "link", "add", "br0", "type", "bridge")
	t.Cleanup(func() { testenv.Run(t, "ip", "link", "delete", "br0") })
	testenv.Run(t, "ip", "address", "add", "10.9.0.1/24", "dev", "br0")
	testenv.Run(t, "ip", "link", "set", "br0", "up")
	w := &asked{}
	w.clear()
	s := newService(t, newGuest(t))
	s.Admit, s.Forward = w.admit, nft.NewForwards(t.TempDir())
	const many, first = 20, 8000
	name := func(i int) string { return fmt.Sprintf("x%02d", i) }
	for i := range many {
		r := proxies.Rule{
			Listen: fmt.Sprintf("tcp:0.0.0.0:%d", first+i), Connect: "tcp:0.0.0.0:80", NAT: true, Bridge: "br0", Port: "port" + name(i),
			Target: netip.MustParseAddr("10.9.0.11"),
		}
		start(t, s, proxies.Owner{Instance: name(i), Device: "p"}, r)
		t.Cleanup(func() { _ = s.End(context.WithoutCancel(t.Context()), name(i)) })
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	// What is done at the start comes to an end.
	flush := func() {
		t.Helper()
		before := w.rule(first)
		testenv.Run(t, "nft", "flush", "table", "inet", s.Forward.Table(name(0)))
		testenv.Eventually(t, "rules are made again", func() bool {
			return w.rule(first) > before && strings.Contains(testenv.Run(t, "nft", "list", "table", "inet", s.Forward.Table(name(0))), "8000")
		})
	}
	flush()
	testenv.Eventually(t, "it is quiet", func() bool {
		w.clear()
		time.Sleep(300 * time.Millisecond)
		return w.others(first, "") == 0
	})
	for _, args := range []string{
		"ip link add other type veth peer name rehto", "ip link set other master br0", "ip link set other up", "ip link set rehto up",
		"nft add table inet other", "nft add chain inet other c", "nft add rule inet other c accept", "nft delete table inet other", "ip link delete other",
		"ip address add fe80::1/64 dev br0 nodad", // As a bridge makes one itself.
	} {
		testenv.Run(t, strings.Fields(args)...)
	}
	flush()
	flush() // Who looks at others meanwhile has done so.
	if n := w.others(first, ""); n > 0 {
		t.Errorf("rules of %d others were looked at", n)
	}
	testenv.Run(t, "ip", "address", "add", "10.8.0.1/24", "dev", "br0")
	testenv.Eventually(t, "all know the bridge's address", func() bool { return w.others(first, "") == many-1 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestStartsFollowNoOthers starts a rule that follows beside others that do.
func TestStartsFollowNoOthers(t *testing.T) {
	testenv.Kernel(t, "ip", "nft")
	testenv.Run(t, "ip", "link", "add", "br0", "type", "bridge")
	t.Cleanup(func() { testenv.Run(t, "ip", "link", "delete", "br0") })
	w := &asked{}
	w.clear()
	s := newService(t, newGuest(t))
	s.Follow = w.follow
	begin := func(i int) {
		r := proxies.Rule{
			Listen: fmt.Sprintf("tcp:0.0.0.0:%d", 8000+i), Connect: "tcp:0.0.0.0:80", NAT: true, Bridge: "br0", Network: "lab", Four: true,
		}
		of := proxies.Owner{Instance: fmt.Sprintf("x%02d", i), Device: "p"}
		start(t, s, of, r)
		t.Cleanup(func() { _ = s.End(context.WithoutCancel(t.Context()), of.Instance) })
	}
	for i := range 20 {
		begin(i)
	}
	w.clear() // Each was asked for when it began.
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	testenv.Eventually(t, "all were looked at", func() bool { return w.others(0, "x00") == 19 })
	more := 20
	testenv.Eventually(t, "another is looked at alone", func() bool { // All are only every two seconds.
		w.clear()
		begin(more)
		more++
		time.Sleep(100 * time.Millisecond)
		return w.others(0, fmt.Sprintf("x%02d", more-1)) == 0
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
