package networks

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

// DNSForward is a domain whose names other servers know.
type DNSForward struct {
	Domain  string
	Servers []netip.AddrPort
}

// Alias is another name of an instance.
type Alias struct {
	Name string
	Host string // The name of the instance.
}

// ZoneLabel matches one part of the name of a zone, or of what is in it.
const ZoneLabel = `[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?`

var zoneName = regexp.MustCompile(`^` + ZoneLabel + `(\.` + ZoneLabel + `)*$`)

// CheckZone reports what is wrong with s as the name of a zone of DNS. Reverse
// zones of less than a byte have a slash by custom (RFC 2317): a dash is as good.
func CheckZone(s string) error {
	if len(s) > longestName || !zoneName.MatchString(s) {
		return errs.Invalidf("network zone name %q is not valid: use labels of letters, digits, '-' and '_', separated by dots, and no dot at the end", s)
	}
	return nil
}

// longestName is how many characters a name has in DNS at most.
const longestName = 253

// private are the networks whose addresses mean nothing elsewhere (RFC 1918,
// RFC 4193, RFC 6598).
var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fc00::/7"),
}

// ReverseDomains are the domains in which the network's own resolver alone
// knows the names of addresses: those of its private addresses, as far as a
// domain has them and no others.
func ReverseDomains(cfg Config) []string {
	var all []string
	for _, p := range []netip.Prefix{cfg.IPv4.Address, cfg.IPv6.Address} {
		if p.IsValid() && slices.ContainsFunc(private, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) }) {
			all = append(all, reverseDomain(p)...)
		}
	}
	return all
}

// reverseDomain is the domain with the names of a network's addresses; none if
// it has others, too.
func reverseDomain(p netip.Prefix) []string {
	size, base, format, suffix := 8, 256, "%d", "in-addr.arpa"
	if p.Addr().Is6() {
		size, base, format, suffix = 4, 16, "%x", "ip6.arpa"
	}
	if p.Bits()%size != 0 || p.Bits() == 0 {
		return nil
	}
	var digits []string
	for _, b := range p.Masked().Addr().AsSlice() {
		if base == 16 {
			digits = append(digits, fmt.Sprintf(format, b>>4), fmt.Sprintf(format, b&15))
		} else {
			digits = append(digits, fmt.Sprintf(format, b))
		}
	}
	digits = digits[:p.Bits()/size]
	slices.Reverse(digits)
	return []string{strings.Join(append(digits, suffix), ".")}
}
