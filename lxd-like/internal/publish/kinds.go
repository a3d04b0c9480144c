package publish

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// A kind is one of forwards and load balancers. T is its document.
type kind[T any] struct {
	name  db.PartKind[T]
	event string // How events begin.
	path  string // Below the network's.
	tidy  func(put T) T

	// read returns what a document says of an address.
	read func(listen netip.Addr, put T) (plan, error)
}

func (k kind[T]) url(network, address string) string {
	return "/1.0/networks/" + url.PathEscape(network) + "/" + k.path + "/" + url.PathEscape(address)
}

var forwards = kind[api.NetworkForwardPut]{
	name: "network forward", event: "network-forward", path: "forwards", read: readForward,
	tidy: func(put api.NetworkForwardPut) api.NetworkForwardPut {
		put.Config = set(put.Config)
		put.Ports = slices.Clone(put.Ports)
		if put.Ports == nil {
			put.Ports = []api.NetworkForwardPort{}
		}
		return put
	},
}

var balancers = kind[api.NetworkLoadBalancerPut]{
	name: "network load balancer", event: "network-load-balancer", path: "load-balancers", read: readBalancer,
	tidy: func(put api.NetworkLoadBalancerPut) api.NetworkLoadBalancerPut {
		put.Config = set(put.Config)
		put.Backends, put.Ports = slices.Clone(put.Backends), slices.Clone(put.Ports)
		if put.Backends == nil {
			put.Backends = []api.NetworkLoadBalancerBackend{}
		}
		if put.Ports == nil {
			put.Ports = []api.NetworkLoadBalancerPort{}
		}
		return put
	},
}

// set are the keys that have a value.
func set(config api.ConfigMap) api.ConfigMap {
	out := api.ConfigMap{}
	for k, v := range config {
		if v != "" {
			out[k] = v
		}
	}
	return out
}

// A plan is what a document says.
type plan struct {
	entries []entry
	public  bool // Whatever the host's firewall says.
	// checking is how back ends are tried; nil if they are not.
	checking *checking
}

// An entry is a port, or several that follow each other, with how errors name
// them.
type entry struct {
	networks.Published

	field    string
	backends []string // Of each target the name; none for forwards.
}

// A checking is how the back ends of a load balancer are tried.
type checking struct {
	interval, timeout time.Duration
	failures          int    // After how many a back end is taken out.
	successes         int    // After how many it comes back.
	path              string // Ask for it by HTTP; empty to connect only.
}

// parseListen reads an address to listen on.
func parseListen(v string) (netip.Addr, error) {
	a, err := netip.ParseAddr(v)
	switch {
	case err != nil || a.Zone() != "" || a.Is4In6():
		return a, errs.Invalidf("listen_address: got %q, want an IP address such as 192.0.2.10 or 2001:db8::10, or 0.0.0.0 or :: for all of the host", v)
	case a.IsLoopback():
		return a, errs.Invalidf("listen_address: got %s, want no loopback address: the kernel forwards nothing from there", a)
	case a.IsMulticast() || a.IsLinkLocalUnicast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return a, errs.Invalidf("listen_address: got %s, want an address that a host can have and others route to", a)
	}
	return a, nil
}

// The keys that both kinds have, and their values.
const (
	keyExpose      = "expose"
	exposePublic   = "public"
	exposeFirewall = "host-firewall"
)

func readForward(listen netip.Addr, put api.NetworkForwardPut) (p plan, err error) {
	for _, key := range sortedKeys(put.Config) {
		v := put.Config[key]
		switch {
		case strings.HasPrefix(key, "user."):
		case key == keyExpose:
			if p.public, err = parseExpose(v); err != nil {
				err = errs.Invalidf("configuration key %q: %w", key, err)
			}
		case key == "target_address":
			var to netip.Addr
			if to, err = parseTarget(`configuration key "target_address"`, v); err == nil && listen.IsUnspecified() {
				err = errs.Invalidf("target_address: all ports of all addresses of the host cannot be forwarded: give listen_address one address, or forward single ports")
			}
			p.entries = append(p.entries, entry{field: key, Published: networks.Published{Listen: listen, Targets: []netip.AddrPort{netip.AddrPortFrom(to, 0)}}})
		default:
			err = errs.Invalidf("configuration key %q is not known for a network forward: use target_address, expose or user.*", key)
		}
		if err != nil {
			return p, err
		}
	}
	for i, port := range put.Ports {
		some, err := readForwardPort("ports["+strconv.Itoa(i)+"]", listen, port)
		if err != nil {
			return p, err
		}
		p.entries = append(p.entries, some...)
	}
	return p, nil
}

func readForwardPort(field string, listen netip.Addr, port api.NetworkForwardPort) ([]entry, error) {
	protocol, ports, err := parsePorts(field, port.Protocol, port.ListenPort)
	if err != nil {
		return nil, err
	}
	if port.TargetAddress == "" {
		return nil, errs.Invalidf("%s: target_address is missing: the address that ports %s are forwarded to", field, port.ListenPort)
	}
	to, err := parseTarget(field+": target_address", port.TargetAddress)
	if err != nil {
		return nil, err
	}
	targets, err := parseTargetPorts(field, port.TargetPort, len(ports))
	if err != nil {
		return nil, err
	}
	if port.SNAT && len(targets) == 1 && len(ports) > 1 {
		return nil, errs.Invalidf("%s: snat needs a target port for each listen port: what port %s begins can leave with one only", field, port.TargetPort)
	}
	if port.SNAT && listen.IsUnspecified() {
		return nil, errs.Invalidf("%s: snat needs a single listen_address to leave with, got %s", field, listen)
	}
	var out []entry
	for _, e := range (networks.Published{Listen: listen, Protocol: protocol, SNAT: port.SNAT}).Spread(to, ports, targets) {
		out = append(out, entry{Published: e, field: field})
	}
	return out, nil
}

// parsePorts reads a protocol and its ports.
func parsePorts(field, protocol, listen string) (number uint8, ports []uint16, err error) {
	switch protocol {
	case "tcp":
		number = unix.IPPROTO_TCP
	case "udp":
		number = unix.IPPROTO_UDP
	default:
		return 0, nil, errs.Invalidf("%s: protocol: got %q, want tcp or udp", field, protocol)
	}
	ports, err = parsePortList(field+": listen_port", listen)
	return number, ports, err
}

func parseTargetPorts(field, v string, want int) ([]uint16, error) {
	if v == "" {
		return nil, nil
	}
	ports, err := parsePortList(field+": target_port", v)
	if err == nil && len(ports) != 1 && len(ports) != want {
		err = errs.Invalidf("%s: target_port: got %d ports where listen_port has %d, want as many, one for all, or none for the same", field, len(ports), want)
	}
	return ports, err
}

// parsePortList reads ports such as "80-90,443".
func parsePortList(field, v string) ([]uint16, error) {
	a, err := profiles.ParseProxyAddress("tcp::" + strings.ReplaceAll(v, " ", ""))
	if err != nil {
		return nil, errs.Invalidf(`%s: got %q, want ports from 1 to 65535, such as "80-90,443"`, field, v)
	}
	return a.List(), nil
}

func parseTarget(field, v string) (netip.Addr, error) {
	a, err := netip.ParseAddr(v)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return a, errs.Invalidf("%s: got %q, want the IP address of an instance", field, v)
	}
	return a, nil
}

func parseExpose(v string) (public bool, err error) {
	switch v {
	case exposePublic:
		return true, nil
	case exposeFirewall:
		return false, nil
	}
	return false, errs.Invalidf("got %q, want %s or %s", v, exposeFirewall, exposePublic)
}
