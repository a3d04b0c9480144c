package nft

import (
	"errors"
	"fmt"
	"maps"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/shared/errs"
)

// An aclTable is one of the tables for the ACLs of ports.
type aclTable struct {
	*nftables.Table

	have  map[string]ACLPort // By link.
	rules map[string]*portPolicy
	made  bool
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

func newACLTable(t *nftables.Table) *aclTable {
	return &aclTable{Table: t, have: map[string]ACLPort{}, rules: map[string]*portPolicy{}}
}

// take has the table know of a port, and returns what ports have in common that
// have the same ACLs.
func (s *aclTable) take(p ACLPort, policy *acl.Policy) *portPolicy {
	key := keyOf(p.Ref)
	if s.rules[key] == nil {
		s.rules[key] = &portPolicy{ref: p.Ref, policy: policy}
	}
	s.rules[key].ports++
	s.have[p.Link] = p
	return s.rules[key]
}

func (s *aclTable) set(p ACLPort, policy *acl.Policy) error {
	old, had := s.have[p.Link]
	before := maps.Clone(s.rules)
	now := s.take(p, policy)
	if had && keyOf(old.Ref) == keyOf(p.Ref) {
		now.ports--
		had = false // It keeps its own.
	}
	if s.made && s.commit(func(b *batch) error { return s.change(b, p, s.release(old, had)) }) == nil {
		now.made = true
		return nil
	}
	// The table is not there yet, or not any more.
	if err := s.replace(); err != nil {
		if delete(s.have, p.Link); old.Link != "" {
			s.have[p.Link] = old
		}
		s.rules = before // With what this port alone had.
		s.recount()
		return err
	}
	return nil
}

// change has a port have the rules that it is to have.
func (s *aclTable) change(b *batch, p ACLPort, gone []gonePolicy) error {
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
		if err := b.removePolicy(g); err != nil {
			return err
		}
	}
	return nil
}

// release gives back the policy of a port that has another now, and returns it
// if no port has it any more.
func (s *aclTable) release(old ACLPort, had bool) []gonePolicy { //nolint:revive // a part of the value
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

// sets are all that policies have.
func (s *aclTable) sets() []set {
	var all []set
	for _, key := range sorted(s.rules) {
		some, _ := policyContents(key, s.rules[key].policy, &ids{})
		all = append(all, some...)
	}
	return all
}

// setNames are those of the sets that policies have.
func (s *aclTable) setNames() map[string]bool {
	all := map[string]bool{}
	for _, set := range s.sets() {
		all[set.Name] = true
	}
	return all
}

// recount finds out which policies the ports have.
func (s *aclTable) recount() {
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

func (s *aclTable) unset(link string) error {
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
		if err := b.removePort(p, policy.policy); err != nil {
			return err
		}
		for _, g := range gone {
			if err := b.removePolicy(g); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return s.replace()
	}
	return nil
}

// refresh has those policies that have changed be what they are now.
func (s *aclTable) refresh(all map[string]*acl.Policy) error {
	changed := map[string]*portPolicy{}
	for key, p := range s.rules {
		if policy := all[key]; policy != nil {
			changed[key] = &portPolicy{p.ref, policy, p.ports, true}
		}
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

// A batch is a transaction of the kernel's that is being put together.
type batch struct {
	c   *transaction
	t   *nftables.Table
	ids ids
}

// commit changes the table.
func (s *aclTable) commit(fn func(*batch) error) error {
	c, err := begin()
	if err != nil {
		return err
	}
	b := &batch{c: c, t: s.Table}
	if err := fn(b); err != nil {
		return err
	}
	if err := c.commit(); err != nil {
		return fmt.Errorf("change nftables table %s: %w", b.t.Name, err)
	}
	return nil
}

// replace makes the table anew, or takes it away where no port needs it. The
// connections of ports are forgotten.
func (s *aclTable) replace() error {
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
	if errors.Is(err, unix.ENOENT) && len(s.here()) == len(ports) { // All that it names is there.
		err = errs.Newf(errs.Unsupported, "network ACLs at interfaces: the kernel lacks what their rules need, such as nft_reject_netdev: %w", err)
	}
	if err != nil {
		return err
	}
	s.made = len(s.have) > 0
	for _, r := range s.rules {
		r.made = true
	}
	return nil
}

// intact reports whether the table is as it was made. Known are the chains of
// policies by their keys, which several tables have.
func (s *aclTable) intact(now netdevNow, known map[string][]chain) bool {
	if len(s.have) == 0 {
		return !s.made
	}
	var want []chain
	for _, key := range sorted(s.rules) {
		if known[key] == nil {
			_, some := policyContents(key, s.rules[key].policy, &ids{})
			known[key] = kept(some)
		}
		want = append(want, known[key]...)
	}
	gone := map[string]bool{}
	for _, p := range s.have {
		_, some := portContents(p, s.rules[keyOf(p.Ref)].policy, &ids{})
		if now.links[p.Link] {
			want = append(want, some...)
			continue
		}
		for _, ch := range some { // The kernel can have taken some with the interface.
			gone[ch.Name] = true
		}
	}
	return now.matches(s.Table, want, gone)
}

// here are the ports that the host has.
func (s *aclTable) here() []ACLPort {
	var all []ACLPort
	for _, link := range sorted(s.have) {
		if isHere(link) {
			all = append(all, s.have[link])
		}
	}
	return all
}
