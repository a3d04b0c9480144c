// Package physical makes networks whose one NIC is an interface of the host,
// or whose NICs are ports of a bridge of the host that is not ours. On the host
// there is nothing to make.
package physical

import (
	"context"
	"os"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/shared/errs"
)

// Driver makes physical networks.
type Driver struct{}

var _ networks.Driver = Driver{}

// Apply checks that the interface can be handed over. One that is not there
// may be an instance's already.
func (Driver) Apply(_ context.Context, cfg networks.Config) error {
	l, err := host.Kernel{}.Find(cfg.Parent)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	bridge := l.Kind == "bridge"
	switch {
	case l.Kind == "loopback":
		return errs.Invalidf("parent %q is not valid: the loopback interface cannot be handed over", cfg.Parent)
	case bridge && cfg.MTU > l.MTU:
		return errs.Invalidf("mtu %d is not valid: that of the bridge %s is %d", cfg.MTU, cfg.Parent, l.MTU)
	case bridge && cfg.GVRP:
		return errs.Invalidf("gvrp is not valid: the parent %s is a bridge, which registers its VLANs itself", cfg.Parent)
	case !bridge && len(cfg.Tagged) > 0:
		return errs.Invalidf("vlan.tagged is not valid: the parent %s is no bridge, and its NIC has all VLANs that it has", cfg.Parent)
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
