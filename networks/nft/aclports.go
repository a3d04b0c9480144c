package nft

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
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

// ACLPorts are the table of one daemon for the ACLs of its instances'
// interfaces. They hold between those on one bridge, too. The kernel knows no
// connections there: the table keeps them itself, in sets of each port, so that
// no instance can fill those of another.
type ACLPorts struct {
	suffix string

	mu      sync.Mutex // Guards what follows.
	compile func(acl.Ref) (*acl.Policy, error)
	have    map[string]ACLPort // By link.
	rules   map[string]*portPolicy
	made    bool
}

// A portPolicy is what ports with the same ACLs have in common.
type portPolicy struct {
	ref    acl.Ref
	policy *acl.Policy
	ports  int
	made   bool // The table has it.
}

// A gonePolicy is one that no port has any more.
type gonePolicy struct {
	*portPolicy

	key  string
	keep map[string]bool // Its sets that others have, too.
}

// NewACLPorts returns the table of the daemon with a directory.
func NewACLPorts(dir string) *ACLPorts {
	sum := sha256.Sum256([]byte(dir))
	return &ACLPorts{suffix: hex.EncodeToString(sum[:4]), have: map[string]ACLPort{}, rules: map[string]*portPolicy{}}
}

// Serve says who knows what ACLs mean. Before that no port can have any.
func (s *ACLPorts) Serve(compile func(acl.Ref) (*acl.Policy, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compile = compile
}

func (s *ACLPorts) table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyNetdev, Name: "cuib-acls_" + s.suffix}
}

func keyOf(ref acl.Ref) string {
	raw, _ := json.Marshal(ref) // It has nothing that cannot be written.
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// policyOf returns what a reference means, which others can have asked before.
func (s *ACLPorts) policyOf(ref acl.Ref) (*portPolicy, error) {
	if p := s.rules[keyOf(ref)]; p != nil {
		return p, nil
	}
	if s.compile == nil {
		return nil, errs.Newf(errs.Unavailable, "network ACLs are not known yet")
	}
	policy, err := s.compile(ref)
	if err != nil {
		return nil, err
	}
	return &portPolicy{ref: ref, policy: policy}, nil
}

// Set gives a port the ACLs that it asks for, in one transaction. Connections
// that are open go on.
func (s *ACLPorts) Set(p ACLPort) error {
	if len(p.Ref.ACLs) == 0 {
		return s.Unset(p.Link)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := s.policyOf(p.Ref)
	if err != nil {
		return err
	}
	old, had := s.have[p.Link]
	if had && keyOf(old.Ref) == keyOf(p.Ref) {
		had = false // It keeps its own.
	} else {
		now.ports++
	}
	s.rules[keyOf(p.Ref)], s.have[p.Link] = now, p
	if s.made && s.commit(func(b *batch) error { return s.change(b, p, s.release(old, had)) }) == nil {
		now.made = true
		return nil
	}
	// The table is not there yet, or not any more.
	if err := s.replace(); err != nil {
		if delete(s.have, p.Link); old.Link != "" {
			s.have[p.Link] = old
		}
		s.recount()
		return unsupported(err)
	}
	return nil
}

// unsupported tells what a kernel lacks that refuses the table.
func unsupported(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return errs.Newf(errs.Unsupported, "security.acls: the kernel has no nftables at the ends of interfaces (netdev egress, Linux 5.16): %w", err)
	}
	return err
}

// change has a port have the rules that it is to have.
func (s *ACLPorts) change(b *batch, p ACLPort, gone []gonePolicy) error {
	there, err := chainsOf(b.c, b.t)
	if err != nil {
		return err
	}
	key := keyOf(p.Ref)
	policy := s.rules[key]
	if !policy.made {
		if err := b.addPolicy(key, policy.policy); err != nil {
			return err
		}
	}
	if err := b.addPort(p, policy.policy); err != nil {
		return err
	}
	for _, g := range gone {
		b.removePolicy(g, there)
	}
	return nil
}

// release gives back the policy of a port that has another now, and returns it
// if no port has it any more.
func (s *ACLPorts) release(old ACLPort, had bool) []gonePolicy { //nolint:revive // a part of the value
	if !had {
		return nil
	}
	key := keyOf(old.Ref)
	p := s.rules[key]
	if p == nil {
		return nil
	}
	if p.ports--; p.ports > 0 {
		return nil
	}
	delete(s.rules, key)
	return []gonePolicy{{p, key, s.setNames()}}
}

// setNames are those of the sets that policies have.
func (s *ACLPorts) setNames() map[string]bool {
	all := map[string]bool{}
	for key, r := range s.rules {
		sets, _ := policyContents(key, r.policy, &ids{})
		for _, set := range sets {
			all[set.Name] = true
		}
	}
	return all
}

// recount finds out which policies the ports have.
func (s *ACLPorts) recount() {
	for key, p := range s.rules {
		p.ports = 0
		for _, port := range s.have {
			if keyOf(port.Ref) == key {
				p.ports++
			}
		}
		if p.ports == 0 {
			delete(s.rules, key)
		}
	}
}

// Unset takes the ACLs of a port away. That it has none is no error.
func (s *ACLPorts) Unset(link string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, had := s.have[link]
	if !had {
		return nil
	}
	policy := s.rules[keyOf(p.Ref)]
	delete(s.have, link)
	gone := s.release(p, true)
	if len(s.have) == 0 {
		return s.replace()
	}
	err := s.commit(func(b *batch) error {
		there, err := chainsOf(b.c, b.t)
		if err != nil {
			return err
		}
		b.removePort(p, policy.policy, there)
		for _, g := range gone {
			b.removePolicy(g, there)
		}
		return nil
	})
	if err != nil {
		return s.replace()
	}
	return nil
}

// Refresh makes the rules of ports with one of the ACLs anew, or of all ports if
// none is named. Connections that are open go on.
func (s *ACLPorts) Refresh(names ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := map[string]*portPolicy{}
	for key, p := range s.rules {
		if len(names) > 0 && !intersect(p.ref.ACLs, names) {
			continue
		}
		policy, err := s.compile(p.ref)
		if err != nil {
			return err
		}
		changed[key] = &portPolicy{p.ref, policy, p.ports, true}
	}
	if len(changed) == 0 {
		return nil
	}
	stale := s.setNames()
	maps.Copy(s.rules, changed)
	for name := range s.setNames() {
		delete(stale, name)
	}
	err := s.commit(func(b *batch) error {
		for _, key := range sorted(changed) {
			if err := b.addPolicy(key, changed[key].policy); err != nil {
				return err
			}
		}
		for _, name := range sorted(stale) {
			b.c.DelSet(&nftables.Set{Table: b.t, Name: name})
		}
		return nil
	})
	if err != nil {
		return s.replace()
	}
	return nil
}

func intersect(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool { return slices.Contains(b, x) })
}

// Readdress puts the addresses that the book has now into the table. The rules
// stay as they are.
func (s *ACLPorts) Readdress() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sets []set
	for _, key := range sorted(s.rules) {
		some, _ := policyContents(key, s.rules[key].policy, &ids{})
		sets = append(sets, some...)
	}
	return readdress(s.table(), sets)
}

// Take has the table be that of ports which are there already, as after the
// daemon's start. What one cannot have, as its ACLs are not there any more, it
// does without, and is returned as an error.
func (s *ACLPorts) Take(ports []ACLPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.have)
	clear(s.rules)
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
		policy.ports++
		s.rules[keyOf(p.Ref)], s.have[p.Link] = policy, p
	}
	if ok, err := s.intact(); ok && err == nil {
		s.made = len(s.have) > 0
		return errors.Join(failed...) // With the connections that it has kept.
	}
	return errors.Join(append(failed, s.replace())...)
}

// Restore makes the table anew if something of it is missing, and reports
// whether it was so.
func (s *ACLPorts) Restore() (missing bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ok, err := s.intact()
	if err != nil || ok {
		return false, err
	}
	return true, s.replace()
}

// Count returns how often the rules of a policy that a port has were used. There
// are none if it has no ACLs.
func (s *ACLPorts) Count(link string) (*acl.Policy, []Count, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	port, had := s.have[link]
	if !had {
		return nil, nil, nil
	}
	key := keyOf(port.Ref)
	p := s.rules[key].policy
	all, err := countPolicy(s.table(), key, p)
	return p, all, err
}

// Counts returns how often the rules of all policies were used, each of which
// several ports can have.
func (s *ACLPorts) Counts() (map[*acl.Policy][]Count, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[*acl.Policy][]Count{}
	for key, p := range s.rules {
		all, err := countPolicy(s.table(), key, p.policy)
		if err != nil {
			return nil, err
		}
		out[p.policy] = all
	}
	return out, nil
}

// A batch is a transaction of the kernel's that is being put together.
type batch struct {
	c   *nftables.Conn
	t   *nftables.Table
	ids ids
}

// commit changes the table.
func (s *ACLPorts) commit(fn func(*batch) error) error {
	c, err := dial()
	if err != nil {
		return err
	}
	b := &batch{c: c, t: s.table()}
	if err := fn(b); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("change nftables table %s: %w", b.t.Name, err)
	}
	return nil
}

// replace makes the table anew, or takes it away where no port needs it. The
// connections of ports are forgotten.
func (s *ACLPorts) replace() error {
	ports := s.here()
	err := s.commit(func(b *batch) error {
		b.c.AddTable(b.t)
		b.c.DelTable(b.t)
		if len(s.have) == 0 {
			return nil
		}
		b.c.AddTable(b.t)
		for _, key := range sorted(s.rules) {
			if err := b.addPolicy(key, s.rules[key].policy); err != nil {
				return err
			}
		}
		for _, p := range ports {
			if err := b.addPort(p, s.rules[keyOf(p.Ref)].policy); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.made = len(s.have) > 0
	for _, r := range s.rules {
		r.made = true
	}
	return nil
}

// intact reports whether the table is as it was made.
func (s *ACLPorts) intact() (bool, error) {
	if len(s.have) == 0 {
		return !s.made, nil
	}
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", err)
	}
	var want []chain
	for _, key := range sorted(s.rules) {
		_, some := policyContents(key, s.rules[key].policy, &ids{})
		want = append(want, some...)
	}
	there, err := chainsOf(c, s.table())
	if err != nil {
		return false, err
	}
	for _, p := range s.have {
		_, some := portContents(p, s.rules[keyOf(p.Ref)].policy, &ids{})
		if _, err := netlink.LinkByName(p.Link); err != nil { // The kernel can have taken some with the interface.
			some = slices.DeleteFunc(some, func(ch chain) bool { return there[ch.Name] == nil })
		}
		want = append(want, some...)
	}
	return intact(c, s.table(), want)
}

// here are the ports that the host has.
func (s *ACLPorts) here() []ACLPort {
	var all []ACLPort
	for _, link := range sorted(s.have) {
		if _, err := netlink.LinkByName(link); err == nil {
			all = append(all, s.have[link])
		}
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
