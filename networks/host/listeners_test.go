package host_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/shared/testenv"
)

func TestListener(t *testing.T) {
	testenv.NetNS(t)
	testenv.Run(t, "ip", "link", "set", "lo", "up")
	for _, a := range []string{"192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64"} {
		testenv.Run(t, "ip", "addr", "add", a, "dev", "lo", "nodad")
	}
	var lc net.ListenConfig
	for _, at := range [][2]string{
		{"tcp4", "0.0.0.0:80"}, {"tcp", "[::]:81"}, {"tcp4", "127.0.0.1:82"}, {"tcp4", "192.0.2.1:83"}, {"tcp6", "[2001:db8::1]:84"},
	} {
		l, err := lc.Listen(t.Context(), at[0], at[1])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
	}
	u, err := lc.ListenPacket(t.Context(), "udp4", "192.0.2.1:53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	client, err := net.Dial("tcp4", "192.0.2.1:83")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	self := fmt.Sprintf("process %d (host.test)", os.Getpid())
	if got := (host.Kernel{}).Holder(unix.IPPROTO_TCP, 82); got != self {
		t.Errorf("82 is held by %q", got)
	}
	if got := (host.Kernel{}).Holder(unix.IPPROTO_UDP, 82); got != "somebody" {
		t.Errorf("82 of UDP is held by %q", got)
	}
	local := netip.MustParseAddrPort(client.LocalAddr().String())
	for _, tt := range []struct {
		protocol    uint8
		listen      string
		first, last uint16
		want        string // Where it listens; empty for nobody.
	}{
		{unix.IPPROTO_TCP, "0.0.0.0", 80, 80, "0.0.0.0:80"},
		{unix.IPPROTO_TCP, "0.0.0.0", 70, 80, "0.0.0.0:80"},
		{unix.IPPROTO_TCP, "0.0.0.0", 70, 79, ""},
		{unix.IPPROTO_UDP, "0.0.0.0", 80, 80, ""},
		{unix.IPPROTO_TCP, "::", 80, 80, ""},
		{unix.IPPROTO_TCP, "192.0.2.1", 80, 80, ""},
		{unix.IPPROTO_TCP, "0.0.0.0", 81, 81, "[::]:81"},
		{unix.IPPROTO_TCP, "::", 81, 81, "[::]:81"},
		{unix.IPPROTO_TCP, "0.0.0.0", 82, 82, ""},
		{unix.IPPROTO_TCP, "0.0.0.0", 83, 83, "192.0.2.1:83"},
		{unix.IPPROTO_TCP, "192.0.2.1", 83, 83, "192.0.2.1:83"},
		{unix.IPPROTO_TCP, "192.0.2.2", 83, 83, ""},
		{unix.IPPROTO_TCP, "::", 84, 84, "[2001:db8::1]:84"},
		{unix.IPPROTO_TCP, "0.0.0.0", 84, 84, ""},
		{unix.IPPROTO_UDP, "0.0.0.0", 53, 53, "192.0.2.1:53"},
		{unix.IPPROTO_TCP, "0.0.0.0", local.Port(), local.Port(), ""}, // A client's.
		{0, "192.0.2.1", 0, 0, ""},
	} {
		got, err := host.Kernel{}.Listener(networks.Published{Protocol: tt.protocol, Listen: netip.MustParseAddr(tt.listen), First: tt.first, Last: tt.last})
		want := ""
		if tt.want != "" {
			want = self + ", which listens on " + tt.want
		}
		if err != nil || got != want {
			t.Errorf("%d %s %d-%d: got %q, %v, want %q", tt.protocol, tt.listen, tt.first, tt.last, got, err, want)
		}
	}
}
