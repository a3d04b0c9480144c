package nic

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/cuib/cuib/shared/errs"
)

// A change is from one NIC to another, of a pair that is there.
type change struct {
	old, now     NIC
	outer, inner netlink.Link
}

// Change makes one NIC of a running instance another, for which it is
// [NIC.Live]. The interface stays, with all connections.
func (h Host) Change(_ context.Context, old, now NIC, g *Guest) error {
	if !old.Live(now) {
		return errs.Newf(errs.Internal, "nic %q cannot change while it is used", now.Device)
	}
	c := change{old: old, now: now}
	var err error
	if c.inner, err = g.Net.LinkByName(now.Name); err != nil {
		return fmt.Errorf("network interface %s of the instance: %w", now.Name, err)
	}
	if !now.Pair() {
		return h.changeMTU(c, g)
	}
	if c.outer, err = h.link(now.HostName); err != nil {
		return err
	}
	if err := h.changeLimits(c, g); err != nil {
		return err
	}
	if err := h.guard(now); err != nil {
		return err
	}
	for _, step := range []func(change, *Guest) error{
		h.changeMTU, h.changeBridge, h.changeQueue, h.changeRoutes, h.changePlug,
	} {
		if err := step(c, g); err != nil {
			return err
		}
	}
	return nil
}

// Reconnect makes a bridged NIC a port of its bridge as it was, when the bridge
// has been made anew.
func (h Host) Reconnect(n NIC) error {
	outer, err := h.Net.LinkByName(n.HostName)
	if missing(err) {
		return nil // The guest boots just now.
	}
	if err == nil {
		err = h.connect(n, outer)
	}
	if err != nil {
		return err
	}
	return h.route(n)
}

// changeBridge moves the host's end to another bridge, and makes it the port
// that it is to be there.
func (h Host) changeBridge(c change, _ *Guest) error {
	moved := c.old.Parent != c.now.Parent
	if c.now.Kind != Bridged || !moved && c.old.Isolated == c.now.Isolated && reflect.DeepEqual(c.old.VLAN, c.now.VLAN) {
		return nil
	}
	bridge, err := h.link(c.now.Parent)
	if err != nil {
		return err
	}
	before := c.old.VLAN
	if moved {
		if err := h.Net.LinkSetMaster(c.outer, bridge); err != nil {
			return fmt.Errorf("connect to %s: %w", c.now.Parent, err)
		}
		before = VLAN{}
	}
	if err := h.Net.LinkSetIsolated(c.outer, c.now.Isolated); err != nil {
		return fmt.Errorf("isolate %s: %w", c.now.HostName, err)
	}
	if !before.some() && !c.now.VLAN.some() {
		return nil
	}
	return h.tag(before, c.now.VLAN, c.outer, bridge)
}

func (h Host) changeMTU(c change, g *Guest) error {
	if c.old.MTU == c.now.MTU && c.old.Parent == c.now.Parent {
		return nil
	}
	mtu, err := h.mtu(c.now)
	if err != nil {
		return err
	}
	if err := setLink(g.Net, c.inner, "", mtu); err != nil || c.outer == nil {
		return err
	}
	return setLink(h.Net, c.outer, "", mtu)
}

// usualQueue is what the kernel gives a pair of interfaces.
const usualQueue = 1000

func (h Host) changeQueue(c change, g *Guest) error {
	if c.old.QueueLength == c.now.QueueLength {
		return nil
	}
	length := orElse(c.now.QueueLength, usualQueue)
	if err := h.Net.LinkSetTxQLen(c.outer, length); err != nil {
		return err
	}
	return g.Net.LinkSetTxQLen(c.inner, length)
}

// changeLimits changes filters, too.
func (h Host) changeLimits(c change, _ *Guest) error {
	if c.old.Ingress == c.now.Ingress && c.old.Egress == c.now.Egress {
		return h.filter(c.now)
	}
	return h.admit(c.now, c.outer)
}

func (h Host) changeRoutes(c change, _ *Guest) error {
	if slices.Equal(c.old.routes(), c.now.routes()) && c.old.Parent == c.now.Parent {
		return nil
	}
	before, err := h.wanted(c.old)
	if err != nil && !errs.Is(err, errs.NotFound) { // The bridge went, and they with it.
		return err
	}
	after, err := h.wanted(c.now)
	if err != nil {
		return err
	}
	for _, r := range before {
		if slices.ContainsFunc(after, func(o netlink.Route) bool { return reflect.DeepEqual(o, r) }) {
			continue
		}
		if err := h.Net.RouteDel(&r); err != nil && !gone(err) {
			return fmt.Errorf("remove the route to %s: %w", r.Dst, err)
		}
	}
	return h.route(c.now)
}

func (h Host) changePlug(c change, _ *Guest) error {
	switch {
	case c.old.Unplugged == c.now.Unplugged:
		return nil
	case c.now.Unplugged:
		return h.Net.LinkSetDown(c.outer)
	}
	if err := h.Net.LinkSetUp(c.outer); err != nil {
		return err
	}
	if c.now.Kind == Routed { // They went when it was set down.
		if err := h.hostAddresses(c.now, c.outer); err != nil {
			return err
		}
	}
	return h.route(c.now)
}
