package physical_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/networks/physical"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

func uplink(t *testing.T) {
	t.Helper()
	testenv.Run(t, "ip", "link", "add", "uplink", "type", "veth", "peer", "name", "far")
	testenv.Run(t, "ip", "link", "add", "foreign", "type", "bridge")
}

func TestContract(t *testing.T) {
	testenv.Kernel(t)
	networkstest.Suite{
		Driver: physical.Driver{}, Setup: uplink,
		Configs: []networks.Config{{Parent: "uplink"}, {Parent: "uplink", MTU: 9000, VLAN: 5}, {Parent: "foreign", Tagged: []int{5}}, {Parent: "gone0"}},
	}.Run(t)
}

func TestApplyRefuses(t *testing.T) {
	testenv.Kernel(t)
	networkstest.Host(t)
	uplink(t)
	tests := map[string]struct {
		cfg  networks.Config
		want string
	}{
		"loopback":             {networks.Config{Parent: "lo"}, "loopback"},
		"mtu of a bridge":      {networks.Config{Parent: "foreign", MTU: 9000}, "mtu 9000 is not valid: that of the bridge foreign is 1500"},
		"gvrp of a bridge":     {networks.Config{Parent: "foreign", VLAN: 5, GVRP: true}, "gvrp"},
		"tags of an interface": {networks.Config{Parent: "uplink", Tagged: []int{5}}, "vlan.tagged"},
	}
	for name, tt := range tests {
		tt.cfg.Dir = filepath.Join(networkstest.Dir(t), "n")
		err := physical.Driver{}.Apply(t.Context(), tt.cfg)
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
