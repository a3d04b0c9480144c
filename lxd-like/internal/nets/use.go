package nets

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// Link says what a NIC on a managed network is connected to. A network that
// could not be applied before is tried again.
func (s *Service) Link(ctx context.Context, network string) (networks.Link, error) {
	n, _, err := s.ready(ctx, network)
	if err != nil {
		return networks.Link{}, err
	}
	if s.failure(network) != nil {
		if err := s.repair(ctx, network); err != nil {
			return networks.Link{}, errs.Newf(errs.Unavailable, "network %q is not there: %w", network, err)
		}
	}
	cfg, err := s.config(n)
	if err != nil {
		return networks.Link{}, err
	}
	if cfg.Parent != "" {
		return s.linkOnParent(n, cfg)
	}
	l := networks.Link{Kind: "bridged", Parent: cfg.Name, MTU: cfg.MTU, Stateful: cfg.IPv6.DHCP && cfg.IPv6.Stateful}
	if cfg.IPv6.Address.IsValid() && cfg.IPv6.DHCP && !cfg.IPv6.Stateful {
		l.Autoconf = cfg.IPv6.Address.Masked()
	}
	return l, nil
}

// CheckHost reports what is wrong with a host's addresses: a static one that
// is out of the network, or one that is another instance's.
func (s *Service) CheckHost(ctx context.Context, network string, h networks.Host) error {
	n, _, err := s.get(ctx, network)
	if err != nil {
		return err
	}
	cfg, err := s.config(n)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		addr netip.Addr
		f    networks.Family
	}{{h.IPv4, cfg.IPv4}, {h.IPv6, cfg.IPv6}} {
		if !c.addr.IsValid() {
			continue
		}
		if !netkeys.HasBridge(n.Type) {
			return errs.Invalidf("address %s cannot be given out: network %q is of type %s and has no DHCP of ours", c.addr, network, n.Type)
		}
		if err := networks.CheckStatic(c.f, c.addr); err != nil {
			return err
		}
	}
	return s.checkTaken(ctx, network, h)
}

// checkTaken returns an error if another instance has an address of h.
func (s *Service) checkTaken(ctx context.Context, network string, h networks.Host) error {
	recorded, err := s.recorded(ctx, network)
	if err != nil {
		return err
	}
	for _, r := range recorded {
		if err := taken(network, h, r.Host); err != nil {
			return err
		}
	}
	return s.checkKnown(network, h)
}

// checkKnown is checkTaken for those instances that the network was told of.
func (s *Service) checkKnown(network string, h networks.Host) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.hosts[network] {
		if err := taken(network, h, o); err != nil {
			return err
		}
	}
	return nil
}

// taken returns an error if the other is not the same instance and has an
// address of h.
func taken(network string, h, other networks.Host) error {
	if h.Instance == other.Instance {
		return nil
	}
	for _, a := range []netip.Addr{h.IPv4, h.IPv6} {
		if a.IsValid() && (a == other.IPv4 || a == other.IPv6) {
			return errs.Conflictf("address %s is taken on network %q by instance %s", a, network, project.QuoteInstance(other.Instance))
		}
	}
	if h.MAC != "" && strings.EqualFold(h.MAC, other.MAC) {
		return errs.Conflictf("hwaddr %s is taken on network %q by instance %s", h.MAC, network, project.QuoteInstance(other.Instance))
	}
	return nil
}

// SetHost tells the network of an instance, or changes what it knows. Of two
// instances that want one address at once the second is refused.
func (s *Service) SetHost(ctx context.Context, network string, h networks.Host) error {
	h.Name = HostName(network, h.Instance)
	if err := networks.CheckHost(h); err != nil {
		return err
	}
	s.change.Lock()
	defer s.change.Unlock()

	cfg, d, err := s.driverOf(ctx, network)
	if err != nil {
		return err
	}
	// To look at all records takes long where there are many. They were
	// looked at when the instance was made or changed.
	check := s.checkKnown(network, h)
	if (h.IPv4.IsValid() || h.IPv6.IsValid()) && !s.isPinned(network, h) {
		check = s.checkTaken(ctx, network, h)
	}
	if check != nil {
		return check
	}
	if err := d.SetHost(ctx, cfg, h); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isBelow(network, h)
	if s.hosts == nil {
		s.hosts = map[string]map[string]networks.Host{}
	}
	if s.hosts[network] == nil {
		s.hosts[network] = map[string]networks.Host{}
	}
	s.hosts[network][strings.ToLower(h.MAC)] = h
	return nil
}

// UnsetHost makes the network forget an instance, and end its leases. It is
// for one that is deleted, or leaves the network; not for one that stops.
func (s *Service) UnsetHost(ctx context.Context, network string, h networks.Host) error {
	h.Name = HostName(network, h.Instance)
	if err := networks.CheckHost(h); err != nil {
		return err
	}
	s.change.Lock()
	defer s.change.Unlock()

	cfg, d, err := s.driverOf(ctx, network)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.hosts[network], strings.ToLower(h.MAC))
	delete(s.below[network], strings.ToLower(h.MAC))
	s.unpin(network, h)
	s.mu.Unlock()
	return d.UnsetHost(ctx, cfg, h)
}

func (s *Service) driverOf(ctx context.Context, network string) (cfg networks.Config, d networks.Driver, err error) {
	n, d, err := s.ready(ctx, network)
	if err != nil {
		return cfg, nil, err
	}
	cfg, err = s.config(n)
	return cfg, d, err
}

// withHosts is config with the hosts that the network is to know: those of
// the records, and those told of since the start that are not recorded yet.
func (s *Service) withHosts(ctx context.Context, n db.Network) (networks.Config, error) {
	cfg, err := s.whole(ctx, n)
	if err != nil {
		return cfg, err
	}
	all, err := s.guests(ctx)
	if err != nil {
		return cfg, err
	}
	recorded := all.recorded(n.Name)
	known := map[string]networks.Host{}
	for _, r := range recorded {
		// One that is made was told of, and one that is removed is forgotten.
		if r.status == db.Ready && networks.CheckHost(r.Host) == nil {
			known[strings.ToLower(r.MAC)] = r.Host
		}
	}
	s.mu.Lock()
	for mac, h := range s.hosts[n.Name] {
		h.Port = known[mac].Port
		known[mac] = h
	}
	for _, mac := range sortedKeys(known) {
		cfg.Hosts = append(cfg.Hosts, known[mac])
		s.isBelow(n.Name, known[mac])
	}
	s.mu.Unlock()
	cfg.Aliases = aliasesOf(n.Name, recorded)
	cfg.Peers = share(n.Name, cfg.Peers, all.recorded)
	return cfg, nil
}

// A record is a host as the record of an instance has it.
type record struct {
	networks.Host

	status  db.Status
	aliases []string
}

// recorded returns the hosts that the records of instances put on a network.
// Those that have no MAC address yet are among them.
func (s *Service) recorded(ctx context.Context, network string) ([]record, error) {
	all, err := s.guests(ctx)
	return all.recorded(network), err
}

// recorded are the hosts that instances put on a network.
func (g guests) recorded(network string) []record {
	var all []record
	for _, in := range g {
		expanded := in.Expanded
		aliases, _ := profiles.ParseAliases(expanded.Options[profiles.KeyAliases]) // None if it is not valid.
		for _, name := range sortedKeys(expanded.Devices) {
			dev := expanded.Devices[name]
			if dev["type"] != "nic" || dev["network"] != network {
				continue
			}
			all = append(all, record{hostOf(network, in.Name, name, expanded), in.Status, aliases})
		}
	}
	return all
}

// hostOf returns the host that a NIC of an instance is on a network.
func hostOf(network, instance, nic string, expanded profiles.Config) networks.Host {
	dev := expanded.Devices[nic]
	h := networks.Host{Name: HostName(network, instance), Instance: instance, MAC: dev["hwaddr"]}
	if h.MAC == "" {
		h.MAC = expanded.Options["volatile."+nic+".hwaddr"]
	}
	h.IPv4, h.IPv6 = held(dev, expanded.Options["volatile."+nic+".last_state.ip_addresses"])
	h.Port = expanded.Options["volatile."+nic+".host_name"]
	return h
}

// held are the static addresses of a NIC: those that somebody has chosen, and
// those that filtering holds it to.
func held(dev profiles.Device, pinned string) (four, six netip.Addr) {
	for _, v := range profiles.SplitList(pinned) {
		a, err := netip.ParseAddr(v)
		filters := func(option string) bool { on, _ := profiles.ParseBool(dev[option]); return on }
		switch {
		case err != nil:
		case a.Is4() && filters("security.ipv4_filtering"):
			four = a
		case a.Is6() && filters("security.ipv6_filtering"):
			six = a
		}
	}
	// What is no address, such as "none", is none.
	if v := dev["ipv4.address"]; v != "" {
		four, _ = netip.ParseAddr(v)
	}
	if v := dev["ipv6.address"]; v != "" {
		six, _ = netip.ParseAddr(v)
	}
	return four, six
}

// users are the records that can use networks.
type users struct {
	instances guests
	profiles  []db.Profile
	networks  []db.Network // Which are on interfaces, and on bridges of others.
}

func (s *Service) users(ctx context.Context) (u users, err error) {
	if u.instances, err = s.guests(ctx); err != nil {
		return u, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if u.profiles, err = db.Profiles(ctx, tx); err != nil {
			return err
		}
		u.networks, err = db.Networks(ctx, tx)
		return err
	})
	return u, err
}

// of returns the URLs of what uses a network, or an interface of the host.
func (u users) of(name string) []string {
	link := project.Link(name)
	uses := func(devices map[string]profiles.Device) bool {
		for _, d := range devices {
			if d["type"] == "nic" && (d["network"] == name || d["network"] == "" && d["parent"] == link) {
				return true
			}
		}
		return false
	}
	all := []string{}
	for _, in := range u.instances {
		if uses(in.Expanded.Devices) {
			all = append(all, "/1.0/instances/"+in.Name)
		}
	}
	for _, p := range u.profiles {
		if uses(p.Devices) {
			all = append(all, "/1.0/profiles/"+url.PathEscape(p.Name))
		}
	}
	for _, n := range u.networks {
		cfg, err := parse(n)
		if err == nil && n.Name != name && slices.ContainsFunc(needs(n.Type, cfg), func(has need) bool { return has.name == link }) {
			all = append(all, networkURL(n.Name))
		}
	}
	return all
}

// unused returns an error that names the users of a network, if it has any.
func (s *Service) unused(ctx context.Context, n db.Network, verb string) error {
	u, err := s.users(ctx)
	if err != nil {
		return err
	}
	users, err := s.usedBy(ctx, u, n.Name)
	if err != nil || len(users) == 0 {
		return err
	}
	for i, path := range users {
		users[i] = UserOf(path)
	}
	const most = 5
	if more := len(users) - most; more > 0 {
		users = append(users[:most], "and others")
	}
	return errs.Conflictf("cannot %s network %q: it is used by %s", verb, n.Name, strings.Join(users, ", "))
}

// UserOf is how texts name what has a URL, if they are read in whichever project.
func UserOf(path string) string {
	path, of := project.Path(path)
	kind, name, _ := strings.Cut(strings.TrimPrefix(path, "/1.0/"), "/")
	text := strings.ReplaceAll(strings.TrimSuffix(kind, "s"), "network-acl", "network ACL") + " " + name
	if of != project.Default {
		text += " of project " + of
	}
	return text
}
