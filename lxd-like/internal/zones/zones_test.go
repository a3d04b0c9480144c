package zones_test

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/lxd-like/internal/zones"
	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// addresses are those on each network.
type addresses struct {
	mu  sync.Mutex
	all map[string][]nets.Address
}

func (a *addresses) Addresses(_ context.Context, network string) ([]nets.Address, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.all[network]), nil
}

func (a *addresses) add(network, name, addr string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = map[string][]nets.Address{}
	}
	a.all[network] = append(a.all[network], nets.Address{Name: name, Address: netip.MustParseAddr(addr)})
}

type env struct {
	*zones.Service

	addresses *addresses
}

func newEnv(t *testing.T) env {
	t.Helper()
	e := env{addresses: &addresses{}}
	e.Service = &zones.Service{DB: dbtest.New(t), Nets: e.addresses, Events: &events.Hub{}, Log: slog.New(slog.DiscardHandler)}
	return e
}

// network adds a network with the keys, if the zones allow it.
func (e env) network(t *testing.T, name string, config map[string]string) error {
	t.Helper()
	n := db.Network{Name: name, Type: "bridge", Status: db.Ready, Config: config}
	err := e.DB.View(t.Context(), func(ctx context.Context, tx *db.Tx) error { return e.CheckNetwork(ctx, tx, n, networks.Config{}) })
	if err != nil {
		return err
	}
	return e.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error { return db.AddNetwork(ctx, tx, &n) })
}

func (e env) create(t *testing.T, name string, config api.ConfigMap) {
	t.Helper()
	must(t, e.Create(t.Context(), api.NetworkZonesPost{Name: name, NetworkZonePut: api.NetworkZonePut{Config: config}}))
}

func (e env) record(t *testing.T, zone, name string, entries ...string) error {
	t.Helper()
	var all []api.NetworkZoneRecordEntry
	for _, text := range entries {
		typ, value, _ := strings.Cut(text, " ")
		all = append(all, api.NetworkZoneRecordEntry{Type: typ, Value: value})
	}
	return e.CreateRecord(t.Context(), zone, api.NetworkZoneRecordsPost{Name: name, NetworkZoneRecordPut: api.NetworkZoneRecordPut{Entries: all}})
}

// content is a zone as its peers have it, but for the SOA.
func (e env) content(t *testing.T, zone string) []string {
	t.Helper()
	all, err := zones.Content(t.Context(), e.Service, zone)
	must(t, err)
	lines := []string{}
	for _, rr := range all[1:] {
		lines = append(lines, strings.Join(strings.Fields(rr.String()), " "))
	}
	return lines
}

func TestLife(t *testing.T) {
	e := newEnv(t)
	heard := e.Events.Listen("lifecycle")
	e.create(t, "c.example.org", api.ConfigMap{"dns.nameservers": "ns1.example.org, ns2.example.org.", "user.x": "y", "dns.contact": ""})
	must(t, e.network(t, "br0", map[string]string{"ipv4.address": "10.1.2.1/24", "dns.zone.forward": "c.example.org"}))
	z, err := e.Get(t.Context(), "c.example.org")
	must(t, err)
	if want := map[string]string{"dns.nameservers": "ns1.example.org, ns2.example.org.", "user.x": "y"}; !maps.Equal(z.Config, want) || !slices.Equal(z.UsedBy, []string{"/1.0/networks/br0"}) || z.Project != "default" {
		t.Errorf("got %+v", z)
	}
	must(t, e.Update(t.Context(), z.Name, api.NetworkZonePut{Description: "ours", Config: api.ConfigMap{"network.nat": "false"}}))
	must(t, e.record(t, z.Name, "www", "A 192.0.2.1"))
	must(t, e.UpdateRecord(t.Context(), z.Name, "www", api.NetworkZoneRecordPut{
		Description: "web", Entries: []api.NetworkZoneRecordEntry{{Type: "aaaa", Value: "2001:db8::1", TTL: 60}}, Config: api.ConfigMap{"user.a": "b"},
	}))
	r, err := e.Record(t.Context(), z.Name, "www")
	if err != nil || r.Description != "web" || len(r.Entries) != 1 || r.Entries[0].Type != "AAAA" || r.Config["user.a"] != "b" {
		t.Errorf("got %+v, %v", r, err)
	}
	if all, err := e.Records(t.Context(), z.Name); err != nil || len(all) != 1 {
		t.Errorf("got %v, %v", all, err)
	}
	if err := e.Delete(t.Context(), z.Name); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "network br0") {
		t.Errorf("a used one: got %v", err)
	}
	must(t, e.DeleteRecord(t.Context(), z.Name, "www"))
	must(t, e.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error { return db.DeleteNetwork(ctx, tx, "br0") }))
	must(t, e.Delete(t.Context(), z.Name))
	if all, err := e.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("got %v, %v", all, err)
	}
	for _, want := range []string{"zone-created", "zone-updated", "zone-record-created", "zone-record-updated", "zone-record-deleted", "zone-deleted"} {
		if got := <-heard.C; !strings.Contains(string(got.Metadata), `"network-`+want+`"`) {
			t.Errorf("got event %s, want %s", got.Metadata, want)
		}
	}
}

func TestRefused(t *testing.T) {
	e := newEnv(t)
	e.create(t, "c.example.org", nil)
	e.create(t, "2.1.10.in-addr.arpa", nil)
	must(t, e.record(t, "c.example.org", "www", "A 192.0.2.1"))
	long := strings.Repeat("a", 63) + "."
	zone := func(name string, config api.ConfigMap) error {
		return e.Create(t.Context(), api.NetworkZonesPost{Name: name, NetworkZonePut: api.NetworkZonePut{Config: config}})
	}
	key := func(key, value string) error { return zone("x.org", api.ConfigMap{key: value}) }
	record := func(name string, entries ...string) error { return e.record(t, "c.example.org", name, entries...) }
	network := func(key, value string) error {
		return e.network(t, "br0", map[string]string{"ipv4.address": "10.1.2.1/24", "ipv6.address": "none", key: value})
	}
	tests := map[string]struct {
		err  error
		kind errs.Kind
		want string
	}{
		"no name":                       {zone("", nil), errs.Invalid, `""`},
		"a dot at the end":              {zone("example.org.", nil), errs.Invalid, "example.org."},
		"a slash":                       {zone("a/b", nil), errs.Invalid, "a/b"},
		"too long a name":               {zone(strings.Repeat(long, 4)+"org", nil), errs.Invalid, "not valid"},
		"one that is there":             {zone("c.example.org", nil), errs.Conflict, "exists"},
		"the same in other letters":     {zone("C.example.org", nil), errs.Conflict, `as "c.example.org"`},
		"an unknown key":                {key("dns.x", "y"), errs.Invalid, "dns.nameservers"},
		"no name server":                {key("dns.nameservers", "ns1 x"), errs.Invalid, "ns1 x"},
		"no mail address":               {key("dns.contact", "a b@c"), errs.Invalid, "a b@c"},
		"neither true nor false":        {key("network.nat", "maybe"), errs.Invalid, "maybe"},
		"no address of a peer":          {key("peers.ns1.address", "ns1.example.org"), errs.Invalid, "IP address"},
		"no key of a peer":              {key("peers.ns1.key", "not base64"), errs.Invalid, "Base64"},
		"too short a key":               {key("peers.ns1.key", "YQ=="), errs.Invalid, "8 bytes"},
		"no option of a peer":           {key("peers.ns1.port", "53"), errs.Invalid, "peers.NAME.key"},
		"no name of a peer":             {key("peers.a b.address", "192.0.2.1"), errs.Invalid, "a b"},
		"a zone that is not there":      {e.Update(t.Context(), "y.org", api.NetworkZonePut{}), errs.NotFound, "y.org"},
		"a record of no zone":           {e.record(t, "y.org", "www", "A 192.0.2.1"), errs.NotFound, "y.org"},
		"a record that is there":        {record("www"), errs.Conflict, "www"},
		"a record that is not there":    {e.DeleteRecord(t.Context(), "c.example.org", "ftp"), errs.NotFound, "ftp"},
		"a change of one that is not":   {e.UpdateRecord(t.Context(), "c.example.org", "ftp", api.NetworkZoneRecordPut{}), errs.NotFound, "ftp"},
		"no name of a record":           {record("a b"), errs.Invalid, "a b"},
		"a star in the middle":          {record("a.*"), errs.Invalid, "a.*"},
		"an unknown type":               {record("a", "ADDRESS 192.0.2.1"), errs.Invalid, "ADDRESS"},
		"a type that is ours":           {record("@", "SOA a b 1 2 3 4 5"), errs.Invalid, "SOA"},
		"no value":                      {record("a", "A"), errs.Invalid, "empty"},
		"a wrong value":                 {record("a", "A 2001:db8::1"), errs.Invalid, "2001:db8::1"},
		"two lines":                     {record("a", "A 192.0.2.1\nb.c.example.org. 60 IN A 192.0.2.2"), errs.Invalid, "control"},
		"a comment":                     {record("a", "CNAME b.org. ; x"), errs.Invalid, "comment"},
		"twice the same":                {record("a", "A 192.0.2.1", "A 192.0.2.1"), errs.Invalid, "already"},
		"a CNAME and others":            {record("a", "CNAME b.org.", "A 192.0.2.1"), errs.Invalid, "only one"},
		"a CNAME of the zone":           {record("@", "CNAME b.org."), errs.Invalid, "CNAME"},
		"a network of no zone":          {network("dns.zone.forward", "c.example.org, y.org"), errs.Invalid, "y.org"},
		"a network of a zone twice":     {network("dns.zone.forward", "c.example.org,c.example.org"), errs.Invalid, "twice"},
		"no reverse zone":               {network("dns.zone.reverse.ipv4", "c.example.org"), errs.Invalid, "in-addr.arpa"},
		"a reverse zone of IPv4 for v6": {network("dns.zone.reverse.ipv6", "2.1.10.in-addr.arpa"), errs.Invalid, "ip6.arpa"},
		"an address that is not":        {e.Listen(t.Context(), "localhost:53"), errs.Invalid, "localhost:53"},
		"all addresses":                 {e.Listen(t.Context(), ":53"), errs.Invalid, "one address"},
	}
	for name, tt := range tests {
		if !errs.Is(tt.err, tt.kind) || !strings.Contains(tt.err.Error(), tt.want) {
			t.Errorf("%s: got %v", name, tt.err)
		}
	}
	if all, err := e.List(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("got %v, %v", all, err)
	}
}

func TestReverseZones(t *testing.T) {
	e := newEnv(t)
	tests := map[string]struct {
		address, zone string
		ok            bool
	}{
		"the network":              {"10.1.2.1/24", "2.1.10.in-addr.arpa", true},
		"more than it":             {"10.1.2.1/24", "10.in-addr.arpa", true},
		"a part of it":             {"10.1.2.1/16", "7.1.10.in-addr.arpa", true},
		"between bytes":            {"10.1.2.1/20", "9.1.10.in-addr.arpa", true},
		"a piece of a byte":        {"10.1.2.129/25", "128-25.2.1.10.in-addr.arpa", true},
		"beside it":                {"10.1.2.1/24", "3.1.10.in-addr.arpa", false},
		"beside more than it":      {"10.1.2.1/24", "11.in-addr.arpa", false},
		"the network of IPv6":      {"fd42:1:2:3::1/64", "3.0.0.0.2.0.0.0.1.0.0.0.2.4.d.f.ip6.arpa", true},
		"more than that":           {"fd42:1:2:3::1/64", "2.4.d.f.ip6.arpa", true},
		"beside the one of IPv6":   {"fd42:1:2:3::1/64", "4.0.0.0.2.0.0.0.1.0.0.0.2.4.d.f.ip6.arpa", false},
		"no network of the family": {"none", "0.0.10.in-addr.arpa", false},
	}
	for name, tt := range tests {
		e.create(t, tt.zone, nil)
		config := map[string]string{"ipv4.address": tt.address, "dns.zone.reverse.ipv4": tt.zone}
		if strings.HasSuffix(tt.zone, "ip6.arpa") {
			config = map[string]string{"ipv6.address": tt.address, "dns.zone.reverse.ipv6": tt.zone}
		}
		err := e.DB.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return e.CheckNetwork(ctx, tx, db.Network{Name: "br0", Config: config}, networks.Config{})
		})
		if (err == nil) != tt.ok {
			t.Errorf("%s: %s, %s: got %v", name, tt.address, tt.zone, err)
		}
		must(t, e.Delete(t.Context(), tt.zone))
	}
}

// TestKeys looks whether the keys that are described are those that there are.
func TestKeys(t *testing.T) {
	e := newEnv(t)
	values := map[string]string{
		"dns.contact": "jane@example.org", "dns.nameservers": "ns1.example.org", "network.nat": "false", "peers.*.address": "192.0.2.1",
		"peers.*.key": secret, "user.*": "x",
	}
	for _, k := range netkeys.ZoneKeys() {
		name := strings.ReplaceAll(k.Name, "*", "x")
		e.create(t, "example.org", api.ConfigMap{name: values[k.Name]})
		must(t, e.Delete(t.Context(), "example.org"))
		delete(values, k.Name)
	}
	if len(values) > 0 {
		t.Errorf("not described: %v", values)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
