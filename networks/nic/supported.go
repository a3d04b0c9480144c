package nic

import (
	"errors"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Supported reports whether the kernel has interfaces of a type, such as
// ipvlan, vlan or vrf. It asks for one that lacks what it must have: a kernel
// that has the type says so.
func Supported(typ string) bool {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "cu-no-such0"
	err := netlink.LinkAdd(&netlink.GenericLink{LinkAttrs: attrs, LinkType: typ})
	if err == nil { // It lacked nothing.
		_ = netlink.LinkDel(&netlink.GenericLink{LinkAttrs: attrs, LinkType: typ})
	}
	return !errors.Is(err, unix.EOPNOTSUPP)
}
