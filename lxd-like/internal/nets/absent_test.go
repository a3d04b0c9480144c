package nets_test

import (
	"log/slog"
	"slices"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/shared/api"
)

// TestAbsent has interfaces go and come back that are ports of bridges.
func TestAbsent(t *testing.T) {
	e := newEnv(t)
	e.Warnings = &warnings.Service{DB: e.DB, Events: &events.Hub{}, Log: slog.New(slog.DiscardHandler)}
	e.kernel.links = []host.Link{{Name: "eth1", Kind: "physical"}, {Name: "eth2", Kind: "physical"}}
	whole := e.kernel.links
	must(t, e.Create(t.Context(), post("br0", "bridge", "bridge.external_interfaces", "eth1,lab/eth2/20")))
	e.kernel.links = append(whole, host.Link{Name: "br0", Kind: "bridge"})
	told := map[string]string{}
	for _, tt := range []struct {
		name  string
		links []host.Link
		want  []string
		count int
	}{
		{"at first", whole, nil, 0},
		{"without one", whole[1:], []string{"eth1"}, 1},
		{"still", whole[1:], []string{"eth1"}, 1},
		{"without both", nil, []string{"eth1", "eth2"}, 2},
		{"with the VLAN", []host.Link{{Name: "lab", Kind: "vlan"}, whole[0]}, nil, 2},
		{"at last", whole, nil, 2},
	} {
		e.kernel.links = append(slices.Clone(tt.links), host.Link{Name: "br0", Kind: "bridge"})
		must(t, e.CheckAbsent(t.Context(), told))
		n, err := e.Get(t.Context(), "br0")
		must(t, err)
		st, err := e.State(t.Context(), "br0")
		must(t, err)
		if !slices.Equal(n.MissingInterfaces, tt.want) || !slices.Equal(st.MissingInterfaces, tt.want) {
			t.Errorf("%s: got %v and %v, want %v", tt.name, n.MissingInterfaces, st.MissingInterfaces, tt.want)
		}
		all, err := e.Warnings.List(t.Context())
		must(t, err)
		if len(all) != min(tt.count, 1) || tt.count > 0 && (all[0].Count != tt.count || (all[0].Status == api.WarningResolved) != (tt.want == nil)) {
			t.Errorf("%s: got the warnings %+v", tt.name, all)
		}
	}
}
