package nets_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/bridge"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/testenv"
)

// kernelDaemon is the service of networks with bridges of the kernel, as a daemon
// has it that has just started.
func kernelDaemon(t *testing.T, store *db.DB, dir string) env {
	t.Helper()
	e := env{Service: &nets.Service{
		DB: store, Dir: dir, Host: host.Kernel{}, Events: &events.Hub{}, Log: slog.New(slog.DiscardHandler),
		Drivers: map[string]networks.Driver{"bridge": bridge.Driver{}},
	}}
	must(t, e.Recover(t.Context()))
	return e
}

// left is what of networks is on the host and in the daemon's directory.
func left(t *testing.T, dir string) []string {
	t.Helper()
	links, err := host.Kernel{}.Links()
	must(t, err)
	var all []string
	for _, l := range links {
		if l.Kind == "bridge" {
			all = append(all, "bridge "+l.Name)
		}
	}
	for line := range strings.Lines(testenv.Run(t, "nft", "list", "tables")) {
		all = append(all, strings.TrimSpace(line))
	}
	entries, err := os.ReadDir(filepath.Join(dir, "networks"))
	must(t, err)
	for _, one := range entries {
		all = append(all, "directory "+one.Name())
	}
	return append(all, fmt.Sprintf("%d processes", len(networkstest.Processes(t, dir))))
}

// TestProjectsOnTheHost has networks of one name in two projects on the host, and
// instances of one name on both, and on one.
func TestProjectsOnTheHost(t *testing.T) {
	testenv.Kernel(t)
	networkstest.Host(t)
	store, dir := dbtest.New(t), networkstest.Dir(t)
	e := kernelDaemon(t, store, dir)
	e.create(t, "br0", api.ConfigMap{"ipv4.address": "10.1.2.1/24", "ipv6.address": "fd42:1:2:3::1/64"})
	e.create(t, "p%br0", nil)
	t.Cleanup(func() { must(t, e.Stop(context.WithoutCancel(t.Context()))) })
	link := project.Link("p%br0")

	overlap := api.NetworksPost{Name: "q%br0", NetworkPut: api.NetworkPut{Config: api.ConfigMap{"ipv4.address": "10.1.2.129/25"}}}
	if err := e.Create(t.Context(), overlap); !errs.Is(err, errs.Conflict) {
		t.Errorf("an overlap with the network of another project: %v", err)
	}
	n, err := e.Get(t.Context(), "p%br0")
	must(t, err)
	overlap.Name, overlap.Config = "br1", api.ConfigMap{"ipv4.address": n.Config["ipv4.address"]}
	if err := e.Create(t.Context(), overlap); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), `network "br0" of project "p"`) {
		t.Errorf("an overlap with the network of a project: %v", err)
	}

	// Three instances c1, of which two are on one network.
	macs := map[string]string{"c1": mac, "p_c1": "10:66:6a:00:00:02", "p_c2": "10:66:6a:00:00:03"}
	on := map[string]string{"c1": "br0", "p_c1": "br0", "p_c2": "p%br0"}
	guests, got := map[string]*networkstest.NS{}, map[string]netip.Addr{}
	for i, name := range []string{"c1", "p_c1", "p_c2"} {
		e.instance(t, name, map[string]string{"hwaddr": macs[name], "network": on[name]})
		must(t, e.SetHost(t.Context(), on[name], networks.Host{Instance: name, MAC: macs[name]}))
		guests[name] = networkstest.Guest(t, project.Link(on[name]), fmt.Sprintf("vethp%d", i), macs[name])
		got[name] = guests[name].DHCP(t, macs[name], "c1").Address
		guests[name].Must(t, func() error { return networkstest.Address("eth0", got[name].String()+"/24") })
	}
	must(t, e.FollowLeases(t.Context()))
	p, err := netip.ParsePrefix(n.Config["ipv4.address"])
	must(t, err)
	if !p.Contains(got["p_c2"]) {
		t.Errorf("%s got %s of network %s", "p_c2", got["p_c2"], p)
	}
	shared, own := netip.MustParseAddr("10.1.2.1"), p.Addr()
	knows := func(guest string, server netip.Addr, name string, want ...netip.Addr) {
		t.Helper()
		var found []netip.Addr
		end := time.Now().Add(testenv.Patience) // dnsmasq reads what has changed when it finds the time.
		for {
			found = guests[guest].Lookup(t, server, name, dnsmessage.TypeA)
			if slices.Equal(found, want) || time.Now().After(end) {
				break
			}
			<-time.After(20 * time.Millisecond)
		}
		if !slices.Equal(found, want) {
			t.Errorf("%s finds %v for %s, want %v", guest, found, name, want)
		}
	}
	names := func() {
		t.Helper()
		knows("c1", shared, "c1.cuib", got["c1"])
		knows("c1", shared, "c1.p.cuib", got["p_c1"])
		knows("p_c1", shared, "c1.cuib", got["c1"])
		knows("p_c2", own, "c2.cuib", got["p_c2"])
		knows("p_c2", own, "c1.cuib")
	}
	names()
	if found := guests["c1"].Lookup(t, shared, "c1.p.cuib", dnsmessage.TypeAAAA); !slices.Equal(found, []netip.Addr{netip.MustParseAddr("fd42:1:2:3:1266:6aff:fe00:2")}) {
		t.Errorf("c1.p.cuib has IPv6 %v", found)
	}
	leases, err := e.Leases(t.Context(), "br0")
	if err != nil || !slices.ContainsFunc(leases, func(l api.NetworkLease) bool {
		return l.Address == got["p_c1"].String() && l.Hostname == "c1" && l.Project == "p"
	}) {
		t.Errorf("got %v, %v", leases, err)
	}

	// Another daemon finds it all, and so does one after a flush of all.
	before := left(t, dir)
	processes := networkstest.Processes(t, dir)
	e = kernelDaemon(t, store, dir)
	if after := left(t, dir); !slices.Equal(after, before) || !slices.Equal(networkstest.Processes(t, dir), processes) {
		t.Errorf("after a restart there is %q, want %q", after, before)
	}
	names()
	testenv.Run(t, "nft", "flush", "ruleset")
	testenv.Run(t, "ip", "link", "del", link)
	e = kernelDaemon(t, store, dir)
	if after := left(t, dir); !slices.Equal(sorted(after), sorted(before)) {
		t.Errorf("after a loss there is %q, want %q", after, before)
	}

	must(t, store.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error { return db.DeleteInstance(ctx, tx, "p_c2") }))
	must(t, e.Rename(t.Context(), "p%br0", "p%web"))
	if after := left(t, dir); slices.ContainsFunc(after, func(s string) bool { return strings.Contains(s, link) }) || !slices.Contains(after, "bridge "+project.Link("p%web")) {
		t.Errorf("renamed: %q", after)
	}
	must(t, e.Delete(t.Context(), "p%web"))
	if after, want := left(t, dir), []string{"bridge br0", "table inet cuib_br0", "directory br0", "1 processes"}; !slices.Equal(after, want) {
		t.Errorf("deleted, and left %q, want %q", after, want)
	}
}

func sorted(all []string) []string { return slices.Sorted(slices.Values(all)) }
