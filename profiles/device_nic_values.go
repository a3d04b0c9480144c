package profiles

import (
	"errors"
	"net/netip" //nolint:depguard // It parses, and looks at no host.
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

// checkAddresses looks at the addresses of a NIC of a type.
func checkAddresses(d Device, kind string) error {
	for _, f := range []string{"ipv4", "ipv6"} {
		if err := checkFamily(d, kind, f); err != nil {
			return err
		}
	}
	return nil
}

func checkFamily(d Device, kind, f string) error {
	option := f + ".address"
	all := SplitList(d[option])
	filter, _ := ParseBool(d["security."+f+"_filtering"])
	switch {
	case kind == Bridged && len(all) > 1:
		return errs.Invalidf("%s: got %d addresses, want one for a bridged nic", option, len(all))
	case kind == Bridged && len(all) == 1 && d["network"] == "" && !filter:
		return errs.Invalidf("%s: only a nic on a managed network has it, or one with security.%s_filtering", option, f)
	case kind == Bridged && filter && len(all) == 0 && d["network"] == "":
		return errs.Invalidf("security.%s_filtering: it needs the option %s, as no managed network knows the address", f, option)
	}
	return checkOthers(d, kind, f)
}

// checkOthers is checkFamily for what bridged ones have nothing to do with.
func checkOthers(d Device, kind, f string) error {
	option := f + ".address"
	if kind != Bridged && d[option] == "none" {
		return errs.Invalidf("%s: got \"none\" for nictype %s, want addresses, or nothing", option, kind)
	}
	for _, a := range SplitList(d[option]) {
		if strings.Contains(a, "/") && (kind != IPVlan || d["mode"] != "l2") {
			return errs.Invalidf("%s: got %q, want an address without the length of its network", option, a)
		}
	}
	return checkGateway(d, kind, f)
}

func checkGateway(d Device, kind, f string) error {
	option, v := f+".gateway", d[f+".gateway"]
	l2 := kind == IPVlan && d["mode"] == "l2"
	switch {
	case v == "":
		return nil
	case l2 && v == "auto":
		return errs.Invalidf("%s: got \"auto\", want the address of a gateway, or none, for mode l2", option)
	case !l2 && v != "auto" && v != "none":
		return errs.Invalidf("%s: got %q, want auto or none for nictype %s", option, v, kind)
	}
	return nil
}

// An addressFamily tells the addresses of IPv4 and IPv6 apart.
type addressFamily func(netip.Addr) bool

var (
	parseIPv4 addressFamily = netip.Addr.Is4
	parseIPv6 addressFamily = func(a netip.Addr) bool { return a.Is6() && a.Zone() == "" && !a.Is4In6() }
)

func (f addressFamily) address(v string) bool {
	a, err := netip.ParseAddr(v)
	return err == nil && f(a) && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback()
}

// addresses reports whether v is none, or a list of addresses, with the
// lengths of their networks or without.
func (f addressFamily) addresses(v string) bool {
	if v == "none" {
		return true
	}
	return listOf(func(s string) bool {
		a, bits, some := strings.Cut(s, "/")
		_, err := netip.ParsePrefix(s)
		return f.address(a) && (!some && bits == "" || err == nil)
	})(v)
}

func (f addressFamily) route(v string) bool {
	p, err := netip.ParsePrefix(v)
	return err == nil && f(p.Addr()) && p.Bits() > 0 && p == p.Masked() && !p.Addr().IsMulticast() && !p.Addr().IsLoopback()
}

// SplitList splits a list at its commas.
func SplitList(v string) []string {
	var all []string
	for s := range strings.SplitSeq(v, ",") {
		if s = strings.TrimSpace(s); s != "" {
			all = append(all, s)
		}
	}
	return all
}

// listOf reports whether each element of a list is right, and none comes twice.
func listOf(ok func(string) bool) func(string) bool {
	return func(v string) bool {
		seen := map[string]bool{}
		for _, s := range SplitList(v) {
			if !ok(s) || seen[s] {
				return false
			}
			seen[s] = true
		}
		return len(seen) > 0 && oneLine(v)
	}
}

func isTable(v string) bool {
	n, err := strconv.ParseUint(v, 10, 32)
	return err == nil && n > 0 && n < 1<<32-1
}

func isVLAN(v string) bool { return number(v) > 0 }

// number returns the number of a VLAN, or 0 for what is none.
func number(v string) int {
	n, err := strconv.ParseUint(v, 10, 12)
	if err != nil || n == 4095 {
		return 0
	}
	return int(n) //nolint:gosec // It is small.
}

var errVLANs = errors.New("no list of VLANs")

// ParseVLANs reads a list of VLANs and ranges of them.
func ParseVLANs(v string) ([]int, error) {
	if !oneLine(v) {
		return nil, errVLANs
	}
	var all []int
	seen := map[int]bool{}
	for _, s := range SplitList(v) {
		first, last, some := strings.Cut(s, "-")
		if !some {
			last = first
		}
		a, b := number(first), number(last)
		if a == 0 || b < a {
			return nil, errVLANs
		}
		for id := a; id <= b; id++ {
			if seen[id] {
				return nil, errVLANs
			}
			seen[id] = true
			all = append(all, id)
		}
	}
	return all, nil
}

// ParseBitRate reads a number of bits in a second, such as 100Mbit.
func ParseBitRate(v string) (int64, error) {
	units := map[string]int64{
		"": 1, "bit": 1, "kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9, "Tbit": 1e12,
		"Kibit": 1 << 10, "Mibit": 1 << 20, "Gibit": 1 << 30, "Tibit": 1 << 40,
	}
	end := strings.IndexFunc(v, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(v)
	}
	n, err := strconv.ParseInt(v[:end], 10, 64)
	unit, ok := units[v[end:]]
	const least, most = 8e3, 1e13
	if err != nil || !ok || n <= 0 || n > most/unit || n*unit < least {
		return 0, errs.Invalidf("got %q, want %s, from 8kbit to 10Tbit", v, wantRate)
	}
	return n * unit, nil
}

// checkInnerName is for the names of interfaces inside: liblxc gives none that
// is one character long.
func checkInnerName(v string) error {
	if len(v) == 1 {
		return errs.Invalidf("got %q, want a name of 2 to 15 letters and digits", v)
	}
	return checkIfname(v)
}

// checkIfname is for the names of interfaces of the host and inside.
func checkIfname(v string) error {
	if CheckInterfaceName("interface", v) != nil {
		return errNo
	}
	return nil
}

func isMAC(v string) bool {
	parts := strings.Split(strings.ToLower(v), ":")
	for _, p := range parts {
		if len(p) != 2 || !only(p, digits+"abcdef") {
			return false
		}
	}
	// The last bit of the first byte is for groups.
	return len(parts) == 6 && strings.ContainsRune("02468ace", rune(parts[0][1])) && strings.Trim(v, "0:") != ""
}
