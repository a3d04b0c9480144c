package vxlan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/shared/errs"
)

// encryption returns how packets are encrypted on this host.
func encryption(o networks.Overlay) (string, error) {
	switch {
	case o.Encryption == networks.EncryptNone || len(o.Peers) == 0:
		return networks.EncryptNone, nil
	case !hasWireGuard():
		return "", errs.Newf(errs.Unsupported, `the kernel has no WireGuard (CONFIG_WIREGUARD): set vxlan.encryption to "none" on all hosts if nobody else can read or send packets between them`)
	case !(host.Kernel{}).HasIPv6():
		return "", errs.Newf(errs.Unsupported, `the kernel has no IPv6, which what is encrypted is sent by: set vxlan.encryption to "none" on all hosts if nobody else can read or send packets between them`)
	}
	return networks.EncryptWireGuard, nil
}

// hasWireGuard reports whether the kernel has WireGuard, or a module of it
// that can be loaded: it tries.
var hasWireGuard = sync.OnceValue(func() bool {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "cuib-wgprobe"
	err := netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: attrs})
	if err == nil {
		_ = removeLink(attrs.Name) // Another daemon's probe can be as quick.
	}
	return err == nil || errors.Is(err, unix.EEXIST)
})

// applyWire makes the interface of WireGuard, and returns its index. Each
// host's keys come from the network's key and its address, so that every host
// knows those of all.
func applyWire(cfg networks.Config, u underlay) (int, error) {
	l, err := wireLink(cfg, u)
	if err != nil {
		return 0, err
	}
	c, err := wgctrl.New()
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }() // It has answered.

	want, err := wireConfig(cfg.Overlay, u)
	if err != nil {
		return 0, err
	}
	have, err := c.Device(l.Attrs().Name)
	if err != nil {
		return 0, err
	}
	if !wireFits(have, want) {
		if err := c.ConfigureDevice(l.Attrs().Name, want); err != nil {
			return 0, fmt.Errorf("configure %s: %w", l.Attrs().Name, err)
		}
	}
	if err := netlink.LinkSetUp(l); errors.Is(err, unix.EADDRINUSE) {
		return 0, errs.Conflictf(`UDP port %d of "vxlan.encryption.port" is in use on this host: give another, the same on all hosts`, cfg.Overlay.WirePort)
	} else if err != nil {
		return 0, err
	}
	return l.Attrs().Index, wireAddress(l, cfg.Overlay, u)
}

func wireLink(cfg networks.Config, u underlay) (netlink.Link, error) {
	name := wireName(cfg.Name)
	l, err := netlink.LinkByName(name)
	if missing(err) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = name, u.wireMTU
		if err := netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: attrs}); err != nil {
			return nil, err
		}
		l, err = netlink.LinkByName(name)
	}
	if err != nil {
		return nil, err
	}
	if l.Attrs().MTU != u.wireMTU {
		return l, netlink.LinkSetMTU(l, u.wireMTU)
	}
	return l, nil
}

func wireAddress(l netlink.Link, o networks.Overlay, u underlay) error {
	own, err := inner(o, u.local)
	if err != nil {
		return err
	}
	have, err := netlink.AddrList(l, netlink.FAMILY_V6)
	if err != nil {
		return err
	}
	for _, a := range have {
		if equalIP(a.IP, own) {
			return nil
		}
		if !a.IP.IsLinkLocalUnicast() {
			if err := netlink.AddrDel(l, &a); err != nil {
				return err
			}
		}
	}
	return netlink.AddrAdd(l, &netlink.Addr{
		IPNet: &net.IPNet{IP: own.AsSlice(), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD,
	})
}

func wireConfig(o networks.Overlay, u underlay) (wgtypes.Config, error) {
	own, err := wireKey(o, u.local)
	if err != nil {
		return wgtypes.Config{}, err
	}
	raw, err := derive(o, "preshared", wgtypes.KeyLen)
	if err != nil {
		return wgtypes.Config{}, err
	}
	psk, err := wgtypes.NewKey(raw)
	if err != nil {
		return wgtypes.Config{}, err
	}
	port := int(o.WirePort)
	cfg := wgtypes.Config{PrivateKey: &own, ListenPort: &port, ReplacePeers: true}
	for _, p := range sortedPeers(o) {
		key, err := wireKey(o, p)
		if err != nil {
			return cfg, err
		}
		addr, err := inner(o, p)
		if err != nil {
			return cfg, err
		}
		cfg.Peers = append(cfg.Peers, wgtypes.PeerConfig{
			PublicKey: key.PublicKey(), PresharedKey: &psk, ReplaceAllowedIPs: true,
			Endpoint:   net.UDPAddrFromAddrPort(netip.AddrPortFrom(p, o.WirePort)),
			AllowedIPs: []net.IPNet{{IP: addr.AsSlice(), Mask: net.CIDRMask(128, 128)}},
		})
	}
	return cfg, nil
}

// wireKey returns the private key of a member.
func wireKey(o networks.Overlay, member netip.Addr) (wgtypes.Key, error) {
	raw, err := derive(o, "wireguard "+member.String(), wgtypes.KeyLen)
	if err != nil {
		return wgtypes.Key{}, err
	}
	raw[0] &= 248
	raw[31] = raw[31]&127 | 64
	return wgtypes.NewKey(raw)
}

// wireFits reports whether the interface is configured as is wanted already:
// then its sessions go on.
func wireFits(have *wgtypes.Device, want wgtypes.Config) bool {
	if have.PrivateKey != *want.PrivateKey || have.ListenPort != *want.ListenPort || len(have.Peers) != len(want.Peers) {
		return false
	}
	got := map[wgtypes.Key]string{}
	for _, p := range have.Peers {
		got[p.PublicKey] = fmt.Sprint(p.PresharedKey, p.Endpoint, p.AllowedIPs)
	}
	all := map[wgtypes.Key]string{}
	for _, p := range want.Peers {
		all[p.PublicKey] = fmt.Sprint(*p.PresharedKey, p.Endpoint, p.AllowedIPs)
	}
	return reflect.DeepEqual(got, all)
}
