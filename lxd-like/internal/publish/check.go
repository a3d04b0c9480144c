package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// check reports what is wrong with a forward or a load balancer that is to be
// made, or to be another.
func check[T any](ctx context.Context, s *Service, k kind[T], p db.NetworkPart[T]) error {
	listen, err := parseListen(p.Name)
	if err != nil {
		return err
	}
	want, err := k.read(listen, p.Document)
	if err != nil {
		return err
	}
	var fresh []entry
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := db.GetNetwork(ctx, tx, p.Network)
		if err != nil {
			return err
		}
		if n.Type != netkeys.Bridge && n.Type != netkeys.Vxlan {
			return errs.Invalidf("network %q is of type %s: only networks of type %s and %s have a %s", n.Name, n.Type, netkeys.Bridge, netkeys.Vxlan, k.name)
		}
		cfg, err := netkeys.Parse(n.Type, n.Config)
		if err != nil {
			return err
		}
		if err := fits(listen, want, n.Name, cfg); err != nil {
			return err
		}
		if err := apart(want.entries); err != nil {
			return err
		}
		fresh, err = s.checkTaken(ctx, tx, want.entries, owner{string(k.name), n.Name, listen})
		return err
	})
	if err != nil {
		return err
	}
	return s.checkListeners(fresh)
}

// fits reports what of a plan is not possible in a network.
func fits(listen netip.Addr, want plan, network string, cfg networks.Config) error {
	family, name := cfg.IPv4, "ipv4"
	if listen.Is6() {
		family, name = cfg.IPv6, "ipv6"
	}
	for _, f := range []networks.Family{cfg.IPv4, cfg.IPv6} {
		if f.Address.IsValid() && f.Address.Masked().Contains(listen) {
			return errs.Invalidf("listen_address: %s is in network %q itself (%s): want an address of the host, or one that is routed to it", listen, network, f.Address.Masked())
		}
	}
	if !family.Address.IsValid() {
		return errs.Invalidf("listen_address: %s cannot lead into network %q, whose %s.address is none", listen, network, name)
	}
	if !family.Routing && len(want.entries) > 0 {
		return errs.Invalidf("nothing from outside reaches network %q, whose %s.routing is false", network, name)
	}
	for _, e := range want.entries {
		if e.SNAT && cfg.Overlay.ID != 0 {
			return errs.Invalidf("%s: snat: network %q is of type %s: what %s begins leaves by the host that it is on, which can be another than the one that has %s", e.field, network, netkeys.Vxlan, e.Targets[0].Addr(), listen)
		}
		if err := e.within(network, family.Address); err != nil {
			return err
		}
	}
	return nil
}

// within reports a target that cannot be an instance in a network, in which the
// host has an address.
func (e entry) within(network string, address netip.Prefix) error {
	net := address.Masked()
	for _, t := range e.Targets {
		to := t.Addr()
		switch {
		case !net.Contains(to):
			return errs.Invalidf("%s: target address %s is outside of network %q (%s)", e.field, to, network, net)
		case to == address.Addr():
			return errs.Invalidf("%s: target address %s is the host's own in network %q: want that of an instance", e.field, to, network)
		case to == net.Addr() || to.Is4() && to == networks.Last(net):
			return errs.Invalidf("%s: target address %s cannot be that of an instance: it stands for the whole network %s", e.field, to, net)
		}
	}
	return nil
}

// apart reports ports that are in a plan twice.
func apart(entries []entry) error {
	sorted := slices.SortedFunc(slices.Values(entries), func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.First, b.First))
	})
	for i := 1; i < len(sorted); i++ {
		a, b := sorted[i-1], sorted[i]
		if a.Protocol == b.Protocol && b.First <= a.Last {
			return errs.Invalidf("%s: listen_port: port %d is in %s too", b.field, b.First, a.field)
		}
	}
	return nil
}

// An owner is a forward or a load balancer.
type owner struct {
	kind, network string
	listen        netip.Addr
}

func (o owner) String() string {
	return fmt.Sprintf("the %s %s of network %s", o.kind, o.listen, project.Quote(o.network))
}

// claims are the entries of all forwards and load balancers, by owner.
func claims(ctx context.Context, tx *db.Tx) (map[owner][]entry, error) {
	out := map[owner][]entry{}
	add := func(o owner, p plan) error {
		out[o] = p.entries
		return nil
	}
	return out, errors.Join(each(ctx, tx, forwards, "", add), each(ctx, tx, balancers, "", add))
}

// checkTaken reports a port that another has. It returns the entries that were
// not published before.
func (s *Service) checkTaken(ctx context.Context, tx *db.Tx, entries []entry, self owner) (fresh []entry, err error) {
	all, err := claims(ctx, tx)
	if err != nil {
		return nil, err
	}
	before := all[self]
	delete(all, self)
	for _, e := range entries {
		if o, other, found := taker(all, e.Published); found {
			return nil, errs.Conflictf("%s: %s is taken by %s", e.field, overlap(e.Published, other), o)
		}
		if s.Taken != nil {
			if who := s.Taken(e.Published); who != "" {
				return nil, e.takenBy(who)
			}
		}
		had := func(b entry) bool { return b.Overlaps(e.Published) && b.First <= e.First && b.Last >= e.Last }
		if !slices.ContainsFunc(before, had) {
			fresh = append(fresh, e)
		}
	}
	return fresh, nil
}

// checkListeners reports a port that a process of the host has. That one has
// what is published already is no news.
func (s *Service) checkListeners(fresh []entry) error {
	if s.Listener == nil {
		return nil
	}
	for _, e := range fresh {
		who, err := s.Listener(e.Published)
		if err != nil {
			return err
		}
		if who != "" {
			return e.takenBy(who)
		}
	}
	return nil
}

func (e entry) takenBy(who string) error {
	return errs.Conflictf("%s: %s is taken by %s", e.field, overlap(e.Published, e.Published), who)
}

// taker returns who has a port of e, and what it is there.
func taker(all map[owner][]entry, e networks.Published) (owner, networks.Published, bool) {
	for _, o := range slices.SortedFunc(maps.Keys(all), func(a, b owner) int { return cmp.Compare(a.String(), b.String()) }) {
		for _, other := range all[o] {
			if e.Overlaps(other.Published) {
				return o, other.Published, true
			}
		}
	}
	return owner{}, networks.Published{}, false
}

// overlap names what two have in common.
func overlap(a, b networks.Published) string {
	if a.Protocol == 0 {
		return fmt.Sprintf("what comes for %s and for no port that is forwarded", a.Listen)
	}
	return fmt.Sprintf("port %d of %s", max(a.First, b.First), a.Listen)
}

// Takes returns who has a port that e is for; an empty string for nobody.
func (s *Service) Takes(ctx context.Context, e networks.Published) (who string, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		all, err := claims(ctx, tx)
		if err != nil {
			return err
		}
		if o, _, found := taker(all, e); found {
			who = o.String()
		}
		return nil
	})
	return who, err
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
