package bridge

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/errs"
)

// Defaults of a tunnel, as peers have them.
const (
	defaultVNI   = 1
	defaultGroup = "239.0.0.1"
	defaultPort  = 8472 // As the kernel had it before the number was assigned.
)

// tunnelName returns the name of a tunnel's interface. Its alias says whose it
// is.
func tunnelName(network string, t networks.Tunnel) string {
	sum := sha256.Sum256([]byte(network + " " + t.Name))
	return "cuib-tn" + hex.EncodeToString(sum[:4])
}

// tunnelAlias says all of a tunnel: one with another alias is made anew.
func tunnelAlias(network string, t networks.Tunnel) string {
	return fmt.Sprintf("%s%s: %s local=%s remote=%s group=%s id=%d port=%d interface=%s ttl=%d",
		aliasPrefix(network), t.Name, t.Protocol, t.Local, t.Remote, t.Group, t.ID, t.Port, t.Interface, t.TTL)
}

// aliasPrefix begins the aliases of a network's tunnels, also of those that
// have lost their bridge.
func aliasPrefix(network string) string { return "cuib " + network + " tunnel " }

// applyTunnels makes the bridge have the tunnels of cfg, and no others of ours.
func applyTunnels(cfg networks.Config) error {
	have, err := tunnels(cfg.Name)
	if err != nil || len(have)+len(cfg.Tunnels) == 0 {
		return err
	}
	bridge, err := netlink.LinkByName(cfg.Name)
	if err != nil {
		return err
	}
	for _, t := range cfg.Tunnels {
		name, alias := tunnelName(cfg.Name, t), tunnelAlias(cfg.Name, t)
		i := slices.IndexFunc(have, func(l netlink.Link) bool { return l.Attrs().Name == name && isTunnel(l, bridge, alias) })
		if i < 0 {
			if err := addTunnel(bridge, cfg, t); err != nil {
				return fmt.Errorf("tunnel %q: %w", t.Name, err)
			}
			have = slices.DeleteFunc(have, func(l netlink.Link) bool { return l.Attrs().Name == name })
			continue
		}
		if err := netlink.LinkSetUp(have[i]); err != nil {
			return fmt.Errorf("tunnel %q: set up: %w", t.Name, err)
		}
		have = slices.Delete(have, i, i+1)
	}
	return deleteTunnels(have)
}

func deleteTunnels(all []netlink.Link) error {
	for _, l := range all {
		if err := netlink.LinkDel(l); err != nil && !missing(err) {
			return fmt.Errorf("delete the tunnel %s: %w", l.Attrs().Name, err)
		}
	}
	return nil
}

// removeTunnels takes away all tunnels of a network, which do not go with the
// bridge.
func removeTunnels(network string) error {
	all, err := tunnels(network)
	if err != nil {
		return err
	}
	return deleteTunnels(all)
}

func isTunnel(l, bridge netlink.Link, alias string) bool {
	return l.Attrs().Alias == alias && l.Attrs().MasterIndex == bridge.Attrs().Index
}

// tunnels returns the tunnels of a network that there are.
func tunnels(network string) ([]netlink.Link, error) {
	all, err := whole(netlink.LinkList)
	return slices.DeleteFunc(all, func(l netlink.Link) bool { return !strings.HasPrefix(l.Attrs().Alias, aliasPrefix(network)) }), err
}

// tunnelsIntact reports whether the bridge has the tunnels of cfg.
func tunnelsIntact(bridge netlink.Link, cfg networks.Config) (bool, error) {
	if len(cfg.Tunnels) == 0 {
		return true, nil
	}
	have, err := tunnels(cfg.Name)
	if err != nil {
		return false, err
	}
	for _, t := range cfg.Tunnels {
		up := func(l netlink.Link) bool {
			return isTunnel(l, bridge, tunnelAlias(cfg.Name, t)) && l.Attrs().RawFlags&unix.IFF_UP != 0
		}
		if !slices.ContainsFunc(have, up) {
			return false, nil
		}
	}
	return true, nil
}

func addTunnel(bridge netlink.Link, cfg networks.Config, t networks.Tunnel) error {
	l, err := tunnelLink(cfg, t)
	if err != nil {
		return err
	}
	name := l.Attrs().Name
	if old, err := netlink.LinkByName(name); err == nil {
		if err := netlink.LinkDel(old); err != nil {
			return fmt.Errorf("delete the old one: %w", err)
		}
	}
	if err := netlink.LinkAdd(l); err != nil {
		return tunnelRefused(t, err)
	}
	made, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetAlias(made, tunnelAlias(cfg.Name, t))
	}
	if err == nil {
		// A bridge that was told its MTU keeps it, whatever its ports have.
		err = netlink.LinkSetMaster(made, bridge)
	}
	if err == nil {
		err = netlink.LinkSetUp(made)
	}
	if err != nil {
		return errors.Join(err, netlink.LinkDel(l))
	}
	return nil
}

func tunnelLink(cfg networks.Config, t networks.Tunnel) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = tunnelName(cfg.Name, t), mtuOf(cfg)
	sum := sha256.Sum256([]byte(tunnelAlias(cfg.Name, t)))
	attrs.HardwareAddr = net.HardwareAddr{0x02, 0x66, 0x6d, sum[0], sum[1], sum[2]} // Of a port; no packet has it.
	if t.Protocol == "gre" {
		return &netlink.Gretap{LinkAttrs: attrs, Local: t.Local.AsSlice(), Remote: t.Remote.AsSlice(), Ttl: t.TTL, PMtuDisc: 0}, nil
	}
	v := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: int(t.ID), Port: int(t.Port), TTL: int(t.TTL), Learning: true}
	if v.VxlanId == 0 {
		v.VxlanId = defaultVNI
	}
	if v.Port == 0 {
		v.Port = defaultPort
	}
	if t.Interface != "" {
		below, err := netlink.LinkByName(t.Interface)
		if missing(err) {
			return nil, errs.NotFoundf("network interface %q not found", t.Interface)
		}
		if err != nil {
			return nil, err
		}
		v.VtepDevIndex = below.Attrs().Index
	}
	switch {
	case t.Remote.IsValid():
		v.SrcAddr, v.Group = t.Local.AsSlice(), t.Remote.AsSlice()
	case t.Group.IsValid():
		v.Group = t.Group.AsSlice()
	default:
		v.Group = netip.MustParseAddr(defaultGroup).AsSlice()
	}
	if !t.Remote.IsValid() && v.TTL == 0 {
		v.TTL = 1
	}
	v.UDPCSum = len(v.Group) == 16 && v.Group.To4() == nil
	return v, nil
}

func tunnelRefused(t networks.Tunnel, err error) error {
	switch {
	case errors.Is(err, unix.EOPNOTSUPP) && t.Protocol == "gre":
		option := "CONFIG_NET_IPGRE"
		if t.Local.Is6() {
			option = "CONFIG_IPV6_GRE"
		}
		return errs.Newf(errs.Unsupported, "the kernel has no tunnels of GRE (%s): use vxlan: %w", option, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return errs.Newf(errs.Unsupported, "the kernel has no VXLAN (CONFIG_VXLAN): %w", err)
	case errors.Is(err, unix.EEXIST):
		return errs.Conflictf("this host has a tunnel with the same id and port, or the same ends, already")
	case errors.Is(err, unix.EADDRINUSE):
		return errs.Conflictf("UDP port %d is in use on this host", t.Port)
	}
	return err
}
