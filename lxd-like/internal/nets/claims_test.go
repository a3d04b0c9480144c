package nets_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// TestPin has two instances held to addresses that nobody has chosen.
func TestPin(t *testing.T) {
	e := newEnv(t)
	e.create(t, "br0", api.ConfigMap{"ipv4.address": "10.7.0.1/29", "ipv6.address": "fd42::1/64", "ipv6.dhcp.stateful": "true"})
	both := networks.Pin{Four: true, Six: true}
	taken := map[netip.Addr]bool{netip.MustParseAddr("10.7.0.1"): true}
	var all []networks.Host
	for i := range 5 {
		h := networks.Host{Instance: fmt.Sprintf("c%d", i), MAC: fmt.Sprintf("10:66:6a:00:00:0%d", i)}
		got, err := e.Pin(t.Context(), "br0", h, both)
		must(t, err)
		again, err := e.Pin(t.Context(), "br0", got, both)
		if err != nil || again != got || taken[got.IPv4] || taken[got.IPv6] || !got.IPv4.IsValid() || !got.IPv6.IsValid() {
			t.Errorf("got %v, then %v, %v", got, again, err)
		}
		taken[got.IPv4], taken[got.IPv6] = true, true
		must(t, e.SetHost(t.Context(), "br0", got))
		all = append(all, got)
	}
	late := networks.Host{Instance: "late", MAC: "10:66:6a:00:00:09"}
	if _, err := e.Pin(t.Context(), "br0", late, both); !errs.Is(err, errs.Unavailable) {
		t.Errorf("no address is free: %v", err)
	}
	must(t, e.UnsetHost(t.Context(), "br0", all[3]))
	got, err := e.Pin(t.Context(), "br0", late, networks.Pin{Four: true})
	if err != nil || got.IPv4 != all[3].IPv4 || got.IPv6.IsValid() {
		t.Errorf("got %v, %v", got, err)
	}
	e.Release("br0", all[0])
	other := networks.Host{Name: "other", MAC: "10:66:6a:00:00:0a"}
	if _, err := e.Pin(t.Context(), "br0", other, networks.Pin{Four: true}); !errs.Is(err, errs.Unavailable) {
		t.Errorf("what a host has that the network knows was given back: %v", err)
	}
	e.Release("br0", got)
	if again, err := e.Pin(t.Context(), "br0", other, networks.Pin{Four: true}); err != nil || again.IPv4 != got.IPv4 {
		t.Errorf("what was given back is not free: %v, %v", again, err)
	} else {
		e.Release("br0", again)
	}
	got.IPv4 = netip.MustParseAddr("10.8.0.9") // Of a network that was another.
	if got, err = e.Pin(t.Context(), "br0", got, networks.Pin{Four: true}); err != nil || got.IPv4 != all[3].IPv4 {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestClaims has what two instances cannot have at once, on no network of ours.
func TestClaims(t *testing.T) {
	e := newEnv(t)
	must(t, e.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		p := db.Pool{Name: "p", Driver: "dir", Status: db.Ready}
		if err := db.AddPool(ctx, tx, &p); err != nil {
			return err
		}
		in := db.Instance{Name: "c1", PoolID: p.ID, Status: db.Ready, Devices: map[string]map[string]string{
			"a": {"type": "nic", "nictype": "macvlan", "parent": "eth0", "hwaddr": "10:66:6A:00:00:01"},
			"b": {"type": "nic", "nictype": "routed", "ipv4.address": "10.0.0.2,10.0.0.3"},
		}}
		return db.AddInstance(ctx, tx, &in)
	}))
	for _, tt := range []struct {
		claim networks.Claim
		want  string
	}{
		{networks.Claim{Instance: "c2", Parent: "eth0", MAC: "10:66:6a:00:00:01"}, `hwaddr 10:66:6a:00:00:01 is taken on eth0 by instance "c1"`},
		{networks.Claim{Instance: "c2", Parent: "eth1", MAC: "10:66:6a:00:00:01"}, ""},
		{networks.Claim{Instance: "c1", Parent: "eth0", MAC: "10:66:6a:00:00:01"}, ""},
		{networks.Claim{Instance: "c2", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.3")}}, `address 10.0.0.3 is taken by instance "c1"`},
		{networks.Claim{Instance: "c2", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.4")}}, ""},
	} {
		err := e.CheckClaim(t.Context(), tt.claim)
		if tt.want == "" && err != nil || tt.want != "" && (!errs.Is(err, errs.Conflict) || err.Error() != tt.want) {
			t.Errorf("%+v: got %v", tt.claim, err)
		}
	}
}
