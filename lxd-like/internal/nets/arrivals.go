package nets

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// addressTime is how long an instance has to get its addresses.
const addressTime = 30 * time.Second

// How long it takes until an instance is looked at again that has got none:
// longer each time.
const (
	soonAgain = 2 * time.Second
	lateAgain = time.Minute
)

// arrivals are the instances that have started of late or were changed, and
// those that have no address since. All others cost nothing.
type arrivals struct {
	s   *Service
	all map[string]*arrival // By instance.
}

// An arrival is an instance that is waited for.
type arrival struct {
	next  time.Time // When it is looked at.
	pause time.Duration
	text  string // Of its warning; empty if it has none.
}

// watchArrivals warns of instances that get no address in time, until ctx ends.
func (s *Service) watchArrivals(ctx context.Context) {
	if s.Inside == nil {
		return
	}
	a := arrivals{s, map[string]*arrival{}}
	for ctx.Err() == nil {
		l := s.Events.Listen("lifecycle")
		if err := a.recall(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "cannot find instances that wait for addresses", "err", err)
		}
		a.follow(ctx, l.C)
		l.Close()
	}
}

// follow heeds events until there are too many at once, or ctx ends.
func (a *arrivals) follow(ctx context.Context, events <-chan *api.Event) {
	for {
		var due <-chan time.Time
		if next := a.next(); !next.IsZero() {
			due = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				return
			}
			a.heed(ctx, e, time.Now())
		case <-due:
			a.look(ctx, time.Now())
		}
	}
}

// next is when the next is to be looked at; zero if there is none.
func (a *arrivals) next() (next time.Time) {
	for _, one := range a.all {
		if next.IsZero() || one.next.Before(next) {
			next = one.next
		}
	}
	return next
}

// recall finds what events did not tell: the instances that had started just
// before, and those that there are warnings of.
func (a *arrivals) recall(ctx context.Context, now time.Time) error {
	var instances []db.Instance
	var open []db.Warning
	err := a.s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if instances, err = db.Instances(ctx, tx); err != nil {
			return err
		}
		open, err = db.Warnings(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	for _, w := range open {
		name, ok := strings.CutPrefix(w.Entity, instanceURL(""))
		if ok && a.all[name] == nil && w.Type == warnings.NoAddress.Name && w.Status != api.WarningResolved {
			a.all[name] = &arrival{next: now, text: w.Message}
		}
	}
	for _, in := range instances {
		if due := in.LastUsed.Add(addressTime); a.all[in.Name] == nil && due.After(now) {
			a.all[in.Name] = &arrival{next: due}
		}
	}
	return nil
}

// heed waits for an instance that an event says has started or was changed, and
// no more for one that has ended.
func (a *arrivals) heed(ctx context.Context, e *api.Event, now time.Time) {
	var is api.EventLifecycle
	if json.Unmarshal(e.Metadata, &is) != nil {
		return
	}
	source, _, _ := strings.Cut(is.Source, "?")
	name, ok := strings.CutPrefix(source, instanceURL(""))
	if !ok {
		return
	}
	name = project.Instance(is.Project, name)
	switch is.Action {
	case "instance-stopped", "instance-shutdown", "instance-deleted":
		a.forget(ctx, name)
	case "instance-renamed":
		if old, ok := is.Context["old_name"].(string); ok {
			a.forget(ctx, project.Instance(is.Project, old))
		}
	case "instance-started", "instance-restarted":
		if one := a.all[name]; one != nil && one.text != "" {
			a.forget(ctx, name)
		}
		a.all[name] = &arrival{next: now.Add(addressTime)}
	case "instance-updated":
		if one := a.all[name]; one != nil && one.text != "" {
			one.next, one.pause = now, 0 // It may have what it lacked.
			return
		}
		a.all[name] = &arrival{next: now.Add(addressTime)}
	}
}

// forget waits for an instance no more.
func (a *arrivals) forget(ctx context.Context, name string) {
	delete(a.all, name)
	a.s.Warnings.Resolve(ctx, warnings.NoAddress, instanceURL(name))
}

// look looks at the instances whose time has come.
func (a *arrivals) look(ctx context.Context, now time.Time) {
	for _, name := range sortedKeys(a.all) {
		one := a.all[name]
		if one.next.After(now) {
			continue
		}
		lacks, err := a.s.lacking(ctx, name)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			a.s.Log.ErrorContext(ctx, "cannot tell whether an instance has its addresses", "instance", name, "err", err)
		} else if len(lacks) == 0 {
			a.forget(ctx, name)
			continue
		}
		one.pause = min(max(2*one.pause, soonAgain), lateAgain)
		one.next = now.Add(one.pause)
		a.warn(ctx, name, lacks)
	}
}

// warn raises the warning about what an instance lacks, unless it is there.
func (a *arrivals) warn(ctx context.Context, name string, lacks []lack) {
	kind, texts := warnings.NoAddress, []string{}
	for _, l := range lacks {
		texts = append(texts, l.text)
		if l.blocked {
			kind.Severity = api.SeverityHigh
		}
	}
	text := strings.Join(texts, "; ")
	if one := a.all[name]; len(lacks) > 0 && one.text != text {
		one.text = text
		a.s.Warnings.Raise(ctx, kind, instanceURL(name), text)
	}
}

// A lack is an address that a NIC has not got.
type lack struct {
	text    string
	blocked bool // The host's firewall is in the way.
}

// lacking returns which NICs of an instance have no address although their
// network gives them one by DHCP of IPv4. It counts what interfaces have: a guest
// that takes its address by itself lacks none, and leases outlive a stop. One
// that does not run lacks nothing.
func (s *Service) lacking(ctx context.Context, instance string) ([]lack, error) {
	var in db.Instance
	var profs []db.Profile
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if in, err = db.GetInstance(ctx, tx, instance); err != nil {
			return err
		}
		profs, err = db.ProfilesLeft(ctx, tx, in.Profiles)
		return err
	})
	if errs.Is(err, errs.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var has []profiles.Config
	for _, p := range profs {
		has = append(has, profiles.Config{Options: p.Config, Devices: p.Devices})
	}
	expanded := profiles.Expand(profiles.Config{Options: in.Config, Devices: in.Devices}, has...)
	nics := map[string]networks.Config{}
	for _, name := range sortedKeys(expanded.Devices) {
		cfg, ok, err := s.serves(ctx, expanded.Devices[name])
		if err != nil {
			return nil, err
		}
		if ok {
			nics[name] = cfg
		}
	}
	if len(nics) == 0 {
		return nil, nil
	}
	inside, err := s.Inside(instance)
	if err != nil {
		return nil, nil //nolint:nilerr // It has ended, which an event tells, too.
	}
	var all []lack
	for _, name := range sortedKeys(nics) {
		h := hostOf(nics[name].Key, instance, name, expanded)
		addresses, there := inside[strings.ToLower(h.MAC)]
		if there && !slices.ContainsFunc(addresses, isOwn) && (!nics[name].IPv4.Closed || h.IPv4.IsValid()) {
			all = append(all, s.lack(instance, name, nics[name].Key))
		}
	}
	return all, nil
}

// isOwn reports whether an address of IPv4 is more than what guests choose if
// they get none.
func isOwn(p netip.Prefix) bool { return p.Addr().Is4() && !p.Addr().IsLinkLocalUnicast() }

// serves returns the network of a device, if it is a NIC that DHCP of that gives
// an address of IPv4.
func (s *Service) serves(ctx context.Context, dev profiles.Device) (cfg networks.Config, serves bool, err error) {
	// In a VLAN there may be another's DHCP, and who asks for no address has none.
	if dev["type"] != "nic" || dev["network"] == "" || dev["vlan"] != "" || dev["ipv4.address"] == "none" {
		return cfg, false, nil
	}
	n, _, err := s.get(ctx, dev["network"])
	if errs.Is(err, errs.NotFound) {
		return cfg, false, nil
	}
	if err != nil || n.Status != db.Ready || !netkeys.HasBridge(n.Type) {
		return cfg, false, err
	}
	cfg, err = s.config(n)
	return cfg, err == nil && cfg.IPv4.DHCP && cfg.IPv4.Address.IsValid(), err
}

// lack tells of a NIC without an address, and why it may have none.
func (s *Service) lack(instance, nic, network string) lack {
	text := fmt.Sprintf("instance %s has no IPv4 address on NIC %q: network %s gave it none in %s", project.QuoteInstance(instance), nic, project.Quote(network), addressTime)
	s.mu.Lock()
	blocked := slices.DeleteFunc(slices.Clone(s.blocked[network]), func(o firewall.Obstacle) bool {
		return o.Packet.IPv6 || !strings.HasPrefix(o.Packet.What, "DHCP")
	})
	s.mu.Unlock()
	if len(blocked) > 0 {
		return lack{fmt.Sprintf("%s: %s", text, described(network, blocked)), true}
	}
	return lack{fmt.Sprintf("%s. It may have no DHCP client; \"cuib network doctor %s\" tells whether the network gives out addresses", text, arguments(network)), false}
}

// arguments are a network as commands take it.
func arguments(network string) string {
	of, name := project.Split(network)
	if of == project.Default {
		return name
	}
	return name + " --project " + of
}

func instanceURL(name string) string { return "/1.0/instances/" + name }
