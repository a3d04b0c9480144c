package acls

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/networks/dnsmasq"
	"github.com/cuib/cuib/shared/api"
)

// Recover finds out which addresses subjects have, before networks and
// interfaces are made again. The daemon calls it at its start.
func (s *Service) Recover(ctx context.Context) error {
	s.Ports.Serve(func(ref acl.Ref) (*acl.Policy, error) { return s.Policy(context.WithoutCancel(ctx), ref) })
	s.change.Lock()
	defer s.change.Unlock()
	err := s.reload(ctx)
	s.behind = false // What is made from now on has these.
	return err
}

// Steps of Run: how long changes are collected, and how long it waits until it
// tries again what has failed.
const (
	settling = 100 * time.Millisecond
	retry    = 10 * time.Second
)

// Run has rules follow the addresses of those whom they name, and writes what
// is logged, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	leases, err := dnsmasq.WatchLeases()
	if err != nil {
		return err
	}
	dirty := make(chan struct{}, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.keepLogs(ctx) })
	wg.Go(func() { s.listen(ctx, dirty) })
	wg.Go(func() {
		for leases.Next() == nil {
			touch(dirty)
		}
	})
	defer leases.Close()
	for {
		var again <-chan time.Time
		if err := errors.Join(s.followNames(ctx), s.followAddresses(ctx, leases)); err != nil && ctx.Err() == nil {
			s.Logger.ErrorContext(ctx, "rules of network ACLs do not follow names or addresses", "err", err)
			again = time.After(retry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again:
		case <-dirty:
		}
		// An instance that starts makes many changes, one after the other.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settling):
		}
	}
}

func touch(dirty chan struct{}) {
	select {
	case dirty <- struct{}{}:
	default:
	}
}

// listen tells of events of instances and networks, until ctx ends.
func (s *Service) listen(ctx context.Context, dirty chan struct{}) {
	for ctx.Err() == nil {
		l := s.Events.Listen("lifecycle")
		for open := true; open && ctx.Err() == nil; {
			touch(dirty)
			var e *api.Event
			select {
			case <-ctx.Done():
			case e, open = <-l.C: // It ends for who is too slow.
			}
			if e != nil {
				s.hear(ctx, e)
			}
		}
		l.Close()
		s.renamed.Store(true) // What was not heard can have been that.
	}
}

// hear takes an event, after which addresses are looked at whatever it is.
func (s *Service) hear(ctx context.Context, e *api.Event) {
	if renames(e) {
		s.renamed.Store(true)
	}
	if !bytes.Contains(e.Metadata, []byte(`"network-updated"`)) {
		return
	}
	// Interfaces on it can have its defaults, and know its gateway.
	if err := s.Ports.Refresh(); err != nil {
		s.Logger.ErrorContext(ctx, "interfaces do not follow their network", "err", err)
	}
}

func (s *Service) followAddresses(ctx context.Context, leases dnsmasq.LeaseWatch) error {
	s.change.Lock()
	defer s.change.Unlock()
	if err := leases.Add(filepath.Join(s.Dir, "networks")); err != nil {
		return err
	}
	return s.readdress(ctx)
}
