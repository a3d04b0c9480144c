// Package nets keeps the records of networks and makes the host follow them.
//
// A network's driver is told the whole wanted state each time something
// changes, so that what a crash or somebody else left is put right by the
// same call that makes a network.
package nets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/mirror"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/undo"
)

// A Service keeps networks. Its methods are safe for concurrent use.
type Service struct {
	DB       *db.DB
	Dir      string                     // The daemon's state directory, which nobody can search.
	Drivers  map[string]networks.Driver // By type, such as bridge.
	Host     hostReader                 // host.Kernel{}.
	Events   *events.Hub
	Log      *slog.Logger
	Warnings *warnings.Service // Nil for none.
	Resolver resolver          // Of the host; nil for none.

	Opener opener // Nil to change nothing in the firewalls of others.

	// Restored is told of bridges of networks that were disturbed and are made
	// anew; nil for nobody.
	Restored func(ctx context.Context, bridge string)

	// Inside tells the addresses of a running instance's interfaces, by their MAC
	// addresses in lower case, or fails with NotFound for one that does not run;
	// nil where nothing is told of them.
	Inside func(instance string) (map[string][]netip.Prefix, error)

	// What other services keep of networks. They are set before the first
	// call of a method.
	Parts   []Part
	Checks  []Check
	Uses    []Use
	Renames []Rename
	Peering Peering // Nil where networks have no peers.

	// Leading returns what of the host's ports leads to instances on a bridge,
	// besides what is published of the network; nil for nothing.
	Leading func(ctx context.Context, bridge string) ([]networks.Published, error)

	guestsOnce sync.Once
	mirror     *mirror.Mirror[guest] // See [Service.guests].

	// change is held by what changes networks, from its first look at the
	// records to the end of the driver's work.
	change sync.Mutex

	// opening is held by what changes the firewalls of others.
	opening  sync.Mutex
	attempts map[string]attempt // By network. Guarded by opening.

	mu      sync.Mutex // Guards what follows.
	hosts   map[string]map[string]networks.Host
	pins    map[string]map[netip.Addr]string   // By network: the MAC addresses that addresses are reserved for.
	failed  map[string]error                   // Networks whose last Apply failed, and why.
	blocked map[string][]firewall.Obstacle     // By network.
	unread  []string                           // Programs that are missing to read the host's firewall.
	aliases map[string]string                  // Whose they are, by the key that an instance of that name would have, in lower case.
	below   map[string]map[string][]netip.Addr // By network and MAC address of a host with a name below its domain: what it was known to have.
	dirty   chan struct{}                      // Has one element when networks have changed.
}

// A hostReader reads the host's interfaces. It is [host.Kernel].
type hostReader interface {
	Links() ([]host.Link, error)
	Find(name string) (host.Link, error)
	Used(except string) ([]netip.Prefix, error)
	Uses(except string) ([]host.Use, error)
	HasIPv6() bool
}

// Create makes a network.
func (s *Service) Create(ctx context.Context, req api.NetworksPost) (err error) {
	n := db.Network{
		Name: req.Name, Type: req.Type, Description: req.Description, Status: db.Pending, Config: maps.Clone(map[string]string(req.Config)),
	}
	if n.Type == "" {
		n.Type = "bridge"
	}
	if err := networks.CheckInterface(project.Name(n.Name)); err != nil {
		return err
	}
	d, err := s.driver(n.Type)
	if err != nil {
		return err
	}
	s.change.Lock()
	defer s.change.Unlock()

	if err := s.checkName(ctx, n); err != nil {
		return err
	}
	if n.Config, err = s.complete(n, created); err != nil {
		return err
	}
	cfg, err := s.whole(ctx, n)
	if err != nil {
		return err
	}
	if err := s.checkOthers(ctx, cfg, networks.Config{}); err != nil {
		return err
	}
	if err := s.checkNeeds(ctx, n, cfg, networks.Config{}); err != nil {
		return err
	}
	if err := s.check(ctx, n, cfg); err != nil {
		return err
	}
	return s.create(ctx, n, d, cfg)
}

func (s *Service) create(ctx context.Context, n db.Network, d networks.Driver, cfg networks.Config) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if err := s.do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.AddNetwork(ctx, tx, &n) }); err != nil {
		return err
	}
	u.Push("delete the record", func(ctx context.Context) error {
		return s.do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.DeleteNetwork(ctx, tx, n.Name) })
	})

	// What fails in the middle has left something too.
	u.Push("remove the network", func(ctx context.Context) error { return d.Remove(ctx, cfg) })
	if err := d.Apply(ctx, cfg); err != nil {
		return fmt.Errorf("create network %q: %w", n.Name, err)
	}
	err = s.do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.SetNetworkStatus(ctx, tx, n.Name, db.Ready) })
	if err != nil {
		return err
	}
	s.changed("network-created", n.Name)
	return nil
}

// Update changes a network's description and configuration, which put has in
// full.
func (s *Service) Update(ctx context.Context, name string, put api.NetworkPut) error {
	s.change.Lock()
	defer s.change.Unlock()

	old, d, err := s.ready(ctx, name)
	if err != nil {
		return err
	}
	before, err := s.withHosts(ctx, old)
	if err != nil {
		return err
	}
	n := old
	n.Description, n.Config = put.Description, maps.Clone(map[string]string(put.Config))
	if n.Config, err = s.complete(n, updated); err != nil {
		return err
	}
	after, err := s.whole(ctx, n)
	if err != nil {
		return err
	}
	after.Hosts, after.Aliases = before.Hosts, before.Aliases
	if after.Peers, err = s.peersOf(ctx, after); err != nil {
		return err
	}
	if err := s.checkOthers(ctx, after, before); err != nil {
		return err
	}
	if err := s.checkNeeds(ctx, n, after, before); err != nil {
		return err
	}
	if err := s.checkMove(ctx, n, after, before); err != nil {
		return err
	}
	if err := s.checkStatics(ctx, name, before, after); err != nil {
		return err
	}
	if err := s.check(ctx, n, after); err != nil {
		return err
	}
	return s.update(ctx, n, d, before, after)
}

func (s *Service) update(ctx context.Context, n db.Network, d networks.Driver, before, after networks.Config) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if s.failure(n.Name) != nil || !sameBut(before, after) {
		u.Push("apply the old configuration", func(ctx context.Context) error { return d.Apply(ctx, before) })
		if err := d.Apply(ctx, after); err != nil {
			return fmt.Errorf("change network %q: %w", n.Name, err)
		}
	}
	write := func(ctx context.Context) error {
		return s.do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.UpdateNetwork(ctx, tx, n) })
	}
	if before.Integration != after.Integration {
		err = s.shutAnd(ctx, n.Name, write)
	} else {
		err = write(ctx)
	}
	if err != nil {
		return err
	}
	s.setFailure(n.Name, nil)
	s.Warnings.Resolve(ctx, warnings.NetworkDown, networkURL(n.Name))
	s.changed("network-updated", n.Name)
	return nil
}

// Rename gives a network that nothing uses another name, which is also that
// of its interface.
func (s *Service) Rename(ctx context.Context, name, to string) error {
	if err := networks.CheckInterface(project.Name(to)); err != nil {
		return err
	}
	if project.Of(name) != project.Of(to) {
		return errs.Invalidf("network %s cannot be moved to project %q", project.Quote(name), project.Of(to))
	}
	s.change.Lock()
	defer s.change.Unlock()

	old, d, err := s.ready(ctx, name)
	if err != nil {
		return err
	}
	if err := s.unused(ctx, old, "rename"); err != nil {
		return err
	}
	n := old
	n.Name = to
	if err := s.checkName(ctx, n); err != nil {
		return err
	}
	before, err := s.whole(ctx, old)
	if err != nil {
		return err
	}
	return s.rename(ctx, d, before, n)
}

func (s *Service) rename(ctx context.Context, d networks.Driver, before networks.Config, n db.Network) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if err := s.shut(ctx, before.Key); err != nil {
		return err
	}
	u.Push("make the network of the old name", func(ctx context.Context) error { return d.Apply(ctx, before) })
	if err := d.Remove(ctx, before); err != nil {
		return fmt.Errorf("rename network %q: %w", before.Key, err)
	}
	renameTo := func(from, to string) func(context.Context) error {
		return func(ctx context.Context) error {
			return s.do(ctx, func(ctx context.Context, tx *db.Tx) error { return s.renamed(ctx, tx, from, to) })
		}
	}
	if err := renameTo(before.Key, n.Name)(ctx); err != nil {
		return err
	}
	u.Push("rename the record", renameTo(n.Name, before.Key))

	after, err := s.whole(ctx, n) // Its parts have the new name only now.
	if err != nil {
		return err
	}
	u.Push("remove the network of the new name", func(ctx context.Context) error { return d.Remove(ctx, after) })
	if err := d.Apply(ctx, after); err != nil {
		return fmt.Errorf("rename network %q to %q: %w", before.Key, after.Key, err)
	}
	s.forget(before.Key)
	s.changed("network-renamed", after.Key)
	return nil
}

// renamed renames the record, and the network wherever else its name is kept.
func (s *Service) renamed(ctx context.Context, tx *db.Tx, from, to string) error {
	err := db.RenameNetwork(ctx, tx, from, to)
	for _, fn := range s.Renames {
		err = errors.Join(err, fn(ctx, tx, from, to))
	}
	return err
}

// Delete takes away a network that nothing uses.
func (s *Service) Delete(ctx context.Context, name string) (err error) {
	s.change.Lock()
	defer s.change.Unlock()

	n, d, err := s.get(ctx, name)
	if err != nil {
		return err
	}
	if err := s.unused(ctx, n, "delete"); err != nil {
		return err
	}
	cfg, err := s.whole(ctx, n)
	if err != nil {
		return err
	}
	return s.delete(ctx, n, d, cfg)
}

func (s *Service) delete(ctx context.Context, n db.Network, d networks.Driver, cfg networks.Config) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	status := func(ctx context.Context, st db.Status) error {
		return s.do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.SetNetworkStatus(ctx, tx, n.Name, st) })
	}
	if err := status(ctx, db.Pending); err != nil {
		return err
	}
	u.Push("make the network ready again", func(ctx context.Context) error { return status(ctx, n.Status) })

	if err := s.shut(ctx, n.Name); err != nil {
		return err
	}
	u.Push("apply the network", func(ctx context.Context) error { return d.Apply(ctx, cfg) })
	if err := d.Remove(ctx, cfg); err != nil {
		return fmt.Errorf("delete network %q: %w", n.Name, err)
	}
	err = s.do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.DeleteNetwork(ctx, tx, n.Name) })
	if err != nil {
		return err
	}
	s.forget(n.Name)
	s.changed("network-deleted", n.Name)
	return nil
}

// checkName returns an error if the name of a new network is taken.
func (s *Service) checkName(ctx context.Context, n db.Network) error {
	_, _, err := s.get(ctx, n.Name)
	if err == nil {
		return errs.Conflictf("network %q exists already", n.Name)
	}
	if !errs.Is(err, errs.NotFound) {
		return err
	}
	if err := s.checkLinks(ctx, n.Name); err != nil {
		return err
	}
	if !netkeys.HasBridge(n.Type) {
		return nil // It makes no interface.
	}
	link := project.Link(n.Name)
	_, err = s.Host.Find(link)
	if err == nil && !s.isLost(n) {
		return errs.Conflictf("network interface %q exists already on the host, and is not ours", link)
	}
	if err == nil {
		return nil
	}
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// checkLinks returns an error if a network of another name has the interface
// that one is to have.
func (s *Service) checkLinks(ctx context.Context, network string) error {
	all, err := s.records(ctx)
	for _, o := range all {
		if link := project.Link(network); o.Name != network && project.Link(o.Name) == link {
			return errs.Conflictf("network name %q cannot be had: its interface %q would be that of network %s", project.Name(network), link, project.Quote(o.Name))
		}
	}
	return err
}

// isLost reports whether there is what a network leaves only if the database
// is lost: its directory, which goes with it otherwise.
func (s *Service) isLost(n db.Network) bool {
	st, err := os.Stat(s.dir(n.Name))
	return err == nil && st.IsDir()
}

// get returns a managed network and its driver.
func (s *Service) get(ctx context.Context, name string) (n db.Network, d networks.Driver, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		n, err = db.GetNetwork(ctx, tx, name)
		return err
	})
	if err != nil {
		return n, nil, err
	}
	d, err = s.driver(n.Type)
	return n, d, err
}

// ready is get for a network that is wholly there.
func (s *Service) ready(ctx context.Context, name string) (n db.Network, d networks.Driver, err error) {
	n, d, err = s.get(ctx, name)
	if err == nil && n.Status != db.Ready {
		err = errs.Conflictf("network %q is being made or removed", name)
	}
	return n, d, err
}

func (s *Service) driver(typ string) (networks.Driver, error) {
	d, ok := s.Drivers[typ]
	if why, no := netkeys.RefusedType(typ); no && !ok {
		return nil, errs.Invalidf("network type %q cannot be had: %s", typ, why)
	}
	if !ok {
		return nil, errs.Invalidf("network type %q is not known: use one of %s", typ, strings.Join(slices.Sorted(maps.Keys(s.Drivers)), ", "))
	}
	return d, nil
}

// config returns the driver's configuration of a network, without hosts.
func (s *Service) config(n db.Network) (networks.Config, error) {
	cfg, err := parse(n)
	cfg.Dir = s.dir(n.Name)
	return cfg, err
}

func (s *Service) do(ctx context.Context, fn func(context.Context, *db.Tx) error) error {
	return s.DB.Do(ctx, fn)
}

// changed tells those who listen, and [Service.Run].
func (s *Service) changed(action, name string) {
	s.Events.Lifecycle(action, networkURL(name), nil)
	s.touch()
}

func (s *Service) touch() {
	select {
	case s.dirtied() <- struct{}{}:
	default:
	}
}

func (s *Service) dirtied() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dirty == nil {
		s.dirty = make(chan struct{}, 1)
	}
	return s.dirty
}

// forget forgets what is known of a network beside its record.
func (s *Service) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.hosts, name)
	delete(s.pins, name)
	delete(s.failed, name)
	delete(s.below, name)
}

// failure returns why the last Apply of the network failed, if it did.
func (s *Service) failure(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed[name]
}

func (s *Service) setFailure(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = map[string]error{}
	}
	s.failed[name] = err
}

func networkURL(name string) string { return "/1.0/networks/" + url.PathEscape(name) }
