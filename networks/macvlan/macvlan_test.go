package macvlan_test

import (
	"strings"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/macvlan"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

func uplink(t *testing.T) {
	t.Helper()
	testenv.Run(t, "ip", "link", "add", "uplink", "type", "veth", "peer", "name", "far")
}

func TestContract(t *testing.T) {
	testenv.Kernel(t)
	networkstest.Suite{
		Driver: macvlan.Driver{}, Setup: uplink,
		Configs: []networks.Config{{Parent: "uplink"}, {Parent: "uplink", MTU: 1400}, {Parent: "far"}},
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
		"no parent": {networks.Config{Parent: "nowhere0"}, `parent "nowhere0" is not valid: the host has no such`},
		"loopback":  {networks.Config{Parent: "lo"}, "loopback"},
		"mtu":       {networks.Config{Parent: "uplink", MTU: 9000}, "mtu 9000 is not valid: that of the parent uplink is 1500"},
	}
	for name, tt := range tests {
		err := macvlan.Driver{}.Apply(t.Context(), tt.cfg)
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
