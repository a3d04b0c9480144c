// Package macvlan makes networks whose NICs are macvlans of a host interface.
// On the host there is nothing to make.
package macvlan

import (
	"context"
	"os"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/shared/errs"
)

// Driver makes macvlan networks.
type Driver struct{}

var _ networks.Driver = Driver{}

// Apply checks that the interface below the network can carry it.
func (Driver) Apply(_ context.Context, cfg networks.Config) error {
	l, err := host.Kernel{}.Find(cfg.Parent)
	if errs.Is(err, errs.NotFound) {
		return errs.Invalidf("parent %q is not valid: the host has no such network interface", cfg.Parent)
	}
	if err != nil {
		return err
	}
	if l.Kind == "loopback" {
		return errs.Invalidf("parent %q is not valid: a loopback interface cannot carry a macvlan", cfg.Parent)
	}
	if cfg.MTU > l.MTU {
		return errs.Invalidf("mtu %d is not valid: that of the parent %s is %d", cfg.MTU, cfg.Parent, l.MTU)
	}
	return nil
}

// Remove removes the network's directory, if it has one.
func (Driver) Remove(_ context.Context, cfg networks.Config) error { return os.RemoveAll(cfg.Dir) }

// SetHost does nothing: the network beyond the parent gives out addresses.
func (Driver) SetHost(context.Context, networks.Config, networks.Host) error { return nil }

// UnsetHost does nothing.
func (Driver) UnsetHost(context.Context, networks.Config, networks.Host) error { return nil }

// Leases returns none: they are not ours.
func (Driver) Leases(context.Context, networks.Config) ([]networks.Lease, error) { return nil, nil }
