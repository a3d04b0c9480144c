package acls

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/mirror"
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

// reload finds out which addresses subjects have now. What no rule names costs
// nothing: of instances it looks at those alone that one is about. The caller holds
// change.
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
	for _, n := range w.networks {
		b.addNetwork(n)
	}
	if err := s.addInstances(ctx, w, b); err != nil {
		return err
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

// addNetwork puts what is in a network for sure into the book.
func (b book) addNetwork(n db.Network) {
	in, err := placeOf(n)
	if err != nil || n.Status != db.Ready {
		return // It says so elsewhere.
	}
	for _, r := range subnets(in.Config) {
		b.add(bookNetwork+n.Name, r)
		for _, name := range profiles.SplitList(n.Config[keyACLs]) {
			b.add(bookACL+name, r)
		}
	}
}

// A guest is what rules have to do with of an instance. It is not changed.
type guest struct{ nics []nic }

// A nic is an interface of an instance.
type nic struct {
	network string       // Empty for one on no managed network.
	acls    []string     // That it has.
	chosen  []netip.Addr // On no managed network: those that it has by its options.
}

// among returns those of some ACLs that the interface has, by their names in the
// book.
func (n nic) among(acls map[string]bool) (names []string) {
	for _, of := range n.acls {
		if acls[of] {
			names = append(names, bookACL+of)
		}
	}
	return names
}

func guestOf(_ db.Instance, expanded profiles.Config) (g guest) {
	for _, d := range expanded.Devices {
		if d["type"] == "nic" {
			g.nics = append(g.nics, nic{d["network"], profiles.SplitList(d[keyACLs]), chosen(d)})
		}
	}
	return g
}

// A subject is an interface that rules are about: that of an instance which they
// name, or one with an ACL that they name.
type subject struct {
	nic

	instance string
	names    []string // In the book.
}

// concerned returns the interfaces that rules are about.
func (s *Service) concerned(ctx context.Context, w *world) ([]subject, error) {
	instances, acls := w.subjects()
	if len(instances) == 0 && len(acls) == 0 {
		return nil, nil
	}
	s.guestsOnce.Do(func() { s.guests = mirror.New(guestOf) })
	var out []subject
	err := s.guests.Read(ctx, s.DB, func(names []string, all map[string]guest) {
		for _, name := range names {
			for _, n := range all[name].nics {
				is := subject{n, name, nil}
				if instances[name] {
					is.names = append(is.names, bookInstance+name)
				}
				is.names = append(is.names, n.among(acls)...)
				if len(is.names) > 0 {
					out = append(out, is)
				}
			}
		}
	})
	return out, err
}

// addInstances puts the addresses of the interfaces that rules are about into the
// book. Of networks it asks those alone that they are on.
func (s *Service) addInstances(ctx context.Context, w *world, b book) error {
	all, err := s.concerned(ctx, w)
	if err != nil {
		return err
	}
	bridges := map[string]bool{}
	for _, n := range w.networks {
		_, err := placeOf(n)
		bridges[n.Name] = err == nil && n.Status == db.Ready && netkeys.HasBridge(n.Type)
	}
	held := map[string]map[string][]netip.Addr{} // By network and instance.
	for _, one := range all {
		if held[one.network] == nil && bridges[one.network] {
			if held[one.network], err = s.held(ctx, one.network); err != nil {
				return err
			}
		}
		for _, a := range slices.Concat(one.chosen, held[one.network][one.instance]) {
			for _, name := range one.names {
				b.add(name, acl.OfAddress(a))
			}
		}
	}
	return nil
}

// held returns which addresses instances have on a network.
func (s *Service) held(ctx context.Context, network string) (map[string][]netip.Addr, error) {
	all, err := s.Nets.Addresses(ctx, network)
	out := map[string][]netip.Addr{}
	for _, a := range all {
		out[a.Name] = append(out[a.Name], a.Address) // Nobody has the name of the host, which is empty.
	}
	return out, err
}

// chosen are the addresses that a NIC on no managed network has by its options.
func chosen(d profiles.Device) []netip.Addr {
	if d["network"] != "" {
		return nil // It knows what of them there is.
	}
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
