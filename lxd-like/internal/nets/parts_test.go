package nets_test

import (
	"context"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

const lines db.PartKind[string] = "line of dnsmasq"

// TestParts has another service keep lines of dnsmasq for networks.
func TestParts(t *testing.T) {
	e := newEnv(t)
	var used []string
	e.Parts = []nets.Part{func(ctx context.Context, tx *db.Tx, n db.Network, cfg *networks.Config) error {
		all, err := db.NetworkParts(ctx, tx, lines, n.Name)
		for _, p := range all {
			cfg.Raw += p.Document + "\n"
		}
		return err
	}}
	e.Checks = []nets.Check{func(_ context.Context, _ *db.Tx, _ db.Network, cfg networks.Config) error {
		if strings.Contains(cfg.Raw, "log-queries") && !cfg.IPv4.Address.IsValid() {
			return errs.Conflictf("queries that nobody asks are logged")
		}
		return nil
	}}
	e.Uses = []nets.Use{func(_ context.Context, _ *db.Tx, _ string) ([]string, error) {
		return used, nil
	}}
	config := api.ConfigMap{"ipv4.address": "10.1.1.1/24", "ipv6.address": "none"}
	e.create(t, "br0", config)
	write := func(name, document string) {
		t.Helper()
		must(t, e.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return db.AddNetworkPart(ctx, tx, lines, db.NetworkPart[string]{Network: name, Name: document, Document: document})
		}))
		must(t, e.Reapply(t.Context(), name))
	}
	has := func(name, want string) {
		t.Helper()
		if got := e.driver.Networks()[name].Raw; got != want {
			t.Errorf("network %s has %q", name, got)
		}
	}
	write("br0", "log-queries")
	has("br0", "log-queries\n")

	without := api.NetworkPut{Config: api.ConfigMap{"ipv4.address": "none", "ipv6.address": "none"}}
	if err := e.Update(t.Context(), "br0", without); !errs.Is(err, errs.Conflict) {
		t.Errorf("what a part forbids: got %v", err)
	}
	must(t, e.Rename(t.Context(), "br0", "br1"))
	has("br1", "log-queries\n")
	write("br1", "log-dhcp")
	must(t, e.Update(t.Context(), "br1", api.NetworkPut{Config: config, Description: "new"}))
	e.driver.Disturb("br1")
	must(t, e.Recover(t.Context()))
	has("br1", "log-dhcp\nlog-queries\n")

	used = []string{"/1.0/network-acls/a"}
	if n, err := e.Get(t.Context(), "br1"); err != nil || len(n.UsedBy) != 1 || n.UsedBy[0] != used[0] {
		t.Errorf("used by %v, %v", n.UsedBy, err)
	}
	if err := e.Delete(t.Context(), "br1"); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "network ACL a") {
		t.Errorf("deleted although it is used: %v", err)
	}
	used = nil
	must(t, e.Delete(t.Context(), "br1"))
	if err := e.Reapply(t.Context(), "br1"); !errs.Is(err, errs.NotFound) {
		t.Errorf("got %v", err)
	}
}
