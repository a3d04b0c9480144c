package nets

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/networks/probe"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// Examine tries a managed bridge out as an instance would, and tells of what
// does not work why. It takes some seconds for each thing that fails.
func (s *Service) Examine(ctx context.Context, name string) ([]api.NetworkCheck, error) {
	n, _, err := s.ready(ctx, name)
	if err != nil {
		return nil, err
	}
	if !netkeys.HasBridge(n.Type) {
		return nil, errs.Invalidf("network %q is of type %s: only bridges can be tried out", name, n.Type)
	}
	cfg, err := s.whole(ctx, n)
	if err != nil {
		return nil, err
	}
	made := s.made(name)
	if made.Status != string(probe.OK) {
		return []api.NetworkCheck{made}, nil
	}
	tried, err := probe.Run(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("try out network %q: %w", name, err)
	}
	ports, err := s.leading(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("try out network %q: %w", name, err)
	}
	tried = append(tried, ports...)
	return append([]api.NetworkCheck{made}, s.explained(ctx, cfg, tried)...), nil
}

// leading tries what leads from the host into a network.
func (s *Service) leading(ctx context.Context, cfg networks.Config) ([]probe.Check, error) {
	list := cfg.Published
	if s.Leading != nil {
		more, err := s.Leading(ctx, cfg.Name)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	return probe.Published(ctx, list)
}

// made tells whether the network is there at all.
func (s *Service) made(name string) api.NetworkCheck {
	s.mu.Lock()
	defer s.mu.Unlock()
	if failure := s.failed[name]; failure != nil {
		return api.NetworkCheck{Name: "bridge", Status: string(probe.Failed), Detail: failure.Error()}
	}
	return api.NetworkCheck{Name: "bridge", Status: string(probe.OK), Detail: project.Link(name)}
}

// explained adds to what failed what is known to be in the way.
func (s *Service) explained(ctx context.Context, cfg networks.Config, tried []probe.Check) []api.NetworkCheck {
	var some []firewall.Obstacle
	rules, unread, err := readFirewall(ctx)
	if err == nil {
		some, err = obstacles(rules, cfg)
	}
	if err == nil {
		var more []firewall.Obstacle
		more, err = rules.Obstacles(append(firewall.Inward(cfg), firewall.Outside(cfg)...))
		some = append(some, more...)
	}
	var out []api.NetworkCheck
	for _, c := range tried {
		check := api.NetworkCheck{Name: c.Name, Status: string(c.Status), Detail: c.Detail}
		if c.Status == probe.Failed {
			explain(&check, c, some, cfg.Name)
			if err != nil {
				check.Detail += fmt.Sprintf(" (the host's firewall cannot be read: %v)", err)
			}
		}
		out = append(out, check)
	}
	if len(unread) > 0 {
		out = append(out, api.NetworkCheck{Name: "rules of iptables-legacy", Status: string(probe.Skipped), Detail: describedUnread(unread)})
	}
	return out
}

// explain finds the first thing that is in the way of a check.
func explain(to *api.NetworkCheck, c probe.Check, some []firewall.Obstacle, bridge string) {
	for _, need := range c.Needs {
		for _, o := range some {
			if strings.HasPrefix(o.Packet.What, need) {
				to.Cause, to.Remedy = o.String(), o.Remedy(bridge)
				return
			}
		}
	}
	if forwarding := forwardingOff(c); forwarding != "" {
		to.Cause = forwarding + " is 0: the host forwards nothing"
		to.Remedy = "sysctl -w " + forwarding + "=1"
	}
}

// forwardingOff returns the setting that keeps the host from forwarding what a
// check needs; "" if none does.
func forwardingOff(c probe.Check) string {
	if !strings.HasPrefix(c.Name, "connection") && !strings.HasPrefix(c.Name, "published") {
		return ""
	}
	path, name := "/proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward"
	if strings.HasSuffix(c.Name, "(IPv6)") {
		path, name = "/proc/sys/net/ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding"
	}
	data, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(data)) == "0" {
		return name
	}
	return ""
}
