package nets_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// newMany has a network with so many instances, and a count of what is read.
func newMany(t *testing.T, instances int) (env, *dbtest.Reads) {
	t.Helper()
	e := newEnv(t)
	var reads *dbtest.Reads
	e.DB, reads = dbtest.NewCounting(t)
	e.create(t, "br0", api.ConfigMap{"ipv4.address": "10.1.0.1/16", "ipv6.address": "none"})
	for i := range instances {
		e.instance(t, fmt.Sprintf("i%03d", i), map[string]string{"hwaddr": fmt.Sprintf("00:16:3e:00:%02x:%02x", i>>8, i&255)})
	}
	return e, reads
}

// TestNothingReadsOtherInstances does what a launch, a start and a deletion do, with
// few others and with many. The instance and its profile are read.
func TestNothingReadsOtherInstances(t *testing.T) {
	host := networks.Host{
		Name: "web", Instance: "web", MAC: "00:16:3e:01:00:00", IPv4: netip.MustParseAddr("10.1.9.9"),
	}
	for _, tt := range []struct {
		name string
		do   func(context.Context, env) error
		most int64 // Rows.
	}{
		{"names without aliases", func(ctx context.Context, e env) error { nets.FollowNames(ctx, e.Service); return nil }, 2},
		{"names with aliases", func(ctx context.Context, e env) error {
			err := errors.Join(e.alias(ctx, "web", "www"), e.CheckNames(ctx, "web", []string{"shop"}))
			nets.FollowNames(ctx, e.Service)
			return err
		}, 12},
		{"an address of its own", func(ctx context.Context, e env) error { return e.CheckHost(ctx, "br0", host) }, 4},
		{"a start with that", func(ctx context.Context, e env) error { return e.SetHost(ctx, "br0", host) }, 4},
		{"an end of it", func(ctx context.Context, e env) error { return e.UnsetHost(ctx, "br0", host) }, 2},
		{"an address that filtering holds it to", func(ctx context.Context, e env) error {
			_, err := e.Pin(ctx, "br0", networks.Host{Name: "pin", Instance: "pin", MAC: "00:16:3e:02:00:00"}, networks.Pin{Four: true})
			return err
		}, 4},
		{"an interface of the host", func(ctx context.Context, e env) error {
			return e.CheckClaim(ctx, networks.Claim{Instance: "web", Parent: "eth9", MAC: host.MAC})
		}, 2},
		{"addresses", func(ctx context.Context, e env) error { _, err := e.Addresses(ctx, "br0"); return err }, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before int64
			for _, n := range []int{10, 300} {
				e, reads := newMany(t, n)
				nets.FollowNames(t.Context(), e.Service) // As at the start of the daemon.
				must(t, e.CheckClaim(t.Context(), networks.Claim{Instance: "i001"}))
				e.instance(t, "web", map[string]string{"ipv4.address": "10.1.9.9", "hwaddr": host.MAC})
				_, rows := reads.Of(func() { must(t, tt.do(t.Context(), e)) })
				if rows > tt.most || before > 0 && rows != before {
					t.Errorf("with %d others: %d rows were read, want at most %d, and as many as with few: %d", n, rows, tt.most, before)
				}
				before = rows
			}
		})
	}
}

// alias gives an instance an alias.
func (e env) alias(ctx context.Context, name, alias string) error {
	return e.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.PatchInstanceConfig(ctx, tx, name, map[string]string{profiles.KeyAliases: alias})
	})
}

// TestChecksKnowWhatWasJustWritten refuses what another instance has got by any way
// since the last check, and allows what none has any more.
func TestChecksKnowWhatWasJustWritten(t *testing.T) {
	e, _ := newMany(t, 3)
	h := networks.Host{Name: "new", Instance: "new", MAC: "00:16:3e:01:00:00", IPv4: netip.MustParseAddr("10.1.9.9")}
	check := func(what string, taken bool) {
		t.Helper()
		if err := e.CheckHost(t.Context(), "br0", h); errs.Is(err, errs.Conflict) != taken {
			t.Errorf("%s: got %v", what, err)
		}
	}
	do := func(fn func(context.Context, *db.Tx) error) { t.Helper(); must(t, e.DB.Do(t.Context(), fn)) }
	check("nobody", false)
	e.instance(t, "other", map[string]string{"ipv4.address": "10.1.9.9"})
	check("a new one", true)
	do(func(ctx context.Context, tx *db.Tx) error { return db.RenameInstance(ctx, tx, "other", "new") })
	check("itself", false)
	do(func(ctx context.Context, tx *db.Tx) error { return db.RenameInstance(ctx, tx, "new", "other") })
	check("no more itself", true)
	do(func(ctx context.Context, tx *db.Tx) error { return db.DeleteInstance(ctx, tx, "other") })
	check("gone", false)
	do(func(ctx context.Context, tx *db.Tx) error {
		return db.UpdateProfile(ctx, tx, db.Profile{Name: "default", Devices: map[string]map[string]string{
			"eth1": {"type": "nic", "network": "br0", "ipv4.address": "10.1.9.9"},
		}})
	})
	check("by a profile", true)
}
