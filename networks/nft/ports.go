package nft

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// A Port is the host's end of an instance's interface, with what is done to
// packets that come from the instance.
type Port struct {
	Link     string           // The interface of the host.
	Bridged  bool             // It is a port of a bridge; else the host routes what comes from it.
	MAC      net.HardwareAddr // The one that frames can come from; nil for any.
	Priority uint32           // For queues of the host; 0 for what they have.
	Through  string           // An ifb that what passes is led through; "" for none.

	// Where packets can come from. An instance that may have no address of a
	// family has no packets of it.
	OnlyIPv4, OnlyIPv6 bool
	IPv4, IPv6         []netip.Prefix
}

// empty reports whether nothing is done.
func (p Port) empty() bool {
	return p.MAC == nil && p.Priority == 0 && p.Through == "" && !p.OnlyIPv4 && !p.OnlyIPv6
}

// Ports are the tables of one daemon for the ports of its instances. The kernel
// looks at all rules of a table whenever one changes, and nft takes minutes for a
// thousand tables: so each port has its place in one of some tables. The kernel
// calls its chains as soon as a packet comes in by the port, and for no other
// packet.
type Ports struct {
	suffix string
	acls   *ACLPorts

	mu   ward // Guards what follows.
	have map[string]madePort
}

// A madePort is a port with the chains that it has.
type madePort struct {
	Port

	chains []chain
}

func made(p Port) madePort { return madePort{p, kept(p.chains())} }

// NewPorts returns the tables of the daemon with a directory.
func NewPorts(dir string) *Ports {
	sum := sha256.Sum256([]byte(dir))
	return &Ports{suffix: hex.EncodeToString(sum[:4]), acls: NewACLPorts(dir), have: map[string]madePort{}}
}

// ACLs are those of the same ports.
func (s *Ports) ACLs() *ACLPorts { return s.acls }

// Set makes the rules of a port, which is there, be those that it asks for, in
// one transaction: no packet passes between the old and the new ones.
func (s *Ports) Set(p Port) error {
	if p.empty() {
		return s.Unset(p.Link)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.changes++
	now := made(p)
	if err := s.change(now, s.have[p.Link].Through); err != nil {
		return err
	}
	s.have[p.Link] = now
	return nil
}

// change makes the chains of a port, or makes them anew, which packets were led
// through an ifb of.
func (s *Ports) change(p madePort, through string) error {
	x, err := begin()
	if err != nil {
		return err
	}
	t := s.table(bucketOf(p.Link))
	x.AddTable(t)
	x.addPort(t, p)
	if through != "" && p.Through == "" {
		if err := x.removeChains(t, limitChain(p.Link)); err != nil {
			return err
		}
	}
	if err := x.commit(); err != nil {
		return p.refused(fmt.Errorf("change nftables table %s: %w", t.Name, err))
	}
	return nil
}

// Unset takes the rules of a port away. That there are none is no error.
func (s *Ports) Unset(link string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, had := s.have[link]; !had {
		return nil
	}
	s.mu.changes++
	if err := s.remove(link); err != nil {
		return err
	}
	delete(s.have, link)
	return nil
}

func (s *Ports) remove(link string) error {
	n := bucketOf(link)
	t := s.table(n)
	if len(s.of(n)) == 1 {
		return deleteTable(t)
	}
	x, err := begin()
	if err != nil {
		return err
	}
	if err := x.removeChains(t, filterChain(link), limitChain(link)); err != nil {
		return err
	}
	if err := x.commit(); err != nil {
		return fmt.Errorf("change nftables table %s: %w", t.Name, err)
	}
	return nil
}

// Restore makes those tables anew of which something is missing, and reports
// whether there are some.
func (s *Ports) Restore() (missing bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.have) == 0 {
		return false, nil
	}
	now, err := s.mu.look()
	if err != nil {
		return false, err
	}
	broken := s.broken(now)
	return len(broken) > 0, s.replace(broken)
}

// Take has the tables be those of ports which are there already, as after the
// daemon's start.
func (s *Ports) Take(ports []Port) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.changes++
	clear(s.have)
	for _, p := range ports {
		if !p.empty() {
			s.have[p.Link] = made(p)
		}
	}
	now, err := look()
	if err != nil {
		return err
	}
	if err := s.replace(s.broken(now)); err != nil {
		return err
	}
	for _, link := range sorted(s.have) {
		if err := s.have[link].unlead(); err != nil {
			return err
		}
	}
	return sweep(portPrefix+s.suffix, func(n int) bool { return len(s.of(n)) > 0 })
}

// of returns the ports of a table, by name.
func (s *Ports) of(n int) []madePort {
	var all []madePort
	for link, p := range s.have {
		if bucketOf(link) == n {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b madePort) int { return strings.Compare(a.Link, b.Link) })
	return all
}

// replace makes tables anew. If one cannot be made, those of its ports have their
// chains of which that is not the reason.
func (s *Ports) replace(tables []int) error {
	var failed []error
	s.mu.changes += len(tables)
	for _, n := range tables {
		ports := slices.DeleteFunc(s.of(n), func(p madePort) bool { return !isHere(p.Link) })
		if err := s.remake(n, ports); err == nil {
			continue
		}
		for _, p := range ports {
			failed = append(failed, s.change(p, p.Through))
		}
	}
	return errors.Join(failed...)
}

func (s *Ports) remake(n int, ports []madePort) error {
	x, err := begin()
	if err != nil {
		return err
	}
	t := s.table(n)
	x.AddTable(t)
	x.DelTable(t)
	if len(ports) > 0 {
		x.AddTable(t)
	}
	for _, p := range ports {
		x.addPort(t, p)
	}
	if err := x.commit(); err != nil {
		return fmt.Errorf("replace nftables table %s: %w", t.Name, err)
	}
	return nil
}

// broken are the tables that are not as they were made. The kernel can have taken
// chains away with a port; they are made again with the next one.
func (s *Ports) broken(now netdevNow) []int {
	var broken []int
	for n := range buckets {
		var want []chain
		gone := map[string]bool{}
		for _, p := range s.of(n) {
			if now.links[p.Link] {
				want = append(want, p.chains...)
			} else {
				gone[filterChain(p.Link)], gone[limitChain(p.Link)] = true, true
			}
		}
		if !now.matches(s.table(n), want, gone) {
			broken = append(broken, n)
		}
	}
	return broken
}

const portPrefix = "cuib-nics_"

func (s *Ports) table(n int) *nftables.Table { return bucket(portPrefix+s.suffix, n) }

func filterChain(link string) string { return "filter_" + portName(link) }

// chains are all of a port: what it refuses comes before ACLs, and what leads
// away what may pass behind them.
func (p Port) chains() []chain {
	all := []chain{p.hook(filterChain(p.Link), -300, p.rules())}
	if r := p.limit(); r != nil {
		all = append(all, p.hook(limitChain(p.Link), 300, []rule{r}))
	}
	return all
}

// hook is a chain that the kernel calls for what comes in by a port.
func (p Port) hook(name string, priority nftables.ChainPriority, rules []rule) chain {
	ch := newChain(name, nftables.ChainTypeFilter, nftables.ChainHookIngress, &priority, rules)
	ch.Device = p.Link
	return ch
}

// addPort makes the chains of a port, or makes them anew.
func (x *transaction) addPort(t *nftables.Table, p madePort) {
	for _, ch := range p.chains {
		ch.Table = t
		x.AddChain(ch.Chain)
		x.FlushChain(ch.Chain)
		for _, r := range ch.rules {
			x.addRule(ch.Chain, r)
		}
	}
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
