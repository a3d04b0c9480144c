package serverkeys

import (
	"net"
	"net/netip"
	"strings"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// port is where DNS is served unless the address says another.
const port = 53

// ParseDNSAddress returns where a value of [DNSAddress] says that DNS is
// served; not valid for an empty one.
func ParseDNSAddress(value string) (netip.AddrPort, error) {
	if err := Check(DNSAddress, value); err != nil || value == "" {
		return netip.AddrPort{}, err
	}
	return parseAddress(value)
}

func checkAddress(value string) error {
	_, err := parseAddress(value)
	return err
}

func parseAddress(value string) (netip.AddrPort, error) {
	v := value
	if a, err := netip.ParseAddr(strings.Trim(v, "[]")); err == nil {
		v = netip.AddrPortFrom(a, port).String()
	}
	host, number, err := net.SplitHostPort(v)
	if err != nil {
		return netip.AddrPort{}, profiles.ErrValue
	}
	if host == "" {
		host = "::" // With IPv4, too.
	}
	out, err := netip.ParseAddrPort(net.JoinHostPort(host, number))
	if err != nil || out.Port() == 0 {
		return netip.AddrPort{}, profiles.ErrValue
	}
	if out.Addr().IsUnspecified() && out.Port() == port {
		return netip.AddrPort{}, errs.Invalidf("%q is every address, and networks serve DNS on port %d of theirs: use one address, or another port", value, port)
	}
	return out, nil
}
