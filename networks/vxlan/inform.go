package vxlan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/nft"
)

// everyone is the MAC address under which the port keeps where frames go that
// are for all, or for somebody that nobody has told of.
var everyone = net.HardwareAddr{0, 0, 0, 0, 0, 0}

// An entry is one of the kernel's tables of where a MAC address is: where the
// port sends frames for it, or that the bridge sends them to the port.
type entry struct {
	mac string
	dst netip.Addr // Not valid in the bridge's table.
}

// A neighbor is an entry of the bridge's table of neighbors.
type neighbor struct {
	addr netip.Addr
	mac  string
}

// inform makes the kernel's tables be what other hosts have told. lead is
// [nft.ApplyElsewhere], or [nft.FollowElsewhere].
func inform(cfg networks.Config, u underlay, t *table, lead func(nft.Elsewhere) error) error {
	bridge, err := netlink.LinkByName(cfg.Name)
	if err != nil {
		return ignoreMissing(err) // Who watches makes it anew.
	}
	port, err := netlink.LinkByName(portName(cfg.Name))
	if err != nil {
		return ignoreMissing(err)
	}
	have, err := forwarding(bridge.Attrs().Index, port.Attrs().Index)
	if err != nil {
		return err
	}
	entries, neighbors, err := plan(cfg, u, t, have.local)
	if err != nil {
		return err
	}
	if err := syncForwarding(port.Attrs().Index, have, entries); err != nil {
		return fmt.Errorf("tell the kernel where guests are: %w", err)
	}
	if err := syncNeighbors(bridge.Attrs().Index, neighbors); err != nil {
		return fmt.Errorf("tell the kernel of neighbors: %w", err)
	}
	if err := lead(nft.Elsewhere{Network: cfg.Name, Own: t.own(), Guests: t.elsewhere(neighbors)}); err != nil {
		return fmt.Errorf("lead connections to other hosts: %w", err)
	}
	return nil
}

// plan returns what the tables are to have: all of it for guests that run
// elsewhere, and are not among local, which were heard on a port of our own.
func plan(cfg networks.Config, u underlay, t *table, local map[string]bool) ([]entry, []neighbor, error) {
	var entries []entry
	var neighbors []neighbor
	for _, p := range sortedPeers(cfg.Overlay) {
		dst, err := destination(cfg.Overlay, u, p)
		if err != nil {
			return nil, nil, err
		}
		entries = append(entries, entry{everyone.String(), dst})
		for _, g := range t.Members[p].Guests {
			if !g.Here || local[g.MAC] {
				continue
			}
			entries = append(entries, entry{g.MAC, dst}, entry{mac: g.MAC})
			for _, a := range g.Addresses {
				neighbors = append(neighbors, neighbor{a, g.MAC})
			}
		}
	}
	return entries, neighbors, nil
}

// known is what the kernel's tables of forwarding have.
type known struct {
	ours  map[entry]bool  // What leads to other hosts.
	local map[string]bool // The MAC addresses heard on other ports of the bridge.
}

func forwarding(bridge, port int) (known, error) {
	k := known{map[entry]bool{}, map[string]bool{}}
	all, err := listNeighbors(0, unix.AF_BRIDGE)
	if err != nil {
		return k, err
	}
	for _, n := range all {
		mac := n.HardwareAddr.String()
		switch {
		case n.LinkIndex == port && n.Flags&netlink.NTF_SELF != 0:
			dst, _ := netip.AddrFromSlice(n.IP)
			k.ours[entry{mac, dst.Unmap()}] = true
		case n.LinkIndex == port && n.State&netlink.NUD_PERMANENT == 0:
			k.ours[entry{mac: mac}] = true
		case n.MasterIndex == bridge && n.State&netlink.NUD_PERMANENT == 0:
			k.local[mac] = true
		}
	}
	return k, nil
}

func syncForwarding(port int, have known, want []entry) error {
	keep := map[entry]bool{}
	for _, e := range want {
		keep[e] = true
	}
	for e := range have.ours {
		if keep[e] {
			continue
		}
		n, err := e.neigh(port)
		if err != nil {
			return err
		}
		if err := netlink.NeighDel(n); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("forget %s: %w", e.mac, err)
		}
	}
	for _, e := range want {
		if have.ours[e] {
			continue
		}
		n, err := e.neigh(port)
		if err != nil {
			return err
		}
		add := netlink.NeighSet
		if e.mac == everyone.String() {
			add = netlink.NeighAppend // There is one for each host.
		}
		if err := add(n); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("send %s to %s: %w", e.mac, e.dst, err)
		}
	}
	return nil
}

func (e entry) neigh(port int) (*netlink.Neigh, error) {
	mac, err := net.ParseMAC(e.mac)
	n := &netlink.Neigh{LinkIndex: port, Family: unix.AF_BRIDGE, HardwareAddr: mac}
	if e.dst.IsValid() {
		n.State, n.Flags, n.IP = netlink.NUD_PERMANENT, netlink.NTF_SELF, e.dst.AsSlice()
		return n, err
	}
	// The bridge forgets it at once if it hears the guest on another port.
	n.State, n.Flags = netlink.NUD_REACHABLE, netlink.NTF_MASTER|netlink.NTF_EXT_LEARNED
	return n, err
}

func syncNeighbors(bridge int, want []neighbor) error {
	wanted := map[netip.Addr]string{}
	for _, w := range want {
		wanted[w.addr] = w.mac
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		if err := forgetNeighbors(bridge, family, wanted); err != nil {
			return err
		}
	}
	// What is there already is not in wanted any more.
	for addr, text := range wanted {
		mac, err := net.ParseMAC(text)
		if err != nil {
			return err
		}
		err = netlink.NeighSet(&netlink.Neigh{
			LinkIndex: bridge, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_EXT_LEARNED, IP: addr.AsSlice(), HardwareAddr: mac,
		})
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENODEV) {
			continue // The bridge has no IPv6.
		}
		if err != nil {
			return fmt.Errorf("%s is %s: %w", addr, mac, err)
		}
	}
	return nil
}

// forgetNeighbors takes out of a bridge's table what other hosts have told
// and is not wanted, and out of wanted what is there.
func forgetNeighbors(bridge, family int, wanted map[netip.Addr]string) error {
	all, err := listNeighbors(bridge, family)
	if err != nil {
		return err
	}
	for _, n := range all {
		addr, ok := netip.AddrFromSlice(n.IP)
		if !ok || n.Flags&netlink.NTF_EXT_LEARNED == 0 {
			continue
		}
		addr = addr.Unmap()
		switch mac, is := wanted[addr]; {
		case is && mac == n.HardwareAddr.String():
			delete(wanted, addr)
		case is: // It is replaced.
		default:
			if err := netlink.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("forget %s: %w", addr, err)
			}
		}
	}
	return nil
}

// listNeighbors lists a table of the kernel, and again if it changed meanwhile.
func listNeighbors(link, family int) ([]netlink.Neigh, error) {
	for {
		all, err := netlink.NeighList(link, family)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
}
