package acls_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/acls"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

// fakeNets has networks follow nothing.
type fakeNets struct {
	mu        sync.Mutex
	addresses []nets.Address
	applied   []string
	asked     []string // For addresses.
	fail      error
}

func (f *fakeNets) Addresses(_ context.Context, network string) ([]nets.Address, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, network)
	err := f.fail
	f.fail = nil
	return slices.Clone(f.addresses), err
}

func (f *fakeNets) Reapply(_ context.Context, network string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applied = append(f.applied, network)
	err := f.fail
	f.fail = nil
	return err
}

type env struct {
	*acls.Service

	t    *testing.T
	nets *fakeNets
}

func newEnv(t *testing.T) env {
	t.Helper()
	e := env{t: t, nets: &fakeNets{}}
	e.Service = &acls.Service{
		DB: dbtest.New(t), Dir: t.TempDir(), Nets: e.nets, Ports: nft.NewACLPorts("/acls_test"), Events: &events.Hub{}, Logger: slog.New(slog.DiscardHandler),
	}
	e.must(e.Recover(t.Context()))
	return e
}

func (e env) must(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e env) network(config map[string]string) {
	e.t.Helper()
	n := db.Network{Name: "lab", Type: "bridge", Status: db.Ready, Config: config}
	e.must(e.DB.Do(e.t.Context(), func(ctx context.Context, tx *db.Tx) error { return db.AddNetwork(ctx, tx, &n) }))
}

func (e env) create(name string, ingress ...api.NetworkACLRule) error {
	return e.Create(e.t.Context(), api.NetworkACLsPost{Name: name, NetworkACLPut: api.NetworkACLPut{Ingress: ingress}})
}

func TestRulesAreChecked(t *testing.T) {
	e := newEnv(t)
	e.network(map[string]string{"ipv4.address": "10.1.2.1/24"})
	e.must(e.create("friends"))
	e.must(e.create("lab"))
	e.must(e.Sets().Create(t.Context(), api.NetworkAddressSetsPost{Name: "office"}))
	for _, tt := range []struct {
		name string
		rule api.NetworkACLRule
		want string // In the error; empty for none.
	}{
		{"least", api.NetworkACLRule{Action: "allow"}, ""},
		{"all", api.NetworkACLRule{Action: "reject", State: "logged", Protocol: "udp", Source: "10.0.0.1, 10.1.0.0/16,192.0.2.1-192.0.2.9", Destination: "$office,friends,network/lab,@external", SourcePort: "1,2-3", DestinationPort: "65535"}, ""},
		{"icmp", api.NetworkACLRule{Action: "drop", Protocol: "icmp6", ICMPType: "128", ICMPCode: "0"}, ""},
		{"no action", api.NetworkACLRule{}, `action: got "", want one of allow, allow-stateless, reject, drop`},
		{"action", api.NetworkACLRule{Action: "Allow"}, `action: got "Allow"`},
		{"state", api.NetworkACLRule{Action: "allow", State: "on"}, `state: got "on", want one of enabled, disabled, logged`},
		{"protocol", api.NetworkACLRule{Action: "allow", Protocol: "icmp"}, `protocol: got "icmp", want one of tcp, udp, icmp4, icmp6`},
		{"ports without protocol", api.NetworkACLRule{Action: "allow", SourcePort: "1"}, `source_port: got "1", but the rule's protocol is "": want protocol tcp or udp`},
		{"port", api.NetworkACLRule{Action: "allow", Protocol: "tcp", DestinationPort: "80,65536"}, `destination_port: got "65536"`},
		{"ports", api.NetworkACLRule{Action: "allow", Protocol: "tcp", DestinationPort: "90-80"}, `destination_port: got "90-80"`},
		{"type", api.NetworkACLRule{Action: "allow", Protocol: "icmp4", ICMPType: "256"}, `icmp_type: got "256", want a number from 0 to 255`},
		{"type without icmp", api.NetworkACLRule{Action: "allow", Protocol: "tcp", ICMPCode: "1"}, `icmp_code: got "1"`},
		{"nobody", api.NetworkACLRule{Action: "allow", Source: "nobody"}, `source: got "nobody", want addresses`},
		{"half a network", api.NetworkACLRule{Action: "allow", Source: "10.0.0.0/33"}, `source: got "10.0.0.0/33"`},
		{"empty", api.NetworkACLRule{Action: "allow", Source: "10.0.0.1,"}, `source: got ""`},
		{"two of one name", api.NetworkACLRule{Action: "allow", Destination: "lab"}, `destination: got "lab", which are several: want one of acl/lab, network/lab`},
		{"no instance", api.NetworkACLRule{Action: "allow", Destination: "instance/web"}, `there is no instance "web"`},
		{"no set", api.NetworkACLRule{Action: "allow", Destination: "$home"}, `there is no network address set "home"`},
		{"two families", api.NetworkACLRule{Action: "allow", Source: "10.0.0.1", Destination: "fd42::1"}, "addresses of one family"},
		{"protocol of the other family", api.NetworkACLRule{Action: "allow", Source: "10.0.0.1", Protocol: "icmp6"}, "addresses of one family"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := e.create("tried", tt.rule)
			if tt.want == "" {
				e.must(err)
				e.must(e.Delete(t.Context(), "tried"))
				return
			}
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "rule 0 of ingress") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	for _, name := range []string{"", "1a", "a/b", "a b", strings.Repeat("a", 64), "@internal", "$a"} {
		if err := e.create(name); !errs.Is(err, errs.Invalid) {
			t.Errorf("name %q: got %v", name, err)
		}
	}
	if err := e.create("same", api.NetworkACLRule{Action: "allow"}, api.NetworkACLRule{Action: "allow", Description: "again"}); err == nil || !strings.Contains(err.Error(), "it is the same as rule 0") {
		t.Errorf("the same rule twice: got %v", err)
	}
}

func TestUsers(t *testing.T) {
	e := newEnv(t)
	ctx := t.Context()
	e.must(e.create("web"))
	e.must(e.Sets().Create(ctx, api.NetworkAddressSetsPost{Name: "office"}))
	e.must(e.create("other", api.NetworkACLRule{Action: "allow", Source: "web,$office"}))
	e.network(map[string]string{"security.acls": "web"})
	p := db.Profile{Name: "p", Devices: map[string]map[string]string{"eth0": {"type": "nic", "network": "lab", "security.acls": "none, web"}}}
	e.must(e.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.AddProfile(ctx, tx, &p) }))
	got, err := e.Get(ctx, "web")
	e.must(err)
	if want := []string{"/1.0/networks/lab", "/1.0/profiles/p", "/1.0/network-acls/other"}; !slices.Equal(got.UsedBy, want) {
		t.Errorf("got used by %v, want %v", got.UsedBy, want)
	}
	set, err := e.Sets().Get(ctx, "office")
	e.must(err)
	if want := []string{"/1.0/network-acls/other"}; !slices.Equal(set.UsedBy, want) {
		t.Errorf("got used by %v, want %v", set.UsedBy, want)
	}
	for what, err := range map[string]error{
		"delete": e.Delete(ctx, "web"), "rename": e.Rename(ctx, "web", "www"),
		"delete a set": e.Sets().Delete(ctx, "office"), "rename a set": e.Sets().Rename(ctx, "office", "work"),
	} {
		if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "used by") {
			t.Errorf("%s: got %v", what, err)
		}
	}
	for _, name := range []string{"web", "none"} {
		err := e.CheckNames(ctx, []string{name})
		if (err == nil) != (name == "web") {
			t.Errorf("check of %s: got %v", name, err)
		}
	}
	e.must(e.Rename(ctx, "other", "another"))
	e.must(e.Delete(ctx, "another"))
	e.must(e.Sets().Rename(ctx, "office", "work"))
	e.must(e.Sets().Delete(ctx, "work"))
}

func TestRulesFollowNames(t *testing.T) {
	e := newEnv(t)
	e.network(map[string]string{"ipv4.address": "10.1.2.1/24", "security.acls": "web"})
	in := db.Instance{Name: "both", Status: db.Ready, Profiles: []string{"default"}}
	other := db.Network{Name: "both", Type: "bridge", Status: db.Ready}
	front := db.Instance{Name: "front", Status: db.Ready, Profiles: []string{"default"}}
	e.must(e.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		p := db.Pool{Name: "p", Driver: "dir", Status: db.Ready}
		if err := db.AddPool(ctx, tx, &p); err != nil {
			return err
		}
		in.PoolID, front.PoolID = p.ID, p.ID
		return errors.Join(db.AddInstance(ctx, tx, &in), db.AddInstance(ctx, tx, &front), db.AddNetwork(ctx, tx, &other))
	}))
	e.must(e.create("web", api.NetworkACLRule{Action: "allow", Source: "front, network/lab,10.0.0.1", Destination: "network/both"},
		api.NetworkACLRule{Action: "drop", Source: "instance/both"}))
	e.must(e.create("front2"))
	rename := func(fn func(context.Context, *db.Tx, string, string) error, from, to string) {
		t.Helper()
		e.must(e.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error { return fn(ctx, tx, from, to) }))
	}
	rename(e.InstanceRenamed, "front", "face")
	rename(e.NetworkRenamed, "lab", "work")
	rename(e.InstanceRenamed, "both", "one")
	rename(e.NetworkRenamed, "front", "wrong") // No network had that name.
	got, err := e.Get(t.Context(), "web")
	e.must(err)
	if r := got.Ingress[0]; r.Source != "instance/face,network/work,10.0.0.1" || r.Destination != "network/both" || got.Ingress[1].Source != "instance/one" {
		t.Errorf("got %+v", got.Ingress)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- e.Run(ctx) }()
	testenv.Eventually(t, "networks with ACLs have the new names", func() bool {
		e.Events.Lifecycle("instance-renamed", "/1.0/instances/face", nil)
		e.nets.mu.Lock()
		defer e.nets.mu.Unlock()
		return slices.Contains(e.nets.applied, "lab")
	})
	// Which a network could not follow it follows with the next change, whatever that is.
	e.nets.mu.Lock()
	e.nets.fail, e.nets.applied = errors.New("no room"), nil
	e.nets.mu.Unlock()
	times := func(n int) func() bool {
		return func() bool {
			e.nets.mu.Lock()
			defer e.nets.mu.Unlock()
			return len(e.nets.applied) >= n // What was told above can still be done.
		}
	}
	e.Events.Lifecycle("network-renamed", "/1.0/networks/work", nil)
	testenv.Eventually(t, "it has failed", times(1))
	e.Events.Lifecycle("instance-updated", "/1.0/instances/face", nil)
	testenv.Eventually(t, "it is done again", times(2))
	cancel()
	e.must(<-done)
}

func TestUpdateFollowsOrChangesNothing(t *testing.T) {
	e := newEnv(t)
	ctx := t.Context()
	e.must(e.create("web"))
	e.network(map[string]string{"security.acls": "web", "ipv4.address": "10.1.2.1/24", "security.acls.default.egress.action": "drop"})
	rule := api.NetworkACLRule{Action: "allow", Source: "@internal", State: "logged"}
	e.nets.fail = errors.New("no room")
	if err := e.Update(ctx, "web", api.NetworkACLPut{Ingress: []api.NetworkACLRule{rule}}); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("got %v", err)
	}
	got, err := e.Get(ctx, "web")
	e.must(err)
	if len(got.Ingress) != 0 {
		t.Errorf("something was changed: %+v", got)
	}
	e.must(e.Update(ctx, "web", api.NetworkACLPut{Ingress: []api.NetworkACLRule{rule}}))
	if want := []string{"lab", "lab", "lab"}; !slices.Equal(e.nets.applied, want) {
		t.Errorf("got applied %v, want %v", e.nets.applied, want)
	}
	p, err := e.Policy(ctx, acl.Ref{Network: "lab", ACLs: []string{"web"}, Egress: acl.Default{Logged: "true"}, Ingress: acl.Default{Action: acl.Allow}})
	e.must(err)
	if p.Ingress.Default != acl.Allow || p.Egress.Default != acl.Drop || !p.Egress.Logged || p.Ingress.Logged {
		t.Errorf("got defaults %+v, %+v", p.Ingress, p.Egress)
	}
	inside := acl.OfPrefix(netip.MustParsePrefix("10.1.2.0/24"))
	if len(p.Ingress.Rules) != 1 || !p.Ingress.Rules[0].Logged || !slices.Contains(p.Ingress.Rules[0].Source.Addresses, inside) {
		t.Errorf("got rules %+v", p.Ingress.Rules)
	}
	var cfg networks.Config
	e.must(e.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := db.GetNetwork(ctx, tx, "lab")
		if err != nil {
			return err
		}
		return e.Part(ctx, tx, n, &cfg)
	}))
	if cfg.ACL == nil || cfg.ACL.Ingress.Default != acl.Reject {
		t.Errorf("got %+v", cfg.ACL)
	}
}

func TestAddressesFollow(t *testing.T) {
	testenv.NetNS(t) // Nothing is to be changed elsewhere.
	testenv.Kernel(t, "nft")
	e := newEnv(t)
	ctx := t.Context()
	e.network(map[string]string{"ipv4.address": "10.1.2.1/24"})
	e.must(e.Sets().Create(ctx, api.NetworkAddressSetsPost{Name: "office", NetworkAddressSetPut: api.NetworkAddressSetPut{Addresses: []string{"192.0.2.1", "192.0.2.1"}}}))
	e.must(e.Sets().Update(ctx, "office", api.NetworkAddressSetPut{Addresses: []string{"192.0.2.2-192.0.2.3", "192.0.2.4"}}))
	want := []acl.Range{{First: netip.MustParseAddr("192.0.2.2"), Last: netip.MustParseAddr("192.0.2.4")}}
	if got := e.Addresses("set/office"); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := e.Addresses("network/lab"); !slices.Equal(got, []acl.Range{acl.OfPrefix(netip.MustParsePrefix("10.1.2.0/24"))}) {
		t.Errorf("got %v", got)
	}
	if got := e.Addresses("instance/none"); got != nil {
		t.Errorf("got %v", got)
	}
	if err := e.Sets().Update(ctx, "office", api.NetworkAddressSetPut{Addresses: []string{"10.0.0.300"}}); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), `addresses: got "10.0.0.300"`) {
		t.Errorf("got %v", err)
	}
}

func TestLogsAreBoundedAndGoWithTheirACL(t *testing.T) {
	e := newEnv(t)
	ctx := t.Context()
	e.must(e.create("web"))
	line := api.NetworkACLLogEntry{Proto: "tcp", Src: strings.Repeat("x", 1<<10)}
	for range 3 << 10 {
		e.must(acls.Write(ctx, e.Service, "web", line))
	}
	files, err := filepath.Glob(filepath.Join(e.Dir, "acls", "*"))
	e.must(err)
	if len(files) != 2 {
		t.Fatalf("got files %v, want 2", files)
	}
	for _, f := range files {
		if st, err := os.Stat(f); err != nil || st.Size() > 1<<20+1<<12 {
			t.Errorf("%s: got %d bytes, %v", f, st.Size(), err)
		}
	}
	e.must(e.Rename(ctx, "web", "www"))
	log, err := e.Log(ctx, "www")
	e.must(err)
	if n, err := log.Read(make([]byte, 10)); n != 10 || err != nil {
		t.Errorf("got %d bytes, %v", n, err)
	}
	e.must(log.Close())
	e.must(e.Delete(ctx, "www"))
	if files, _ := filepath.Glob(filepath.Join(e.Dir, "acls", "*")); len(files) != 0 {
		t.Errorf("left %v", files)
	}
	if err := acls.Write(ctx, e.Service, "www", line); !errs.Is(err, errs.NotFound) {
		t.Errorf("a line for an ACL that is gone: got %v", err)
	}
}

// TestAddressesAreNotMissed changes addresses that a network could not follow, and
// some while another ACL is changed.
func TestAddressesAreNotMissed(t *testing.T) {
	testenv.NetNS(t) // There is no table, so that networks are applied instead.
	testenv.Kernel(t, "nft")
	e := newEnv(t)
	ctx := t.Context()
	e.must(e.Sets().Create(ctx, api.NetworkAddressSetsPost{Name: "office"}))
	e.must(e.create("web", api.NetworkACLRule{Action: "allow", Source: "$office"}))
	e.must(e.create("other"))
	e.network(map[string]string{"ipv4.address": "10.1.2.1/24", "security.acls": "web"})
	// As by a lease of which nobody has heard.
	change := func(address string) api.NetworkAddressSetPut {
		put := api.NetworkAddressSetPut{Addresses: []string{address}}
		e.must(e.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			return db.SetNetworkObject(ctx, tx, "network address set", db.NetworkObject[api.NetworkAddressSetPut]{Name: "office", Document: put})
		}))
		return put
	}
	applied := func() []string {
		all := e.nets.applied
		e.nets.applied = nil
		return all
	}
	put := change("192.0.2.1")
	e.must(e.Update(ctx, "other", api.NetworkACLPut{}))
	if got := applied(); got != nil {
		t.Errorf("with another ACL: applied %v", got)
	}
	e.must(e.Sets().Update(ctx, "office", put))
	if got := applied(); !slices.Equal(got, []string{"lab"}) {
		t.Errorf("after the change of another ACL: applied %v", got)
	}
	put = change("192.0.2.2")
	e.nets.fail = errors.New("no room")
	if err := e.Sets().Update(ctx, "office", put); err == nil || !slices.Equal(applied(), []string{"lab", "lab"}) {
		t.Errorf("got %v", err) // It was undone, for which it was applied again.
	}
	e.must(e.Sets().Update(ctx, "office", put))
	if got := applied(); got != nil {
		t.Errorf("what has been followed: applied %v", got)
	}
}
