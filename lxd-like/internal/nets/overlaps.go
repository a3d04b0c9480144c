package nets

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/announce"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/shared/project"
)

// watchRoutes keeps the warnings about networks that others came to overlap,
// such as a VPN, until ctx ends.
func (s *Service) watchRoutes(ctx context.Context) error {
	events := make(chan error, 1)
	routes, err := announce.Listen(events, unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return err
	}
	defer routes.Close()

	return announce.Follow(ctx, events, calm, func() {
		if err := s.CheckOverlaps(ctx); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "cannot compare networks with the host's routes", "err", err)
		}
	})
}

// CheckOverlaps warns of each network that overlaps what the host has of
// others. When a network is made that is refused, but they can come later.
func (s *Service) CheckOverlaps(ctx context.Context) error {
	all, err := s.records(ctx)
	if err != nil {
		return err
	}
	for _, n := range all {
		cfg, err := s.config(n)
		if err != nil || n.Status != db.Ready || len(networksOf(cfg)) == 0 {
			continue
		}
		uses, err := s.Host.Uses(cfg.Name)
		if err != nil {
			return err
		}
		text := overlapped(cfg, uses, all)
		if text == "" {
			s.Warnings.Resolve(ctx, warnings.NetworkOverlaps, networkURL(n.Name))
			continue
		}
		s.Warnings.Raise(ctx, warnings.NetworkOverlaps, networkURL(n.Name), text)
	}
	return nil
}

// overlapped tells what of the host overlaps a network; nothing if nothing
// does. Routes to NICs are wanted.
func overlapped(cfg networks.Config, uses []host.Use, records []db.Network) string {
	var all []string
	for _, p := range networksOf(cfg) {
		for _, u := range uses {
			if !strings.HasPrefix(u.Interface, "veth") && networks.Overlaps([]netip.Prefix{u.Prefix}, p) {
				all = append(all, fmt.Sprintf("%s overlaps %s, as this host has %s", p, u.Prefix, by(records, u)))
			}
		}
	}
	if len(all) == 0 {
		return ""
	}
	const most = 5
	if len(all) > most {
		all = append(all[:most], fmt.Sprintf("and %d more", len(all)-most))
	}
	return strings.Join(all, "; ") + ": what is meant for one may reach the other; give one of them another network"
}

// by is who uses a network of the host, with the network of ours whose interface
// does not tell which that is.
func by(records []db.Network, u host.Use) string {
	for _, n := range records {
		if link := project.Link(n.Name); link == u.Interface && link != n.Name {
			return fmt.Sprintf("%s (network %s)", u.By, project.Quote(n.Name))
		}
	}
	return u.By
}
