package nets

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// keyVNI is the key of what tells an overlay from others between the same
// hosts.
const keyVNI = "vxlan.id"

// overlayID returns the id of an overlay that says none. It comes from the
// name, as hosts that give a network the same name mean the same network.
func overlayID(name string) string {
	sum := sha256.Sum256([]byte("cuib vxlan " + name))
	return strconv.Itoa(int(sum[0])<<16 | int(sum[1])<<8 | int(sum[2]) | 1)
}

// nameOverlay gives the configuration of an overlay that has none an id.
func nameOverlay(n db.Network, config map[string]string) {
	if n.Type == netkeys.Vxlan && config[keyVNI] == "" {
		config[keyVNI] = overlayID(n.Name)
	}
}

// choice returns what chooses the addresses of a network that leaves that to
// us: by chance, but for an overlay by its name: all hosts are to choose alike.
func choice(n db.Network) func(int) int {
	if n.Type != netkeys.Vxlan {
		return rand.IntN
	}
	sum := sha256.Sum256([]byte("cuib vxlan addresses " + n.Name))
	return rand.New(rand.NewPCG(binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:]))).IntN //nolint:gosec // to be guessed alike
}

// checkOverlay returns an error if another network of this host has what is an
// overlay's own: its id, or its port for what is encrypted.
func (s *Service) checkOverlay(ctx context.Context, cfg networks.Config) error {
	if cfg.Overlay.ID == 0 {
		return nil
	}
	all, err := s.records(ctx)
	if err != nil {
		return err
	}
	for _, n := range all {
		if n.Name == cfg.Key || n.Type != netkeys.Vxlan {
			continue
		}
		other, err := s.config(n)
		if err != nil {
			continue // It says so elsewhere.
		}
		a, b := cfg.Overlay, other.Overlay
		if a.ID == b.ID && a.Port == b.Port {
			return errs.Conflictf("configuration key %q: %d is the id of network %s: give another", keyVNI, a.ID, project.Quote(n.Name))
		}
		if encrypts(a) && encrypts(b) && a.WirePort == b.WirePort {
			return errs.Conflictf(`configuration key "vxlan.encryption.port": %d is the port of network %s: give another`, a.WirePort, project.Quote(n.Name))
		}
	}
	return nil
}

func encrypts(o networks.Overlay) bool {
	return len(o.Peers) > 0 && o.Encryption != networks.EncryptNone
}

// speak has a network's hosts tell each other what they have, until ctx ends.
func (s *Service) speak(ctx context.Context, d networks.Speaker, cfg networks.Config) {
	with := networks.Company{
		Config: func(ctx context.Context) (networks.Config, error) { return s.known(ctx, cfg.Key) },
		Learn:  func(ctx context.Context, m networks.Member) error { return s.Learn(ctx, cfg.Key, m) },
		Warn:   func(ctx context.Context, problems []string) { s.warnOfMembers(ctx, cfg.Key, problems) },
	}
	with.Warn(ctx, nil)
	pause := shortPause
	for ctx.Err() == nil {
		began := time.Now()
		err := d.Speak(ctx, cfg, with)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > longPause {
			pause = shortPause
		}
		if err != nil {
			with.Warn(ctx, []string{err.Error()})
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(pause*2, longPause)
	}
}

// Remake is [Service.Reapply] for parts that are more than rules of the kernel.
func (s *Service) Remake(ctx context.Context, network string) error {
	s.change.Lock()
	defer s.change.Unlock()

	n, d, err := s.get(ctx, network)
	if err != nil || n.Status != db.Ready {
		return err
	}
	if err := s.apply(ctx, n, d); err != nil {
		return err
	}
	s.touch()
	return nil
}

// known is a network's configuration as it is now, with its hosts.
func (s *Service) known(ctx context.Context, network string) (networks.Config, error) {
	n, _, err := s.ready(ctx, network)
	if err != nil {
		return networks.Config{}, err
	}
	return s.withHosts(ctx, n)
}

// Learn takes what another host of an overlay says of itself.
func (s *Service) Learn(ctx context.Context, network string, m networks.Member) error {
	s.change.Lock()
	defer s.change.Unlock()

	n, d, err := s.ready(ctx, network)
	if err != nil {
		return err
	}
	l, ok := d.(networks.Learner)
	if !ok {
		return errs.Invalidf("network %q is of type %s, and has no other hosts", network, n.Type)
	}
	cfg, err := s.withHosts(ctx, n)
	if err != nil {
		return err
	}
	return l.Learn(ctx, cfg, m)
}

// warnOfMembers raises or resolves the warning about a network's other hosts.
func (s *Service) warnOfMembers(ctx context.Context, network string, problems []string) {
	if len(problems) == 0 {
		s.Warnings.Resolve(ctx, warnings.NetworkSplit, networkURL(network))
		return
	}
	text := strings.Join(problems, "; ")
	s.Log.WarnContext(ctx, "other hosts of a network", "network", network, "problem", text)
	s.Warnings.Raise(ctx, warnings.NetworkSplit, networkURL(network), text)
}

// checkOthers returns an error if another network, or the host, has what cfg
// is to have and old had not.
func (s *Service) checkOthers(ctx context.Context, cfg, old networks.Config) error {
	if err := s.checkFree(ctx, cfg, old); err != nil {
		return err
	}
	return s.checkOverlay(ctx, cfg)
}
