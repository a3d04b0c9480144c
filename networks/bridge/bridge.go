// Package bridge makes networks that are a bridge of the kernel, with NAT by
// nftables and DHCP and DNS by dnsmasq.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/dnsmasq"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/crash"
)

// Driver makes bridges.
type Driver struct{}

var (
	_ networks.Driver      = Driver{}
	_ networks.Watcher     = Driver{}
	_ networks.PartApplier = Driver{}
)

// Apply makes the bridge, its rules and its dnsmasq as cfg says.
func (Driver) Apply(ctx context.Context, cfg networks.Config) error {
	if err := networks.CheckInterface(cfg.Name); err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return err
	}
	// The rules come first: no packet passes a bridge that is not to be routed.
	if err := nft.Apply(cfg); err != nil {
		return err
	}
	index, err := applyLink(cfg)
	if err != nil {
		return fmt.Errorf("make bridge %s: %w", cfg.Name, err)
	}
	if err := applyTunnels(cfg); err != nil {
		return err
	}
	if err := reflect(cfg); err != nil {
		return err
	}
	return dnsmasq.Apply(ctx, cfg, index)
}

// ApplyParts makes the rules be as cfg says.
func (Driver) ApplyParts(_ context.Context, cfg networks.Config) error {
	if err := nft.Apply(cfg); err != nil {
		return err
	}
	return reflect(cfg)
}

// Remove takes away the bridge, its rules and its dnsmasq.
func (d Driver) Remove(ctx context.Context, cfg networks.Config) error {
	if err := dnsmasq.Remove(ctx, cfg); err != nil {
		return err
	}
	if err := d.Stop(ctx, cfg); err != nil {
		return err
	}
	return os.RemoveAll(cfg.Dir)
}

// Stop ends the dnsmasq, the bridge and the rules, and keeps the leases.
func (Driver) Stop(ctx context.Context, cfg networks.Config) error {
	if err := dnsmasq.Stop(ctx, cfg); err != nil {
		return err
	}
	if err := removeTunnels(cfg.Name); err != nil {
		return err
	}
	if err := releaseExternal(cfg); err != nil {
		return fmt.Errorf("give the host its interfaces back: %w", err)
	}
	if err := removeLink(cfg.Name); err != nil {
		return fmt.Errorf("remove bridge %s: %w", cfg.Name, err)
	}
	return nft.Remove(cfg.Name)
}

// SetHost tells the network's dnsmasq of an instance.
func (Driver) SetHost(_ context.Context, cfg networks.Config, h networks.Host) error {
	return dnsmasq.SetHost(cfg, h)
}

// UnsetHost makes the network's dnsmasq forget an instance.
func (Driver) UnsetHost(ctx context.Context, cfg networks.Config, h networks.Host) error {
	return dnsmasq.UnsetHost(ctx, cfg, h)
}

// Leases returns what the network's dnsmasq has given out.
func (Driver) Leases(_ context.Context, cfg networks.Config) ([]networks.Lease, error) {
	return dnsmasq.Leases(cfg)
}

// removeLink deletes the bridge. It succeeds if there is none.
func removeLink(name string) error {
	l, err := netlink.LinkByName(name)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := isBridge(l); err != nil {
		return err
	}
	defer crash.Point("after the deletion of the bridge", name)
	return netlink.LinkDel(l)
}

// missing reports whether err says that there is no such interface.
func missing(err error) bool {
	_, ok := errors.AsType[netlink.LinkNotFoundError](err)
	return ok
}
