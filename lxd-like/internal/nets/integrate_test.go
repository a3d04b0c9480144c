package nets_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/testenv"
)

// wall is the firewall of a host without one.
type wall struct {
	fail func(step string) error // Nil for nothing that fails.

	mu   sync.Mutex // Guards what follows.
	open map[string]networks.Integration
}

func (w *wall) Open(_ context.Context, bridge string, mode networks.Integration, _ []firewall.Obstacle) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == nil {
		w.open = map[string]networks.Integration{}
	}
	if mode != networks.IntegrateNever {
		w.open[bridge] = mode
	}
	return nil
}

func (w *wall) Close(_ context.Context, bridge string) error {
	if w.fail != nil {
		if err := w.fail("close " + bridge); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, bridge)
	return nil
}

func (w *wall) Bridges(context.Context) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for b := range w.open {
		all = append(all, b)
	}
	slices.Sort(all)
	return all, nil
}

// TestIntegrate has networks let through the host's firewall as long as they are
// there and want it.
func TestIntegrate(t *testing.T) {
	e := newEnv(t)
	w := &wall{open: map[string]networks.Integration{"lost": networks.IntegrateSafe}} // Of a daemon that was killed.
	e.Opener = w
	e.create(t, "br0", nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()

	opened := func(what string, want ...string) {
		t.Helper()
		testenv.Eventually(t, what, func() bool {
			got, err := w.Bridges(ctx)
			return err == nil && slices.Equal(got, want)
		})
	}
	opened("the lost one is closed and the other opened", "br0")
	e.create(t, "br1", api.ConfigMap{"firewall.integrate": "true"})
	opened("the new one is opened", "br0", "br1")
	w.mu.Lock()
	mode := w.open["br1"]
	w.mu.Unlock()
	if mode != networks.IntegrateAlways {
		t.Errorf("got mode %d", mode)
	}
	set := func(value string) {
		t.Helper()
		n, err := e.Get(t.Context(), "br0")
		must(t, err)
		n.Config["firewall.integrate"] = value
		must(t, e.Update(t.Context(), "br0", api.NetworkPut{Config: n.Config}))
	}
	set("false")
	if got, _ := w.Bridges(ctx); slices.Contains(got, "br0") {
		t.Error("it is open although it was switched off")
	}
	set("")
	opened("it is switched on again", "br0", "br1")
	must(t, e.Rename(t.Context(), "br1", "br2"))
	opened("it has another name", "br0", "br2")
	must(t, e.Delete(t.Context(), "br2"))
	opened("one is deleted", "br0")
	cancel()
	must(t, <-ended)
	must(t, e.Stop(t.Context()))
}
