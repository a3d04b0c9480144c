// Package firewall finds what of the host's firewall drops the packets that a
// network needs. It reads the rules as the kernel has them, and follows each
// kind of packet through the base chains that are not ours: an accept in one
// of them, or in ours, does not help against a drop in another.
//
// What a rule matches is not always known beforehand, as the kind of packet
// leaves open where to it goes. Such a rule is taken to drop nothing, and a
// drop behind one that may accept is left out: what is reported is lost.
package firewall

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/nft"
)

// A Packet is a kind of packet that a network needs.
type Packet struct {
	What string // For people: "DHCP requests of guests".
	Hook Hook
	IPv6 bool

	In, Out  string // Interfaces, as far as the hook has them; empty for any that is not named.
	Src, Dst netip.Addr
	Proto    uint8 // Of the transport, such as [unix.IPPROTO_UDP].
	Port     uint16
	ICMPType uint8
	Reply    bool // Belongs to a connection that is established.
}

// A Hook is where a packet passes.
type Hook uint32

// The hooks, as the kernel numbers those of IPv4 and IPv6.
const (
	Input   Hook = unix.NF_INET_LOCAL_IN
	Forward Hook = unix.NF_INET_FORWARD
	Output  Hook = unix.NF_INET_LOCAL_OUT
)

// An Obstacle is what drops a kind of packet.
type Obstacle struct {
	Packet Packet
	Family string // ip, ip6 or inet.
	Table  string
	Chain  string // The one that has the rule, or the policy.
	Base   string // The chain that the kernel calls.
	Rule   string // As nft would show it: `iifname "br0" drop`, `policy drop`.
	Owner  Owner
	Legacy bool // In the tables of iptables-legacy, which nftables does not have.
}

// String tells what is lost where.
func (o Obstacle) String() string {
	return fmt.Sprintf("%s are dropped by the host's firewall: table %s, chain %s: %s", o.Packet.What, o.Where(), o.Chain, o.Rule)
}

// Where names the table: "inet filter".
func (o Obstacle) Where() string {
	if o.Legacy {
		return o.Family + " " + o.Table + " of iptables-legacy"
	}
	return o.Family + " " + o.Table
}

// An Owner is who wrote a table.
type Owner string

// The owners that are known. Others have the empty name.
const (
	Docker    Owner = "Docker"
	UFW       Owner = "ufw"
	Firewalld Owner = "firewalld"
)

// A Ruleset is what the kernel has, but for what is ours. Rules and sets are
// read when they are needed: others may have many thousands. It is not safe
// for concurrent use.
type Ruleset struct {
	c      *nftables.Conn
	chains []*nftables.Chain
	rules  map[place][]*nftables.Rule
	sets   map[place][]nftables.SetElement
}

// A place is a chain or a set.
type place struct {
	family nftables.TableFamily
	table  string
	name   string
}

// Obstacles returns what drops packets, in their order.
func (r *Ruleset) Obstacles(packets []Packet) ([]Obstacle, error) {
	var out []Obstacle
	for _, p := range packets {
		for _, base := range r.bases(p) {
			end, err := r.pass(base, p)
			if err != nil {
				return nil, err
			}
			if end.verdict == drop {
				table, legacy := strings.CutSuffix(base.Table.Name, legacySuffix)
				out = append(out, Obstacle{
					Packet: p, Family: familyNames[base.Table.Family], Table: table, Chain: end.chain, Base: base.Name, Rule: end.rule,
					Owner: r.owner(base.Table), Legacy: legacy,
				})
			}
		}
	}
	return out, nil
}

// Read reads which chains there are. Tables that ours says are ours are left
// out.
func Read(ours func(table string) bool) (*Ruleset, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	tables, err := c.ListTables()
	if err != nil {
		return nil, fmt.Errorf("list nftables tables: %w", err)
	}
	chains, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	off := map[place]bool{}
	for _, t := range tables {
		off[place{family: t.Family, table: t.Name}] = nft.Dormant(t)
	}
	r := &Ruleset{c: c, rules: map[place][]*nftables.Rule{}, sets: map[place][]nftables.SetElement{}}
	for _, ch := range chains {
		if !ours(ch.Table.Name) && !off[place{family: ch.Table.Family, table: ch.Table.Name}] {
			r.chains = append(r.chains, ch)
		}
	}
	return r, nil
}

// bases returns the base chains that a packet passes, in their order.
func (r *Ruleset) bases(p Packet) []*nftables.Chain {
	own := nftables.TableFamilyIPv4
	if p.IPv6 {
		own = nftables.TableFamilyIPv6
	}
	var out []*nftables.Chain
	for _, ch := range r.chains {
		if ch.Hooknum == nil || ch.Type != nftables.ChainTypeFilter || uint32(*ch.Hooknum) != uint32(p.Hook) {
			continue
		}
		if ch.Table.Family == own || ch.Table.Family == nftables.TableFamilyINet {
			out = append(out, ch)
		}
	}
	slices.SortStableFunc(out, func(a, b *nftables.Chain) int { return cmp.Compare(priority(a), priority(b)) })
	return out
}

func priority(ch *nftables.Chain) nftables.ChainPriority {
	if ch.Priority == nil {
		return 0
	}
	return *ch.Priority
}

// chain returns the chain of a table with a name.
func (r *Ruleset) chain(t *nftables.Table, name string) (*nftables.Chain, bool) {
	for _, ch := range r.chains {
		if ch.Name == name && ch.Table.Name == t.Name && ch.Table.Family == t.Family {
			return ch, true
		}
	}
	return nil, false
}

func (r *Ruleset) rulesOf(ch *nftables.Chain) ([]*nftables.Rule, error) {
	at := place{ch.Table.Family, ch.Table.Name, ch.Name}
	if rules, ok := r.rules[at]; ok {
		return rules, nil
	}
	rules, err := r.c.GetRules(ch.Table, ch)
	if err != nil && !errors.Is(err, unix.ENOENT) { // It can go meanwhile.
		return nil, fmt.Errorf("list the rules of chain %s in table %s: %w", ch.Name, ch.Table.Name, err)
	}
	r.rules[at] = rules
	return rules, nil
}

// elements returns what is in a set. There is none if it went meanwhile.
func (r *Ruleset) elements(t *nftables.Table, set string) ([]nftables.SetElement, error) {
	at := place{t.Family, t.Name, set}
	if all, ok := r.sets[at]; ok {
		return all, nil
	}
	s, err := r.c.GetSetByName(t, set)
	if err == nil {
		r.sets[at], err = r.c.GetSetElements(s)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("read set %s of table %s: %w", set, t.Name, err)
	}
	return r.sets[at], nil
}

// owner tells who wrote a table, by the names that they use.
func (r *Ruleset) owner(t *nftables.Table) Owner {
	if t.Name == "firewalld" {
		return Firewalld
	}
	// Docker's rules lie in the table of iptables, with those of ufw beside
	// them if both are there: then ufw has the policy.
	docker := false
	for _, ch := range r.chains {
		if ch.Table.Name != t.Name || ch.Table.Family != t.Family {
			continue
		}
		if strings.HasPrefix(ch.Name, "ufw-") || strings.HasPrefix(ch.Name, "ufw6-") {
			return UFW
		}
		docker = docker || strings.HasPrefix(ch.Name, "DOCKER")
	}
	if docker || strings.HasPrefix(t.Name, "docker-") {
		return Docker
	}
	return ""
}

var familyNames = map[nftables.TableFamily]string{nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet"}
