package conntrack_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/cuib/cuib/networks/conntrack"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/shared/testenv"
)

// TestFlows looks for flows to addresses and ports, and ends one of them.
func TestFlows(t *testing.T) {
	testenv.Kernel(t, "nft")
	networkstest.Host(t)
	testenv.Run(t, "nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c ct state new accept")
	here := networkstest.Here(t)
	for _, a := range []string{"127.0.0.1:5300", "127.0.0.1:5301", "127.0.0.2:5300", "[::1]:5300"} {
		to := netip.MustParseAddrPort(a)
		conn := here.Listen(t, a)
		go func() {
			for buf := make([]byte, 100); ; {
				n, from, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = conn.WriteTo(buf[:n], from)
			}
		}()
		asker, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
		must(t, err)
		t.Cleanup(func() { _ = asker.Close() })
		_, err = asker.Write([]byte("?"))
		must(t, err)
		_, err = asker.Read(make([]byte, 10))
		must(t, err)
	}
	one := netip.MustParseAddr("127.0.0.1")
	count := func(f conntrack.Filter) map[netip.AddrPort]conntrack.Flow {
		all, err := conntrack.Flows(f)
		must(t, err)
		out := map[netip.AddrPort]conntrack.Flow{}
		for _, flow := range all {
			if flow.Answerer != flow.To || flow.Answered != flow.From || flow.ID == 0 {
				t.Errorf("got %+v", flow)
			}
			out[flow.To] = flow
		}
		return out
	}
	for _, tt := range []struct {
		filter conntrack.Filter
		want   int
	}{
		{conntrack.Filter{}, 3},
		{conntrack.Filter{Port: 5300}, 2},
		{conntrack.Filter{To: one}, 2},
		{conntrack.Filter{To: one, Port: 5301}, 1},
		{conntrack.Filter{Six: true}, 1},
		{conntrack.Filter{Six: true, To: netip.IPv6Loopback(), Port: 5300}, 1},
		{conntrack.Filter{Six: true, To: netip.MustParseAddr("::2")}, 0},
	} {
		if got := count(tt.filter); len(got) != tt.want {
			t.Errorf("%+v: got %d flows, want %d: %v", tt.filter, len(got), tt.want, got)
		}
	}
	flow := count(conntrack.Filter{})[netip.AddrPortFrom(one, 5300)]
	for range 2 { // The second time there is none.
		must(t, flow.End())
	}
	if got := count(conntrack.Filter{}); len(got) != 2 || got[netip.AddrPortFrom(one, 5300)].ID != 0 {
		t.Errorf("left are %v", got)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
