// Package preseed describes a whole configuration of the daemon, and puts it
// in place.
package preseed

import (
	"context"
	"fmt"
	"maps"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
)

// A Document is a configuration.
type Document struct {
	Config       api.ConfigMap          `json:"config"`
	Networks     []api.NetworksPost     `json:"networks"`
	StoragePools []api.StoragePoolsPost `json:"storage_pools"`
	Profiles     []api.ProfilesPost     `json:"profiles"`
}

// fromPeers is what documents for other programs of the kind have besides.
type fromPeers struct {
	Document

	Projects     []api.Project    `json:"projects"`
	Certificates []map[string]any `json:"certificates"`
	Cluster      map[string]any   `json:"cluster"`
}

// Parse parses a document, which is YAML.
func Parse(data []byte) (Document, error) {
	var d fromPeers
	if err := output.ParseYAML(data, &d); err != nil {
		return Document{}, err
	}
	for _, p := range d.Projects {
		if p.Name != "default" {
			return Document{}, errs.Newf(errs.Unsupported, "project %q: there is only \"default\"", p.Name)
		}
	}
	if len(d.Certificates) > 0 || len(d.Cluster) > 0 {
		return Document{}, errs.Newf(errs.Unsupported, "certificates and clusters can't be configured here")
	}
	return d.Document, nil
}

// Apply makes the daemon's configuration what d says. What d does not name
// stays, also keys of objects that exist. If something fails, what was done
// before is taken back.
func Apply(ctx context.Context, c *client.Client, d Document) (err error) {
	a := applier{c: c}
	defer a.undo.Unwind(ctx, &err)
	if err := a.config(ctx, d.Config); err != nil {
		return fmt.Errorf("configuration of the daemon: %w", err)
	}
	for _, p := range d.StoragePools {
		if err := a.pool(ctx, p); err != nil {
			return fmt.Errorf("storage pool %q: %w", p.Name, err)
		}
	}
	for _, n := range d.Networks {
		if err := a.network(ctx, n); err != nil {
			return fmt.Errorf("network %q: %w", n.Name, err)
		}
	}
	for _, p := range d.Profiles {
		if err := a.profile(ctx, p); err != nil {
			return fmt.Errorf("profile %q: %w", p.Name, err)
		}
	}
	return nil
}

type applier struct {
	c    *client.Client
	undo undo.Stack
}

func (a *applier) config(ctx context.Context, keys api.ConfigMap) error {
	if len(keys) == 0 {
		return nil
	}
	s, etag, err := a.c.Server(ctx)
	if err != nil {
		return err
	}
	if err := a.c.UpdateServer(ctx, api.ServerPut{Config: merged(s.Config, keys)}, etag); err != nil {
		return err
	}
	a.undo.Push("restore the configuration", func(ctx context.Context) error { return a.c.UpdateServer(ctx, s.ServerPut, "") })
	return nil
}

func (a *applier) pool(ctx context.Context, p api.StoragePoolsPost) error {
	old, etag, err := a.c.StoragePool(ctx, p.Name)
	if errs.Is(err, errs.NotFound) {
		if err := a.c.CreateStoragePool(ctx, p); err != nil {
			return err
		}
		a.undo.Push("delete storage pool "+p.Name, func(ctx context.Context) error {
			return gone(a.c.DeleteStoragePool(ctx, p.Name))
		})
		return nil
	}
	if err != nil {
		return err
	}
	if p.Driver != "" && p.Driver != old.Driver {
		return errs.Conflictf("it exists with the driver %s, not %s", old.Driver, p.Driver)
	}
	put := api.StoragePoolPut{Config: merged(old.Config, p.Config), Description: either(p.Description, old.Description)}
	if err := a.c.UpdateStoragePool(ctx, p.Name, put, etag); err != nil {
		return err
	}
	a.undo.Push("restore storage pool "+p.Name, func(ctx context.Context) error {
		return a.c.UpdateStoragePool(ctx, p.Name, old.StoragePoolPut, "")
	})
	return nil
}

func (a *applier) network(ctx context.Context, n api.NetworksPost) error {
	old, etag, err := a.c.Network(ctx, n.Name)
	if errs.Is(err, errs.NotFound) {
		if err := a.c.CreateNetwork(ctx, n); err != nil {
			return err
		}
		a.undo.Push("delete network "+n.Name, func(ctx context.Context) error { return gone(a.c.DeleteNetwork(ctx, n.Name)) })
		return nil
	}
	if err != nil {
		return err
	}
	if n.Type != "" && n.Type != old.Type || !old.Managed {
		return errs.Conflictf("it exists, and is no managed network of type %s", either(n.Type, "bridge"))
	}
	put := api.NetworkPut{Config: merged(old.Config, n.Config), Description: either(n.Description, old.Description)}
	if err := a.c.UpdateNetwork(ctx, n.Name, put, etag); err != nil {
		return err
	}
	a.undo.Push("restore network "+n.Name, func(ctx context.Context) error {
		return a.c.UpdateNetwork(ctx, n.Name, old.NetworkPut, "")
	})
	return nil
}

func (a *applier) profile(ctx context.Context, p api.ProfilesPost) error {
	old, etag, err := a.c.Profile(ctx, p.Name)
	if errs.Is(err, errs.NotFound) {
		if err := a.c.CreateProfile(ctx, p); err != nil {
			return err
		}
		a.undo.Push("delete profile "+p.Name, func(ctx context.Context) error { return gone(a.c.DeleteProfile(ctx, p.Name)) })
		return nil
	}
	if err != nil {
		return err
	}
	put := api.ProfilePut{Config: merged(old.Config, p.Config), Description: either(p.Description, old.Description), Devices: api.DevicesMap{}}
	maps.Copy(put.Devices, old.Devices)
	maps.Copy(put.Devices, p.Devices)
	if err := a.c.UpdateProfile(ctx, p.Name, put, etag); err != nil {
		return err
	}
	a.undo.Push("restore profile "+p.Name, func(ctx context.Context) error {
		return a.c.UpdateProfile(ctx, p.Name, old.ProfilePut, "")
	})
	return nil
}

// gone takes it for done that there is nothing to delete.
func gone(err error) error {
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

func merged(old, changes api.ConfigMap) api.ConfigMap {
	out := api.ConfigMap{}
	maps.Copy(out, old)
	maps.Copy(out, changes)
	return out
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// Dump returns the configuration of the daemon.
func Dump(ctx context.Context, c *client.Client) (Document, error) {
	d := Document{Networks: []api.NetworksPost{}, StoragePools: []api.StoragePoolsPost{}}
	s, _, err := c.Server(ctx)
	if err != nil {
		return d, err
	}
	d.Config = s.Config
	pools, err := c.StoragePools(ctx)
	if err != nil {
		return d, err
	}
	for _, p := range pools {
		d.StoragePools = append(d.StoragePools, api.StoragePoolsPost{StoragePoolPut: p.StoragePoolPut, Name: p.Name, Driver: p.Driver})
	}
	networks, err := c.Networks(ctx)
	if err != nil {
		return d, err
	}
	for _, n := range networks {
		if n.Managed {
			d.Networks = append(d.Networks, api.NetworksPost{NetworkPut: n.NetworkPut, Name: n.Name, Type: n.Type})
		}
	}
	profiles, err := c.Profiles(ctx)
	if err != nil {
		return d, err
	}
	for _, p := range profiles {
		d.Profiles = append(d.Profiles, api.ProfilesPost{ProfilePut: p.ProfilePut, Name: p.Name})
	}
	return d, nil
}
