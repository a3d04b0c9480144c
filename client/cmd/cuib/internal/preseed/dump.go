package preseed

import (
	"context"
	"strings"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// Dump returns the configuration of the daemon. warn is told what is left out.
func Dump(ctx context.Context, c *client.Client, warn func(format string, args ...any)) (Document, error) {
	d := Document{Networks: []Network{}, StoragePools: []api.StoragePoolsPost{}}
	s, _, err := c.Server(ctx)
	if err != nil {
		return d, err
	}
	d.Config = s.Config
	projects, err := c.Projects(ctx)
	if err != nil {
		return d, err
	}
	for _, p := range projects {
		d.Projects = append(d.Projects, api.ProjectsPost{ProjectPut: p.ProjectPut, Name: p.Name})
	}
	all := c.Everywhere()
	networks, err := all.Networks(ctx)
	if err != nil {
		return d, err
	}
	for _, n := range networks {
		if n.Managed {
			post := api.NetworksPost{NetworkPut: n.NetworkPut, Name: n.Name, Type: n.Type}
			d.Networks = append(d.Networks, Network{post, unlessDefault(n.Project)})
		}
	}
	profiles, err := all.Profiles(ctx)
	if err != nil {
		return d, err
	}
	for _, p := range profiles {
		post := api.ProfilesPost{ProfilePut: p.ProfilePut, Name: p.Name}
		d.Profiles = append(d.Profiles, Profile{post, unlessDefault(p.Project)})
	}
	return d, d.pools(ctx, c, warn)
}

// pools adds the storage pools and the custom volumes in them.
func (d *Document) pools(ctx context.Context, c *client.Client, warn func(format string, args ...any)) error {
	pools, err := c.StoragePools(ctx)
	if err != nil {
		return err
	}
	for _, p := range pools {
		d.StoragePools = append(d.StoragePools, api.StoragePoolsPost{StoragePoolPut: p.StoragePoolPut, Name: p.Name, Driver: p.Driver})
		volumes, err := c.Everywhere().StorageVolumes(ctx, p.Name)
		if errs.Is(err, errs.Unavailable) {
			warn("Volumes of storage pool %s are left out: %v", p.Name, err)
			continue
		}
		if err != nil {
			return err
		}
		for _, v := range volumes {
			if v.Type != custom || strings.Contains(v.Name, "/") {
				continue
			}
			if v.ContentType == "iso" {
				warn("Storage volume %s/%s is left out: it is made of what is in it", p.Name, v.Name)
				continue
			}
			d.StorageVolumes = append(d.StorageVolumes, Volume{
				StorageVolumePut: v.StorageVolumePut, Name: v.Name, Type: v.Type, ContentType: v.ContentType, Pool: p.Name, Project: unlessDefault(v.Project),
			})
		}
	}
	return nil
}

func unlessDefault(name string) string {
	if name == project.Default {
		return ""
	}
	return name
}
