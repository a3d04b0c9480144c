package peering_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/peering"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// nets are networks of which one fails to follow.
type nets struct{ fails string }

func (*nets) Exists(context.Context, string) error { return nil }

func (n *nets) Remake(_ context.Context, network string) error {
	if network == n.fails {
		return errors.New("boom")
	}
	return nil
}

func setup(t *testing.T) (*peering.Service, *nets) {
	t.Helper()
	n := &nets{}
	s := &peering.Service{DB: dbtest.New(t), Nets: n, Events: &events.Hub{}}
	must(t, s.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		for name, address := range map[string]string{"one": "10.1.1.1/24", "two": "10.1.2.1/24"} {
			config := map[string]string{"ipv4.address": address, "ipv6.address": "none", "dns.domain": name}
			if err := db.AddNetwork(ctx, tx, &db.Network{Name: name, Type: "bridge", Status: db.Ready, Config: config}); err != nil {
				return err
			}
		}
		return nil
	}))
	return s, n
}

func post(target string) api.NetworkPeersPost {
	return api.NetworkPeersPost{Name: "p", TargetNetwork: target}
}

// peersOf is what the network one is told of its peers.
func peersOf(t *testing.T, s *peering.Service) []networks.Peer {
	t.Helper()
	var cfg networks.Config
	must(t, s.DB.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		cfg.Peers = nil
		return s.Part(ctx, tx, db.Network{Name: "one"}, &cfg)
	}))
	return cfg.Peers
}

func TestMutual(t *testing.T) {
	s, _ := setup(t)
	must(t, s.Create(t.Context(), "one", post("two")))
	if got := peersOf(t, s); len(got) != 0 {
		t.Errorf("one side alone: got %v", got)
	}
	must(t, s.Create(t.Context(), "two", post("one")))
	got := peersOf(t, s)
	if len(got) != 1 || got[0].IPv4.String() != "10.1.2.1/24" || got[0].Domain != "two" || got[0].Server.String() != "10.1.2.1" {
		t.Errorf("got %v", got)
	}
	must(t, s.Delete(t.Context(), "two", "p"))
	p, err := s.Peer(t.Context(), "one", "p")
	must(t, err)
	if p.Status != api.PeerPending || len(peersOf(t, s)) != 0 {
		t.Errorf("the other has gone: got %+v", p)
	}
}

func TestFailureUnwinds(t *testing.T) {
	for _, fails := range []string{"one", "two"} {
		s, n := setup(t)
		n.fails = fails
		if err := s.Create(t.Context(), "one", post("two")); err == nil {
			t.Error("created, although a network did not follow")
		}
		if all, err := s.Peers(t.Context(), "one"); err != nil || len(all) != 0 {
			t.Errorf("left: %v, %v", all, err)
		}
		n.fails = ""
		must(t, s.Create(t.Context(), "one", post("two")))
		n.fails = fails
		if err := s.Delete(t.Context(), "one", "p"); err == nil {
			t.Error("deleted, although a network did not follow")
		}
		if _, err := s.Peer(t.Context(), "one", "p"); err != nil {
			t.Errorf("it is gone: %v", err)
		}
	}
}

// TestAcrossProjects has networks of one name be peers.
func TestAcrossProjects(t *testing.T) {
	s, _ := setup(t)
	must(t, s.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		config := map[string]string{"ipv4.address": "10.1.3.1/24", "ipv6.address": "none", "dns.domain": "three"}
		return db.AddNetwork(ctx, tx, &db.Network{Name: "p%one", Type: "bridge", Status: db.Ready, Config: config})
	}))
	must(t, s.Create(t.Context(), "one", post("p%one")))
	p, err := s.Peer(t.Context(), "one", "p")
	must(t, err)
	if p.TargetNetwork != "p%one" || p.TargetProject != "p" || p.Status != api.PeerPending || len(peersOf(t, s)) != 0 {
		t.Errorf("one side alone: got %+v", p)
	}
	must(t, s.Create(t.Context(), "p%one", post("one")))
	back, err := s.Peer(t.Context(), "p%one", "p")
	must(t, err)
	if back.TargetNetwork != "one" || back.TargetProject != "default" || back.Status != api.PeerCreated {
		t.Errorf("got %+v", back)
	}
	if got := peersOf(t, s); len(got) != 1 || got[0].Network != "p%one" || got[0].Domain != "three" {
		t.Errorf("got peers %+v", got)
	}
	if err := s.Create(t.Context(), "one", api.NetworkPeersPost{Name: "q", TargetNetwork: "p%one"}); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), `"one" of project "p"`) {
		t.Errorf("got %v", err)
	}
	must(t, s.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error { return s.Renamed(ctx, tx, "p%one", "p%six") }))
	if p, err = s.Peer(t.Context(), "one", "p"); err != nil || p.TargetNetwork != "p%six" {
		t.Errorf("renamed: got %+v, %v", p, err)
	}
}

func TestRefused(t *testing.T) {
	s, _ := setup(t)
	must(t, s.Create(t.Context(), "one", post("two")))
	for name, tt := range map[string]struct {
		change func(*api.NetworkPeersPost)
		kind   errs.Kind
	}{
		"itself":      {func(p *api.NetworkPeersPost) { p.TargetNetwork = "one" }, errs.Invalid},
		"twice":       {func(p *api.NetworkPeersPost) { p.Name = "q" }, errs.Conflict},
		"no network":  {func(p *api.NetworkPeersPost) { p.Name, p.TargetNetwork = "q", "nosuch" }, errs.NotFound},
		"bad name":    {func(p *api.NetworkPeersPost) { p.Name = "a/b" }, errs.Invalid},
		"key":         {func(p *api.NetworkPeersPost) { p.Config = api.ConfigMap{"x": "y"} }, errs.Invalid},
		"project":     {func(p *api.NetworkPeersPost) { p.Name, p.TargetNetwork = "q", "other%two" }, errs.NotFound},
		"integration": {func(p *api.NetworkPeersPost) { p.Type = "remote" }, errs.Invalid},
	} {
		req := post("two")
		tt.change(&req)
		if err := s.Create(t.Context(), "one", req); !errs.Is(err, tt.kind) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestShared has networks with one domain, which cannot ask each other for all
// of it.
func TestShared(t *testing.T) {
	s, _ := setup(t)
	must(t, s.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		for _, name := range []string{"one", "two"} {
			n, err := db.GetNetwork(ctx, tx, name)
			if err != nil {
				return err
			}
			n.Config["dns.domain"] = "same"
			if err := db.UpdateNetwork(ctx, tx, n); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, s.Create(t.Context(), "one", post("two")))
	must(t, s.Create(t.Context(), "two", post("one")))
	must(t, s.DB.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		all, err := s.All(ctx, tx)
		for name, other := range map[string]string{"one": "two", "two": "one"} {
			if got := all[name]; len(got) != 1 || got[0].Network != other || !got[0].Shared || got[0].Domain != "" || !got[0].Server.IsValid() {
				t.Errorf("%s: got %+v", name, got)
			}
		}
		return err
	}))
}
