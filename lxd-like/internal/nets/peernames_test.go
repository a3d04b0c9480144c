package nets_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/testenv"
)

// TestPeerNames gives a network those names of its peers that nobody has who
// comes before.
func TestPeerNames(t *testing.T) {
	e := newEnv(t)
	peers := []networks.Peer{{Network: "br1", Shared: true}, {Network: "br2", Shared: true}, {Network: "br3", Domain: "other"}}
	e.Parts = append(e.Parts, func(_ context.Context, _ *db.Tx, n db.Network, cfg *networks.Config) error {
		if n.Name == "br0" {
			cfg.Peers = peers
		}
		return nil
	})
	for i, name := range []string{"br0", "br1", "br2", "br3"} {
		e.create(t, name, api.ConfigMap{"ipv4.address": fmt.Sprintf("10.%d.0.1/24", i), "ipv6.address": "none"})
	}
	for name, network := range map[string]string{"web": "br0", "db": "br1", "Mail": "br1", "far": "br3", "more": "br2"} {
		e.instance(t, name, map[string]string{"network": network})
	}
	e.both(t, "twice", "br1", "br2")
	e.both(t, "here", "br0", "br1")
	names := func() string {
		must(t, e.Remake(t.Context(), "br0"))
		out := ""
		for _, p := range e.driver.Networks()["br0"].Peers {
			out += fmt.Sprint(p.Network, p.Names)
		}
		return out
	}
	const want = "br1[Mail db twice]br2[more]br3[]"
	if got := names(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// A change of the network itself keeps them.
	must(t, e.Update(t.Context(), "br0", api.NetworkPut{Config: api.ConfigMap{"ipv4.address": "10.0.0.1/24", "ipv6.address": "none", "ipv4.nat": "true"}}))
	if got := fmt.Sprint(e.driver.Networks()["br0"].Peers[0].Names); got != "[Mail db twice]" {
		t.Errorf("after a change: got %s", got)
	}
	if peers[0].Names != nil {
		t.Error("what the part gave was changed")
	}
}

// both adds an instance with a NIC on each of two networks.
func (e env) both(t *testing.T, name, one, two string) {
	t.Helper()
	e.instance(t, name, map[string]string{"network": one})
	must(t, e.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		in, err := db.GetInstance(ctx, tx, name)
		if err != nil {
			return err
		}
		in.Devices["eth1"] = map[string]string{"type": "nic", "network": two}
		return db.UpdateInstance(ctx, tx, in)
	}))
}

// TestPeerNamesFollow makes and deletes instances on a peer.
func TestPeerNamesFollow(t *testing.T) {
	e := newEnv(t)
	peers := []networks.Peer{{Network: "br1", Shared: true}}
	e.Parts = append(e.Parts, func(_ context.Context, _ *db.Tx, n db.Network, cfg *networks.Config) error {
		if n.Name == "br0" {
			cfg.Peers = peers
		}
		return nil
	})
	e.Peering = func(context.Context, *db.Tx) (map[string][]networks.Peer, error) {
		return map[string][]networks.Peer{"br0": peers}, nil
	}
	for i, name := range []string{"br0", "br1"} {
		e.create(t, name, api.ConfigMap{"ipv4.address": fmt.Sprintf("10.%d.0.1/24", i), "ipv6.address": "none"})
	}
	e.runs(t)
	for _, name := range []string{"one", "two"} {
		e.instance(t, name, map[string]string{"network": "br1"})
		e.Events.Lifecycle("instance-created", "/1.0/instances/"+name, nil)
		testenv.Eventually(t, name+" is known", func() bool {
			all := e.driver.Networks()["br0"].Peers
			return len(all) == 1 && slices.Contains(all[0].Names, name)
		})
	}
}
