package networks_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/cuib/cuib/networks"
)

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		ports, targets []uint16
		want           string
	}{
		{[]uint16{80}, nil, "80-80>80"},
		{[]uint16{80, 81, 82, 443}, nil, "80-82>80 443-443>443"},
		{[]uint16{80, 81}, []uint16{8080}, "80-80>8080 81-81>8080"},
		{[]uint16{80, 81, 90}, []uint16{8080, 8081, 8082}, "80-81>8080 90-90>8082"},
		{[]uint16{65535, 1}, nil, "65535-65535>65535 1-1>1"},
		{nil, nil, ""},
	} {
		var got []string
		for _, e := range (networks.Published{Protocol: 6}).Spread(netip.MustParseAddr("10.0.0.2"), tt.ports, tt.targets) {
			if e.Protocol != 6 || len(e.Targets) != 1 || e.Targets[0].Addr().String() != "10.0.0.2" {
				t.Errorf("got %+v", e)
			}
			got = append(got, fmt.Sprintf("%d-%d>%d", e.First, e.Last, e.Targets[0].Port()))
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%v to %v: got %s, want %s", tt.ports, tt.targets, s, tt.want)
		}
	}
}
