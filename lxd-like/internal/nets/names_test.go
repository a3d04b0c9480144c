package nets_test

import (
	"context"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/resolved"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

// resolver keeps what it is told.
type resolver struct {
	mu    sync.Mutex
	links []resolved.Link
}

func (r *resolver) Set(links []resolved.Link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.links = links
}

func (r *resolver) knows(t *testing.T, want ...resolved.Link) {
	t.Helper()
	testenv.Eventually(t, "the host's resolver is told", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.links) == len(want) && (len(want) == 0 || reflect.DeepEqual(r.links, want))
	})
}

// runs keeps the networks until the test ends.
func (e env) runs(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-ended)
	})
}

func TestResolverIsTold(t *testing.T) {
	e := newEnv(t)
	r := &resolver{}
	e.Resolver = r
	e.runs(t)
	e.create(t, "br0", api.ConfigMap{"ipv4.address": "10.1.2.1/24", "ipv6.address": "fd42::1/64"})
	e.create(t, "br1", api.ConfigMap{"ipv4.address": "192.0.2.1/24", "ipv6.address": "none", "dns.domain": "lab"})
	e.create(t, "br2", api.ConfigMap{"ipv4.address": "10.1.3.1/24", "dns.mode": "none"})
	br0 := resolved.Link{
		Name: "br0", Servers: []netip.Addr{netip.MustParseAddr("10.1.2.1"), netip.MustParseAddr("fd42::1")},
		Domains: []string{"cuib", "2.1.10.in-addr.arpa", "0.0.0.0.0.0.0.0.0.0.0.0.2.4.d.f.ip6.arpa"},
	}
	br1 := resolved.Link{Name: "br1", Servers: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Domains: []string{"lab"}}
	r.knows(t, br0, br1)
	must(t, e.Delete(t.Context(), "br1"))
	r.knows(t, br0)
	must(t, e.Update(t.Context(), "br0", api.NetworkPut{Config: api.ConfigMap{"ipv4.address": "none", "ipv6.address": "none"}}))
	r.knows(t)
}

// named gives an instance its aliases, and says so.
func (e env) named(t *testing.T, instance, aliases string) {
	t.Helper()
	must(t, e.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		in, err := db.GetInstance(ctx, tx, instance)
		if err != nil {
			return err
		}
		in.Config["user.dns.aliases"] = aliases
		return db.UpdateInstance(ctx, tx, in)
	}))
	e.Events.Lifecycle("instance-updated", "/1.0/instances/"+instance, nil)
}

func TestAliases(t *testing.T) {
	e := newEnv(t)
	e.create(t, "br0", nil)
	e.instance(t, "c1", map[string]string{"hwaddr": mac})
	e.instance(t, "c2", map[string]string{"hwaddr": "10:66:6a:00:00:02"})
	e.runs(t)
	has := func(want ...networks.Alias) {
		t.Helper()
		testenv.Eventually(t, "aliases", func() bool { return reflect.DeepEqual(e.driver.Networks()["br0"].Aliases, want) })
	}
	// What is changed before it listens is not heard, but read.
	testenv.Eventually(t, "an alias is followed", func() bool {
		e.named(t, "c1", "db, cache")
		return reflect.DeepEqual(e.driver.Networks()["br0"].Aliases, []networks.Alias{{Name: "db", Host: "c1"}, {Name: "cache", Host: "c1"}})
	})
	// What came another way than the check takes nobody's name, and is nobody's twice.
	e.named(t, "c2", "c1,DB,www")
	has(networks.Alias{Name: "db", Host: "c1"}, networks.Alias{Name: "cache", Host: "c1"}, networks.Alias{Name: "www", Host: "c2"})
	// A change of the network leaves them.
	n, err := e.Get(t.Context(), "br0")
	must(t, err)
	n.Config["bridge.mtu"] = "1400"
	must(t, e.Update(t.Context(), "br0", n.NetworkPut))
	has(networks.Alias{Name: "db", Host: "c1"}, networks.Alias{Name: "cache", Host: "c1"}, networks.Alias{Name: "www", Host: "c2"})
	e.named(t, "c1", "")
	has(networks.Alias{Name: "DB", Host: "c2"}, networks.Alias{Name: "www", Host: "c2"})
	e.named(t, "c2", "")
	has()
	// One that is launched is created before its record is ready.
	status := func(to db.Status, event string) {
		t.Helper()
		must(t, e.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error { return db.SetInstanceStatus(ctx, tx, "c2", to) }))
		e.Events.Lifecycle(event, "/1.0/instances/c2", nil)
	}
	status(db.Pending, "instance-created")
	e.named(t, "c2", "www")
	e.named(t, "c1", "db")
	has(networks.Alias{Name: "db", Host: "c1"})
	status(db.Ready, "instance-started")
	has(networks.Alias{Name: "db", Host: "c1"}, networks.Alias{Name: "www", Host: "c2"})
}

func TestCheckNames(t *testing.T) {
	e := newEnv(t)
	e.create(t, "br0", nil)
	e.instance(t, "c1", map[string]string{"hwaddr": mac})
	e.instance(t, "c2", map[string]string{"hwaddr": "10:66:6a:00:00:02"})
	e.named(t, "c1", "db")
	for _, tt := range []struct {
		instance string
		aliases  []string
		kind     errs.Kind
		want     string // Empty for nothing wrong.
	}{
		{"c2", []string{"www"}, 0, ""},
		{"c1", []string{"db", "cache"}, 0, ""},
		{"new", nil, 0, ""},
		{"c2", []string{"www", "DB"}, errs.Conflict, `taken by instance "c1"`},
		{"c2", []string{"c1"}, errs.Conflict, `is the name of instance "c1"`},
		{"c2", []string{"c2"}, errs.Invalid, "the instance itself"},
		{"db", []string{"other"}, errs.Conflict, `instance "c1" has it as an alias`},
	} {
		err := e.CheckNames(t.Context(), tt.instance, tt.aliases)
		if tt.want == "" && err != nil || tt.want != "" && (!errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s, %v: got %v", tt.instance, tt.aliases, err)
		}
	}
	e.runs(t)
	testenv.Eventually(t, "a new instance cannot have the alias for a name", func() bool {
		return errs.Is(e.CheckNames(t.Context(), "db", nil), errs.Conflict)
	})
}

func TestAddresses(t *testing.T) {
	e := newEnv(t)
	e.create(t, "br0", api.ConfigMap{"ipv4.address": "10.1.2.1/24", "ipv6.address": "fd42::1/64"})
	e.instance(t, "c1", map[string]string{"hwaddr": mac, "ipv4.address": "10.1.2.7"})
	got, err := e.Addresses(t.Context(), "br0")
	must(t, err)
	addr := netip.MustParseAddr
	want := []nets.Address{{Address: addr("10.1.2.1")}, {Address: addr("fd42::1")}, {Name: "c1", Address: addr("10.1.2.7")}, {Name: "c1", Address: addr("fd42::1266:6aff:fe00:1")}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
