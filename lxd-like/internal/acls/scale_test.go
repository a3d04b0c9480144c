package acls_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/acls"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/shared/api"
)

// instances adds instances with a NIC on the network lab.
func (e env) instances(nic map[string]string, names ...string) {
	e.t.Helper()
	dev := map[string]string{"type": "nic", "network": "lab"}
	maps.Copy(dev, nic)
	e.do(func(ctx context.Context, tx *db.Tx) error {
		p := db.Pool{Name: "p", Driver: "dir", Status: db.Ready}
		if all, err := db.Pools(ctx, tx); err != nil {
			return err
		} else if len(all) > 0 {
			p = all[0]
		} else if err := db.AddPool(ctx, tx, &p); err != nil {
			return err
		}
		for _, name := range names {
			in := db.Instance{Name: name, PoolID: p.ID, Status: db.Ready, Profiles: []string{"default"}, Devices: map[string]map[string]string{"eth0": dev}}
			if err := db.AddInstance(ctx, tx, &in); err != nil {
				return err
			}
		}
		return nil
	})
}

func (e env) do(fn func(context.Context, *db.Tx) error) {
	e.t.Helper()
	e.must(e.DB.Do(e.t.Context(), fn))
}

// TestEventsReadNoOtherInstances changes an instance beside few and beside many
// others, and has rules follow that.
func TestEventsReadNoOtherInstances(t *testing.T) {
	allow := func(source string) []api.NetworkACLRule {
		return []api.NetworkACLRule{{Action: "allow", Source: source}}
	}
	for _, tt := range []struct {
		name  string
		acls  map[string][]api.NetworkACLRule
		most  int64 // Rows.
		asked int   // How often a network is asked for addresses.
	}{
		{"no ACL", nil, 1, 0}, // The network.
		{"ACLs that name nobody", map[string][]api.NetworkACLRule{"web": allow("10.0.0.1,$office,@internal"), "all": allow("")}, 4, 0},
		{"an ACL that names a network", map[string][]api.NetworkACLRule{"web": allow("lab")}, 4, 0},
		{"an ACL that names an instance", map[string][]api.NetworkACLRule{"web": allow("instance/i001")}, 5, 1},
		{"an ACL that names the one", map[string][]api.NetworkACLRule{"web": allow("one")}, 5, 1},
		{"an ACL that names an ACL", map[string][]api.NetworkACLRule{"friends": nil, "web": allow("friends")}, 6, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before [2]int64
			for _, n := range []int{10, 300} {
				e := newEnv(t)
				var reads *dbtest.Reads
				e.DB, reads = dbtest.NewCounting(t)
				e.network(map[string]string{"ipv4.address": "10.1.2.1/24"})
				e.must(e.Sets().Create(t.Context(), api.NetworkAddressSetsPost{Name: "office"}))
				for i := range n {
					e.instances(nil, fmt.Sprintf("i%03d", i))
				}
				e.instances(map[string]string{"security.acls": "friends"}, "one")
				for _, name := range slices.Sorted(maps.Keys(tt.acls)) {
					e.must(e.create(name, tt.acls[name]...))
				}
				e.must(acls.Readdress(t.Context(), e.Service))
				e.nets.asked = nil
				e.do(func(ctx context.Context, tx *db.Tx) error { return db.TouchInstance(ctx, tx, "one") })
				var got [2]int64
				got[0], got[1] = reads.Of(func() { e.must(acls.Readdress(t.Context(), e.Service)) })
				// A set, a network, ACLs; of instances the names that rules have, the one and its profile.
				if most := tt.most + 2; got[1] > most || len(e.nets.asked) != tt.asked || before != [2]int64{} && got != before {
					t.Errorf("with %d others: %d queries with %d rows, and addresses of %v; want at most %d rows, and with few others it was %d", n, got[0], got[1], e.nets.asked, most, before)
				}
				before = got
			}
		})
	}
}

// TestPolicyReadsNoInstances asks what ACLs mean, as the first interface does that
// has them.
func TestPolicyReadsNoInstances(t *testing.T) {
	for _, n := range []int{10, 300} {
		e := newEnv(t)
		var reads *dbtest.Reads
		e.DB, reads = dbtest.NewCounting(t)
		e.network(map[string]string{"ipv4.address": "10.1.2.1/24"})
		for i := range n {
			e.instances(nil, fmt.Sprintf("i%03d", i))
		}
		e.must(e.create("web", api.NetworkACLRule{Action: "allow", Source: "i001"}))
		_, rows := reads.Of(func() {
			p, err := e.Policy(t.Context(), acl.Ref{Network: "lab", ACLs: []string{"web"}})
			e.must(err)
			if got := p.Ingress.Rules[0].Source.Names; !slices.Equal(got, []string{"instance/i001"}) {
				t.Errorf("got %q", got)
			}
		})
		if rows != 3 { // The ACL, the network, and that there is the instance.
			t.Errorf("with %d instances: %d rows, want 3", n, rows)
		}
	}
}

// TestBookFollows changes instances without an event: what is heard of late or never
// is followed with the next event of whatever it is.
func TestBookFollows(t *testing.T) {
	e := newEnv(t)
	ctx := t.Context()
	e.network(map[string]string{"ipv4.address": "10.1.2.1/24"})
	e.instances(nil, "a", "b")
	e.instances(map[string]string{"security.acls": "friends"}, "c")
	four := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, 2, last}) }
	for i, name := range []string{"a", "b", "c", "d"} {
		e.nets.addresses = append(e.nets.addresses, nets.Address{Name: name, Address: four(byte(11 + 10*i))})
	}
	e.must(e.create("friends"))
	e.must(e.create("web", api.NetworkACLRule{Action: "allow", Source: "instance/a,friends"}))
	check := func(what, subject string, want ...byte) {
		t.Helper()
		var all []acl.Range
		for _, last := range want {
			all = append(all, acl.OfAddress(four(last)))
		}
		if got := e.Addresses(subject); !slices.Equal(got, all) {
			t.Errorf("%s: %s has %v, want %v", what, subject, got, all)
		}
	}
	check("a new ACL", "instance/a", 11)
	check("a new ACL", "acl/friends", 31)
	check("whom no rule names", "instance/b")
	for _, step := range []struct {
		what    string
		do      func(context.Context, *db.Tx) error
		a, many []byte
	}{
		{"another address", func(context.Context, *db.Tx) error { e.nets.addresses[0].Address = four(99); return nil }, []byte{99}, []byte{31}},
		{"an ACL by a profile", func(ctx context.Context, tx *db.Tx) error {
			return db.UpdateProfile(ctx, tx, db.Profile{Name: "default", Devices: map[string]map[string]string{
				"eth1": {"type": "nic", "network": "lab", "security.acls": "friends"},
			}})
		}, []byte{99}, []byte{21, 31, 99}},
		{"none any more", func(ctx context.Context, tx *db.Tx) error {
			return db.UpdateProfile(ctx, tx, db.Profile{Name: "default"})
		}, []byte{99}, []byte{31}},
		{"another name", func(ctx context.Context, tx *db.Tx) error {
			return errors.Join(db.RenameInstance(ctx, tx, "c", "d"), db.RenameInstance(ctx, tx, "a", "c"), e.InstanceRenamed(ctx, tx, "a", "c"))
		}, nil, []byte{41}},
		{"no interface", func(ctx context.Context, tx *db.Tx) error {
			in, err := db.GetInstance(ctx, tx, "c")
			in.Devices = nil
			return errors.Join(err, db.UpdateInstance(ctx, tx, in))
		}, nil, []byte{41}},
		{"gone", func(ctx context.Context, tx *db.Tx) error { return db.DeleteInstance(ctx, tx, "d") }, nil, nil},
	} {
		e.do(step.do)
		e.must(acls.Readdress(ctx, e.Service))
		check(step.what, "instance/a", step.a...)
		check(step.what, "acl/friends", step.many...)
		if step.what == "another name" {
			check(step.what, "instance/c", 31)
		}
	}
	check("no interface", "instance/c")
	// What cannot be read is known as it was, and read the next time.
	e.instances(nil, "a")
	e.must(e.create("more", api.NetworkACLRule{Action: "allow", Source: "instance/a"}))
	check("there again", "instance/a", 99)
	e.nets.addresses[0].Address, e.nets.fail = four(98), errors.New("no leases")
	if err := acls.Readdress(ctx, e.Service); err == nil {
		t.Error("no error")
	}
	check("an error", "instance/a", 99)
	e.must(acls.Readdress(ctx, e.Service))
	check("no error any more", "instance/a", 98)
}

// TestNewACLThatCannotBeFollowed is not made.
func TestNewACLThatCannotBeFollowed(t *testing.T) {
	e := newEnv(t)
	e.network(map[string]string{"ipv4.address": "10.1.2.1/24"})
	e.instances(nil, "a")
	e.nets.fail = errors.New("no leases")
	if err := e.create("web", api.NetworkACLRule{Action: "allow", Source: "a"}); err == nil {
		t.Error("no error")
	}
	all, err := e.List(t.Context())
	e.must(err)
	if len(all) > 0 {
		t.Errorf("left %+v", all)
	}
}
