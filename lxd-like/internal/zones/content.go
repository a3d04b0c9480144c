package zones

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/miekg/dns"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// apex is the name of a record that is the zone's own.
const apex = "@"

// The times of zones, in seconds. Secondaries look for changes often, as those
// that are down are told of none, and names must not outlive their instances.
const (
	ttl      = 300
	soaTTL   = 3600
	refresh  = 120
	retry    = 60
	expire   = 86400
	negative = 30
)

// most is the highest TTL that there can be (RFC 2181).
const most = 1<<31 - 1

// never are types that are no content of zones, or are ours to say.
var never = []uint16{
	dns.TypeSOA, dns.TypeOPT, dns.TypeTSIG, dns.TypeTKEY, dns.TypeANY, dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILA, dns.TypeMAILB,
	dns.TypeNone, dns.TypeReserved, dns.TypeNULL,
}

func typeOf(rr dns.RR) string { return dns.TypeToString[rr.Header().Rrtype] }

// absolute is a record's name with the zone's.
func absolute(zone, name string) string {
	if name == apex {
		return dns.Fqdn(project.Name(zone))
	}
	return dns.Fqdn(name + "." + project.Name(zone))
}

// resource returns an entry as others are told of it.
func resource(zone, name string, e api.NetworkZoneRecordEntry) (dns.RR, error) {
	typ := strings.ToUpper(e.Type)
	code, ok := dns.StringToType[typ]
	if !ok || slices.Contains(never, code) {
		return nil, errs.Invalidf("type %q is not valid: use one such as A, AAAA, CNAME, MX, NS, PTR, SRV, TXT or CAA", e.Type)
	}
	if e.TTL > most {
		return nil, errs.Invalidf("ttl %d is not valid: use seconds, at most %d", e.TTL, most)
	}
	seconds := uint32(ttl)
	if e.TTL != 0 {
		seconds = uint32(e.TTL)
	}
	if e.Value == "" || strings.ContainsFunc(e.Value, unicode.IsControl) {
		return nil, errs.Invalidf("value %q is not valid: it is empty, or has control characters", e.Value)
	}
	h := dns.RR_Header{Name: absolute(zone, name), Rrtype: code, Class: dns.ClassINET, Ttl: seconds}
	if code == dns.TypeTXT && !strings.Contains(e.Value, `"`) {
		return &dns.TXT{Hdr: h, Txt: pieces(e.Value)}, nil
	}
	if strings.Contains(e.Value, ";") && !strings.Contains(e.Value, `"`) {
		return nil, errs.Invalidf("value %q is not valid for type %s: what follows ';' would be a comment", e.Value, typ)
	}
	rr, err := dns.NewRR(fmt.Sprintf("%s %d IN %s %s", h.Name, h.Ttl, typ, e.Value))
	if err != nil || rr == nil || rr.Header().Rrtype != code {
		return nil, errs.Invalidf("value %q is not valid for type %s: %s", e.Value, typ, reason(err))
	}
	if _, err := dns.PackRR(rr, make([]byte, dns.MaxMsgSize), 0, nil, false); err != nil {
		return nil, errs.Invalidf("value %q is not valid for type %s: %w", e.Value, typ, err)
	}
	return rr, nil
}

// reason is what the parser says, without where in our own text.
func reason(err error) string {
	if err == nil {
		return "it is no value"
	}
	text, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "dns: "), " at line")
	return text
}

// pieces splits a text as TXT needs it.
func pieces(text string) []string {
	const longest = 255
	text = strings.ReplaceAll(text, `\`, `\\`)
	var all []string
	for len(text) > longest {
		n := longest
		for n > 1 && text[n-1] == '\\' { // It is one with what follows.
			n--
		}
		all = append(all, text[:n])
		text = text[n:]
	}
	return append(all, text)
}

// contents returns the records of a zone, its SOA first, with the serial that
// the record has.
func (s *Service) contents(ctx context.Context, z zone, networks []db.Network) ([]dns.RR, error) {
	set, err := parse(z.Document.Config)
	if err != nil {
		return nil, err
	}
	head := heads(z, set)
	var all []dns.RR
	alone := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(z.Document.Records)) {
		for _, e := range z.Document.Records[name].Entries {
			rr, err := resource(z.Name, name, e)
			if err != nil {
				return nil, fmt.Errorf("record %q of network zone %q: %w", name, z.Name, err)
			}
			alone[strings.ToLower(rr.Header().Name)] = rr.Header().Rrtype == dns.TypeCNAME
			all = append(all, rr)
		}
	}
	for _, n := range users(z.Name, networks) {
		some, err := s.names(ctx, z.Name, n, set)
		if err != nil {
			return nil, err
		}
		for _, rr := range some {
			if !alone[strings.ToLower(rr.Header().Name)] && len(rr.Header().Name) <= longest+1 {
				all = append(all, rr)
			}
		}
	}
	slices.SortFunc(all, func(a, b dns.RR) int { return strings.Compare(a.String(), b.String()) })
	return append(head, slices.CompactFunc(all, dns.IsDuplicate)...), nil
}

// heads are what every zone has.
func heads(z zone, set settings) []dns.RR {
	name := dns.Fqdn(project.Name(z.Name))
	servers := set.nameservers
	if len(servers) == 0 {
		servers = []string{name} // Secondaries take no zone without any.
	}
	contact := set.contact
	if contact == "" {
		contact = "hostmaster." + name
	}
	header := func(typ uint16, ttl uint32) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: typ, Class: dns.ClassINET, Ttl: ttl}
	}
	all := []dns.RR{&dns.SOA{
		Hdr: header(dns.TypeSOA, soaTTL), Ns: servers[0], Mbox: contact, Serial: z.Document.Serial,
		Refresh: refresh, Retry: retry, Expire: expire, Minttl: negative,
	}}
	for _, server := range servers {
		all = append(all, &dns.NS{Hdr: header(dns.TypeNS, ttl), Ns: server})
	}
	return all
}

// names are the records of what is on a network.
func (s *Service) names(ctx context.Context, zone string, n db.Network, set settings) ([]dns.RR, error) {
	addresses, err := s.Nets.Addresses(ctx, n.Name)
	if err != nil {
		return nil, err
	}
	forward := split(n.Config[keyForward])
	domain := n.Config["dns.domain"]
	if domain == "" {
		domain = "cuib"
	}
	domain = project.Key(project.Of(n.Name), domain) // In which the network's own project is plain.
	if len(forward) > 0 {
		domain = forward[0]
	}
	var all []dns.RR
	for _, a := range addresses {
		nat, key := n.Config["ipv4.nat"], keyReverse4
		if a.Address.Is6() {
			nat, key = n.Config["ipv6.nat"], keyReverse6
		}
		if on, _ := profiles.ParseBool(nat); on && !set.nat {
			continue
		}
		called := func(in string) string {
			if a.Name == "" {
				return nets.HostOf(in, n.Name)
			}
			return nets.HostName(in, a.Name)
		}
		if name := called(zone); name != "" && slices.Contains(forward, zone) {
			all = append(all, address(absolute(zone, name), a.Address))
		}
		if name := called(domain); name != "" && slices.Contains(split(n.Config[key]), zone) {
			all = append(all, pointer(zone, a.Address, absolute(domain, name))...)
		}
	}
	return all, nil
}

func address(name string, a netip.Addr) dns.RR {
	h := dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}
	if a.Is4() {
		return &dns.A{Hdr: h, A: net.IP(a.AsSlice())}
	}
	h.Rrtype = dns.TypeAAAA
	return &dns.AAAA{Hdr: h, AAAA: net.IP(a.AsSlice())}
}

// pointer is the name of an address in a reverse zone; none if it is not in
// there.
func pointer(zone string, a netip.Addr, name string) []dns.RR {
	of, err := dns.ReverseAddr(a.String())
	if err != nil || !dns.IsSubDomain(dns.Fqdn(project.Name(zone)), of) {
		return nil
	}
	return []dns.RR{&dns.PTR{Hdr: dns.RR_Header{Name: of, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: ttl}, Ptr: name}}
}

// digest tells one content of a zone from another, whatever the serial.
func digest(all []dns.RR) string {
	h := sha256.New()
	for i, rr := range all {
		if soa, ok := rr.(*dns.SOA); ok && i == 0 {
			same := *soa
			same.Serial = 0
			rr = &same
		}
		_, _ = fmt.Fprintln(h, rr) // It never fails.
	}
	return hex.EncodeToString(h.Sum(nil))
}

// current returns the records of a zone, its SOA first. The serial grows with
// each content that was not seen before, and is remembered: a secondary that
// has a higher one would never ask again.
func (s *Service) current(ctx context.Context, name string) ([]dns.RR, error) {
	s.change.Lock()
	defer s.change.Unlock()

	var z zone
	var networks []db.Network
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if z, err = find(ctx, tx, name); err != nil {
			return err
		}
		networks, err = db.Networks(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	all, err := s.contents(ctx, z, networks)
	if err != nil {
		return nil, err
	}
	now := digest(all)
	if now == z.Document.Digest {
		return all, nil
	}
	z.Document.Digest, z.Document.Serial = now, max(z.Document.Serial+1, uint32(time.Now().Unix()))
	all[0].(*dns.SOA).Serial = z.Document.Serial //nolint:forcetypeassert // contents has it first.
	return all, s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.SetNetworkObject(ctx, tx, kind, z) })
}

// find returns a zone, whatever the case of its name.
func find(ctx context.Context, tx *db.Tx, name string) (zone, error) {
	all, err := db.NetworkObjects(ctx, tx, kind)
	if err != nil {
		return zone{}, err
	}
	for _, z := range all {
		if strings.EqualFold(project.Name(z.Name), name) {
			return z, nil
		}
	}
	return zone{}, errs.NotFoundf("network zone %q not found", name)
}
