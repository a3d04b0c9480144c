package acls

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/profiles"
)

// Addresses returns the addresses of a subject of rules.
func (s *Service) Addresses(name string) []acl.Range {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addresses[name]
}

// reload finds out which addresses subjects have now. The caller holds change.
func (s *Service) reload(ctx context.Context) error {
	var w *world
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		w, err = load(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	b := book{}
	for name, put := range w.sets {
		for _, v := range put.Addresses {
			if r, err := parseRange(v); err == nil {
				b.add(bookSet+name, r)
			}
		}
	}
	held, err := s.held(ctx, w, b)
	if err != nil {
		return err
	}
	for _, in := range w.instances {
		b.addInstance(in.Name, w.devices(in), held)
	}
	for name := range b {
		b[name] = slices.Concat(acl.Merge(b[name], false), acl.Merge(b[name], true))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind = s.behind || !maps.EqualFunc(s.addresses, b, slices.Equal)
	s.addresses = b
	return nil
}

// A book has the addresses of each subject.
type book map[string][]acl.Range

func (b book) add(name string, r acl.Range) { b[name] = append(b[name], r) }

// A nicKey is an instance on a network.
type nicKey struct{ instance, network string }

// held puts networks into a book, and returns which addresses instances have on
// them.
func (s *Service) held(ctx context.Context, w *world, b book) (map[nicKey][]netip.Addr, error) {
	held := map[nicKey][]netip.Addr{}
	for _, n := range w.networks {
		in, err := placeOf(n)
		if err != nil || n.Status != db.Ready {
			continue // It says so elsewhere.
		}
		for _, r := range subnets(in.Config) {
			b.add(bookNetwork+n.Name, r)
			for _, name := range profiles.SplitList(n.Config[keyACLs]) {
				b.add(bookACL+name, r)
			}
		}
		if !netkeys.HasBridge(n.Type) {
			continue
		}
		all, err := s.Nets.Addresses(ctx, n.Name)
		if err != nil {
			return nil, err
		}
		for _, a := range all {
			if a.Name != "" {
				key := nicKey{a.Name, n.Name}
				held[key] = append(held[key], a.Address)
			}
		}
	}
	return held, nil
}

// addInstance puts the addresses of an instance's interfaces into the book.
func (b book) addInstance(name string, devices map[string]profiles.Device, held map[nicKey][]netip.Addr) {
	for _, d := range devices {
		if d["type"] != "nic" {
			continue
		}
		all := held[nicKey{name, d["network"]}]
		if d["network"] == "" {
			all = chosen(d)
		}
		for _, a := range all {
			b.add(bookInstance+name, acl.OfAddress(a))
			for _, of := range profiles.SplitList(d[keyACLs]) {
				b.add(bookACL+of, acl.OfAddress(a))
			}
		}
	}
}

// chosen are the addresses that a NIC on no managed network has by its options.
func chosen(d profiles.Device) []netip.Addr {
	var all []netip.Addr
	for _, v := range append(profiles.SplitList(d["ipv4.address"]), profiles.SplitList(d["ipv6.address"])...) {
		text, _, _ := strings.Cut(v, "/")
		if a, err := netip.ParseAddr(text); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// readdress has the kernel follow the addresses that subjects have now. What fails
// is done at the next call. The caller holds change.
func (s *Service) readdress(ctx context.Context) error {
	if err := s.reload(ctx); err != nil || !s.behind {
		return err
	}
	policies := map[string]*acl.Policy{} // By network.
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := load(ctx, tx)
		if err != nil {
			return err
		}
		for _, n := range w.networks {
			names := profiles.SplitList(n.Config[keyACLs])
			in, err := placeOf(n)
			if err == nil && len(names) > 0 && n.Status == db.Ready {
				policies[n.Name] = s.policy(w, in, names)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var failed []error
	for _, n := range sorted(policies) {
		if err := nft.Readdress(networks.Config{Name: policies[n].Network, ACL: policies[n]}); err != nil {
			failed = append(failed, s.Nets.Reapply(ctx, n)) // The table is not as it should be.
		}
	}
	err = errors.Join(append(failed, s.Ports.Readdress())...)
	s.behind = err != nil
	return err
}

var _ networker = (*nets.Service)(nil)
