package acls

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// A place is the network in which rules are meant; nil where they are only
// checked.
type place struct {
	networks.Config

	config map[string]string
}

// subnets are what is in a network for sure.
func subnets(cfg networks.Config) []acl.Range {
	var all []acl.Range
	for _, f := range []networks.Family{cfg.IPv4, cfg.IPv6} {
		if f.Address.IsValid() {
			all = append(all, acl.OfPrefix(f.Address))
		}
		for _, r := range f.Routes {
			all = append(all, acl.OfPrefix(r))
		}
	}
	return all
}

// local is what no router passes on.
var local = []netip.Prefix{
	netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff02::/16"),
	netip.MustParsePrefix("224.0.0.0/24"), netip.MustParsePrefix("255.255.255.255/32"),
}

// internal is what @internal is: the network, and what never leaves it.
func (p *place) internal() []acl.Range {
	var all []acl.Range
	for _, l := range local {
		all = append(all, acl.OfPrefix(l))
	}
	if p == nil {
		return all
	}
	return append(all, subnets(p.Config)...)
}

// external is all else.
func (p *place) external() []acl.Range { return acl.Outside(p.internal()) }

// place returns a network as the place of rules.
func (w *world) place(name string) (*place, error) {
	for _, n := range w.networks {
		if n.Name == name {
			return placeOf(n)
		}
	}
	return nil, errs.NotFoundf("network %q not found", name)
}

func placeOf(n db.Network) (*place, error) {
	cfg, err := netkeys.Parse(n.Type, n.Config)
	cfg.Name, cfg.Key = project.Link(n.Name), n.Name
	return &place{cfg, n.Config}, err
}

// logGroup is where the kernel sends what is logged for this daemon.
func (s *Service) logGroup() uint16 {
	const least, some = 1000, 60000
	sum := sha256.Sum256([]byte(s.Dir))
	return least + binary.BigEndian.Uint16(sum[:])%some
}

// policy returns what ACLs mean in a network. What cannot be made any sense of
// is left out: what no rule is about has the default.
func (s *Service) policy(w *world, in *place, names []string) *acl.Policy {
	p := &acl.Policy{Network: in.Name, LogGroup: s.logGroup(), Book: s}
	for _, f := range []networks.Family{in.IPv4, in.IPv6} {
		if f.Address.IsValid() {
			p.Gateways = append(p.Gateways, f.Address.Addr())
		}
	}
	for _, name := range names {
		put, ok := w.acls[name]
		if !ok {
			continue
		}
		w.known(put)
		put = filled(put)
		rules, err := w.rules(name, &put, in)
		if err != nil {
			s.Logger.Error("a network ACL is not what it should be", "acl", name, "err", err)
			continue
		}
		for _, r := range rules {
			d := &p.Ingress
			if r.Direction == acl.Egress {
				d = &p.Egress
			}
			d.Rules = append(d.Rules, r)
		}
	}
	for _, d := range []struct {
		to   *acl.Direction
		name string
	}{{&p.Ingress, acl.Ingress}, {&p.Egress, acl.Egress}} {
		acl.Sort(d.to.Rules)
		d.to.Default = cmp.Or(in.config[keyACLs+".default."+d.name+".action"], acl.Reject)
		d.to.Logged, _ = profiles.ParseBool(in.config[keyACLs+".default."+d.name+".logged"])
		if len(names) > 0 {
			d.to.Owner = names[0]
		}
	}
	return p
}

// Policy returns what an interface's ACLs mean, for [nft.ACLPorts].
func (s *Service) Policy(ctx context.Context, ref acl.Ref) (p *acl.Policy, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := load(ctx, tx)
		if err != nil {
			return err
		}
		in, err := w.place(ref.Network)
		if err != nil {
			return err
		}
		p = s.policy(w, in, ref.ACLs)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, d := range []struct {
		to   *acl.Direction
		what acl.Default
	}{{&p.Ingress, ref.Ingress}, {&p.Egress, ref.Egress}} {
		if d.what.Action != "" {
			d.to.Default = d.what.Action
		}
		if d.what.Logged != "" {
			d.to.Logged, _ = profiles.ParseBool(d.what.Logged)
		}
	}
	return p, nil
}

// Part gives a network's configuration its ACLs, for [nets.Service].
func (s *Service) Part(ctx context.Context, tx *db.Tx, n db.Network, cfg *networks.Config) error {
	names := profiles.SplitList(n.Config[keyACLs])
	if len(names) == 0 {
		return nil
	}
	w, err := load(ctx, tx)
	if err != nil {
		return err
	}
	cfg.ACL = s.policy(w, &place{*cfg, n.Config}, names)
	return nil
}

// Check refuses a network with ACLs that are not there, for [nets.Service].
func (s *Service) Check(ctx context.Context, tx *db.Tx, n db.Network, _ networks.Config) error {
	return check(ctx, tx, profiles.SplitList(n.Config[keyACLs]))
}

// CheckNames refuses ACLs that are not there.
func (s *Service) CheckNames(ctx context.Context, names []string) error {
	return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error { return check(ctx, tx, names) })
}

func check(ctx context.Context, tx *db.Tx, names []string) error {
	seen := map[string]bool{}
	for _, name := range names {
		if _, err := db.GetNetworkObject(ctx, tx, kind, name); err != nil {
			return errs.Newf(errs.KindOf(err), "%s: %w", keyACLs, err)
		}
		if seen[name] {
			return errs.Invalidf("%s: network ACL %q is there twice", keyACLs, name)
		}
		seen[name] = true
	}
	return nil
}
