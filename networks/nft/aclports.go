package nft

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/shared/errs"
)

// An ACLPort is the host's end of a bridged interface of an instance, with the
// ACLs that it has.
type ACLPort struct {
	Link string
	Ref  acl.Ref
}

// ACLPorts are the tables of one daemon for the ACLs of its instances'
// interfaces. They hold between those on one bridge, too. The kernel knows no
// connections there: the tables keep them themselves, in sets of each port, so
// that no instance can fill those of another. A port has its place in one of
// them, as it has among [Ports].
type ACLPorts struct {
	suffix string

	mu      ward // Guards what follows.
	compile func(acl.Ref) (*acl.Policy, error)
	tables  [buckets]*aclTable
}

// NewACLPorts returns the tables of the daemon with a directory.
func NewACLPorts(dir string) *ACLPorts {
	sum := sha256.Sum256([]byte(dir))
	s := &ACLPorts{suffix: hex.EncodeToString(sum[:4])}
	for n := range s.tables {
		s.tables[n] = newACLTable(bucket(s.name(), n))
	}
	return s
}

func (s *ACLPorts) name() string { return "cuib-acls_" + s.suffix }

// Serve says who knows what ACLs mean. Before that no port can have any.
func (s *ACLPorts) Serve(compile func(acl.Ref) (*acl.Policy, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compile = compile
}

func keyOf(ref acl.Ref) string {
	raw, _ := json.Marshal(ref) // It has nothing that cannot be written.
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// policyOf returns what a reference means, which others can have asked before.
func (s *ACLPorts) policyOf(ref acl.Ref) (*acl.Policy, error) {
	for _, t := range s.tables {
		if p := t.rules[keyOf(ref)]; p != nil {
			return p.policy, nil
		}
	}
	if s.compile == nil {
		return nil, errs.Newf(errs.Unavailable, "network ACLs are not known yet")
	}
	return s.compile(ref)
}

// Set gives a port the ACLs that it asks for, in one transaction. Connections
// that are open go on.
func (s *ACLPorts) Set(p ACLPort) error {
	if len(p.Ref.ACLs) == 0 {
		return s.Unset(p.Link)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.changes++
	policy, err := s.policyOf(p.Ref)
	if err != nil {
		return err
	}
	return unsupported(s.of(p.Link).set(p, policy))
}

func (s *ACLPorts) of(link string) *aclTable { return s.tables[bucketOf(link)] }

// unsupported tells what a kernel lacks that refuses the table.
func unsupported(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return errs.Newf(errs.Unsupported, "security.acls: the kernel has no nftables at the ends of interfaces (netdev egress, Linux 5.16): %w", err)
	}
	return err
}

// Unset takes the ACLs of a port away. That it has none is no error.
func (s *ACLPorts) Unset(link string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.changes++
	return s.of(link).unset(link)
}

// Refresh makes the rules of ports with one of the ACLs anew, or of all ports if
// none is named. Connections that are open go on.
func (s *ACLPorts) Refresh(names ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.changes++
	changed := map[string]*acl.Policy{}
	for _, t := range s.tables {
		for key, p := range t.rules {
			if changed[key] != nil || len(names) > 0 && !intersect(p.ref.ACLs, names) {
				continue
			}
			policy, err := s.compile(p.ref)
			if err != nil {
				return err
			}
			changed[key] = policy
		}
	}
	var failed []error
	for _, t := range s.tables {
		failed = append(failed, t.refresh(changed))
	}
	return errors.Join(failed...)
}

func intersect(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool { return slices.Contains(b, x) })
}

// Readdress puts the addresses that the book has now into the tables. The rules
// stay as they are.
func (s *ACLPorts) Readdress() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed []error
	for _, t := range s.tables {
		failed = append(failed, readdress(t.Table, t.sets()))
	}
	return errors.Join(failed...)
}

// Take has the tables be those of ports which are there already, as after the
// daemon's start. What one cannot have, as its ACLs are not there any more, it
// does without, and is returned as an error.
func (s *ACLPorts) Take(ports []ACLPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.changes++
	for n, t := range s.tables {
		s.tables[n] = newACLTable(t.Table)
	}
	var failed []error
	for _, p := range ports {
		if len(p.Ref.ACLs) == 0 {
			continue
		}
		policy, err := s.policyOf(p.Ref)
		if err != nil {
			failed = append(failed, fmt.Errorf("network interface %s: %w", p.Link, err))
			continue
		}
		s.of(p.Link).take(p, policy)
	}
	now, err := look()
	if err == nil {
		_, err = s.restore(now)
	}
	if err == nil {
		err = sweep(s.name(), func(n int) bool { return len(s.tables[n].have) > 0 })
	}
	return errors.Join(append(failed, err)...)
}

// Restore makes those tables anew of which something is missing, and reports
// whether there are some.
func (s *ACLPorts) Restore() (missing bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(s.tables[:], func(t *aclTable) bool { return t.made || len(t.have) > 0 }) {
		return false, nil
	}
	now, err := s.mu.look()
	if err != nil {
		return false, err
	}
	return s.restore(now)
}

// restore leaves tables alone of which nothing is missing, with the connections
// that they have kept.
func (s *ACLPorts) restore(now netdevNow) (missing bool, err error) {
	var failed []error
	known := map[string][]chain{}
	for _, t := range s.tables {
		if t.intact(now, known) {
			t.made = len(t.have) > 0
			continue
		}
		missing = true
		s.mu.changes++
		failed = append(failed, t.replace())
	}
	return missing, errors.Join(failed...)
}

// Count returns how often the rules of a policy that a port has were used. There
// are none if it has no ACLs.
func (s *ACLPorts) Count(link string) (*acl.Policy, []Count, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	port, had := s.of(link).have[link]
	if !had {
		return nil, nil, nil
	}
	key := keyOf(port.Ref)
	all, err := s.count(key)
	return s.of(link).rules[key].policy, all, err
}

// Counts returns how often the rules of all policies were used, each of which
// several ports can have.
func (s *ACLPorts) Counts() (map[*acl.Policy][]Count, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, done := map[*acl.Policy][]Count{}, map[string]bool{}
	for _, t := range s.tables {
		for key, p := range t.rules {
			if done[key] {
				continue
			}
			done[key] = true
			all, err := s.count(key)
			if err != nil {
				return nil, err
			}
			out[p.policy] = all
		}
	}
	return out, nil
}

// count adds up how often the rules of a policy were used in all tables.
func (s *ACLPorts) count(key string) ([]Count, error) {
	var all []Count
	for _, t := range s.tables {
		p := t.rules[key]
		if p == nil {
			continue
		}
		some, err := countPolicy(t.Table, key, p.policy)
		if err != nil {
			return nil, err
		}
		all = plus(all, some)
	}
	return all, nil
}

// plus adds counts to others.
func plus(all, some []Count) []Count {
	for _, c := range some {
		i := slices.IndexFunc(all, func(a Count) bool { return a.Direction == c.Direction && a.Rule == c.Rule })
		if i < 0 {
			all = append(all, c)
			continue
		}
		all[i].Packets += c.Packets
		all[i].Bytes += c.Bytes
	}
	return all
}

// gateways of a family.
func gateways(p *acl.Policy, six bool) []netip.Addr { //nolint:revive // a value and not a switch
	var all []netip.Addr
	for _, a := range p.Gateways {
		if a.Is6() == six {
			all = append(all, a)
		}
	}
	return all
}
