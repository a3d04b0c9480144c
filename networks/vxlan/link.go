package vxlan

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/crash"
	"github.com/cuib/cuib/shared/errs"
)

// applyLinks makes the bridge's port that leads to the other hosts, and what
// encrypts what passes there.
func applyLinks(cfg networks.Config, u underlay) error {
	below, err := underlayLink(cfg.Overlay)
	if err != nil {
		return err
	}
	src := u.local
	if u.encrypt == networks.EncryptWireGuard {
		if below, err = applyWire(cfg, u); err != nil {
			return fmt.Errorf("set up WireGuard: %w", err)
		}
		if src, err = inner(cfg.Overlay, u.local); err != nil {
			return err
		}
	}
	want := wanted(cfg, u, src, below)
	bridge, err := netlink.LinkByName(cfg.Name)
	if err != nil {
		return err
	}
	l, err := link(want)
	if err != nil {
		return err
	}
	if err := applyPort(l, bridge, want); err != nil {
		return err
	}
	if u.encrypt != networks.EncryptWireGuard {
		return removeLink(wireName(cfg.Name))
	}
	return nil
}

// link returns the port as it is wanted, and makes it if it is not there.
func link(want *netlink.Vxlan) (netlink.Link, error) {
	l, err := netlink.LinkByName(want.Name)
	if err == nil && fits(l, want) {
		return l, nil
	}
	if err != nil && !missing(err) {
		return nil, err
	}
	if err == nil {
		if err := netlink.LinkDel(l); err != nil {
			return nil, fmt.Errorf("delete the old %s: %w", want.Name, err)
		}
	}
	if err := addLink(want); err != nil {
		return nil, err
	}
	return netlink.LinkByName(want.Name)
}

func wanted(cfg networks.Config, u underlay, src netip.Addr, below int) *netlink.Vxlan {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = portName(cfg.Name), u.mtu
	attrs.HardwareAddr = portMAC(cfg, u)
	v := &netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: int(cfg.Overlay.ID), Port: int(cfg.Overlay.Port), VtepDevIndex: below,
		Learning: false, UDPCSum: src.Is6(),
	}
	if src.IsValid() {
		v.SrcAddr = src.AsSlice()
	}
	return v
}

// portMAC returns the address of the bridge's port, which no other host has. What
// is sent to it there is for the host itself, and no other packet has it.
func portMAC(cfg networks.Config, u underlay) net.HardwareAddr {
	sum := sha256.Sum256([]byte(portName(cfg.Name) + " of " + u.local.String()))
	return net.HardwareAddr{0x02, 0x66, 0x6c, sum[0], sum[1], sum[2]}
}

func addLink(want *netlink.Vxlan) error {
	err := netlink.LinkAdd(want)
	crash.Point("after the port of an overlay", want.Name)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return errs.Newf(errs.Unsupported, "the kernel has no VXLAN (CONFIG_VXLAN): %w", err)
	case errors.Is(err, unix.EEXIST):
		return errs.Conflictf(`the id %d of "vxlan.id" is in use on this host: give another with the same number on all hosts`, want.VxlanId)
	case errors.Is(err, unix.EADDRINUSE):
		return errs.Conflictf(`UDP port %d of "vxlan.port" is in use on this host`, want.Port)
	}
	return err
}

// fits reports whether l is the port that is wanted. What is not compared can
// be changed.
func fits(l netlink.Link, want *netlink.Vxlan) bool {
	got, ok := l.(*netlink.Vxlan)
	src, _ := netip.AddrFromSlice(want.SrcAddr)
	return ok && got.VxlanId == want.VxlanId && got.Port == want.Port && got.VtepDevIndex == want.VtepDevIndex &&
		!got.Learning && equalIP(got.SrcAddr, src.Unmap())
}

// applyPort puts the port into the bridge, which then neither learns from it
// nor asks there for whom it knows.
func applyPort(l, bridge netlink.Link, want *netlink.Vxlan) error {
	if l.Attrs().MTU != want.MTU {
		if err := netlink.LinkSetMTU(l, want.MTU); err != nil {
			return fmt.Errorf("set MTU %d: %w", want.MTU, err)
		}
	}
	if l.Attrs().MasterIndex != bridge.Attrs().Index {
		if err := netlink.LinkSetMaster(l, bridge); err != nil {
			return fmt.Errorf("attach %s: %w", want.Name, err)
		}
	}
	if err := netlink.LinkSetLearning(l, false); err != nil {
		return fmt.Errorf("turn learning off: %w", err)
	}
	if err := netlink.LinkSetBrNeighSuppress(l, true); err != nil {
		return fmt.Errorf("answer for neighbors: %w", err)
	}
	return netlink.LinkSetUp(l)
}

// linksIntact reports whether there is what [applyLinks] makes.
func linksIntact(cfg networks.Config, u underlay) (bool, error) {
	bridge, err := netlink.LinkByName(cfg.Name)
	if err != nil {
		return false, ignoreMissing(err)
	}
	l, err := netlink.LinkByName(portName(cfg.Name))
	if err != nil {
		return false, ignoreMissing(err)
	}
	below, err := underlayLink(cfg.Overlay)
	if err != nil {
		return false, err
	}
	src := u.local
	if u.encrypt == networks.EncryptWireGuard {
		wire, err := netlink.LinkByName(wireName(cfg.Name))
		if err != nil {
			return false, ignoreMissing(err)
		}
		if wire.Attrs().RawFlags&unix.IFF_UP == 0 {
			return false, nil
		}
		below = wire.Attrs().Index
		if src, err = inner(cfg.Overlay, u.local); err != nil {
			return false, err
		}
	}
	return fits(l, wanted(cfg, u, src, below)) && l.Attrs().MasterIndex == bridge.Attrs().Index &&
		l.Attrs().RawFlags&unix.IFF_UP != 0 && l.Attrs().MTU == u.mtu, nil
}

func ignoreMissing(err error) error {
	if missing(err) {
		return nil
	}
	return err
}

// removeLinks takes away what [applyLinks] made, if it is there.
func removeLinks(cfg networks.Config) error {
	if err := removeLink(portName(cfg.Name)); err != nil {
		return err
	}
	return removeLink(wireName(cfg.Name))
}

func removeLink(name string) error {
	l, err := netlink.LinkByName(name)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(l)
}

// missing reports whether err says that there is no such interface.
func missing(err error) bool {
	_, ok := errors.AsType[netlink.LinkNotFoundError](err)
	return ok
}
