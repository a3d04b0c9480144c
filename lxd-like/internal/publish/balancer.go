package publish

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// The keys of load balancers.
const (
	keyBalance  = "balance"
	bySource    = "source"
	roundRobin  = "round-robin"
	keyHealth   = "healthcheck"
	keyInterval = "healthcheck.interval"
	keyTimeout  = "healthcheck.timeout"
	keyFailures = "healthcheck.failure_count"
	keySuccess  = "healthcheck.success_count"
	keyPath     = "healthcheck.path"
)

// A backend is one of those who take turns.
type backend struct {
	address netip.Addr
	port    string
}

func readBalancer(listen netip.Addr, put api.NetworkLoadBalancerPut) (plan, error) {
	p, source, err := readBalancerConfig(put.Config)
	if err != nil {
		return p, err
	}
	backends := map[string]backend{}
	for i, b := range put.Backends {
		field := "backends[" + strconv.Itoa(i) + "]"
		to, err := parseTarget(field+": target_address", b.TargetAddress)
		if err != nil {
			return p, err
		}
		if b.Name == "" || len(b.Name) > 63 || strings.ContainsAny(b.Name, "/, \t\n\x00") {
			return p, errs.Invalidf("%s: name: got %q, want a name of 1 to 63 characters without space, comma and slash", field, b.Name)
		}
		if _, twice := backends[b.Name]; twice {
			return p, errs.Invalidf("%s: name: there are two back ends %q", field, b.Name)
		}
		if b.TargetPort != "" {
			if _, err := parsePortList(field+": target_port", b.TargetPort); err != nil {
				return p, err
			}
		}
		backends[b.Name] = backend{to, b.TargetPort}
	}
	for i, port := range put.Ports {
		some, err := readBalancerPort("ports["+strconv.Itoa(i)+"]", networks.Published{Listen: listen, BySource: source}, port, backends)
		if err != nil {
			return p, err
		}
		p.entries = append(p.entries, some...)
	}
	return p, nil
}

func readBalancerConfig(config api.ConfigMap) (p plan, source bool, err error) {
	c := checking{interval: 10 * time.Second, timeout: 30 * time.Second, failures: 3, successes: 3}
	on := false
	setters := map[string]func(v string) error{
		keyExpose:   func(v string) (err error) { p.public, err = parseExpose(v); return err },
		keyBalance:  func(v string) (err error) { source, err = parseBalance(v); return err },
		keyHealth:   func(v string) (err error) { on, err = profiles.ParseBool(v); return err },
		keyInterval: func(v string) (err error) { c.interval, err = parseSeconds(v); return err },
		keyTimeout:  func(v string) (err error) { c.timeout, err = parseSeconds(v); return err },
		keyFailures: func(v string) (err error) { c.failures, err = parseCount(v, 100); return err },
		keySuccess:  func(v string) (err error) { c.successes, err = parseCount(v, 100); return err },
		keyPath:     func(v string) (err error) { c.path = v; return checkPath(v) },
	}
	for _, key := range sortedKeys(config) {
		if strings.HasPrefix(key, "user.") {
			continue
		}
		set, ok := setters[key]
		if !ok {
			return p, false, errs.Invalidf("configuration key %q is not known for a network load balancer: use %s or user.*", key, strings.Join(sortedKeys(setters), ", "))
		}
		if err := set(config[key]); err != nil {
			return p, false, errs.Invalidf("configuration key %q: %w", key, err)
		}
	}
	if on {
		p.checking = &c
	}
	return p, source, nil
}

func parseBalance(v string) (source bool, err error) {
	if v != bySource && v != roundRobin {
		return false, errs.Invalidf("got %q, want %s or %s", v, roundRobin, bySource)
	}
	return v == bySource, nil
}

func checkPath(v string) error {
	if !strings.HasPrefix(v, "/") || strings.ContainsAny(v, " \t\r\n\x00") {
		return errs.Invalidf("got %q, want a path such as /healthz", v)
	}
	return nil
}

func parseSeconds(v string) (time.Duration, error) {
	n, err := parseCount(v, 3600)
	return time.Duration(n) * time.Second, err
}

func parseCount(v string, most int) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > most {
		return 0, errs.Invalidf("got %q, want a number from 1 to %d", v, most)
	}
	return n, nil
}

// readBalancerPort returns what e becomes for the ports of one.
func readBalancerPort(field string, e networks.Published, port api.NetworkLoadBalancerPort, backends map[string]backend) ([]entry, error) {
	protocol, ports, err := parsePorts(field, port.Protocol, port.ListenPort)
	if err != nil {
		return nil, err
	}
	if len(port.TargetBackend) == 0 {
		return nil, errs.Invalidf("%s: target_backend is missing: the names of those who take turns at port %s", field, port.ListenPort)
	}
	e.Protocol = protocol
	var out []entry
	// Each back end is somewhere at each port; ports that are the same
	// everywhere are one entry.
	moved := make([][]uint16, len(port.TargetBackend))
	same := true
	for i, name := range port.TargetBackend {
		b, ok := backends[name]
		if !ok {
			return nil, errs.Invalidf("%s: target_backend: there is no back end %q", field, name)
		}
		if moved[i], err = parseTargetPorts(field+": back end "+strconv.Quote(name), b.port, len(ports)); err != nil {
			return nil, err
		}
		same = same && moved[i] == nil
	}
	for i, number := range ports {
		if last := len(out) - 1; same && i > 0 && number == ports[i-1]+1 {
			out[last].Last = number
			continue
		}
		next := entry{Published: e, field: field, backends: port.TargetBackend}
		next.First, next.Last = number, number
		for j, name := range port.TargetBackend {
			next.Targets = append(next.Targets, netip.AddrPortFrom(backends[name].address, at(moved[j], i, number, same)))
		}
		out = append(out, next)
	}
	return out, nil
}

// at is the port of a back end for the i-th of a load balancer, which has a
// number.
func at(moved []uint16, i int, number uint16, same bool) uint16 {
	switch {
	case same:
		return 0
	case moved == nil:
		return number
	case len(moved) == 1:
		return moved[0]
	}
	return moved[i]
}
