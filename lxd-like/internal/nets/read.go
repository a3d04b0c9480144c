package nets

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// List returns the managed networks and the host's other interfaces.
func (s *Service) List(ctx context.Context) ([]api.Network, error) {
	u, err := s.users(ctx)
	if err != nil {
		return nil, err
	}
	var records []db.Network
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		records, err = db.Networks(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	links, err := s.Host.Links()
	if err != nil {
		return nil, err
	}
	all := make([]api.Network, 0, len(records)+len(links))
	managed := map[string]bool{}
	for _, n := range records {
		managed[project.Link(n.Name)] = true
		described, err := s.describe(ctx, n, u)
		if err != nil {
			return nil, err
		}
		all = append(all, described)
	}
	for _, l := range links {
		// The host's ends of NICs are no networks.
		if !managed[l.Name] && !strings.HasPrefix(l.Name, "veth") {
			all = append(all, unmanaged(l, u))
		}
	}
	slices.SortFunc(all, func(a, b api.Network) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Get returns a managed network, or an interface of the host.
func (s *Service) Get(ctx context.Context, name string) (api.Network, error) {
	n, _, err := s.get(ctx, name)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return api.Network{}, err
	}
	managed := err == nil
	u, err := s.users(ctx)
	if err != nil {
		return api.Network{}, err
	}
	if managed {
		return s.describe(ctx, n, u)
	}
	l, err := s.unmanaged(ctx, name)
	if err != nil {
		return api.Network{}, err
	}
	return unmanaged(l, u), nil
}

// Exists is [Service.Get] for who only needs to know that there is a managed
// network: it reads nothing of instances.
func (s *Service) Exists(ctx context.Context, name string) error {
	_, _, err := s.get(ctx, name)
	return err
}

func (s *Service) describe(ctx context.Context, n db.Network, u users) (api.Network, error) {
	status := "Created"
	switch {
	case n.Status == db.Pending:
		status = "Pending"
	case s.failure(n.Name) != nil:
		status = "Errored"
	}
	usedBy, err := s.usedBy(ctx, u, n.Name)
	if err != nil {
		return api.Network{}, err
	}
	absent, err := s.absentOf(n)
	return api.Network{
		NetworkPut: api.NetworkPut{Config: maps.Clone(n.Config), Description: n.Description},
		Name:       n.Name, Type: n.Type, UsedBy: usedBy, Managed: true, Status: status,
		Locations: []string{"none"}, Project: project.Of(n.Name), Obstacles: s.Obstacles(n.Name), MissingInterfaces: absent,
	}, err
}

func unmanaged(l host.Link, u users) api.Network {
	return api.Network{
		NetworkPut: api.NetworkPut{Config: api.ConfigMap{}},
		Name:       l.Name, Type: l.Kind, UsedBy: u.of(l.Name), Locations: []string{}, Project: project.Default,
	}
}

// unmanaged returns an interface of the host that no network has made.
func (s *Service) unmanaged(ctx context.Context, name string) (host.Link, error) {
	all, err := s.records(ctx)
	if err != nil {
		return host.Link{}, err
	}
	if slices.ContainsFunc(all, func(n db.Network) bool { return project.Link(n.Name) == name }) {
		return host.Link{}, errs.NotFoundf("network %q not found", name)
	}
	return s.link(name)
}

func (s *Service) link(name string) (host.Link, error) {
	l, err := s.Host.Find(name)
	if errs.Is(err, errs.NotFound) {
		return l, errs.NotFoundf("network %q not found", name)
	}
	return l, err
}

// Leases returns the addresses that are given out on a managed network, and
// those of IPv6 that instances make themselves.
func (s *Service) Leases(ctx context.Context, name string) ([]api.NetworkLease, error) {
	n, _, err := s.get(ctx, name)
	if err != nil {
		return nil, err
	}
	cfg, err := s.config(n)
	if err != nil {
		return nil, err
	}
	found, err := s.given(ctx, n)
	if err != nil {
		return nil, fmt.Errorf("read the leases of network %q: %w", name, err)
	}
	all := []api.NetworkLease{}
	for _, p := range []netip.Prefix{cfg.IPv4.Address, cfg.IPv6.Address} {
		if p.IsValid() {
			all = append(all, api.NetworkLease{
				Hostname: project.Name(name) + ".gw", Address: p.Addr().String(), Type: "gateway", Location: "none", Project: project.Of(name),
			})
		}
	}
	for _, l := range found {
		typ := "dynamic"
		if l.Static {
			typ = "static"
		}
		// What a guest calls itself is of the network alone.
		of, hostname := project.Of(name), l.Host.Name
		if l.Host.Instance != "" {
			of, hostname = project.SplitInstance(l.Host.Instance)
		}
		all = append(all, api.NetworkLease{
			Hostname: hostname, Hwaddr: l.Host.MAC, Address: l.Address.String(), Type: typ, Location: "none", Project: of,
		})
	}
	return all, nil
}

// State returns the state of a network's interface, or of an interface of
// the host. That of a network with a parent is the parent's.
func (s *Service) State(ctx context.Context, name string) (api.NetworkState, error) {
	n, _, err := s.get(ctx, name)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return api.NetworkState{}, err
	}
	managed, iface, find := err == nil, name, func(name string) (host.Link, error) { return s.unmanaged(ctx, name) }
	if managed {
		iface, find = cmp.Or(n.Config["parent"], project.Link(name)), s.link
	}
	l, err := find(iface)
	if managed && errs.Is(err, errs.NotFound) { // It is an instance's now, or gone.
		return api.NetworkState{Addresses: []api.NetworkStateAddress{}, State: "down", Type: "broadcast", Obstacles: s.Obstacles(name)}, nil
	}
	if err != nil {
		return api.NetworkState{}, err
	}
	c := l.Counters
	st := api.NetworkState{
		Obstacles: s.Obstacles(name), ObstaclesUnread: s.unreadOf(n),
		Addresses: []api.NetworkStateAddress{}, Hwaddr: l.MAC, Mtu: l.MTU, State: "down", Type: "broadcast",
		Counters: &api.NetworkCounters{
			BytesReceived: int64(c.BytesReceived), BytesSent: int64(c.BytesSent),
			PacketsReceived: int64(c.PacketsReceived), PacketsSent: int64(c.PacketsSent),
		},
	}
	if l.Up {
		st.State = "up"
	}
	if managed {
		if st.MissingInterfaces, err = s.absentOf(n); err != nil {
			return api.NetworkState{}, err
		}
	}
	if l.Kind == "loopback" {
		st.Type = "loopback"
	}
	if st.Gateways, err = s.gateways(l.Name); err != nil {
		return api.NetworkState{}, err
	}
	for _, p := range l.Addresses {
		st.Addresses = append(st.Addresses, stateAddress(p))
	}
	if l.Kind == "bridge" {
		st.Bridge = &api.NetworkStateBridge{
			ID: "8000." + strings.ReplaceAll(l.MAC, ":", ""), ForwardDelay: 1500, VLANDefault: 1,
			UpperDevices: append([]string{}, l.Ports...),
		}
	}
	return st, nil
}

// unreadOf is Unread for a network that goes through the host's firewall.
func (s *Service) unreadOf(n db.Network) []string {
	if !netkeys.HasBridge(n.Type) {
		return nil
	}
	return s.Unread()
}

// gateways are those of the host's default routes through an interface.
func (s *Service) gateways(name string) ([]string, error) {
	reader, can := s.Host.(interface {
		Gateways(name string) ([]netip.Addr, error)
	})
	if !can {
		return nil, nil
	}
	all, err := reader.Gateways(name)
	var out []string
	for _, a := range all {
		out = append(out, a.String())
	}
	return out, err
}

func stateAddress(p netip.Prefix) api.NetworkStateAddress {
	a := api.NetworkStateAddress{Family: "inet", Address: p.Addr().String(), Netmask: fmt.Sprint(p.Bits()), Scope: "global"}
	if p.Addr().Is6() {
		a.Family = "inet6"
	}
	switch ip := net.IP(p.Addr().AsSlice()); {
	case ip.IsLoopback():
		a.Scope = "local"
	case ip.IsLinkLocalUnicast():
		a.Scope = "link"
	}
	return a
}
