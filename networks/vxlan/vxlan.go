// Package vxlan makes networks that are one over several hosts: each has a
// bridge with the same addresses, and what is for a guest on another host goes
// there in packets of VXLAN.
//
// Nothing is learned from packets, and nothing needs multicast. Hosts tell each
// other which MAC and IP addresses are where ([networks.Member]); the driver
// puts that into the kernel's tables of forwarding and of neighbors, and what
// nobody has told of is sent to each of the other hosts. Every host gives out
// addresses from a part of the ranges that is its alone, and knows which are
// given out elsewhere.
//
// What hosts know of each other is kept in the network's directory, so that it
// outlives the daemon and the other hosts.
package vxlan

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/bridge"
	"github.com/cuib/cuib/networks/dnsmasq"
	"github.com/cuib/cuib/networks/nft"
)

// Driver makes overlays.
type Driver struct {
	bridge bridge.Driver
	hub    hub
}

var (
	_ networks.Driver      = (*Driver)(nil)
	_ networks.Stopper     = (*Driver)(nil)
	_ networks.Watcher     = (*Driver)(nil)
	_ networks.Speaker     = (*Driver)(nil)
	_ networks.PartApplier = (*Driver)(nil)
)

// Apply makes the bridge with its way to the other hosts.
func (d *Driver) Apply(ctx context.Context, cfg networks.Config) error {
	if err := networks.CheckInterface(cfg.Name); err != nil {
		return err
	}
	// The directory holds what hosts said, besides dnsmasq's files.
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return err
	}
	t, u, err := seen(cfg)
	if err != nil {
		return err
	}
	if err := t.renew(cfg, u); err != nil {
		return err
	}
	full, err := t.complete(cfg, u)
	if err != nil {
		return err
	}
	mac, err := gatewayMAC(cfg)
	if err != nil {
		return err
	}
	// No packet passes to other hosts before the rules are there.
	if err := nft.ApplyOverlay(full, portName(cfg.Name), mac); err != nil {
		return err
	}
	if err := d.bridge.Apply(ctx, full); err != nil {
		return err
	}
	if err := applyLinks(cfg, u); err != nil {
		return fmt.Errorf("make the overlay of %s: %w", cfg.Name, err)
	}
	return inform(cfg, u, t, nft.ApplyElsewhere)
}

// ApplyParts makes the bridge's rules be as cfg says.
func (d *Driver) ApplyParts(ctx context.Context, cfg networks.Config) error {
	t, u, err := seen(cfg)
	if err != nil {
		return err
	}
	full, err := t.complete(cfg, u)
	if err != nil {
		return err
	}
	return d.bridge.ApplyParts(ctx, full)
}

// Remove takes away all of the network on this host, and cfg.Dir.
func (d *Driver) Remove(ctx context.Context, cfg networks.Config) error {
	if err := removeLinks(cfg); err != nil {
		return err
	}
	if err := d.bridge.Remove(ctx, cfg); err != nil {
		return err
	}
	return removeRules(cfg.Name)
}

// Stop takes the network from the host, and keeps the leases and what other
// hosts have said.
func (d *Driver) Stop(ctx context.Context, cfg networks.Config) error {
	if err := removeLinks(cfg); err != nil {
		return err
	}
	if err := d.bridge.Stop(ctx, cfg); err != nil {
		return err
	}
	return removeRules(cfg.Name)
}

// removeRules takes away the rules that are not the bridge's.
func removeRules(network string) error {
	if err := nft.RemoveElsewhere(network); err != nil {
		return err
	}
	return nft.RemoveOverlay(network)
}

// SetHost tells the network's dnsmasq of an instance. One that was on another
// host keeps the addresses that it had there.
func (d *Driver) SetHost(ctx context.Context, cfg networks.Config, h networks.Host) error {
	t, err := readTable(cfg)
	if err != nil {
		return err
	}
	if t.keep(h.MAC) {
		if err := t.write(cfg); err != nil {
			return err
		}
	}
	if err := d.bridge.SetHost(ctx, cfg, t.kept(cfg, h)); err != nil {
		return err
	}
	if slices.Contains(t.own(), h.IPv4) || slices.Contains(t.own(), h.IPv6) {
		return d.Apply(ctx, with(cfg, h)) // The host takes another address for itself.
	}
	return nil
}

// with is a configuration that has a host.
func with(cfg networks.Config, h networks.Host) networks.Config {
	others := func(o networks.Host) bool { return lower(o.MAC) == lower(h.MAC) }
	cfg.Hosts = append(slices.DeleteFunc(slices.Clone(cfg.Hosts), others), h)
	return cfg
}

// UnsetHost makes the network's dnsmasq forget an instance.
func (d *Driver) UnsetHost(ctx context.Context, cfg networks.Config, h networks.Host) error {
	t, err := readTable(cfg)
	if err != nil {
		return err
	}
	mac, err := networks.ParseMAC(h.MAC)
	if err != nil {
		return err
	}
	if _, had := t.Kept[mac.String()]; had {
		delete(t.Kept, mac.String())
		if err := t.write(cfg); err != nil {
			return err
		}
	}
	if err := d.bridge.UnsetHost(ctx, cfg, h); err != nil {
		return err
	}
	// It may be on another host now: its address is not to be given out here.
	for _, remote := range t.remote(cfg, nil) {
		if remote.MAC == mac.String() {
			return d.bridge.SetHost(ctx, cfg, remote)
		}
	}
	return nil
}

// Leases returns what the hosts have given out, as far as this one knows.
func (d *Driver) Leases(ctx context.Context, cfg networks.Config) ([]networks.Lease, error) {
	all, err := d.bridge.Leases(ctx, cfg)
	if err != nil {
		return nil, err
	}
	t, err := readTable(cfg)
	if err != nil {
		return nil, err
	}
	for _, a := range t.own() {
		all = append(all, networks.Lease{Host: networks.Host{Name: t.Local.String()}, Address: a})
	}
	for _, m := range t.members() {
		for _, g := range t.Members[m].Guests {
			for _, a := range g.Addresses {
				h := networks.Host{Name: g.Name, MAC: g.MAC}
				if g.Host {
					h = networks.Host{Name: m.String()}
				}
				known := func(l networks.Lease) bool { return l.Address == a }
				if within(cfg, a) && !slices.ContainsFunc(all, known) {
					all = append(all, networks.Lease{Host: h, Address: a})
				}
			}
		}
	}
	return all, nil
}

// Learn takes what another host says into the table, and from there into the
// kernel and dnsmasq.
func (d *Driver) Learn(ctx context.Context, cfg networks.Config, m networks.Member) error {
	t, u, err := seen(cfg)
	if err != nil {
		return err
	}
	before, err := t.complete(cfg, u)
	if err != nil {
		return err
	}
	local := map[string]bool{}
	for _, h := range cfg.Hosts {
		local[lower(h.MAC)] = true
	}
	if !t.learn(cfg, m, local) {
		return nil
	}
	if _, err := t.choose(cfg, u); err != nil {
		return err
	}
	if err := t.write(cfg); err != nil {
		return err
	}
	after, err := t.complete(cfg, u)
	if err != nil {
		return err
	}
	if !sameRanges(before, after) {
		return d.Apply(ctx, cfg) // dnsmasq has another part of the ranges.
	}
	if err := tell(ctx, before, after); err != nil {
		return err
	}
	return inform(cfg, u, t, nft.FollowElsewhere)
}

// tell has dnsmasq know the hosts that have changed.
func tell(ctx context.Context, before, after networks.Config) error {
	had := map[string]networks.Host{}
	for _, h := range before.Hosts {
		had[lower(h.MAC)] = h
	}
	for _, h := range after.Hosts {
		old, ok := had[lower(h.MAC)]
		delete(had, lower(h.MAC))
		if ok && old == h {
			continue
		}
		if err := dnsmasq.SetHost(after, h); err != nil {
			return err
		}
	}
	for _, h := range had {
		if err := dnsmasq.UnsetHost(ctx, after, h); err != nil {
			return err
		}
	}
	return nil
}

// Watch waits until something of the network is missing on this host.
func (d *Driver) Watch(ctx context.Context, cfg networks.Config) (string, error) {
	return bridge.Watch(ctx, cfg, bridge.Also{
		Groups:  []int{unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE},
		Missing: func() (string, error) { return d.missing(cfg) },
	})
}

// missing returns what of the way to other hosts is missing, if anything.
func (*Driver) missing(cfg networks.Config) (string, error) {
	t, u, err := seen(cfg)
	if err != nil {
		return "", err
	}
	if u.local != t.Local || u.mtu != t.MTU {
		return "way to the other hosts", nil
	}
	ok, err := linksIntact(cfg, u)
	if !ok || err != nil {
		return "way to the other hosts", err
	}
	mac, err := gatewayMAC(cfg)
	if err != nil {
		return "", err
	}
	ok, err = nft.OverlayIntact(cfg, portName(cfg.Name), mac)
	if !ok || err != nil {
		return "nftables rules of the overlay", err
	}
	ok, err = nft.ElsewhereIntact(cfg.Name, t.own())
	if !ok || err != nil {
		return "nftables rules for guests on other hosts", err
	}
	return "", nil
}

// gatewayMAC returns the bridge's address, which is the same on all hosts.
func gatewayMAC(cfg networks.Config) (net.HardwareAddr, error) {
	if cfg.HWAddr != "" {
		return networks.ParseMAC(cfg.HWAddr)
	}
	id := cfg.Overlay.ID
	return net.HardwareAddr{0x02, 0x66, 0x6b, byte(id >> 16), byte(id >> 8), byte(id)}, nil
}

// portName returns the name of the bridge's port that leads to other hosts.
func portName(network string) string { return "cuib-vx" + short(network) }

// wireName returns the name of the network's interface of WireGuard.
func wireName(network string) string { return "cuib-wg" + short(network) }

func short(network string) string {
	sum := sha256.Sum256([]byte("cuib overlay " + network))
	return hex.EncodeToString(sum[:4])
}
