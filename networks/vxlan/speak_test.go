package vxlan_test

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/networks/vxlan"
	"github.com/cuib/cuib/shared/testenv"
)

// A speaker is a host that only speaks: it has no bridge.
type speaker struct {
	cfg    networks.Config
	driver *vxlan.Driver

	mu       sync.Mutex // Guards what follows.
	hosts    []networks.Host
	heard    map[netip.Addr]networks.Member
	problems []string
}

func (s *speaker) company() networks.Company {
	return networks.Company{
		Config: func(context.Context) (networks.Config, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			cfg := s.cfg
			cfg.Hosts = slices.Clone(s.hosts)
			return cfg, nil
		},
		Learn: func(_ context.Context, m networks.Member) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.heard[m.Underlay] = m
			return nil
		},
		Warn: func(_ context.Context, problems []string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.problems = problems
		},
	}
}

// names are the instances that others have told of.
func (s *speaker) names() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.heard {
		for _, g := range m.Guests {
			all = append(all, g.Name)
		}
	}
	slices.Sort(all)
	return all
}

func (s *speaker) wrong(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.problems, func(p string) bool { return strings.Contains(p, text) })
}

// speakers makes hosts of loopback addresses that no other test has.
func speakers(t *testing.T, port uint16, addresses ...string) []*speaker {
	t.Helper()
	testenv.Kernel(t)
	dir := networkstest.Dir(t)
	var all []*speaker
	for _, a := range addresses {
		cfg := config()
		cfg.Name, cfg.Dir = "none0", filepath.Join(dir, a)
		cfg.Overlay.Port, cfg.Overlay.Local = port, netip.MustParseAddr(a)
		for _, other := range addresses {
			if other != a {
				cfg.Overlay.Peers = append(cfg.Overlay.Peers, netip.MustParseAddr(other))
			}
		}
		all = append(all, &speaker{cfg: cfg, driver: &vxlan.Driver{}, heard: map[netip.Addr]networks.Member{}})
	}
	return all
}

// speak has a host speak until the test ends, or the function is called.
func (s *speaker) speak(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.driver.Speak(ctx, s.cfg, s.company()) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("speak: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func TestSpeak(t *testing.T) {
	all := speakers(t, 47891, "127.9.1.1", "127.9.1.2", "127.9.1.3")
	var stops []func()
	for i, s := range all {
		s.hosts = []networks.Host{{Name: "web" + string(rune('0'+i)), MAC: []string{mac1, mac2, mac3}[i]}}
		stops = append(stops, s.speak(t))
	}
	testenv.Eventually(t, "all know the others'", func() bool {
		return slices.Equal(all[0].names(), []string{"web1", "web2"}) && slices.Equal(all[1].names(), []string{"web0", "web2"}) && slices.Equal(all[2].names(), []string{"web0", "web1"})
	})
	// One goes, and comes back with something new.
	stops[1]()
	testenv.Eventually(t, "it is missed", func() bool { return all[0].wrong("127.9.1.2 is not reached") })
	if got := all[0].names(); !slices.Equal(got, []string{"web1", "web2"}) {
		t.Errorf("what it had is forgotten: %v", got)
	}
	all[1].mu.Lock()
	all[1].hosts = append(all[1].hosts, networks.Host{Name: "more", MAC: "10:66:6a:00:00:09"})
	all[1].mu.Unlock()
	all[1].speak(t)
	testenv.Eventually(t, "it is heard again", func() bool { return slices.Equal(all[0].names(), []string{"more", "web1", "web2"}) })
	testenv.Eventually(t, "it is not missed any more", func() bool { return !all[0].wrong("not reached") })
}

func TestSpeakToStrangers(t *testing.T) {
	all := speakers(t, 47892, "127.9.2.1", "127.9.2.2")
	all[1].cfg.Overlay.Key = "another"
	for _, s := range all {
		s.hosts = []networks.Host{{Name: "web", MAC: mac1}}
		s.speak(t)
	}
	testenv.Eventually(t, "neither reaches the other", func() bool {
		return all[0].wrong("127.9.2.2 is not reached") && all[1].wrong("127.9.2.1 is not reached")
	})
	if len(all[0].names())+len(all[1].names()) > 0 {
		t.Error("one believes the other without the key")
	}
}

func TestSpeakOfAnotherConfiguration(t *testing.T) {
	all := speakers(t, 47893, "127.9.3.1", "127.9.3.2")
	all[1].cfg.IPv4.Address = netip.MustParsePrefix("10.9.9.1/24")
	all[0].cfg.Overlay.Peers = append(all[0].cfg.Overlay.Peers, netip.MustParseAddr("127.9.3.3"))
	for _, s := range all {
		s.speak(t)
	}
	testenv.Eventually(t, "both say so", func() bool {
		return all[0].wrong("ipv4.address=10.9.9.1/24") && all[1].wrong("ipv4.address=10.7.8.1/24")
	})
}

// TestSpeakAtLast has a host that could not speak before, as while it had no
// address yet, and can now.
func TestSpeakAtLast(t *testing.T) {
	all := speakers(t, 47894, "127.9.4.1", "127.9.4.2")
	for _, s := range all {
		s.problems = []string{"cannot assign requested address"}
		s.speak(t)
	}
	testenv.Eventually(t, "nothing is wrong", func() bool { return !all[0].wrong("") && !all[1].wrong("") })
}
