package nets

import (
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// CheckNames reports who else has the name of an instance, or one of the
// aliases that it is to have.
func (s *Service) CheckNames(ctx context.Context, instance string, aliases []string) error {
	of, name := project.SplitInstance(instance)
	s.mu.Lock()
	_, suspect := s.aliases[strings.ToLower(instance)] // Which may have changed just now.
	s.mu.Unlock()
	if len(aliases) == 0 && !suspect {
		return nil
	}
	all, err := s.guests(ctx)
	if err != nil {
		return err
	}
	for _, in := range all {
		if project.OfInstance(in.Name) != of {
			continue // Its names are others in DNS.
		}
		other := project.InstanceName(in.Name)
		theirs := profiles.SplitList(in.Expanded.Options[profiles.KeyAliases])
		if other != name && slices.ContainsFunc(theirs, func(a string) bool { return strings.EqualFold(a, name) }) {
			return errs.Conflictf("name %q is taken: instance %q has it as an alias (%s)", name, other, profiles.KeyAliases)
		}
		for _, a := range aliases {
			switch is := func(name string) bool { return strings.EqualFold(name, a) }; {
			case is(name):
				return errs.Invalidf("alias %q is the name of the instance itself", a)
			case is(other) && other != name:
				return errs.Conflictf("alias %q is the name of instance %q", a, other)
			case other != name && slices.ContainsFunc(theirs, is):
				return errs.Conflictf("alias %q is taken by instance %q", a, other)
			}
		}
	}
	return nil
}

// aliasesOf returns the aliases of the instances that are hosts of a network, each
// once, and none that is the name of a host: what came by another way than the
// check, such as a profile, does not take names away.
func aliasesOf(network string, hosts []record) []networks.Alias {
	taken := map[string]bool{}
	for _, h := range hosts {
		taken[strings.ToLower(h.Name)] = true
	}
	byName := map[string][]string{}
	for _, h := range hosts {
		if h.status != db.Ready || h.Name == "" {
			continue
		}
		for _, a := range h.aliases {
			if a = below(network, project.OfInstance(h.Instance), a); !slices.Contains(byName[h.Name], a) {
				byName[h.Name] = append(byName[h.Name], a)
			}
		}
	}
	var all []networks.Alias
	for _, host := range slices.Sorted(maps.Keys(byName)) {
		for _, a := range byName[host] {
			if key := strings.ToLower(a); !taken[key] {
				taken[key] = true
				all = append(all, networks.Alias{Name: a, Host: host})
			}
		}
	}
	return all
}

// named are the names that networks have to know besides those of their hosts,
// and whose the aliases are.
type named struct {
	networks map[string]otherNames
	owners   map[string]string
	unready  bool // There is an instance whose record becomes ready when it is started.
}

// otherNames are those of a network.
type otherNames struct {
	aliases []networks.Alias
	peers   []networks.Peer
}

func (s *Service) named(ctx context.Context) (named, error) {
	out := named{networks: map[string]otherNames{}, owners: map[string]string{}}
	var peers map[string][]networks.Peer
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if s.Peering != nil {
			peers, err = s.Peering(ctx, tx)
		}
		return err
	})
	if err != nil {
		return out, err
	}
	all, err := s.guests(ctx)
	hasAlias := func(g guest) bool { return g.Expanded.Options[profiles.KeyAliases] != "" }
	if err != nil || len(peers) == 0 && !slices.ContainsFunc(all, hasAlias) {
		return out, err
	}
	hosts := hostsOf(all, &out)
	for network, some := range hosts {
		if all := aliasesOf(network, some); len(all) > 0 {
			out.networks[network] = otherNames{aliases: all}
		}
	}
	for network, some := range peers {
		one := out.networks[network]
		one.peers = share(network, some, func(of string) []record { return hosts[of] })
		out.networks[network] = one
	}
	return out, nil
}

// hostsOf returns which instances are on which networks, with their aliases, and
// notes whose these are, and whether somebody is not ready.
func hostsOf(all guests, out *named) map[string][]record {
	hosts := map[string][]record{}
	for _, in := range all {
		expanded := in.Expanded
		aliases, _ := profiles.ParseAliases(expanded.Options[profiles.KeyAliases]) // None if it is not valid.
		for _, a := range aliases {
			out.owners[strings.ToLower(project.Instance(project.OfInstance(in.Name), a))] = in.Name
		}
		out.unready = out.unready || in.Status == db.Pending
		for _, name := range sortedKeys(expanded.Devices) {
			if dev := expanded.Devices[name]; dev["type"] == "nic" && dev["network"] != "" {
				h := networks.Host{Name: HostName(dev["network"], in.Name), Instance: in.Name}
				hosts[dev["network"]] = append(hosts[dev["network"]], record{h, in.Status, aliases})
			}
		}
	}
	return hosts
}

// gather is how long is waited for more changes after one of an instance.
const gather = 50 * time.Millisecond

// keepAliases makes networks follow the aliases of instances, and the names that
// their peers have, until ctx ends.
// They are told of instances when those start, and not when one changes.
func (s *Service) keepAliases(ctx context.Context) {
	l := s.Events.Listen("lifecycle")
	defer func() { l.Close() }()
	before := s.follow(ctx, named{})
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-l.C:
			if !ok { // Too much happened at once.
				l = s.Events.Listen("lifecycle")
			} else if !renames(e, before.unready) {
				continue
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(gather):
		}
		drain(l.C)
		before = s.follow(ctx, before)
	}
}

// drain takes what is there already.
func drain(c <-chan *api.Event) {
	for {
		select {
		case _, ok := <-c:
			if !ok {
				return
			}
		default:
			return
		}
	}
}

// renames reports whether after an event instances may have other names. That
// one starts tells only of those that were not ready.
func renames(e *api.Event, unready bool) bool {
	var what api.EventLifecycle
	if json.Unmarshal(e.Metadata, &what) != nil {
		return false
	}
	switch what.Action {
	case "instance-created", "instance-updated", "instance-renamed", "instance-deleted", "instance-restored", "profile-updated",
		"network-updated", "network-renamed": // Peers can have another domain.
		return true
	case "instance-started":
		return unready
	}
	return false
}

// follow applies the networks whose aliases are not what they were before, and
// returns those that there are now.
func (s *Service) follow(ctx context.Context, before named) named {
	now, err := s.named(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "cannot read the aliases of instances", "err", err)
		}
		return before
	}
	s.mu.Lock()
	s.aliases = now.owners
	s.mu.Unlock()
	// Networks that had aliases at the start were applied with them, or with what those were a moment before.
	changed := map[string]otherNames{}
	maps.Copy(changed, before.networks)
	maps.Copy(changed, now.networks)
	for _, network := range sortedKeys(changed) {
		if reflect.DeepEqual(before.networks[network], now.networks[network]) {
			continue
		}
		if err := s.repair(ctx, network); err != nil && ctx.Err() == nil && !errs.Is(err, errs.NotFound) {
			s.Log.ErrorContext(ctx, "cannot give instances their aliases", "network", network, "err", err)
		}
	}
	return now
}
