package nets_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/nets"
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
