package nets_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/acls"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/lxd-like/internal/peering"
	"github.com/cuib/cuib/lxd-like/internal/publish"
	"github.com/cuib/cuib/lxd-like/internal/zones"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/fake"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/testenv"
)

// A world is all services of networks, with a host and a database that fail.
type world struct {
	testenv.Faults
	*daemon

	t      *testing.T
	of     string // The project.
	db     *db.DB
	dir    string
	driver *fake.Driver
	wall   *wall
}

// A daemon is what a crash takes with it.
type daemon struct {
	nets    *nets.Service
	acls    *acls.Service
	zones   *zones.Service
	publish *publish.Service
	peering *peering.Service
	events  *events.Hub
}

// newWorld has three networks of a project, of which two are peers, and one of
// everything.
func newWorld(t *testing.T, of string) *world {
	t.Helper()
	w := &world{t: t, of: of, dir: t.TempDir()}
	w.db = dbtest.NewFaulty(t, w.Step)
	w.driver, w.wall = &fake.Driver{Fail: w.Step}, &wall{fail: w.Step}
	w.start()
	ctx := t.Context()
	config := func(n string) api.NetworkPut {
		return api.NetworkPut{Config: api.ConfigMap{
			"ipv4.address": "10.1." + n + ".1/24", "ipv6.address": "none", "security.acls": w.key("web"), "dns.zone.forward": w.key("example.org"),
			"dns.domain": "n" + n,
		}}
	}
	must(t, errors.Join(
		w.acls.Sets().Create(ctx, api.NetworkAddressSetsPost{Name: w.key("office"), NetworkAddressSetPut: addresses("192.0.2.1")}),
		w.acls.Sets().Create(ctx, api.NetworkAddressSetsPost{Name: w.key("empty")}),
		w.acls.Create(ctx, acl(w.key("web"), "$office")), w.acls.Create(ctx, acl(w.key("idle"), "")),
		w.zones.Create(ctx, api.NetworkZonesPost{Name: w.key("example.org")}), w.zones.Create(ctx, api.NetworkZonesPost{Name: w.key("example.net")}),
		w.zones.CreateRecord(ctx, w.key("example.org"), record("www")),
		w.nets.Create(ctx, api.NetworksPost{Name: w.key("fault0"), NetworkPut: config("1")}),
		w.nets.Create(ctx, api.NetworksPost{Name: w.key("fault1"), NetworkPut: config("2")}),
		w.publish.CreateForward(ctx, w.key("fault0"), api.NetworkForwardsPost{ListenAddress: "192.0.2.1", NetworkForwardPut: forward("80", "10.1.1.9")}),
		w.publish.CreateLoadBalancer(ctx, w.key("fault0"), api.NetworkLoadBalancersPost{ListenAddress: "192.0.2.2", NetworkLoadBalancerPut: balancer("80")}),
		w.nets.Create(ctx, api.NetworksPost{Name: w.key("fault2"), NetworkPut: config("3")}),
		w.peering.Create(ctx, w.key("fault0"), peer(w.key("fault1"))), w.peering.Create(ctx, w.key("fault1"), peer(w.key("fault0"))), w.peering.Create(ctx, w.key("fault2"), peer(w.key("fault0"))),
		w.acls.Recover(ctx), // It knows the addresses of the set then.
	))
	return w
}

// key is the key of what has a name in the project.
func (w *world) key(name string) string { return project.Key(w.of, name) }

// start is the start of a daemon.
func (w *world) start() {
	w.t.Helper()
	log, hub := slog.New(slog.DiscardHandler), &events.Hub{}
	d := &daemon{events: hub}
	d.nets = &nets.Service{DB: w.db, Dir: w.dir, Host: &kernel{links: []host.Link{{Name: "eth9", Kind: "physical"}}}, Events: hub, Log: log, Opener: w.wall, Drivers: map[string]networks.Driver{
		"bridge": w.driver, "macvlan": w.driver, "physical": w.driver, "vxlan": w.driver,
	}}
	d.zones = &zones.Service{DB: w.db, Nets: d.nets, Events: hub, Log: log}
	d.acls = &acls.Service{DB: w.db, Dir: w.dir, Nets: d.nets, Ports: nft.NewACLPorts("/faults_test"), Events: hub, Logger: log}
	d.publish = &publish.Service{DB: w.db, Nets: d.nets, Events: hub, Log: log}
	d.peering = &peering.Service{DB: w.db, Nets: d.nets, Events: hub}
	d.nets.Parts = []nets.Part{d.acls.Part, d.publish.Part, d.peering.Part}
	d.nets.Checks = []nets.Check{d.zones.CheckNetwork, d.acls.Check, d.publish.Check}
	d.nets.Renames = []nets.Rename{d.peering.Renamed}
	w.daemon = d
	must(w.t, errors.Join(d.acls.Recover(w.t.Context()), d.nets.Recover(w.t.Context())))
}

// picture is all that there is in the database and on the host, and who uses
// what.
func (w *world) picture() string {
	w.t.Helper()
	unmute := w.Mute()
	defer unmute()
	var b strings.Builder
	must(w.t, w.db.View(w.t.Context(), func(ctx context.Context, tx *db.Tx) error {
		all, err := db.Networks(ctx, tx)
		for _, n := range all {
			fmt.Fprintln(&b, "record", n.Name, n.Type, n.Description, n.Config, n.Status)
		}
		for _, kind := range []string{"network forward", "network load balancer", "network peer"} {
			parts, perr := db.NetworkParts(ctx, tx, db.PartKind[json.RawMessage](kind), "")
			err = errors.Join(err, perr)
			for _, p := range parts {
				fmt.Fprintln(&b, kind, p.Network, p.Name, string(p.Document))
			}
		}
		for _, kind := range []string{"network ACL", "network address set", "network zone"} {
			objects, oerr := db.NetworkObjects(ctx, tx, db.PartKind[json.RawMessage](kind))
			err = errors.Join(err, oerr)
			for _, o := range objects {
				fmt.Fprintln(&b, kind, o.Name, string(o.Document))
			}
		}
		return err
	}))
	applied := w.driver.Networks()
	for _, name := range slices.Sorted(maps.Keys(applied)) {
		cfg := applied[name]
		if policy := cfg.ACL; policy != nil {
			fmt.Fprintln(&b, "policy of", name, policy.Ingress.Rules, policy.Egress.Rules, w.acls.Addresses("set/"+w.key("office")))
		}
		cfg.ACL = nil // It points to the daemon.
		fmt.Fprintf(&b, "applied %s %+v\n", name, cfg)
	}
	w.users(&b)
	return strings.ReplaceAll(b.String(), w.dir, "DIR")
}

func (w *world) users(b *strings.Builder) {
	w.t.Helper()
	ctx := w.t.Context()
	networks, err := w.nets.List(ctx)
	must(w.t, err)
	for _, n := range networks {
		fmt.Fprintln(b, "network", n.Name, n.Status, n.UsedBy)
	}
	all, err := w.acls.List(ctx)
	must(w.t, err)
	for _, a := range all {
		fmt.Fprintln(b, "ACL", a.Name, a.UsedBy)
	}
	zones, err := w.zones.List(ctx)
	must(w.t, err)
	for _, z := range zones {
		fmt.Fprintln(b, "zone", z.Name, z.UsedBy)
	}
}

func acl(name, source string) api.NetworkACLsPost {
	rule := api.NetworkACLRule{Action: "allow", Source: source, State: "enabled"}
	return api.NetworkACLsPost{Name: name, NetworkACLPut: api.NetworkACLPut{Ingress: []api.NetworkACLRule{rule}}}
}

func addresses(list ...string) api.NetworkAddressSetPut {
	return api.NetworkAddressSetPut{Addresses: list}
}

func record(name string) api.NetworkZoneRecordsPost {
	entries := []api.NetworkZoneRecordEntry{{Type: "A", Value: "192.0.2.7"}}
	return api.NetworkZoneRecordsPost{Name: name, NetworkZoneRecordPut: api.NetworkZoneRecordPut{Entries: entries}}
}

func forward(port, to string) api.NetworkForwardPut {
	return api.NetworkForwardPut{Ports: []api.NetworkForwardPort{{Protocol: "tcp", ListenPort: port, TargetAddress: to}}}
}

func balancer(port string) api.NetworkLoadBalancerPut {
	return api.NetworkLoadBalancerPut{
		Backends: []api.NetworkLoadBalancerBackend{{Name: "a", TargetAddress: "10.1.1.8"}, {Name: "b", TargetAddress: "10.1.1.9"}},
		Ports:    []api.NetworkLoadBalancerPort{{Protocol: "tcp", ListenPort: port, TargetBackend: []string{"a", "b"}}},
	}
}

func peer(target string) api.NetworkPeersPost {
	return api.NetworkPeersPost{Name: "p", TargetNetwork: target}
}

// partChanges are the changes that have several steps, or are to be one.
var partChanges = map[string]func(ctx context.Context, w *world) error{
	"create bridge":   createNetwork("bridge", nil),
	"create macvlan":  createNetwork("macvlan", api.ConfigMap{"parent": "eth9"}),
	"create physical": createNetwork("physical", api.ConfigMap{"parent": "eth9"}),
	"create vxlan":    createNetwork("vxlan", nil),
	"update network": func(ctx context.Context, w *world) error {
		return w.nets.Update(ctx, w.key("fault0"), api.NetworkPut{Description: "new", Config: api.ConfigMap{
			"ipv4.address": "10.1.1.1/24", "ipv6.address": "none", "security.acls": w.key("idle"), "ipv4.nat": "true", "firewall.integrate": "false",
		}})
	},
	"rename network": func(ctx context.Context, w *world) error { return w.nets.Rename(ctx, w.key("fault0"), w.key("fault9")) },
	"delete network": func(ctx context.Context, w *world) error { return w.nets.Delete(ctx, w.key("fault0")) },

	"create ACL": func(ctx context.Context, w *world) error { return w.acls.Create(ctx, acl(w.key("new"), "$office")) },
	"update ACL": func(ctx context.Context, w *world) error {
		return w.acls.Update(ctx, w.key("web"), acl(w.key("web"), "192.0.2.3").NetworkACLPut)
	},
	"rename ACL": func(ctx context.Context, w *world) error { return w.acls.Rename(ctx, w.key("idle"), w.key("lazy")) },
	"delete ACL": func(ctx context.Context, w *world) error { return w.acls.Delete(ctx, w.key("idle")) },

	"create set": func(ctx context.Context, w *world) error {
		return w.acls.Sets().Create(ctx, api.NetworkAddressSetsPost{Name: w.key("new"), NetworkAddressSetPut: addresses("192.0.2.9")})
	},
	"update set": func(ctx context.Context, w *world) error {
		return w.acls.Sets().Update(ctx, w.key("office"), addresses("192.0.2.4", "192.0.2.5"))
	},
	"rename set": func(ctx context.Context, w *world) error {
		return w.acls.Sets().Rename(ctx, w.key("empty"), w.key("full"))
	},
	"delete set": func(ctx context.Context, w *world) error { return w.acls.Sets().Delete(ctx, w.key("empty")) },

	"create zone": func(ctx context.Context, w *world) error {
		return w.zones.Create(ctx, api.NetworkZonesPost{Name: w.key("new.example.org")})
	},
	"update zone": func(ctx context.Context, w *world) error {
		return w.zones.Update(ctx, w.key("example.org"), api.NetworkZonePut{Description: "new"})
	},
	"delete zone": func(ctx context.Context, w *world) error { return w.zones.Delete(ctx, w.key("example.net")) },
	"create record": func(ctx context.Context, w *world) error {
		return w.zones.CreateRecord(ctx, w.key("example.org"), record("ftp"))
	},
	"update record": func(ctx context.Context, w *world) error {
		return w.zones.UpdateRecord(ctx, w.key("example.org"), "www", api.NetworkZoneRecordPut{Description: "new"})
	},
	"delete record": func(ctx context.Context, w *world) error {
		return w.zones.DeleteRecord(ctx, w.key("example.org"), "www")
	},

	"create peer": func(ctx context.Context, w *world) error {
		req := peer(w.key("fault2"))
		req.Name = "q"
		return w.peering.Create(ctx, w.key("fault0"), req)
	},
	"update peer": func(ctx context.Context, w *world) error {
		return w.peering.Update(ctx, w.key("fault0"), "p", api.NetworkPeerPut{Description: "new"})
	},
	"delete peer": func(ctx context.Context, w *world) error { return w.peering.Delete(ctx, w.key("fault0"), "p") },

	"create forward": func(ctx context.Context, w *world) error {
		return w.publish.CreateForward(ctx, w.key("fault0"), api.NetworkForwardsPost{ListenAddress: "192.0.2.5", NetworkForwardPut: forward("81", "10.1.1.8")})
	},
	"update forward": func(ctx context.Context, w *world) error {
		return w.publish.UpdateForward(ctx, w.key("fault0"), "192.0.2.1", forward("81", "10.1.1.8"))
	},
	"delete forward": func(ctx context.Context, w *world) error {
		return w.publish.DeleteForward(ctx, w.key("fault0"), "192.0.2.1")
	},

	"create load balancer": func(ctx context.Context, w *world) error {
		return w.publish.CreateLoadBalancer(ctx, w.key("fault0"), api.NetworkLoadBalancersPost{ListenAddress: "192.0.2.6", NetworkLoadBalancerPut: balancer("81")})
	},
	"update load balancer": func(ctx context.Context, w *world) error {
		return w.publish.UpdateLoadBalancer(ctx, w.key("fault0"), "192.0.2.2", balancer("81"))
	},
	"delete load balancer": func(ctx context.Context, w *world) error {
		return w.publish.DeleteLoadBalancer(ctx, w.key("fault0"), "192.0.2.2")
	},
}

func (w *world) fixed() api.ConfigMap {
	return api.ConfigMap{
		"ipv4.address": "10.9.9.1/24", "ipv6.address": "none",
		"security.acls": w.key("web") + "," + w.key("idle"), "dns.zone.forward": w.key("example.net"),
	}
}

func createNetwork(typ string, config api.ConfigMap) func(ctx context.Context, w *world) error {
	return func(ctx context.Context, w *world) error {
		put := api.NetworkPut{Config: config}
		if config == nil {
			put.Config = w.fixed()
		}
		return w.nets.Create(ctx, api.NetworksPost{Name: w.key("fault5"), Type: typ, NetworkPut: put})
	}
}

// A partChange is one of a project.
type partChange struct {
	of string
	do func(ctx context.Context, w *world) error
}

// inProjects are the changes, each in the default project and in another.
func inProjects() map[string]partChange {
	out := map[string]partChange{}
	for name, do := range partChanges {
		for _, of := range []string{project.Default, "p"} {
			out[name+" in "+of] = partChange{of, do}
		}
	}
	return out
}

// TestPartsFailAnywhere fails each step of each change: what is left is what
// was before, and nobody was told of a change.
func TestPartsFailAnywhere(t *testing.T) {
	t.Parallel()
	for name, change := range inProjects() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, change.of)
			before := w.picture()
			heard := w.events.Listen("lifecycle")
			defer heard.Close()
			for n := 1; ; n++ {
				w.Arm(n, false)
				err := change.do(t.Context(), w)
				after := w.picture()
				if !w.Disarm() {
					must(t, err)
					if after == before || len(heard.C) != 1 {
						t.Errorf("done, but nothing has changed, or %d events were told", len(heard.C))
					}
					return
				}
				if !errors.Is(err, testenv.ErrBoom) || after != before || len(heard.C) > 0 {
					t.Fatalf("step %d failed (%v), with %d events, and left\n%s\nbefore:\n%s", n, err, len(heard.C), after, before)
				}
			}
		})
	}
}

// TestPartsCrashAnywhere ends the daemon before each step of each change: the
// next one has all of it or nothing, the host follows, and it can be done again.
func TestPartsCrashAnywhere(t *testing.T) {
	t.Parallel()
	for name, change := range inProjects() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, change.of)
			before := w.picture()
			must(t, change.do(t.Context(), w))
			w.start()
			done := w.picture()
			for n := 1; ; n++ {
				w := newWorld(t, change.of)
				w.Arm(n, true)
				ended := make(chan bool)
				go func() {
					defer close(ended)
					if err := change.do(t.Context(), w); err != nil {
						t.Error(err)
					}
				}()
				<-ended
				reached := w.Disarm()
				w.start()
				if after := w.picture(); after == before && reached {
					must(t, change.do(t.Context(), w))
					w.start()
				} else if after != done {
					t.Fatalf("a crash at step %d left\n%s\nbefore:\n%s\ndone:\n%s", n, after, before, done)
				}
				if after := w.picture(); after != done {
					t.Fatalf("after a crash at step %d it is made so:\n%s\nwant\n%s", n, after, done)
				}
				if !reached {
					return
				}
			}
		})
	}
}

// TestRenamedPeers has networks be peers of one that is renamed.
func TestRenamedPeers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "p")
	must(t, w.nets.Rename(t.Context(), w.key("fault0"), w.key("fault9")))
	for _, network := range []string{"fault1", "fault2"} {
		p, err := w.peering.Peer(t.Context(), w.key(network), "p")
		must(t, err)
		if want := map[string]string{"fault1": api.PeerCreated, "fault2": api.PeerPending}[network]; p.TargetNetwork != w.key("fault9") || p.Status != want {
			t.Errorf("network %s has the peer %+v", network, p)
		}
	}
}
