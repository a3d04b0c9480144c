package networks_test

import (
	"net/netip"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/errs"
)

func prefixes(all ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range all {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestFreeIPv4(t *testing.T) {
	tests := map[string]struct {
		used  []netip.Prefix
		start int
		want  string // Empty for none.
	}{
		"all free":         {nil, 258, "10.1.2.1/24"},
		"default route":    {prefixes("0.0.0.0/0"), 258, "10.1.2.1/24"},
		"taken":            {prefixes("10.1.2.0/24"), 258, "10.1.3.1/24"},
		"part taken":       {prefixes("10.1.2.128/30"), 258, "10.1.3.1/24"},
		"host's route":     {prefixes("10.1.0.0/16"), 258, "10.2.0.1/24"},
		"wraps around":     {prefixes("10.255.255.0/24"), 65535, "10.0.0.1/24"},
		"10 is taken":      {prefixes("10.0.0.0/8"), 0, "172.16.0.1/24"},
		"only 192.168":     {prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/24"), 0, "192.168.1.1/24"},
		"nothing is free":  {prefixes("0.0.0.0/1", "128.0.0.0/1"), 0, ""},
		"IPv6 is no taker": {prefixes("::/1"), 0, "10.0.0.1/24"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := networks.FreeIPv4(tt.used, func(int) int { return tt.start })
			if tt.want == "" {
				if !errs.Is(err, errs.Unavailable) {
					t.Errorf("got %s, %v", got, err)
				}
				return
			}
			if err != nil || got.String() != tt.want {
				t.Errorf("got %s, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestFreeIPv6(t *testing.T) {
	n := 0
	count := func(limit int) int { n++; return n % limit }
	got, err := networks.FreeIPv6(prefixes("fd42:102:304:506::/64"), count)
	if err != nil || got.String() != "fd42:708:90a:b0c::1/64" {
		t.Errorf("got %s, %v", got, err)
	}
	if got, err := networks.FreeIPv6(prefixes("fd00::/8"), count); !errs.Is(err, errs.Unavailable) {
		t.Errorf("nothing is free: got %s, %v", got, err)
	}
}

func TestCheckStatic(t *testing.T) {
	v4 := networks.Family{Address: netip.MustParsePrefix("10.0.0.1/24"), Gateway: netip.MustParseAddr("10.0.0.254"), DHCP: true}
	v6 := networks.Family{Address: netip.MustParsePrefix("fd42::1/64"), DHCP: true, Stateful: true}
	off, slaac := v4, v6
	off.DHCP, slaac.Stateful = false, false
	const fine = errs.Internal
	tests := map[string]struct {
		f    networks.Family
		addr string
		want errs.Kind
	}{
		"inside":       {v4, "10.0.0.2", fine},
		"inside v6":    {v6, "fd42::2", fine},
		"outside":      {v4, "10.0.1.2", errs.Invalid},
		"first":        {v4, "10.0.0.0", errs.Invalid},
		"last":         {v4, "10.0.0.255", errs.Invalid},
		"host's":       {v4, "10.0.0.1", errs.Conflict},
		"gateway":      {v4, "10.0.0.254", errs.Conflict},
		"no DHCP":      {off, "10.0.0.2", errs.Invalid},
		"not stateful": {slaac, "fd42::2", errs.Invalid},
		"no family":    {networks.Family{}, "10.0.0.2", errs.Invalid},
		"other family": {v4, "fd42::2", errs.Invalid},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := networks.CheckStatic(tt.f, netip.MustParseAddr(tt.addr))
			if err == nil && tt.want != fine || err != nil && errs.KindOf(err) != tt.want {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNames(t *testing.T) {
	tests := map[string]struct {
		check func(string) error
		good  []string
		bad   []string
	}{
		"interface": {networks.CheckInterface, []string{"br0", "a.b-c_d", "123456789012345"}, []string{"", "a", "1234567890123456", "-a", ".a", "a b", "a/b", "a\n", "ä0", "all", "default", "none", "host", "a:1", "a*"}},
		"domain":    {networks.CheckDomain, []string{"cuib", "a.b-c.d"}, []string{"", ".", "a..b", "a_b", "a\nb", "a b", "a,b", "-a", "a/b", "a#b"}},
		"host": {
			func(s string) error { return networks.CheckHost(networks.Host{Name: s, MAC: "10:66:6a:00:00:01"}) },
			[]string{"", "web", "web-1", "1a", "web.p", "web.p-1.q"},
			[]string{"a,b", "a\nb", "a..b", "a.", "a.b_c", "a.-b", "a b", "-a", "a-", "set:x", "../a"},
		},
		"MAC": {
			func(s string) error { _, err := networks.ParseMAC(s); return err },
			[]string{"10:66:6a:00:00:01", "10-66-6A-00-00-01"},
			[]string{"", "x", "10:66:6a:00:00", "11:66:6a:00:00:01", "10:66:6a:00:00:01:02:03", "00:00:00:00:00:00", "../10:66:6a:00:00:01"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, s := range tt.good {
				if err := tt.check(s); err != nil {
					t.Errorf("%q: %v", s, err)
				}
			}
			for _, s := range tt.bad {
				if err := tt.check(s); !errs.Is(err, errs.Invalid) {
					t.Errorf("%q: got %v", s, err)
				}
			}
		})
	}
}
