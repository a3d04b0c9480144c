package bridge_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/bridge"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/testenv"
)

// flood asks for addresses for many MAC addresses, and for one under
// many names, with the answer at once if the server wants it (RFC 4039).
func flood(t *testing.T, n *networkstest.NS, own net.HardwareAddr) {
	t.Helper()
	n.Must(t, func() error {
		lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
			var serr error
			err := c.Control(func(fd uintptr) {
				serr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
				if serr == nil {
					serr = unix.BindToDevice(int(fd), "eth0")
				}
			})
			if err == nil {
				err = serr
			}
			return err
		}}
		conn, err := lc.ListenPacket(t.Context(), "udp4", ":68")
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		for i := range 25 {
			msg := make([]byte, 240, 300)
			msg[0], msg[1], msg[2] = 1, 1, 6
			binary.BigEndian.PutUint32(msg[4:], rand.Uint32())
			copy(msg[28:], own)
			if i%5 == 4 {
				copy(msg[28:], []byte{0x12, 0, 0, 0, 0, byte(i)})
			}
			copy(msg[236:], []byte{99, 130, 83, 99})
			msg = append(msg, 53, 1, 1, 80, 0, 61, 5, 0, byte(i), 1, 2, 3, 255)
			if _, err := conn.WriteTo(msg, &net.UDPAddr{IP: net.IPv4bcast, Port: 67}); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestNobodyTakesAllLeases has a guest whose MAC address is filtered ask for all
// that there are, before another asks for one.
func TestNobodyTakesAllLeases(t *testing.T) {
	testenv.Kernel(t)
	cfg := config()
	cfg.IPv4.Ranges = []networks.Range{{First: netip.MustParseAddr("10.7.8.10"), Last: netip.MustParseAddr("10.7.8.13")}}
	cfg = apply(t, cfg)
	own, err := net.ParseMAC(mac1)
	must(t, err)
	attacker, victim := networkstest.Guest(t, cfg.Name, "veth1", mac1), networkstest.Guest(t, cfg.Name, "veth2", mac2)
	ports := nft.NewPorts(cfg.Dir)
	must(t, ports.Set(nft.Port{Link: "veth1", Bridged: true, MAC: own}))
	t.Cleanup(func() { must(t, ports.Unset("veth1")) })

	attacker.DHCP(t, mac1, "")
	flood(t, attacker, own)
	victim.DHCP(t, mac2, "")
	leases, err := bridge.Driver{}.Leases(t.Context(), cfg)
	must(t, err)
	if len(leases) != 2 {
		t.Errorf("got %+v", leases)
	}
}
