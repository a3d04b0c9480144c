package zones

import (
	"context"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/lxd-like/serverkeys"
	"github.com/cuib/cuib/networks/axfr"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// Listen makes DNS be served on an address; on none if it is empty. If that
// cannot be, it goes on as it did.
func (s *Service) Listen(ctx context.Context, address string) error {
	s.listen.Lock()
	defer s.listen.Unlock()
	if err := s.listenOn(ctx, address); err != nil {
		return err
	}
	s.want = address
	return nil
}

// listenOn is Listen for who holds listen, and does not remember it.
func (s *Service) listenOn(ctx context.Context, address string) error {
	to, err := serverkeys.ParseDNSAddress(address)
	if err != nil {
		return err
	}
	if err := s.serving().Listen(context.WithoutCancel(ctx), to); err != nil {
		return errs.Newf(errs.KindOf(err), "%s: %w", serverkeys.DNSAddress, err)
	}
	s.Warnings.Resolve(ctx, warnings.DNSDown, "")
	s.touch()
	return nil
}

// serving returns the server, which may listen nowhere.
func (s *Service) serving() *axfr.Server {
	s.once.Do(func() {
		s.server = &axfr.Server{Source: source{s}, Log: s.Log}
		s.dirty = make(chan struct{}, 1)
	})
	return s.server
}

func (s *Service) touch() {
	s.serving()
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

// source is the service as those who ask by DNS have it.
type source struct{ s *Service }

// Peers returns who may have a zone.
func (o source) Peers(ctx context.Context, name string) (peers []axfr.Peer, err error) {
	var z zone
	err = o.s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		z, err = find(ctx, tx, name)
		return err
	})
	if errs.Is(err, errs.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	set, err := parse(z.Document.Config)
	return set.peers, err
}

// Zone returns the records of a zone.
func (o source) Zone(ctx context.Context, name string) ([]dns.RR, error) {
	return o.s.current(ctx, name)
}

// Secret returns the secret of a key.
func (o source) Secret(ctx context.Context, key string) (string, error) {
	all, err := o.s.zones(ctx)
	if err != nil {
		return "", err
	}
	for _, z := range all {
		set, err := parse(z.Document.Config)
		if err != nil {
			continue
		}
		for _, p := range set.peers {
			if p.Key != "" && axfr.KeyName(project.Name(z.Name), p.Name) == key {
				return p.Key, nil
			}
		}
	}
	return "", nil
}

func (s *Service) zones(ctx context.Context) (all []zone, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		all, err = db.NetworkObjects(ctx, tx, kind)
		return err
	})
	return all, err
}

// look is how often it is looked whether zones have changed: addresses come
// and go without a word to us.
const look = 5 * time.Second

// Run serves DNS on the address, as the server's configuration has it, until
// ctx ends, and tells peers of changes.
func (s *Service) Run(ctx context.Context, address string) error {
	defer s.serving().Close(context.WithoutCancel(ctx))
	s.listen.Lock()
	s.want = address
	s.listen.Unlock()
	t := teller{s: s, told: map[string]uint32{}, under: map[string]context.CancelFunc{}}
	defer t.wg.Wait()
	all, err := s.zones(ctx)
	if err != nil {
		return err
	}
	for _, z := range all {
		t.told[z.Name] = z.Document.Serial
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		s.listenAgain(ctx)
		if s.serving().Address().IsValid() {
			t.tell(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-s.dirty:
		}
	}
}

// listenAgain serves DNS where it is to be served and is not: the address may
// not have been there yet.
func (s *Service) listenAgain(ctx context.Context) {
	s.listen.Lock()
	defer s.listen.Unlock()
	if s.want == "" || s.serving().Address().IsValid() {
		return
	}
	if err := s.listenOn(ctx, s.want); err != nil && ctx.Err() == nil {
		s.Log.WarnContext(ctx, "zones are not served", "err", err)
		s.Warnings.Raise(ctx, warnings.DNSDown, "", err.Error())
	}
}

// A teller tells peers of zones that have changed.
type teller struct {
	s     *Service
	wg    sync.WaitGroup
	told  map[string]uint32             // The serials of zones that their peers know of.
	under map[string]context.CancelFunc // Under way, by zone and peer.
}

// tell looks for zones that have changed.
func (t *teller) tell(ctx context.Context) {
	all, err := t.s.zones(ctx)
	if err != nil {
		t.log(ctx, "", err)
		return
	}
	for _, z := range all {
		set, err := parse(z.Document.Config)
		if err != nil || len(set.peers) == 0 {
			continue
		}
		content, err := t.s.current(ctx, project.Name(z.Name))
		if err != nil {
			t.log(ctx, z.Name, err)
			continue
		}
		soa, ok := content[0].(*dns.SOA)
		if !ok || t.told[z.Name] == soa.Serial {
			continue
		}
		t.told[z.Name] = soa.Serial
		for _, p := range set.peers {
			if p.Address.IsValid() {
				t.send(ctx, axfr.Notice{Zone: project.Name(z.Name), SOA: soa, Peer: p, From: t.s.serving().Address().Addr()})
			}
		}
	}
}

// send tells one peer, instead of what it was to be told before.
func (t *teller) send(ctx context.Context, n axfr.Notice) {
	who := n.Zone + " " + n.Peer.Name
	if cancel := t.under[who]; cancel != nil {
		cancel()
	}
	one, cancel := context.WithCancel(ctx)
	t.under[who] = cancel
	t.wg.Go(func() {
		defer cancel()
		if err := n.Send(one); err != nil && one.Err() == nil {
			t.log(ctx, n.Zone, err)
		}
	})
}

func (t *teller) log(ctx context.Context, zone string, err error) {
	if ctx.Err() == nil && !errs.Is(err, errs.NotFound) {
		t.s.Log.WarnContext(ctx, "a change of a zone is not told", "zone", zone, "err", err)
	}
}
