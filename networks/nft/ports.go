package nft

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A Port is the host's end of an instance's interface, with what is done to
// packets that come from the instance.
type Port struct {
	Link     string           // The interface of the host.
	Bridged  bool             // It is a port of a bridge; else the host routes what comes from it.
	MAC      net.HardwareAddr // The one that frames can come from; nil for any.
	Priority uint32           // For queues of the host; 0 for what they have.

	// Where packets can come from. An instance that may have no address of a
	// family has no packets of it.
	OnlyIPv4, OnlyIPv6 bool
	IPv4, IPv6         []netip.Prefix
}

// empty reports whether nothing is done.
func (p Port) empty() bool {
	return p.MAC == nil && p.Priority == 0 && !p.OnlyIPv4 && !p.OnlyIPv6
}

// Ports are the tables of one daemon for the ports of its instances: one for
// those of bridges and one for the others. A packet finds the rules of its
// port at once, however many ports there are.
type Ports struct {
	suffix string
	acls   *ACLPorts

	mu   sync.Mutex // Guards what follows.
	have map[string]Port
	made map[nftables.TableFamily]bool
}

// NewPorts returns the tables of the daemon with a directory.
func NewPorts(dir string) *Ports {
	sum := sha256.Sum256([]byte(dir))
	return &Ports{suffix: hex.EncodeToString(sum[:4]), acls: NewACLPorts(dir), have: map[string]Port{}, made: map[nftables.TableFamily]bool{}}
}

// ACLs are those of the same ports.
func (s *Ports) ACLs() *ACLPorts { return s.acls }

// Set makes the rules of a port be those that it asks for, in one transaction:
// no packet passes between the old and the new ones.
func (s *Ports) Set(p Port) error {
	if p.empty() {
		return s.Unset(p.Link)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, had := s.have[p.Link]
	if had && old.Bridged != p.Bridged {
		if err := s.unset(p.Link); err != nil {
			return err
		}
	}
	s.have[p.Link] = p
	family := p.family()
	if s.made[family] && s.commit("change", family, func(c *nftables.Conn, t *nftables.Table) { addPort(c, t, p) }) == nil {
		return nil
	}
	// The table is not there yet, or not any more.
	if err := s.replace(family); err != nil {
		if delete(s.have, p.Link); had {
			s.have[p.Link] = old
		}
		return err
	}
	return nil
}

// Unset takes the rules of a port away. That there are none is no error.
func (s *Ports) Unset(link string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unset(link)
}

func (s *Ports) unset(link string) error {
	p, had := s.have[link]
	if !had {
		return nil
	}
	delete(s.have, link)
	family := p.family()
	if len(s.of(family)) > 0 && s.made[family] && s.commit("change", family, func(c *nftables.Conn, t *nftables.Table) { delPort(c, t, p) }) == nil {
		return nil
	}
	if err := s.replace(family); err != nil {
		s.have[link] = p
		return err
	}
	return nil
}

// Restore makes both tables anew, if something of them is missing, and reports
// whether it was so.
func (s *Ports) Restore() (missing bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, family := range portFamilies {
		ok, err := s.intact(family)
		if err == nil && !ok {
			missing, err = true, s.replace(family)
		}
		if err != nil {
			return missing, err
		}
	}
	return missing, nil
}

// Take has the tables be those of ports which are there already, as after the
// daemon's start.
func (s *Ports) Take(ports []Port) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.have)
	for _, p := range ports {
		if !p.empty() {
			s.have[p.Link] = p
		}
	}
	var failed []error
	for _, family := range portFamilies {
		failed = append(failed, s.replace(family))
	}
	return errors.Join(failed...)
}

var portFamilies = []nftables.TableFamily{nftables.TableFamilyBridge, nftables.TableFamilyINet}

func (p Port) family() nftables.TableFamily {
	if p.Bridged {
		return nftables.TableFamilyBridge
	}
	return nftables.TableFamilyINet
}

// of returns the ports of a family, by name.
func (s *Ports) of(family nftables.TableFamily) []Port {
	var all []Port
	for _, name := range slices.Sorted(maps.Keys(s.have)) {
		if p := s.have[name]; p.family() == family {
			all = append(all, p)
		}
	}
	return all
}

// replace makes a table anew, or takes it away where no port needs it.
func (s *Ports) replace(family nftables.TableFamily) error {
	ports := s.of(family)
	err := s.commit("replace", family, func(c *nftables.Conn, t *nftables.Table) {
		c.AddTable(t)
		c.DelTable(t)
		if len(ports) == 0 {
			return
		}
		c.AddTable(t)
		m := portMap(t)
		_ = addSet(c, m) // It fails only for elements, of which there are none.
		base := portBase(t)
		c.AddChain(base.Chain)
		for _, r := range base.rules {
			c.AddRule(newRule(t, base.Chain, r))
		}
		for _, p := range ports {
			addPort(c, t, p)
		}
	})
	if err == nil {
		s.made[family] = len(ports) > 0
	}
	return err
}

// intact reports whether a table is as it was made.
func (s *Ports) intact(family nftables.TableFamily) (bool, error) {
	ports := s.of(family)
	if len(ports) == 0 {
		return true, nil
	}
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", err)
	}
	t := s.table(family)
	want := []chain{portBase(t)}
	for _, p := range ports {
		want = append(want, chain{portChain(t, p), p.rules()})
	}
	if ok, err := intact(c, t, want); err != nil || !ok {
		return false, err
	}
	elements, err := c.GetSetElements(portMap(t))
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list nftables table %s: %w", t.Name, err)
	}
	return leads(elements, t, ports), nil
}

// leads tells whether the elements of a map lead to the chains of ports, and to
// nothing else.
func leads(elements []nftables.SetElement, t *nftables.Table, ports []Port) bool {
	to := map[string]string{}
	for _, e := range elements {
		to[string(e.Key)] = verdictChain(e)
	}
	for _, p := range ports {
		if to[string(ifname(p.Link))] != portChain(t, p).Name {
			return false
		}
	}
	return len(elements) == len(ports)
}

// verdictChain returns the chain that an element of a map jumps to. The library
// leaves what it leads to as it is in the message.
func verdictChain(e nftables.SetElement) string {
	attrs, err := nl.ParseRouteAttr(e.Val)
	if err != nil {
		return ""
	}
	for _, a := range attrs {
		if a.Attr.Type == unix.NFTA_VERDICT_CHAIN {
			return nl.BytesToString(a.Value)
		}
	}
	return ""
}

// portBase is the chain that the kernel calls.
func portBase(t *nftables.Table) chain {
	ch := newChain("prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, portPriority(t.Family), []rule{lookup(portMap(t))})
	ch.Table = t
	return ch
}

func (s *Ports) commit(verb string, family nftables.TableFamily, fn func(*nftables.Conn, *nftables.Table)) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	t := s.table(family)
	fn(c, t)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("%s nftables table %s: %w", verb, t.Name, err)
	}
	return nil
}

func (s *Ports) table(family nftables.TableFamily) *nftables.Table {
	return &nftables.Table{Family: family, Name: "cuib-nics_" + s.suffix}
}

// portPriority is before everything else of the same place.
func portPriority(family nftables.TableFamily) *nftables.ChainPriority {
	if family == nftables.TableFamilyBridge {
		return nftables.ChainPriorityRef(-300)
	}
	return nftables.ChainPriorityRef(-290)
}

// portMap leads from interfaces to the chains of ports.
func portMap(t *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: t, Name: "ports", IsMap: true, KeyType: nftables.TypeIFName, DataType: nftables.TypeVerdict}
}

func portChain(t *nftables.Table, p Port) *nftables.Chain {
	return &nftables.Chain{Table: t, Name: "port_" + portName(p.Link)}
}

// portName tells interfaces apart where names have fewer characters than
// theirs.
func portName(link string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, link)
	sum := sha256.Sum256([]byte(link))
	return clean + "_" + hex.EncodeToString(sum[:4])
}

func addPort(c *nftables.Conn, t *nftables.Table, p Port) {
	ch := portChain(t, p)
	c.AddChain(ch)
	c.FlushChain(ch)
	for _, r := range p.rules() {
		c.AddRule(newRule(t, ch, r))
	}
	_ = c.SetAddElements(portMap(t), []nftables.SetElement{portElement(t, p)}) // It fails only for anonymous sets.
}

// rules are all of a port.
func (p Port) rules() []rule {
	rules := p.routed()
	if p.Bridged {
		rules = p.bridged()
	}
	return append(p.marks(), rules...)
}

func delPort(c *nftables.Conn, t *nftables.Table, p Port) {
	_ = c.SetDeleteElements(portMap(t), []nftables.SetElement{portElement(t, p)}) // As above.
	ch := portChain(t, p)
	c.FlushChain(ch)
	c.DelChain(ch)
}
