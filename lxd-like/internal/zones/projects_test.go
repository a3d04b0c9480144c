package zones_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// TestZonesOfProjects has networks of two projects in a zone that both share, and
// one in a zone of its own project.
func TestZonesOfProjects(t *testing.T) {
	e := newEnv(t)
	e.create(t, "c.example.org", nil)
	e.create(t, "p%p.example.org", nil)
	e.create(t, "p%3.1.10.in-addr.arpa", nil)
	e.create(t, "2.1.10.in-addr.arpa", nil)
	for _, name := range []string{"q%c.example.org", "P.example.org"} {
		if err := e.Create(t.Context(), api.NetworkZonesPost{Name: name}); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "exists already") {
			t.Errorf("%s, which another project has: %v", name, err)
		}
	}
	if err := e.Create(t.Context(), api.NetworkZonesPost{Name: "p%a b"}); !errs.Is(err, errs.Invalid) {
		t.Errorf("got %v", err)
	}
	must(t, e.network(t, "br0", map[string]string{
		"ipv4.address": "10.1.2.1/24", "dns.zone.forward": "c.example.org", "dns.zone.reverse.ipv4": "2.1.10.in-addr.arpa",
	}))
	must(t, e.network(t, "p%br0", map[string]string{
		"ipv4.address": "10.1.3.1/24", "dns.zone.forward": "p%p.example.org, c.example.org", "dns.zone.reverse.ipv4": "p%3.1.10.in-addr.arpa",
	}))
	e.addresses.add("br0", "", "10.1.2.1")
	e.addresses.add("br0", "c1", "10.1.2.7")
	e.addresses.add("br0", "p_c1", "10.1.2.8")
	e.addresses.add("p%br0", "", "10.1.3.1")
	e.addresses.add("p%br0", "p_c1", "10.1.3.7")
	must(t, e.record(t, "p%p.example.org", "www", "CNAME c1"))
	for zone, want := range map[string][]string{
		"c.example.org": {
			"c.example.org. 300 IN NS c.example.org.", "br0.gw.c.example.org. 300 IN A 10.1.2.1", "br0.gw.p.c.example.org. 300 IN A 10.1.3.1",
			"c1.c.example.org. 300 IN A 10.1.2.7", "c1.p.c.example.org. 300 IN A 10.1.2.8", "c1.p.c.example.org. 300 IN A 10.1.3.7",
		},
		"P.example.org": {
			"p.example.org. 300 IN NS p.example.org.", "br0.gw.p.example.org. 300 IN A 10.1.3.1", "c1.p.example.org. 300 IN A 10.1.3.7",
			"www.p.example.org. 300 IN CNAME c1.",
		},
		"2.1.10.in-addr.arpa": {
			"2.1.10.in-addr.arpa. 300 IN NS 2.1.10.in-addr.arpa.", "1.2.1.10.in-addr.arpa. 300 IN PTR br0.gw.c.example.org.",
			"7.2.1.10.in-addr.arpa. 300 IN PTR c1.c.example.org.", "8.2.1.10.in-addr.arpa. 300 IN PTR c1.p.c.example.org.",
		},
		"3.1.10.in-addr.arpa": {
			"3.1.10.in-addr.arpa. 300 IN NS 3.1.10.in-addr.arpa.", "1.3.1.10.in-addr.arpa. 300 IN PTR br0.gw.p.example.org.",
			"7.3.1.10.in-addr.arpa. 300 IN PTR c1.p.example.org.",
		},
	} {
		if got := e.content(t, zone); !slices.Equal(got, want) {
			t.Errorf("zone %s has\n%s\nwant\n%s", zone, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	z, err := e.Get(t.Context(), "p%p.example.org")
	if err != nil || z.Project != "p" || !slices.Equal(z.UsedBy, []string{"/1.0/networks/p%25br0"}) {
		t.Errorf("got %+v, %v", z, err)
	}
	if err := e.Delete(t.Context(), "p%p.example.org"); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "network br0 of project p") {
		t.Errorf("got %v", err)
	}
}
