// Package zones keeps zones of DNS: which names they have of the instances of
// networks, and which somebody has given them. The zones are served to other
// servers, which may have them whole.
package zones

import (
	"context"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/axfr"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// kind is what the database calls a zone.
const kind db.PartKind[document] = "network zone"

// document is all that is kept of a zone.
type document struct {
	api.NetworkZonePut

	Records map[string]api.NetworkZoneRecordPut `json:"records,omitempty"`

	// Serial is that of the SOA, for a content that has the digest.
	Serial uint32 `json:"serial"`
	Digest string `json:"digest"`
}

// zone is a record of the database.
type zone = db.NetworkObject[document]

// addresser knows the addresses on networks. It is [nets.Service].
type addresser interface {
	Addresses(ctx context.Context, network string) ([]nets.Address, error)
}

// A Service keeps zones. Its methods are safe for concurrent use. Its fields
// are set before the first call.
type Service struct {
	DB       *db.DB
	Nets     addresser
	Events   *events.Hub
	Log      *slog.Logger
	Warnings *warnings.Service // Nil for none.

	// change is held by what changes zones.
	change sync.Mutex

	once   sync.Once
	server *axfr.Server
	dirty  chan struct{} // Has one element when a zone was changed.

	listen sync.Mutex // Held by what changes where DNS is served; guards want.
	want   string     // The address to serve DNS on; empty for none.
}

func zoneURL(name string) string { return "/1.0/network-zones/" + url.PathEscape(name) }

// List returns all zones.
func (s *Service) List(ctx context.Context) (all []api.NetworkZone, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		zones, err := db.NetworkObjects(ctx, tx, kind)
		if err != nil {
			return err
		}
		networks, err := db.Networks(ctx, tx)
		for _, z := range zones {
			all = append(all, describe(z, networks))
		}
		return err
	})
	return all, err
}

// Get returns a zone.
func (s *Service) Get(ctx context.Context, name string) (out api.NetworkZone, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		z, err := db.GetNetworkObject(ctx, tx, kind, name)
		if err != nil {
			return err
		}
		networks, err := db.Networks(ctx, tx)
		out = describe(z, networks)
		return err
	})
	return out, err
}

func describe(z zone, networks []db.Network) api.NetworkZone {
	out := api.NetworkZone{NetworkZonePut: z.Document.NetworkZonePut, Name: z.Name, UsedBy: []string{}, Project: project.Of(z.Name)}
	if out.Config == nil {
		out.Config = api.ConfigMap{}
	}
	for _, n := range users(z.Name, networks) {
		out.UsedBy = append(out.UsedBy, "/1.0/networks/"+url.PathEscape(n.Name))
	}
	return out
}

// users are the networks whose names a zone has.
func users(name string, networks []db.Network) []db.Network {
	var all []db.Network
	for _, n := range networks {
		if slices.Contains(zonesOf(n.Config), name) {
			all = append(all, n)
		}
	}
	return all
}

// Create makes a zone. No other project has one of that name.
func (s *Service) Create(ctx context.Context, req api.NetworkZonesPost) error {
	if err := networks.CheckZone(project.Name(req.Name)); err != nil {
		return err
	}
	put, err := cleaned(req.NetworkZonePut)
	if err != nil {
		return err
	}
	s.change.Lock()
	defer s.change.Unlock()

	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		all, err := db.NetworkObjects(ctx, tx, kind)
		if err != nil {
			return err
		}
		for _, z := range all {
			// There is one server of DNS for all projects.
			if strings.EqualFold(project.Name(z.Name), project.Name(req.Name)) && z.Name != req.Name {
				return errs.Conflictf("network zone %q exists already, as %s", project.Name(req.Name), project.Quote(z.Name))
			}
		}
		return db.AddNetworkObject(ctx, tx, kind, zone{Name: req.Name, Document: document{NetworkZonePut: put}})
	})
	return s.changed(err, "network-zone-created", zoneURL(req.Name))
}

// cleaned is what is kept of a description and keys: no empty ones.
func cleaned(put api.NetworkZonePut) (api.NetworkZonePut, error) {
	put.Config = maps.Clone(put.Config)
	maps.DeleteFunc(put.Config, func(_, v string) bool { return v == "" })
	_, err := parse(put.Config)
	return put, err
}

// Update changes a zone's description and configuration, which put has in
// full.
func (s *Service) Update(ctx context.Context, name string, put api.NetworkZonePut) error {
	put, err := cleaned(put)
	if err != nil {
		return err
	}
	err = s.edit(ctx, name, func(d *document) error {
		d.NetworkZonePut = put
		return nil
	})
	return s.changed(err, "network-zone-updated", zoneURL(name))
}

// Delete takes a zone away that no network uses, with its records.
func (s *Service) Delete(ctx context.Context, name string) error {
	s.change.Lock()
	defer s.change.Unlock()

	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		networks, err := db.Networks(ctx, tx)
		if err != nil {
			return err
		}
		if used := users(name, networks); len(used) > 0 {
			return errs.Conflictf("cannot delete network zone %q: it is used by %s", name, nets.UserOf("/1.0/networks/"+url.PathEscape(used[0].Name)))
		}
		return db.DeleteNetworkObject(ctx, tx, kind, name)
	})
	return s.changed(err, "network-zone-deleted", zoneURL(name))
}

// edit changes what is kept of a zone.
func (s *Service) edit(ctx context.Context, name string, fn func(d *document) error) error {
	s.change.Lock()
	defer s.change.Unlock()

	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		z, err := db.GetNetworkObject(ctx, tx, kind, name)
		if err != nil {
			return err
		}
		if err := fn(&z.Document); err != nil {
			return err
		}
		return db.SetNetworkObject(ctx, tx, kind, z)
	})
}

// changed tells those who listen of a change, if there was no error, and those
// who have the zone.
func (s *Service) changed(err error, action, url string) error {
	if err != nil {
		return err
	}
	s.Events.Lifecycle(action, url, nil)
	s.touch()
	return nil
}

// CheckNetwork refuses a network whose keys name zones that are not there, or
// that cannot have its names. It is for [nets.Service].
func (s *Service) CheckNetwork(ctx context.Context, tx *db.Tx, n db.Network, _ networks.Config) error {
	all, err := db.NetworkObjects(ctx, tx, kind)
	if err != nil {
		return err
	}
	for _, key := range []string{keyForward, keyReverse4, keyReverse6} {
		var seen []string
		for _, name := range split(n.Config[key]) {
			if !slices.ContainsFunc(all, func(z zone) bool { return z.Name == name }) {
				return errs.Invalidf("configuration key %q: network zone %q not found", key, name)
			}
			if slices.Contains(seen, name) {
				return errs.Invalidf("configuration key %q: network zone %q is there twice", key, name)
			}
			seen = append(seen, name)
		}
	}
	return checkReverse(n.Config)
}
