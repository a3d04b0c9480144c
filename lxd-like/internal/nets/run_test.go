package nets_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/fake"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/testenv"
)

func TestRunRepairs(t *testing.T) {
	e := newEnv(t)
	e.create(t, "br0", nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()

	there := func(name string, want bool) {
		t.Helper()
		testenv.Eventually(t, fmt.Sprintf("%s: %v", name, want), func() bool {
			_, ok := e.driver.Networks()[name]
			return ok == want
		})
	}
	e.driver.Disturb("br0")
	there("br0", true)

	// Those made later are watched too, and so is a changed one.
	e.create(t, "br1", nil)
	n, err := e.Get(t.Context(), "br0")
	must(t, err)
	n.Config["bridge.mtu"] = "1400"
	must(t, e.Update(t.Context(), "br0", api.NetworkPut{Config: n.Config}))
	for _, name := range []string{"br0", "br1"} {
		e.driver.Disturb(name)
		there(name, true)
	}
	if got := e.driver.Networks()["br0"].MTU; got != 1400 {
		t.Errorf("repaired with the old configuration: MTU %d", got)
	}

	// A deleted one stays away.
	must(t, e.Delete(t.Context(), "br1"))
	there("br1", false)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	there("br1", false)
}

// TestPauses disturbs a network every so often for an hour: it is left alone only
// if that is again and again.
func TestPauses(t *testing.T) {
	for every, most := range map[time.Duration]time.Duration{
		0: time.Minute, 10 * time.Second: 100 * time.Millisecond, time.Minute: 100 * time.Millisecond,
	} {
		var pause time.Duration
		for range 60 {
			pause = nets.PauseAfter(max(every-pause, 0), pause)
		}
		if pause != most {
			t.Errorf("disturbed every %s: waited for %s at last, want %s", every, pause, most)
		}
	}
}

// A dim driver cannot watch its networks at first.
type dim struct {
	*fake.Driver

	tries atomic.Int32
}

func (d *dim) Watch(ctx context.Context, cfg networks.Config) (string, error) {
	if d.tries.Add(1) == 1 {
		return "", errors.New("no room")
	}
	return d.Driver.Watch(ctx, cfg)
}

// TestDownNoMore has a network that cannot be made at first, and one that cannot
// be watched.
func TestDownNoMore(t *testing.T) {
	e := newEnv(t)
	e.Warnings = &warnings.Service{DB: e.DB, Events: &events.Hub{}, Log: slog.New(slog.DiscardHandler)}
	e.create(t, "br0", api.ConfigMap{"ipv4.address": "10.1.1.1/24", "ipv6.address": "none"})
	status := func() string {
		all, err := e.Warnings.List(t.Context())
		must(t, err)
		if len(all) == 0 {
			return ""
		}
		return all[0].Status
	}
	e.driver.Fail = func(string) error { return errors.New("no room") }
	must(t, e.Recover(t.Context()))
	if got := status(); got != api.WarningNew {
		t.Errorf("a network that cannot be made: got warning %q", got)
	}
	e.driver.Fail = nil
	n, err := e.Get(t.Context(), "br0")
	must(t, err)
	must(t, e.Update(t.Context(), "br0", api.NetworkPut{Config: n.Config}))
	if got := status(); got != api.WarningResolved {
		t.Errorf("after a change that was made: got warning %q", got)
	}

	d := &dim{Driver: e.driver}
	e.Drivers["bridge"] = d
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	testenv.Eventually(t, "it is watched", func() bool { return d.tries.Load() > 1 })
	if got := status(); got != api.WarningResolved {
		t.Errorf("a network that is watched: got warning %q", got)
	}
	cancel()
	must(t, <-ended)
}

// TestRunFails has no database any more.
func TestRunFails(t *testing.T) {
	e := newEnv(t)
	must(t, e.DB.Close())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(t.Context()) }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it ends as if all was well")
		}
	case <-time.After(testenv.Patience):
		t.Fatal("it does not end")
	}
}
