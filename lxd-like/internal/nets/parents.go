package nets

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// linkOnParent is Link for a network on an interface of the host.
func (s *Service) linkOnParent(n db.Network, cfg networks.Config) (networks.Link, error) {
	l := networks.Link{Kind: n.Type, Parent: cfg.Parent, MTU: cfg.MTU, VLAN: cfg.VLAN, GVRP: cfg.GVRP}
	if n.Type != netkeys.Physical {
		return l, nil
	}
	p, err := s.Host.Find(cfg.Parent)
	if errs.Is(err, errs.NotFound) { // An instance has it.
		return l, nil
	}
	if err == nil && p.Kind == "bridge" {
		l.Kind, l.Tagged = "bridged", cfg.Tagged
	}
	return l, err
}

// A need is an interface of the host that a network is on.
type need struct {
	key   string // That says so.
	name  string
	vlan  int
	alone bool // Nobody else can be on it.
}

// needs are the interfaces of the host that a network is on.
func needs(typ string, cfg networks.Config) []need {
	var all []need
	if cfg.Parent != "" {
		all = append(all, need{"parent", cfg.Parent, cfg.VLAN, typ == netkeys.Physical})
	}
	const external = "bridge.external_interfaces"
	for _, e := range cfg.External {
		if e.VLAN != 0 {
			all = append(all, need{external, e.Parent, e.VLAN, true})
		} else {
			all = append(all, need{external, e.Name, 0, true})
		}
	}
	return all
}

// checkNeeds returns an error if a network is to be on an interface of the
// host, and was not before, that is not there or is used otherwise.
func (s *Service) checkNeeds(ctx context.Context, n db.Network, cfg, old networks.Config) error {
	had := needs(n.Type, old)
	for _, want := range needs(n.Type, cfg) {
		if slices.Contains(had, want) {
			continue
		}
		l, err := s.Host.Find(want.name)
		if errs.Is(err, errs.NotFound) {
			return errs.Invalidf("configuration key %q: the host has no interface %q", want.key, want.name)
		}
		if err != nil {
			return err
		}
		if l.Kind == "bridge" && want.key == "parent" {
			want.alone = false // Others can have ports of it, too.
		}
		if want.alone && want.vlan == 0 {
			if err := free(want, l); err != nil {
				return err
			}
		}
		if err := s.checkSharers(ctx, n.Name, want); err != nil {
			return err
		}
	}
	return nil
}

// free returns an error if the host itself uses an interface.
func free(want need, l host.Link) error {
	if l.Master != "" {
		return errs.Conflictf("configuration key %q: the host's interface %q is a part of %s", want.key, l.Name, l.Master)
	}
	i := slices.IndexFunc(l.Addresses, func(p netip.Prefix) bool { return !p.Addr().IsLinkLocalUnicast() })
	if i >= 0 && l.Kind != "loopback" {
		return errs.Conflictf("configuration key %q: the host uses its interface %q, which has the address %s", want.key, l.Name, l.Addresses[i])
	}
	return nil
}

// checkSharers returns an error if another network or an instance is on an
// interface, and one of both is to be alone there.
func (s *Service) checkSharers(ctx context.Context, network string, want need) error {
	all, err := s.records(ctx)
	if err != nil {
		return err
	}
	for _, o := range all {
		cfg, err := s.config(o)
		if err != nil || o.Name == network {
			continue
		}
		if slices.ContainsFunc(needs(o.Type, cfg), func(has need) bool { return s.excludes(want, has) }) {
			return errs.Conflictf("configuration key %q: the host's interface %q is used by network %s", want.key, want.name, project.Quote(o.Name))
		}
	}
	if !want.alone || want.vlan != 0 {
		return nil
	}
	guests, err := s.guests(ctx)
	if err != nil {
		return err
	}
	for _, in := range guests {
		if name := onInterface(in.Expanded.Devices, want.name); name != "" {
			return errs.Conflictf("configuration key %q: the host's interface %q is used by device %q of instance %s", want.key, want.name, name, project.QuoteInstance(in.Name))
		}
	}
	return nil
}

// checkMove returns an error if a network is to be on another interface of the
// host, or on another VLAN of it, while instances run that are on it: their
// interfaces would stay where they are.
func (s *Service) checkMove(ctx context.Context, n db.Network, cfg, old networks.Config) error {
	if old.Parent == "" || cfg.Parent == old.Parent && cfg.VLAN == old.VLAN && slices.Equal(cfg.Tagged, old.Tagged) {
		return nil
	}
	running, err := s.runningOn(ctx, n.Name)
	if err != nil || len(running) == 0 {
		return err
	}
	key, was, now := "parent", old.Parent, cfg.Parent
	switch {
	case was != now:
	case cfg.VLAN != old.VLAN:
		key, was, now = "vlan", strconv.Itoa(old.VLAN), strconv.Itoa(cfg.VLAN)
	default: // Which bridges tell apart.
		key, was, now = "vlan.tagged", fmt.Sprint(old.Tagged), fmt.Sprint(cfg.Tagged)
	}
	return errs.Conflictf("configuration key %q: cannot move network %q from %s to %s while instances run on it: %s; stop them, or detach their NICs (attached=false)", key, n.Name, was, now, strings.Join(running, ", "))
}

// runningOn returns the instances that run and have a NIC on a network.
func (s *Service) runningOn(ctx context.Context, network string) ([]string, error) {
	guests, err := s.guests(ctx)
	if err != nil || s.Inside == nil {
		return nil, err
	}
	var out []string
	for _, in := range guests {
		for _, dev := range in.Expanded.Devices {
			if dev["type"] != "nic" || dev["network"] != network || !attached(dev) || slices.Contains(out, in.Name) {
				continue
			}
			// What cannot be looked at does run.
			if _, err := s.Inside(in.Name); !errs.Is(err, errs.NotFound) {
				out = append(out, in.Name)
			}
		}
	}
	return out, nil
}

// attached tells whether a NIC is in its instance while that runs.
func attached(dev profiles.Device) bool {
	on, err := profiles.ParseBool(dev["attached"])
	return dev["attached"] == "" || err != nil || on
}

// onInterface returns the name of a NIC that says itself that it is on an
// interface of the host, if there is one.
func onInterface(all map[string]profiles.Device, parent string) string {
	for _, name := range sortedKeys(all) {
		if dev := all[name]; dev["type"] == "nic" && dev["network"] == "" && dev["parent"] == parent && dev["vlan"] == "" {
			return name
		}
	}
	return ""
}

// excludes reports whether two networks cannot have what they want and have of
// one interface: one of both is to be alone there.
func (s *Service) excludes(want, has need) bool {
	return has.name == want.name && has.vlan == want.vlan && (want.alone || has.alone && s.takes(has))
}

// takes reports whether a network that is to be alone on an interface takes it
// as a whole: of a bridge it has ports.
func (s *Service) takes(has need) bool {
	l, err := s.Host.Find(has.name)
	return err != nil || l.Kind != "bridge"
}
