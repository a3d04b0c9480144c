package profiles

import (
	"net/netip" //nolint:depguard // It parses, and looks at no host.
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

const proxyAddress = `"tcp:ADDRESS:PORTS", "udp:ADDRESS:PORTS" with PORTS such as "80-90,443", "unix:/PATH" or "unix:@NAME"`

func proxyType() DeviceType {
	return DeviceType{Name: "proxy", Doc: "Connections that are passed on between host and instance.", Options: proxyOptions(), together: checkProxy}
}

func proxyOptions() []Option {
	const withPath, process = "listen is unix:/PATH", "without nat"
	return []Option{
		option(Key{Name: "bind", Type: String, Default: "host", Allowed: "host or instance (also guest or container)", Doc: "Where it listens; it connects on the other side.", check: oneOf("host", "instance", "guest", "container")}),
		{Required: true, Key: Key{Name: "connect", Type: String, Allowed: proxyAddress, Doc: "What clients are connected to: one port for all, or as many as listen has.", check: parses(ParseProxyAddress)}},
		option(Key{Name: "expose", Type: String, Default: "host-firewall", Allowed: "host-firewall or public", Condition: "nat", Doc: "Whether what the host's own firewall refuses for the port stays out.", check: oneOf("host-firewall", "public")}),
		option(Key{Name: "gid", Type: Integer, Default: "0", Allowed: "a group id", Condition: withPath, Doc: "The group that owns the socket, on the side where it is.", check: between(0, 1<<32-2)}),
		{Required: true, Key: Key{Name: "listen", Type: String, Allowed: proxyAddress, Doc: "Where clients connect to.", check: parses(ParseProxyAddress)}},
		option(Key{Name: "mode", Type: String, Default: "0644", Allowed: `an octal mode such as "0660"`, Condition: withPath, Doc: "Who may connect to the socket: who may write to it.", check: is(isMode)}),
		booleanOption(Key{Name: "nat", Default: "false", Condition: "bind is host", Doc: "Forward packets instead of connections: to an address of a bridged nic, static or as it is just now."}),
		booleanOption(Key{Name: "proxy_protocol", Default: "false", Condition: "connect is tcp", Doc: "Tell servers with a PROXY header, version 1, who their client is."}),
		option(Key{Name: "security.gid", Type: Integer, Default: "0", Allowed: "a group id", Condition: process, Doc: "The group as which it connects, on the side where it does.", check: between(0, 1<<32-2)}),
		option(Key{Name: "security.uid", Type: Integer, Default: "0", Allowed: "a user id", Condition: process, Doc: "The user as whom it connects, on the side where it does.", check: between(0, 1<<32-2)}),
		option(Key{Name: "uid", Type: Integer, Default: "0", Allowed: "a user id", Condition: withPath, Doc: "The user who owns the socket, on the side where it is.", check: between(0, 1<<32-2)}),
	}
}

func checkProxy(d Device) error {
	listen, err := ParseProxyAddress(d["listen"])
	if err != nil {
		return wrap("listen", err)
	}
	connect, err := ParseProxyAddress(d["connect"])
	if err != nil {
		return wrap("connect", err)
	}
	if n, m := listen.Count(), connect.Count(); m != 1 && n != m {
		return errs.Invalidf("connect: got %d ports where listen has %d, want as many, or one for all", m, n)
	}
	for _, o := range []string{"mode", "uid", "gid"} {
		if d[o] != "" && !strings.HasPrefix(listen.Path, "/") {
			return errs.Invalidf("%s: only a proxy that listens on a socket with a path has it, got listen %q", o, d["listen"])
		}
	}
	nat, _ := ParseBool(d["nat"])               // It is valid.
	header, _ := ParseBool(d["proxy_protocol"]) // It is valid.
	switch {
	case header && nat:
		return errs.Invalidf("proxy_protocol: a proxy with nat does not have it: servers see who their client is")
	case header && connect.Kind != "tcp":
		return errs.Invalidf("proxy_protocol: only a proxy that connects to tcp has it, got connect %q", d["connect"])
	case nat:
		return checkNAT(d, listen, connect)
	case d["expose"] != "":
		return errs.Invalidf("expose: only a proxy with nat has it: a process is behind the host's firewall anyway")
	}
	return nil
}

func checkNAT(d Device, listen, connect ProxyAddress) error {
	for _, o := range []string{"security.uid", "security.gid"} {
		if d[o] != "" {
			return errs.Invalidf("%s: a proxy with nat does not have it, as it has no process", o)
		}
	}
	four, six := NATFamilies(listen, connect)
	switch {
	case ListensInside(d):
		return errs.Invalidf("nat: only a proxy that listens on the host has it, got bind %q", d["bind"])
	case listen.Kind != connect.Kind || listen.Kind == "unix":
		return errs.Invalidf("nat: got listen %q and connect %q, want both tcp or both udp", d["listen"], d["connect"])
	case !four && !six:
		return errs.Invalidf("nat: got listen %q and connect %q, want both IPv4 or both IPv6", d["listen"], d["connect"])
	case listen.Host.IsLoopback():
		return errs.Invalidf("nat: got listen %q, want no loopback address: the kernel forwards nothing from there", d["listen"])
	case connect.Host.IsLoopback():
		return errs.Invalidf("nat: got connect %q, want a static address of a bridged nic of the instance, or none for those that it has at the time, as tcp::80", d["connect"])
	}
	return nil
}

// NATFamilies says which families a proxy with nat forwards: those that both
// ends can be of. One that has no host can be of either.
func NATFamilies(listen, connect ProxyAddress) (four, six bool) {
	can := func(a netip.Addr, is4 bool) bool { return !a.IsValid() || a.Is4() == is4 }
	return can(listen.Host, true) && can(connect.Host, true), can(listen.Host, false) && can(connect.Host, false)
}

// ListensInside reports whether a proxy listens in the instance and connects
// on the host.
func ListensInside(proxy Device) bool { return proxy["bind"] != "" && proxy["bind"] != "host" }

// A ProxyAddress is one end of a proxy.
type ProxyAddress struct {
	Kind  string      // tcp, udp or unix
	Host  netip.Addr  // Of tcp and udp; not valid where none was given.
	Ports []PortRange // Of tcp and udp; in the order given.
	Path  string      // Of unix; begins with "/", or with "@" for an abstract name.
}

// A PortRange is a range of ports, both ends in it.
type PortRange struct{ First, Last uint16 }

// ParseProxyAddress reads an end of a proxy, as "tcp:0.0.0.0:80-90,443" or
// "unix:/run/socket".
func ParseProxyAddress(v string) (ProxyAddress, error) {
	kind, rest, ok := strings.Cut(v, ":")
	a := ProxyAddress{Kind: kind}
	switch {
	case ok && kind == "unix":
		a.Path = rest
		return a, checkSocket(rest)
	case !ok || kind != "tcp" && kind != "udp":
		return a, errs.Invalidf("got %q, want %s", v, proxyAddress)
	}
	i := strings.LastIndexByte(rest, ':')
	if i < 0 {
		return a, errs.Invalidf("got %q, which has no port, want %s", v, proxyAddress)
	}
	host, ports := rest[:i], rest[i+1:]
	inner, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		host, bracketed = strings.CutSuffix(inner, "]")
	}
	if host != "" {
		addr, err := netip.ParseAddr(host)
		if err != nil || addr.Zone() != "" || addr.Is4In6() || addr.Is6() != bracketed {
			return a, errs.Invalidf(`got %q, whose host is no address: want one such as 10.0.0.1 or [fd42::1]`, v)
		}
		a.Host = addr
	}
	a.Ports, ok = parsePorts(ports)
	if !ok {
		return a, errs.Invalidf(`got %q, want ports from 1 to 65535, such as "80-90,443"`, v)
	}
	return a, nil
}

// maxSocket is how long the kernel has names of sockets, with a NUL.
const maxSocket = 108

func checkSocket(path string) error {
	switch {
	case len(path) < 2 || len(path) >= maxSocket:
		return errs.Invalidf("got %q, want the path of a socket of 2 to %d bytes", path, maxSocket-1)
	case path[0] == '@' && oneLine(path), hostPath(path) && !strings.HasSuffix(path, "/"):
		return nil
	}
	return errs.Invalidf(`got %q, want the absolute path of a socket, without "..", or "@" and an abstract name`, path)
}

func parsePorts(v string) (out []PortRange, ok bool) {
	n := 0
	for part := range strings.SplitSeq(v, ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		a, ok1 := parsePort(first)
		b, ok2 := parsePort(last)
		if !ok1 || !ok2 || a > b {
			return nil, false
		}
		out = append(out, PortRange{a, b})
		n += int(b-a) + 1
	}
	return out, n < 1<<16
}

func parsePort(v string) (uint16, bool) {
	n, err := strconv.ParseUint(v, 10, 16)
	return uint16(n), err == nil && n > 0 && only(v, digits)
}

// ListenHost is the address to listen on: where none was given all of the host.
func (a ProxyAddress) ListenHost() netip.Addr {
	if a.Host.IsValid() {
		return a.Host
	}
	return netip.IPv4Unspecified()
}

// ConnectHost is the address to connect to: where none was given the loopback.
func (a ProxyAddress) ConnectHost() netip.Addr {
	if a.Host.IsValid() {
		return a.Host
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// Count is how many ports the address has; one for a socket with a name.
func (a ProxyAddress) Count() int {
	if a.Kind == "unix" {
		return 1
	}
	n := 0
	for _, r := range a.Ports {
		n += int(r.Last-r.First) + 1
	}
	return n
}

// List returns the ports one by one.
func (a ProxyAddress) List() []uint16 {
	out := make([]uint16, 0, a.Count())
	for _, r := range a.Ports {
		for p := int(r.First); p <= int(r.Last); p++ {
			out = append(out, uint16(p))
		}
	}
	return out
}

// Overlaps reports whether two proxies on one host would listen on one port,
// and which.
func (a ProxyAddress) Overlaps(b ProxyAddress) (port uint16, overlaps bool) {
	if a.Kind != b.Kind {
		return 0, false
	}
	if a.Kind == "unix" {
		return 0, a.Path == b.Path
	}
	x, y := a.ListenHost(), b.ListenHost()
	if x != y && !x.IsUnspecified() && !y.IsUnspecified() {
		return 0, false
	}
	for _, r := range a.Ports {
		i := slices.IndexFunc(b.Ports, func(o PortRange) bool { return r.First <= o.Last && o.First <= r.Last })
		if i >= 0 {
			return max(r.First, b.Ports[i].First), true
		}
	}
	return 0, false
}
