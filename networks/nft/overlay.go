package nft

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
)

// ApplyOverlay keeps between the guests of this host and the host what every
// host of an overlay does for its own: what passes port, a port of the network's
// bridge that leads to other hosts, is neither DHCP nor an advertisement of
// routers, and has nobody learn who the gateway is. mac is the gateway's.
func ApplyOverlay(cfg networks.Config, port string, mac net.HardwareAddr) error {
	c, err := begin()
	if err != nil {
		return err
	}
	t := overlayTable(cfg.Name)
	c.AddTable(t)
	c.DelTable(t)
	c.AddTable(t)
	for _, ch := range overlayChains(cfg, port, mac) {
		ch.Table = t
		c.AddChain(ch.Chain)
		for _, r := range ch.rules {
			c.addRule(ch.Chain, r)
		}
	}
	if err := c.commit(); err != nil {
		return fmt.Errorf("replace nftables table %s: %w", t.Name, err)
	}
	return nil
}

// RemoveOverlay takes away what [ApplyOverlay] made. It succeeds if there is
// nothing.
func RemoveOverlay(network string) error {
	return deleteTable(overlayTable(network))
}

// OverlayIntact reports whether there is all that [ApplyOverlay] made.
func OverlayIntact(cfg networks.Config, port string, mac net.HardwareAddr) (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", err)
	}
	return intact(c, overlayTable(cfg.Name), overlayChains(cfg, port, mac))
}

func overlayTable(network string) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyBridge, Name: "cuib-overlay_" + network}
}

// overlayChains are for what comes from other hosts to this one and to its
// guests, and for what goes to them from both.
func overlayChains(cfg networks.Config, port string, mac net.HardwareAddr) []chain {
	in := overlayRules(cfg, mac, notIface(expr.MetaKeyIIFNAME, port))
	out := overlayRules(cfg, mac, notIface(expr.MetaKeyOIFNAME, port))
	prio := nftables.ChainPriorityRef(-200)
	return []chain{
		newChain("incoming", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, prio, in),
		newChain("outgoing", nftables.ChainTypeFilter, nftables.ChainHookPostrouting, prio, out),
	}
}

// overlayRules refuse what stays on a host. What passes other ports, and most
// of what passes this one, meets the first two of them alone.
func overlayRules(cfg networks.Config, mac net.HardwareAddr, elsewhere rule) []rule {
	rules := []rule{join(elsewhere, leave()), join(proto(unix.IPPROTO_TCP), leave())}
	deny := func(parts ...rule) { rules = append(rules, join(join(parts...), drop())) }
	for _, p := range []uint16{67, 68} {
		deny(frame(unix.ETH_P_IP), port(unix.IPPROTO_UDP, p))
	}
	for _, p := range []uint16{546, 547} {
		deny(frame(unix.ETH_P_IPV6), port(unix.IPPROTO_UDP, p))
	}
	deny(icmp(routerSolicit))
	deny(icmp(routerAdvert))
	deny(icmp(redirect))
	deny(frame(unix.ETH_P_ARP), payload(expr.PayloadBaseNetworkHeader, 8, mac, expr.CmpOpEq))
	if a := cfg.IPv4.Address; a.IsValid() {
		own := netip.PrefixFrom(a.Addr(), 32)
		deny(frame(unix.ETH_P_ARP), address(14, own, expr.CmpOpEq))
		deny(frame(unix.ETH_P_ARP), address(24, own, expr.CmpOpEq))
	}
	for _, typ := range []byte{neighborAsk, neighborAnswer} {
		deny(icmp(typ), payload(expr.PayloadBaseLLHeader, 6, mac, expr.CmpOpEq))
		for _, a := range []netip.Addr{cfg.IPv6.Address.Addr(), linkLocalOf(mac)} {
			if a.IsValid() && cfg.IPv6.Address.IsValid() {
				deny(icmp(typ), target(netip.PrefixFrom(a, 128)))
			}
		}
	}
	return rules
}

// linkLocalOf returns the address that the kernel makes of a MAC address.
func linkLocalOf(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 0x02, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}
