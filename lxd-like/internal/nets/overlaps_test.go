package nets_test

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// TestOverlaps has a VPN come and go that overlaps a network.
func TestOverlaps(t *testing.T) {
	e := newEnv(t)
	e.Warnings = &warnings.Service{DB: e.DB, Events: &events.Hub{}, Log: slog.New(slog.DiscardHandler)}
	e.create(t, "br0", api.ConfigMap{"ipv4.address": "10.1.1.1/24", "ipv6.address": "none", "ipv4.routes": "10.9.0.0/16"})
	told := func() string {
		must(t, e.CheckOverlaps(t.Context()))
		all, err := e.Warnings.List(t.Context())
		must(t, err)
		i := slices.IndexFunc(all, func(w api.Warning) bool { return w.Status != api.WarningResolved })
		if i < 0 {
			return ""
		}
		return all[i].LastMessage
	}
	if got := told(); got != "" {
		t.Errorf("at first: %s", got)
	}
	for _, vpn := range []string{"10.0.0.0/8", "10.1.1.128/25", "10.9.9.0/24"} {
		e.kernel.used = []netip.Prefix{prefix("172.16.0.0/12"), prefix(vpn)}
		if got := told(); !strings.Contains(got, "the route to "+vpn+" by tun0") {
			t.Errorf("%s: got %q", vpn, got)
		}
	}
	err := e.Create(t.Context(), post("br1", "bridge", "ipv4.address", "10.9.9.1/24"))
	if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "by tun0") {
		t.Errorf("another network there: got %v", err)
	}
	e.kernel.used = nil
	if got := told(); got != "" {
		t.Errorf("at last: %s", got)
	}
}
