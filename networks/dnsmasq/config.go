package dnsmasq

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/errs"
)

// The files in a network's directory.
const (
	confFile  = "dnsmasq.conf"
	pidFile   = "dnsmasq.pid"
	leaseFile = "dnsmasq.leases"
	hostsDir  = "dnsmasq.hosts" // A file of dhcp-host values for each MAC address.
	namesDir  = "dnsmasq.names" // A file as /etc/hosts for each MAC address.
)

// wanted reports whether the network needs dnsmasq at all.
func wanted(cfg networks.Config) bool {
	if !cfg.IPv4.Address.IsValid() && !cfg.IPv6.Address.IsValid() {
		return false
	}
	return cfg.IPv4.DHCP || cfg.IPv6.DHCP || cfg.DNS.Mode != networks.DNSNone || cfg.Raw != ""
}

// lines collects the lines of a configuration.
type lines struct{ strings.Builder }

func (l *lines) add(format string, args ...any) { fmt.Fprintf(l, format+"\n", args...) }

// config returns dnsmasq's configuration file. It names the interface's
// index, so that it differs when the interface is made anew: sockets are
// bound to the index.
func config(cfg networks.Config, index int) (string, error) {
	if err := check(cfg); err != nil {
		return "", err
	}
	group, err := nobodyGroup()
	if err != nil {
		return "", err
	}
	l := &lines{}
	l.add("# Made by cuibd for interface %d. Changes are lost.", index)
	l.add("user=nobody\ngroup=%s\npid-file=%s", group, filepath.Join(cfg.Dir, pidFile))
	l.add("interface=%s\nexcept-interface=lo\nbind-dynamic", cfg.Name)
	l.dns(cfg)
	l.names(cfg)
	l.add("dhcp-leasefile=%s\ndhcp-hostsdir=%s", filepath.Join(cfg.Dir, leaseFile), filepath.Join(cfg.Dir, hostsDir))
	// A guest has one lease a MAC address, whatever it calls itself: copies of
	// one system call themselves the same.
	l.add("dhcp-ignore-clid")
	l.add("dhcp-authoritative\ndhcp-no-override\ndhcp-rapid-commit\ndhcp-lease-max=100000\nno-ping\nquiet-dhcp\nquiet-dhcp6\nquiet-ra")
	if cfg.MTU != 0 {
		l.add("dhcp-option=option:mtu,%d", cfg.MTU)
	}
	if cfg.IPv4.Address.IsValid() && cfg.IPv4.DHCP {
		l.dhcp4(cfg)
	}
	if cfg.IPv6.Address.IsValid() {
		l.dhcp6(cfg)
	}
	if cfg.Raw != "" {
		l.add("%s", strings.TrimSuffix(cfg.Raw, "\n"))
	}
	return l.String(), nil
}

func (l *lines) dns(cfg networks.Config) {
	l.add("no-hosts\ndomain-needed")
	if cfg.DNS.Domain != "" {
		l.add("domain=%s\nlocal=/%[1]s/", cfg.DNS.Domain)
	}
	for _, p := range cfg.Peers {
		l.peer(cfg, p)
	}
	if len(cfg.DNS.Search) > 0 {
		all := strings.Join(cfg.DNS.Search, ",")
		l.add("dhcp-option=option:domain-search,%s\ndhcp-option=option6:domain-search,%[1]s", all)
	}
	var servers4, servers6 []string
	for _, a := range cfg.DNS.Nameservers {
		if a.Is4() {
			servers4 = append(servers4, a.String())
		} else {
			servers6 = append(servers6, "["+a.String()+"]")
		}
	}
	if len(servers4) > 0 {
		l.add("dhcp-option=option:dns-server,%s", strings.Join(servers4, ","))
	}
	if len(servers6) > 0 {
		l.add("dhcp-option=option6:dns-server,%s", strings.Join(servers6, ","))
	}
	switch cfg.DNS.Mode {
	case networks.DNSNone:
		l.add("dhcp-ignore-names")
	case networks.DNSDynamic:
	default:
		// Nobody takes another's name: names come from the hosts alone. dnsmasq
		// 2.90 loses its memory's order when a file in a hostsdir changes or goes.
		l.add("dhcp-ignore-names=tag:!known\naddn-hosts=%s", filepath.Join(cfg.Dir, namesDir))
	}
}

// peer has the server of another network asked for what is its own: in a domain
// that it has, or for each name in one that both have.
func (l *lines) peer(cfg networks.Config, p networks.Peer) {
	if p.Domain == "" && !p.Shared || !p.Server.IsValid() {
		return
	}
	if p.Domain != "" {
		l.add("server=/%s/%s", p.Domain, p.Server)
	}
	for _, name := range p.Names {
		l.add("server=/%s.%s/%s", name, cfg.DNS.Domain, p.Server)
	}
	for _, a := range []netip.Prefix{p.IPv4, p.IPv6} {
		if a.IsValid() {
			l.add("rev-server=%s,%s", a.Masked(), p.Server)
		}
	}
}

func (l *lines) dhcp4(cfg networks.Config) {
	f := cfg.IPv4
	network := f.Address.Masked()
	if f.Closed {
		l.add("dhcp-range=%s,static,%s,%s", network.Addr(), mask(network), expiry(f))
	} else {
		for _, r := range Ranges(f) {
			l.add("dhcp-range=%s,%s,%s,%s", r.First, r.Last, mask(network), expiry(f))
		}
	}
	switch {
	case !f.Routing && !f.Gateway.IsValid():
		l.add("dhcp-option=option:router")
	case f.Gateway.IsValid():
		l.add("dhcp-option=option:router,%s", f.Gateway)
	}
	l.routes(f)
}

// routes are option 121. Who has it does not look at the router any more
// (RFC 3442), so that one is among them.
func (l *lines) routes(f networks.Family) {
	if len(f.DHCPRoutes) == 0 {
		return
	}
	gateway := f.Gateway
	if !gateway.IsValid() && f.Routing {
		gateway = f.Address.Addr()
	}
	var all []string
	for _, r := range f.DHCPRoutes {
		all = append(all, r.To.String(), r.Via.String())
		if r.To.Bits() == 0 {
			gateway = netip.Addr{}
		}
	}
	if gateway.IsValid() {
		all = append(all, "0.0.0.0/0", gateway.String())
	}
	l.add("dhcp-option=option:classless-static-route,%s", strings.Join(all, ","))
}

func (l *lines) dhcp6(cfg networks.Config) {
	f := cfg.IPv6
	if !f.NoRA {
		l.advertise(cfg)
	}
	switch {
	case f.DHCP && (f.Stateful && f.Closed || f.NoRA && !f.Stateful): // Settings, and addresses of hosts.
		l.add("dhcp-range=%s,static,%d,%s", f.Address.Masked().Addr(), f.Address.Bits(), expiry(f))
	case f.DHCP && f.Stateful:
		for _, r := range Ranges(f) {
			l.add("dhcp-range=%s,%s,%d,%s", r.First, r.Last, f.Address.Bits(), expiry(f))
		}
	case f.NoRA:
	case f.DHCP && cfg.DNS.Mode != networks.DNSNone:
		l.add("dhcp-range=::,constructor:%s,ra-stateless,ra-names,%d", cfg.Name, f.Address.Bits())
	case f.DHCP:
		l.add("dhcp-range=::,constructor:%s,ra-stateless,%d", cfg.Name, f.Address.Bits())
	default:
		l.add("dhcp-range=::,constructor:%s,ra-only,%d", cfg.Name, f.Address.Bits())
	}
}

// advertise has dnsmasq send router advertisements.
func (l *lines) advertise(cfg networks.Config) {
	f := cfg.IPv6
	l.add("enable-ra")
	param, lifetime := "", ""
	if cfg.MTU != 0 {
		param = fmt.Sprintf("mtu:%d,", cfg.MTU)
	}
	if !f.Routing {
		lifetime = ",0" // We are no router to anywhere.
	}
	if param != "" || lifetime != "" {
		l.add("ra-param=%s,%s60%s", cfg.Name, param, lifetime)
	}
}

// Ranges returns the family's ranges, or all of its network.
func Ranges(f networks.Family) []networks.Range {
	if len(f.Ranges) > 0 {
		return f.Ranges
	}
	network := f.Address.Masked()
	last := networks.Last(network)
	if network.Addr().Is4() && network.Bits() < 31 {
		last = last.Prev()
	}
	return []networks.Range{{First: network.Addr().Next(), Last: last}}
}

// mask returns the network's mask as an address.
func mask(network netip.Prefix) netip.Addr {
	raw := make([]byte, 4)
	for i := range network.Bits() {
		raw[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4([4]byte(raw))
}

func expiry(f networks.Family) string {
	if f.Expiry == 0 {
		return "1h"
	}
	// Two minutes are the least that dnsmasq takes.
	return fmt.Sprintf("%ds", max(f.Expiry, 2*time.Minute)/time.Second)
}

// check refuses what would become lines of its own in the configuration.
func check(cfg networks.Config) error {
	if err := networks.CheckInterface(cfg.Name); err != nil {
		return err
	}
	if err := checkNames(cfg); err != nil {
		return err
	}
	domains := slices.Clone(cfg.DNS.Search)
	for _, p := range cfg.Peers {
		if p.Domain != "" {
			domains = append(domains, p.Domain)
		}
	}
	if cfg.DNS.Domain != "" {
		domains = append([]string{cfg.DNS.Domain}, domains...)
	}
	for _, d := range domains {
		if err := networks.CheckDomain(d); err != nil {
			return err
		}
	}
	if strings.ContainsAny(cfg.Dir, "\n\"\\ \t,") {
		return errs.Invalidf("directory %q is not valid for dnsmasq: it has a space, comma, quote or backslash", cfg.Dir)
	}
	return nil
}

// keyword matches names that dhcp-host would take for something else: what to
// do with the host, or its lease time. With a domain they are names.
var keyword = regexp.MustCompile(`^(ignore|infinite|[0-9]+[smhdwSMHDW]?)$`)

// isBelow reports whether a host has a name in a domain below the network's. What
// dnsmasq gives out has names in that domain itself. So it hears nothing of such
// a host, or of its address with a name that nobody else has, and knows the
// addresses that it has as it knows static ones. (A tag would say that, too, but
// ends dnsmasq 2.90 when it reads its hosts anew.)
func isBelow(h networks.Host) bool { return strings.Contains(h.Name, ".") }

// nameless is the name of a host that is to have none: no instance's begins so.
func nameless(mac net.HardwareAddr) string { return "0-" + hex.EncodeToString(mac) }

// hostLine returns the dhcp-host value for a host, and its lines for
// /etc/hosts. given are the addresses that it has besides static ones.
func hostLine(cfg networks.Config, h networks.Host, given []netip.Addr) (dhcp, names string, err error) {
	if err := networks.CheckHost(h); err != nil {
		return "", "", err
	}
	mac, err := networks.ParseMAC(h.MAC)
	if err != nil {
		return "", "", err
	}
	dhcp = mac.String()
	if h.IPv4.IsValid() {
		dhcp += "," + h.IPv4.String()
	}
	if h.IPv6.IsValid() {
		dhcp += ",[" + h.IPv6.String() + "]"
	}
	managed := cfg.DNS.Mode == networks.DNSManaged || cfg.DNS.Mode == ""
	called, unheard := h.Name, h.Name == "" || isBelow(h)
	if unheard {
		called = nameless(mac)
	}
	switch {
	case !managed:
	case unheard && !h.IPv4.IsValid() && !h.IPv6.IsValid():
		return "", namesLines(cfg, h, given), nil // Names of strangers are not taken.
	case cfg.DNS.Domain != "":
		dhcp += "," + called + "." + cfg.DNS.Domain
	case !keyword.MatchString(called):
		dhcp += "," + called
	}
	if managed {
		names = namesLines(cfg, h, given)
	}
	return dhcp + "\n", names, nil
}

// namesLines are the lines for /etc/hosts of a host.
func namesLines(cfg networks.Config, h networks.Host, given []netip.Addr) (lines string) {
	if h.Name == "" {
		return ""
	}
	all := []netip.Addr{h.IPv4, h.IPv6}
	for _, a := range given {
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	for _, a := range all {
		if a.IsValid() {
			lines += a.String() + " " + strings.Join(namesOf(cfg, h), " ") + "\n"
		}
	}
	return lines
}

// namesOf are the names of a host: that in the network's domain, and the short
// one, unless it is one below the domain, which could be that of a stranger.
func namesOf(cfg networks.Config, h networks.Host) []string {
	switch {
	case cfg.DNS.Domain == "":
		return []string{h.Name}
	case isBelow(h):
		return []string{h.Name + "." + cfg.DNS.Domain}
	}
	return []string{h.Name + "." + cfg.DNS.Domain, h.Name}
}

// nobodyGroup returns the name of the group of the user that dnsmasq becomes.
func nobodyGroup() (string, error) {
	u, err := user.Lookup("nobody")
	if err != nil {
		return "", fmt.Errorf("look up the user that dnsmasq runs as: %w", err)
	}
	g, err := user.LookupGroupId(u.Gid)
	if err != nil {
		return "", fmt.Errorf("look up the group that dnsmasq runs as: %w", err)
	}
	return g.Name, nil
}
