package nets_test

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/fake"
	"github.com/cuib/cuib/shared/api"
)

// leasing is a driver that has given out addresses.
type leasing struct {
	*fake.Driver

	mu    sync.Mutex
	given []string
}

func (l *leasing) Leases(context.Context, networks.Config) ([]networks.Lease, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []networks.Lease
	for _, a := range l.given {
		all = append(all, networks.Lease{Address: netip.MustParseAddr(a)})
	}
	return all, nil
}

func TestFullNetwork(t *testing.T) {
	e := newEnv(t)
	d := &leasing{Driver: e.driver}
	e.Drivers["bridge"] = d
	e.Warnings = &warnings.Service{DB: e.DB, Events: e.Events, Log: e.Log}
	e.create(t, "br0", api.ConfigMap{"ipv4.address": "10.1.2.1/24", "ipv4.dhcp.ranges": "10.1.2.1-10.1.2.3, 10.1.2.9-10.1.2.9", "ipv6.address": "none"})
	for _, tt := range []struct {
		given []string
		want  string // The status of the warning.
	}{
		{nil, ""},
		{[]string{"10.1.2.2", "10.1.2.3", "10.1.2.77", "fd42::1"}, ""},
		{[]string{"10.1.2.2", "10.1.2.3", "10.1.2.9"}, api.WarningNew},
		{[]string{"10.1.2.2", "10.1.2.9"}, api.WarningResolved},
	} {
		d.mu.Lock()
		d.given = tt.given
		d.mu.Unlock()
		must(t, nets.CountAddresses(t.Context(), e.Service))
		all, err := e.Warnings.List(t.Context())
		must(t, err)
		got, text := "", ""
		for _, w := range all {
			got, text = w.Status, w.LastMessage
		}
		if got != tt.want || got == api.WarningNew && !strings.Contains(text, `network "br0" has given out all its 3 addresses`) {
			t.Errorf("%v: got %q: %s", tt.given, got, text)
		}
	}
}
