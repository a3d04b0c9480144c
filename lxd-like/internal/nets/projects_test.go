package nets_test

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// TestSameNameInProjects has networks of one name in several projects.
func TestSameNameInProjects(t *testing.T) {
	e := newEnv(t)
	keys := []string{"lan", "p%lan", "q%lan"}
	for _, key := range keys {
		e.create(t, key, nil)
	}
	links := map[string]bool{"eth0": true}
	e.kernel.links = []host.Link{{Name: "eth0", Kind: "physical"}}
	for _, key := range keys {
		cfg, ok := e.driver.Networks()[project.Link(key)]
		if !ok || cfg.Key != key || !strings.HasSuffix(cfg.Dir, "/networks/"+project.Link(key)) {
			t.Errorf("%s is applied as %+v", key, cfg)
		}
		links[project.Link(key)] = true
		e.kernel.links = append(e.kernel.links, host.Link{Name: project.Link(key), Kind: "bridge", MTU: 1400})
	}
	if len(links) != 4 {
		t.Fatalf("got links %v", links)
	}
	e.instance(t, "p_c1", map[string]string{"network": "", "nictype": "bridged", "parent": project.Link("p%lan")})
	e.instance(t, "q_c1", map[string]string{"network": "q%lan"})
	all, err := e.List(t.Context())
	must(t, err)
	used := map[string][]string{"lan": {}, "p%lan": {"/1.0/instances/p_c1"}, "q%lan": {"/1.0/instances/q_c1"}, "eth0": {}}
	for _, n := range all {
		if want, ok := used[n.Name]; !ok || !slices.Equal(n.UsedBy, want) || n.Project != project.Of(n.Name) {
			t.Errorf("got %+v, want it used by %v", n, want)
		}
		delete(used, n.Name)
	}
	if len(used) > 0 {
		t.Errorf("not listed: %v", used)
	}
	if st, err := e.State(t.Context(), "p%lan"); err != nil || st.Mtu != 1400 {
		t.Errorf("state %+v, %v", st, err)
	}
	if _, err := e.State(t.Context(), project.Link("p%lan")); !errs.Is(err, errs.NotFound) {
		t.Errorf("state of an interface of ours: %v", err)
	}
	if _, err := e.Get(t.Context(), project.Link("p%lan")); !errs.Is(err, errs.NotFound) {
		t.Errorf("an interface of ours as one of the host's: %v", err)
	}
	l, err := e.Link(t.Context(), "p%lan")
	if err != nil || l.Parent != project.Link("p%lan") {
		t.Errorf("a NIC is on %+v, %v", l, err)
	}
	for _, key := range []string{"p%lan", "q%lan"} {
		if err := e.Delete(t.Context(), key); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "instance c1 of project "+project.Of(key)) {
			t.Errorf("delete %s: %v", key, err)
		}
	}
}

func TestLinksAreUnique(t *testing.T) {
	e := newEnv(t)
	e.create(t, "p%lan", nil)
	link := project.Link("p%lan")
	err := e.Create(t.Context(), api.NetworksPost{Name: link})
	if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), `network "lan" of project "p"`) {
		t.Errorf("a network called as another's interface: %v", err)
	}
	e.create(t, project.Link("q%lan"), nil)
	if err := e.Create(t.Context(), api.NetworksPost{Name: "q%lan"}); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), project.Link("q%lan")) {
		t.Errorf("an interface called as another network: %v", err)
	}
	e.kernel.links = []host.Link{{Name: project.Link("r%lan"), Kind: "dummy"}}
	if err := e.Create(t.Context(), api.NetworksPost{Name: "r%lan"}); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), project.Link("r%lan")) {
		t.Errorf("an interface that the host has: %v", err)
	}
	if err := e.Create(t.Context(), api.NetworksPost{Name: "r%a b"}); !errs.Is(err, errs.Invalid) || strings.Contains(err.Error(), "%") {
		t.Errorf("a bad name: %v", err)
	}
	if err := e.Rename(t.Context(), "p%lan", "q%web"); !errs.Is(err, errs.Invalid) {
		t.Errorf("renamed into another project: %v", err)
	}
	must(t, e.Rename(t.Context(), "p%lan", "p%web"))
	if all := e.driver.Networks(); len(all) != 2 || all[project.Link("p%web")].Key != "p%web" {
		t.Errorf("got %v", all)
	}
	must(t, e.Delete(t.Context(), "p%web"))
	if all := e.driver.Networks(); len(all) != 1 {
		t.Errorf("left %v", all)
	}
}

// TestInstancesOfProjects has instances of several projects on one network.
func TestInstancesOfProjects(t *testing.T) {
	e := newEnv(t)
	e.create(t, "br0", api.ConfigMap{"ipv4.address": "10.1.2.1/24", "ipv6.address": "none"})
	e.create(t, "p%br0", api.ConfigMap{"ipv4.address": "10.1.3.1/24", "ipv6.address": "none"})
	e.instance(t, "c1", map[string]string{"hwaddr": mac, "ipv4.address": "10.1.2.7"})
	e.instance(t, "p_c1", map[string]string{"hwaddr": "10:66:6a:00:00:02", "ipv4.address": "10.1.2.8"})
	e.instance(t, "a..b_c1", map[string]string{"hwaddr": "10:66:6a:00:00:03"})
	e.instance(t, "p_c2", map[string]string{"network": "p%br0", "hwaddr": "10:66:6a:00:00:04", "ipv4.address": "10.1.3.8"})
	e.named(t, "c1", "db")
	e.named(t, "p_c1", "db")
	e.named(t, "p_c2", "www")
	must(t, e.Recover(t.Context()))
	var names []string
	for _, h := range e.driver.Networks()["br0"].Hosts {
		names = append(names, h.Instance+" is "+h.Name)
	}
	if want := []string{"c1 is c1", "p_c1 is c1.p", "a..b_c1 is "}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	if got, want := e.driver.Networks()["br0"].Aliases, []networks.Alias{{Name: "db", Host: "c1"}, {Name: "db.p", Host: "c1.p"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got aliases %v, want %v", got, want)
	}
	own := e.driver.Networks()[project.Link("p%br0")]
	if own.Hosts[0].Name != "c2" || !reflect.DeepEqual(own.Aliases, []networks.Alias{{Name: "www", Host: "c2"}}) {
		t.Errorf("on its own network: %+v", own)
	}
	leases, err := e.Leases(t.Context(), "br0")
	must(t, err)
	var shown []string
	for _, l := range leases {
		shown = append(shown, l.Hostname+" "+l.Project)
	}
	if want := []string{"br0.gw default", "c1 default", "c1 p"}; !slices.Equal(shown, want) {
		t.Errorf("got leases %q, want %q", shown, want)
	}
	if leases, err := e.Leases(t.Context(), "p%br0"); err != nil || leases[0].Hostname != "br0.gw" || leases[0].Project != "p" || leases[1].Hostname != "c2" || leases[1].Project != "p" {
		t.Errorf("got %v, %v", leases, err)
	}
	addresses, err := e.Addresses(t.Context(), "br0")
	if want := (nets.Address{Name: "p_c1", Address: netip.MustParseAddr("10.1.2.8")}); err != nil || !slices.Contains(addresses, want) {
		t.Errorf("got %v, %v", addresses, err)
	}
	allocations, err := e.Allocations(t.Context())
	has := func(url, network string) bool {
		return slices.ContainsFunc(allocations, func(a api.NetworkAllocation) bool { return a.UsedBy == url && a.Network == network })
	}
	if err != nil || !has("/1.0/instances/p_c1", "br0") || !has("/1.0/instances/p_c2", "p%br0") || !has("/1.0/networks/p%25br0", "p%br0") {
		t.Errorf("got %v, %v", allocations, err)
	}
}

func TestCheckNamesOfProjects(t *testing.T) {
	e := newEnv(t)
	e.create(t, "br0", nil)
	e.instance(t, "c1", map[string]string{"hwaddr": mac})
	e.instance(t, "p_c2", map[string]string{"hwaddr": "10:66:6a:00:00:02"})
	e.named(t, "c1", "db")
	e.named(t, "p_c2", "www")
	for _, tt := range []struct {
		instance string
		aliases  []string
		want     string // Empty for nothing wrong.
	}{
		{"p_c2", []string{"db", "c1"}, ""},
		{"c1", []string{"www", "c2"}, ""},
		{"p_c3", []string{"WWW"}, `taken by instance "c2"`},
		{"p_c3", []string{"c2"}, `the name of instance "c2"`},
		{"p_c3", []string{"c3"}, "the instance itself"},
		{"p_www", []string{"x"}, `name "www" is taken: instance "c2"`},
		{"www", []string{"x"}, ""},
	} {
		err := e.CheckNames(t.Context(), tt.instance, tt.aliases)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s, %v: got %v", tt.instance, tt.aliases, err)
		}
	}
}

// TestClaimsOfProjects has instances of one name in two projects.
func TestClaimsOfProjects(t *testing.T) {
	e := newEnv(t)
	e.create(t, "br0", api.ConfigMap{"ipv4.address": "10.1.2.1/24"})
	address := netip.MustParseAddr("10.1.2.7")
	e.instance(t, "c1", map[string]string{"hwaddr": mac, "ipv4.address": address.String()})
	h := networks.Host{Instance: "p_c1", MAC: "10:66:6a:00:00:02", IPv4: address}
	if err := e.CheckHost(t.Context(), "br0", h); !errs.Is(err, errs.Conflict) {
		t.Errorf("an address of another project's instance: %v", err)
	}
	h.Instance = "c1"
	must(t, e.CheckHost(t.Context(), "br0", h))
}
