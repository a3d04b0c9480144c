package main

import (
	"context"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/cuib/cuib/lxd-like/internal/proxies"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/networks/nft"
)

// runPublished has forwards, load balancers and published ports follow what
// they depend on, until ctx ends.
func (d *daemon) runPublished(ctx context.Context) error {
	d.admission.Changed = []func(context.Context) error{d.published.Refresh, d.proxies.Refresh}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.published.Run(ctx) })
	g.Go(func() error { return d.admission.Run(ctx) })
	return g.Wait()
}

// newProxies makes the service of proxies.
func (d *daemon) newProxies(cfg config) *proxies.Service {
	return &proxies.Service{
		Dir: filepath.Join(cfg.dir, "run", ".proxies"), Shim: cfg.shim, Forward: nft.NewForwards(cfg.dir), Guest: d.containers.Init,
		Log: d.log.With("component", "proxies"), Taken: d.published.Takes, Listener: host.Kernel{}.Listener,
		Follow: d.follow, Admit: d.admission.Admit,
	}
}

// inside tells the addresses of an instance's interfaces by their MAC addresses.
func (d *daemon) inside(instance string) (map[string][]netip.Prefix, error) {
	all, err := d.containers.Interfaces(instance)
	out := map[string][]netip.Prefix{}
	for _, one := range all {
		out[one.MAC] = append(out[one.MAC], one.Addresses...) // A bridge in it can have that of its port.
	}
	return out, err
}

// follow finds where an instance is in a network.
func (d *daemon) follow(ctx context.Context, instance, network string) (p proxies.Place, err error) {
	all, err := d.containers.Interfaces(instance)
	if err != nil {
		return p, err
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		p.Four, p.Six, err = d.nets.Choose(ctx, network, instance, all[name].Addresses)
		if err != nil || p.Four.IsValid() || p.Six.IsValid() {
			p.Port = all[name].HostName
			return p, err
		}
	}
	return p, nil
}
