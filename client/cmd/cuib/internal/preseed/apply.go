package preseed

import (
	"cmp"
	"context"
	"fmt"
	"maps"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/undo"
)

// Apply makes the daemon's configuration what d says. What d does not name
// stays, also keys of objects that exist. If something fails, what was done
// before is taken back.
func Apply(ctx context.Context, c *client.Client, d Document) (err error) {
	a := applier{c: c.In(project.Default)}
	defer a.undo.Unwind(ctx, &err)
	if err := a.config(ctx, d.Config); err != nil {
		return fmt.Errorf("configuration of the daemon: %w", err)
	}
	for _, p := range d.StoragePools {
		if err := a.pool(ctx, p); err != nil {
			return fmt.Errorf("storage pool %q: %w", p.Name, err)
		}
	}
	// A project's configuration can name networks of the default one.
	if err := a.networks(ctx, d.Networks, func(in string) bool { return in == project.Default }); err != nil {
		return err
	}
	for _, p := range d.Projects {
		if err := a.project(ctx, p); err != nil {
			return fmt.Errorf("project %q: %w", p.Name, err)
		}
	}
	if err := a.networks(ctx, d.Networks, func(in string) bool { return in != project.Default }); err != nil {
		return err
	}
	for _, v := range d.StorageVolumes {
		if err := a.volume(ctx, v); err != nil {
			return fmt.Errorf("storage volume %q: %w", v.Name, err)
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
	c    *client.Client // In the default project.
	undo undo.Stack
}

// in returns the client for what says to be in a project.
func (a *applier) in(name string) *client.Client { return a.c.In(cmp.Or(name, project.Default)) }

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

// An object is something that is made, or changed if it is there. P is its
// writable part.
type object[T, P any] struct {
	what   string // Its kind and its name.
	read   func(ctx context.Context) (T, string, error)
	create func(ctx context.Context) error
	remove func(ctx context.Context) error
	update func(ctx context.Context, put P, etag string) error
	old    func(now T) P
	put    func(now T) (P, error) // What it is to become.
}

func place[T, P any](ctx context.Context, a *applier, o object[T, P]) error {
	now, etag, err := o.read(ctx)
	if errs.Is(err, errs.NotFound) {
		if err := o.create(ctx); err != nil {
			return err
		}
		a.undo.Push("delete "+o.what, func(ctx context.Context) error { return gone(o.remove(ctx)) })
		return nil
	}
	if err != nil {
		return err
	}
	put, err := o.put(now)
	if err != nil {
		return err
	}
	if err := o.update(ctx, put, etag); err != nil {
		return err
	}
	a.undo.Push("restore "+o.what, func(ctx context.Context) error { return o.update(ctx, o.old(now), "") })
	return nil
}

func (a *applier) pool(ctx context.Context, p api.StoragePoolsPost) error {
	return place(ctx, a, object[api.StoragePool, api.StoragePoolPut]{
		what:   "storage pool " + p.Name,
		read:   func(ctx context.Context) (api.StoragePool, string, error) { return a.c.StoragePool(ctx, p.Name) },
		create: func(ctx context.Context) error { return a.c.CreateStoragePool(ctx, p) },
		remove: func(ctx context.Context) error { return a.c.DeleteStoragePool(ctx, p.Name) },
		update: func(ctx context.Context, put api.StoragePoolPut, etag string) error {
			return a.c.UpdateStoragePool(ctx, p.Name, put, etag)
		},
		old: func(now api.StoragePool) api.StoragePoolPut { return now.StoragePoolPut },
		put: func(now api.StoragePool) (api.StoragePoolPut, error) {
			if p.Driver != "" && p.Driver != now.Driver {
				return now.StoragePoolPut, errs.Conflictf("it exists with the driver %s, not %s", now.Driver, p.Driver)
			}
			return api.StoragePoolPut{Config: merged(now.Config, p.Config), Description: cmp.Or(p.Description, now.Description)}, nil
		},
	})
}

// networks makes those of the projects that are chosen.
func (a *applier) networks(ctx context.Context, all []Network, chosen func(in string) bool) error {
	for _, n := range all {
		if !chosen(cmp.Or(n.Project, project.Default)) {
			continue
		}
		if err := a.network(ctx, n); err != nil {
			return fmt.Errorf("network %q: %w", n.Name, err)
		}
	}
	return nil
}

func (a *applier) network(ctx context.Context, n Network) error {
	c := a.in(n.Project)
	return place(ctx, a, object[api.Network, api.NetworkPut]{
		what:   "network " + n.Name,
		read:   func(ctx context.Context) (api.Network, string, error) { return c.Network(ctx, n.Name) },
		create: func(ctx context.Context) error { return c.CreateNetwork(ctx, n.NetworksPost) },
		remove: func(ctx context.Context) error { return c.DeleteNetwork(ctx, n.Name) },
		update: func(ctx context.Context, put api.NetworkPut, etag string) error {
			return c.UpdateNetwork(ctx, n.Name, put, etag)
		},
		old: func(now api.Network) api.NetworkPut { return now.NetworkPut },
		put: func(now api.Network) (api.NetworkPut, error) {
			if n.Type != "" && n.Type != now.Type || !now.Managed {
				return now.NetworkPut, errs.Conflictf("it exists, and is no managed network of type %s", cmp.Or(n.Type, "bridge"))
			}
			return api.NetworkPut{Config: merged(now.Config, n.Config), Description: cmp.Or(n.Description, now.Description)}, nil
		},
	})
}

func (a *applier) project(ctx context.Context, p api.ProjectsPost) error {
	return place(ctx, a, object[api.Project, api.ProjectPut]{
		what:   "project " + p.Name,
		read:   func(ctx context.Context) (api.Project, string, error) { return a.c.Project(ctx, p.Name) },
		create: func(ctx context.Context) error { return a.c.CreateProject(ctx, p) },
		remove: func(ctx context.Context) error { return a.c.DeleteProject(ctx, p.Name) },
		update: func(ctx context.Context, put api.ProjectPut, etag string) error {
			return a.c.UpdateProject(ctx, p.Name, put, etag)
		},
		old: func(now api.Project) api.ProjectPut { return now.ProjectPut },
		put: func(now api.Project) (api.ProjectPut, error) {
			return api.ProjectPut{Config: merged(now.Config, p.Config), Description: cmp.Or(p.Description, now.Description)}, nil
		},
	})
}

func (a *applier) volume(ctx context.Context, v Volume) error {
	c := a.in(v.Project)
	which := client.Volume{Pool: v.Pool, Type: custom, Name: v.Name}
	return place(ctx, a, object[api.StorageVolume, api.StorageVolumePut]{
		what: "storage volume " + v.Pool + "/" + v.Name,
		read: func(ctx context.Context) (api.StorageVolume, string, error) { return c.StorageVolume(ctx, which) },
		create: func(ctx context.Context) error {
			req := api.StorageVolumesPost{StorageVolumePut: v.StorageVolumePut, Name: v.Name, Type: custom, ContentType: v.ContentType}
			if v.Source != nil {
				req.Source = *v.Source
			}
			return wait(ctx)(c.CreateStorageVolume(ctx, v.Pool, req))
		},
		remove: func(ctx context.Context) error { return wait(ctx)(c.DeleteStorageVolume(ctx, which)) },
		update: func(ctx context.Context, put api.StorageVolumePut, etag string) error {
			return c.UpdateStorageVolume(ctx, which, put, etag)
		},
		old: func(now api.StorageVolume) api.StorageVolumePut { return now.StorageVolumePut },
		put: func(now api.StorageVolume) (api.StorageVolumePut, error) {
			return api.StorageVolumePut{Config: merged(now.Config, v.Config), Description: cmp.Or(v.Description, now.Description)}, nil
		},
	})
}

// wait returns what waits for an operation that was begun.
func wait(ctx context.Context) func(op *client.Operation, err error) error {
	return func(op *client.Operation, err error) error {
		if err != nil {
			return err
		}
		return op.Wait(ctx)
	}
}

func (a *applier) profile(ctx context.Context, p Profile) error {
	c := a.in(p.Project)
	return place(ctx, a, object[api.Profile, api.ProfilePut]{
		what:   "profile " + p.Name,
		read:   func(ctx context.Context) (api.Profile, string, error) { return c.Profile(ctx, p.Name) },
		create: func(ctx context.Context) error { return c.CreateProfile(ctx, p.ProfilesPost) },
		remove: func(ctx context.Context) error { return c.DeleteProfile(ctx, p.Name) },
		update: func(ctx context.Context, put api.ProfilePut, etag string) error {
			return c.UpdateProfile(ctx, p.Name, put, etag)
		},
		old: func(now api.Profile) api.ProfilePut { return now.ProfilePut },
		put: func(now api.Profile) (api.ProfilePut, error) {
			put := api.ProfilePut{Config: merged(now.Config, p.Config), Description: cmp.Or(p.Description, now.Description), Devices: api.DevicesMap{}}
			maps.Copy(put.Devices, now.Devices)
			maps.Copy(put.Devices, p.Devices)
			return put, nil
		},
	})
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
