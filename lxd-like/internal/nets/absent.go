package nets

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/announce"
	"github.com/cuib/cuib/shared/errs"
)

// absent returns the interfaces of the host that are to be ports of a network's
// bridge and are not there: cards that were taken out, or that have another name.
// The driver takes them when they come.
func (s *Service) absent(cfg networks.Config) (names []string, err error) {
	for _, e := range cfg.External {
		// A VLAN is made when there is what it is on.
		some := []string{e.Name}
		if e.VLAN != 0 {
			some = append(some, e.Parent)
		}
		there := false
		for _, name := range some {
			_, err := s.Host.Find(name)
			if err != nil && !errs.Is(err, errs.NotFound) {
				return nil, err
			}
			there = there || err == nil
		}
		if !there {
			names = append(names, some[len(some)-1])
		}
	}
	return names, nil
}

// absentOf is absent for a record; none if it cannot be read, which is told
// elsewhere.
func (s *Service) absentOf(n db.Network) ([]string, error) {
	cfg, err := s.config(n)
	if err != nil {
		return nil, nil //nolint:nilerr // as said
	}
	return s.absent(cfg)
}

// watchAbsent keeps the warnings about bridges without an interface of the host
// that is to be a port of them, until ctx ends. It looks whenever interfaces
// change, and when again is sent.
func (s *Service) watchAbsent(ctx context.Context, again <-chan struct{}) error {
	events := make(chan error, 1)
	links, err := announce.Listen(events, unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
	if err != nil {
		return err
	}
	defer links.Close()

	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-again:
				announce.Post(events, nil)
			}
		}
	}()
	told := map[string]string{}
	return announce.Follow(ctx, events, calm, func() {
		if err := s.CheckAbsent(ctx, told); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "cannot look for the ports of bridges", "err", err)
		}
	})
}

// CheckAbsent warns of each network without an interface of the host that it is
// to have. told has what was said before, by network: it is not said again.
func (s *Service) CheckAbsent(ctx context.Context, told map[string]string) error {
	all, err := s.records(ctx)
	if err != nil {
		return err
	}
	for _, n := range all {
		names, err := s.absentOf(n)
		if err != nil {
			return err
		}
		text := ""
		if len(names) > 0 {
			text = fmt.Sprintf(`the host has no interface %s of "bridge.external_interfaces", which becomes a port of the bridge when it comes`, strings.Join(names, ", "))
		}
		last, known := told[n.Name]
		if n.Status != db.Ready || known && last == text {
			continue
		}
		told[n.Name] = text
		if text == "" {
			s.Warnings.Resolve(ctx, warnings.NetworkPortless, networkURL(n.Name))
			continue
		}
		s.Log.WarnContext(ctx, "a network lacks an interface of the host", "network", n.Name, "interfaces", names)
		s.Warnings.Raise(ctx, warnings.NetworkPortless, networkURL(n.Name), text)
	}
	return nil
}
