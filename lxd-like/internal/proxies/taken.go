package proxies

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// Check reports ports that a rule is for and somebody has, and names who.
func (s *Service) Check(ctx context.Context, of Owner, r Rule) error {
	if err := s.checkTaken(ctx, r); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.checkOthers(of, r)
}

// checkTaken reports ports of the host that a rule is for and somebody has who
// is no proxy.
func (s *Service) checkTaken(ctx context.Context, r Rule) error {
	ports, err := hostPorts(r)
	if err != nil {
		return err
	}
	for _, e := range ports {
		who := ""
		if s.Taken != nil {
			who, err = s.Taken(ctx, e)
		}
		if err == nil && who == "" && r.NAT && s.Listener != nil { // A process that listens itself is told so.
			who, err = s.Listener(e)
		}
		if err != nil {
			return err
		}
		if who != "" {
			return errs.Conflictf("listen: %s is taken by %s", r.Listen, who)
		}
	}
	return nil
}

// checkOthers reports ports that other proxies have. The caller holds mu.
func (s *Service) checkOthers(of Owner, r Rule) error {
	for other, o := range s.all {
		if err := clash(r, other, o.rule, other.Instance == of.Instance); err != nil {
			return err
		}
	}
	return nil
}

// Takes returns which proxy has ports of the host; an empty string if none
// has.
func (s *Service) Takes(e networks.Published) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for of, p := range s.all {
		ports, err := hostPorts(p.rule)
		if err != nil {
			continue // It has none.
		}
		for _, o := range ports {
			if o.Overlaps(e) {
				return fmt.Sprintf("device %q of instance %q", of.Device, of.Instance)
			}
		}
	}
	return ""
}

// hostPorts are the ports of the host that a rule is for.
func hostPorts(r Rule) ([]networks.Published, error) {
	a, err := profiles.ParseProxyAddress(r.Listen)
	if err != nil || r.Inside || a.Kind == "unix" {
		return nil, err
	}
	e := networks.Published{Protocol: protocol(a.Kind)}
	hosts := []netip.Addr{a.ListenHost()}
	if !r.NAT && a.ListenHost().IsUnspecified() || r.NAT && !a.Host.IsValid() { // Processes listen on both families.
		hosts = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	var out []networks.Published
	for _, h := range hosts {
		for _, p := range a.Ports {
			e.Listen, e.First, e.Last = h, p.First, p.Last
			out = append(out, e)
		}
	}
	return out, nil
}

// protocol is the number of one by its name, tcp or udp.
func protocol(name string) uint8 {
	if name == "udp" {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}
