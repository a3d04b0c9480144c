package nets_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/shared/api"
)

func TestAllocations(t *testing.T) {
	e := newEnv(t)
	e.kernel.links = []host.Link{{Name: "eth0", Kind: "physical"}}
	e.create(t, "br0", api.ConfigMap{"ipv4.address": "10.1.1.1/24", "ipv4.nat": "true", "ipv6.address": "fd42::1/64"})
	must(t, e.Create(t.Context(), post("up", "macvlan", "parent", "eth0")))
	e.instance(t, "c1", map[string]string{"ipv4.address": "10.1.1.5", "hwaddr": mac})
	must(t, e.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		const forward db.PartKind[api.ConfigMap] = "network forward"
		return db.AddNetworkPart(ctx, tx, forward, db.NetworkPart[api.ConfigMap]{Network: "br0", Name: "192.0.2.7"})
	}))
	all, err := e.Allocations(t.Context())
	must(t, err)
	var got []string
	for _, a := range all {
		got = append(got, fmt.Sprint(a.Address, " ", a.UsedBy, " ", a.Type, " ", a.NAT, " ", a.Hwaddr, " ", a.Network))
	}
	want := []string{
		"10.1.1.1/24 /1.0/networks/br0 network true  br0",
		"fd42::1/64 /1.0/networks/br0 network false  br0",
		"10.1.1.5/32 /1.0/instances/c1 instance true " + mac + " br0",
		"fd42::1266:6aff:fe00:1/128 /1.0/instances/c1 instance false " + mac + " br0",
		"192.0.2.7/32 /1.0/networks/br0/forwards/192.0.2.7 network-forward false  br0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

// TestUsedByNetworks looks at an interface of the host that networks are on.
func TestUsedByNetworks(t *testing.T) {
	e := onInterfaces(t)
	for name, want := range map[string][]string{
		"eth1": {"/1.0/instances/c1"}, "eth3": {"/1.0/networks/whole"}, "eth6": {"/1.0/networks/joined"}, "eth2": {}, "lan": {"/1.0/networks/onlan"},
	} {
		n, err := e.Get(t.Context(), name)
		must(t, err)
		if !slices.Equal(n.UsedBy, want) {
			t.Errorf("%s: used by %q, want %q", name, n.UsedBy, want)
		}
	}
}
