package zones_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/cuib/cuib/lxd-like/internal/zones"
	"github.com/cuib/cuib/shared/api"
)

// fill makes zones, and two networks whose names they have.
func fill(t *testing.T) env {
	t.Helper()
	e := newEnv(t)
	e.create(t, "c.example.org", api.ConfigMap{"dns.nameservers": "ns1.example.org", "dns.contact": "jane.doe@example.org"})
	e.create(t, "public.example.org", api.ConfigMap{"network.nat": "false"})
	e.create(t, "2.1.10.in-addr.arpa", nil)
	e.create(t, "8.b.d.0.1.0.0.2.ip6.arpa", nil)
	must(t, e.network(t, "br0", map[string]string{
		"ipv4.address": "10.1.2.1/24", "ipv4.nat": "true", "ipv6.address": "2001:db8::1/64",
		"dns.zone.forward": "c.example.org,public.example.org", "dns.zone.reverse.ipv4": "2.1.10.in-addr.arpa", "dns.zone.reverse.ipv6": "8.b.d.0.1.0.0.2.ip6.arpa",
	}))
	must(t, e.network(t, "br1", map[string]string{"ipv4.address": "10.1.2.1/24", "dns.zone.reverse.ipv4": "2.1.10.in-addr.arpa", "dns.domain": "lab"}))
	e.addresses.add("br0", "", "10.1.2.1")
	e.addresses.add("br0", "web", "10.1.2.7")
	e.addresses.add("br0", "web", "2001:db8::7")
	e.addresses.add("br0", "db", "10.1.2.8")
	e.addresses.add("br1", "other", "10.1.2.9")
	e.addresses.add("br1", "beyond", "10.1.3.9")
	return e
}

func TestContent(t *testing.T) {
	e := fill(t)
	must(t, e.record(t, "c.example.org", "www", "CNAME web.c.example.org"))
	must(t, e.record(t, "c.example.org", "web", "A 192.0.2.1", "A 10.1.2.7")) // One is there already.
	must(t, e.record(t, "c.example.org", "db", "CNAME elsewhere.org."))       // It takes the place of the instance.
	must(t, e.record(t, "c.example.org", "@", "MX 10 mail.example.org.", "TXT v=spf1 mx; -all", `TXT "two" "pieces"`))
	must(t, e.record(t, "c.example.org", "*.apps", "A 192.0.2.2"))
	must(t, e.record(t, "c.example.org", "_sip._tcp", "SRV 0 5 5060 sip.example.org."))
	const c = "c.example.org. 300 IN "
	for zone, want := range map[string][]string{
		"c.example.org": {
			c + "NS ns1.example.org.", "*.apps." + c + "A 192.0.2.2", "_sip._tcp." + c + "SRV 0 5 5060 sip.example.org.", "br0.gw." + c + "A 10.1.2.1",
			c + "MX 10 mail.example.org.", c + `TXT "two" "pieces"`, c + `TXT "v=spf1 mx; -all"`, "db." + c + "CNAME elsewhere.org.",
			"web." + c + "A 10.1.2.7", "web." + c + "A 192.0.2.1", "web." + c + "AAAA 2001:db8::7", "www." + c + "CNAME web.c.example.org.",
		},
		"public.example.org": { // Without what is behind NAT.
			"public.example.org. 300 IN NS public.example.org.", "web.public.example.org. 300 IN AAAA 2001:db8::7",
		},
		"2.1.10.in-addr.arpa": {
			"2.1.10.in-addr.arpa. 300 IN NS 2.1.10.in-addr.arpa.", "1.2.1.10.in-addr.arpa. 300 IN PTR br0.gw.c.example.org.",
			"7.2.1.10.in-addr.arpa. 300 IN PTR web.c.example.org.", "8.2.1.10.in-addr.arpa. 300 IN PTR db.c.example.org.",
			"9.2.1.10.in-addr.arpa. 300 IN PTR other.lab.",
		},
		"8.b.d.0.1.0.0.2.ip6.arpa": {
			"8.b.d.0.1.0.0.2.ip6.arpa. 300 IN NS 8.b.d.0.1.0.0.2.ip6.arpa.",
			"7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 300 IN PTR web.c.example.org.",
		},
	} {
		got := e.content(t, zone)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", zone, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	soa := head(t, e, "c.example.org")
	if soa.Ns != "ns1.example.org." || soa.Mbox != `jane\.doe.example.org.` {
		t.Errorf("got %v", soa)
	}
}

func head(t *testing.T, e env, zone string) *dns.SOA {
	t.Helper()
	all, err := zones.Content(t.Context(), e.Service, zone)
	must(t, err)
	soa, ok := all[0].(*dns.SOA)
	if !ok {
		t.Fatalf("the first is %v", all[0])
	}
	return soa
}

// TestSerial looks whether the serial grows with each change of what a zone
// has, and with nothing else, also over a restart.
func TestSerial(t *testing.T) {
	e := fill(t)
	last := uint32(0)
	grows := func(what string, want bool) {
		t.Helper()
		e.Service = &zones.Service{DB: e.DB, Nets: e.addresses, Events: e.Events, Log: e.Log} // It remembers nothing.
		now := head(t, e, "c.example.org").Serial
		if (now > last) != want || now < last {
			t.Errorf("%s: %d after %d", what, now, last)
		}
		last = now
	}
	grows("the first time", true)
	grows("nothing", false)
	must(t, e.record(t, "c.example.org", "www", "A 192.0.2.1"))
	grows("a record", true)
	must(t, e.UpdateRecord(t.Context(), "c.example.org", "www", api.NetworkZoneRecordPut{
		Description: "ours", Entries: []api.NetworkZoneRecordEntry{{Type: "A", Value: "192.0.2.1"}},
	}))
	grows("a description", false)
	e.addresses.add("br0", "new", "10.1.2.30")
	grows("an instance", true)
	e.addresses.add("br1", "new", "10.1.2.30")
	grows("an instance elsewhere", false)
	must(t, e.Update(t.Context(), "c.example.org", api.NetworkZonePut{Config: api.ConfigMap{"dns.nameservers": "ns9.example.org"}}))
	grows("a name server", true)
	must(t, e.DeleteRecord(t.Context(), "c.example.org", "www"))
	grows("a record that is gone", true)
}
