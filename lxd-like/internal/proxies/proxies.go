// Package proxies passes connections on between the host and instances.
//
// Each proxy is a process of cuib-shim, or a few rules of nftables. The
// process outlives the daemon, and ends with the instance; a [Service] finds
// it again, and starts another when it ends by itself.
package proxies

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/process"
)

// A Rule is what one proxy does. Rules that are the same to the kernel are
// equal; the zero value is none.
type Rule struct {
	Inside          bool   // It listens in the instance, and connects on the host.
	Listen, Connect string // As [profiles.ParseProxyAddress] reads them.
	Header          bool   // Servers get a PROXY header, version 1.
	Mode            string // Octal, of a socket with a path; empty for the default.
	UID, GID        string // Its owner, on its side.
	AsUID, AsGID    string // Who it is when it connects, on that side; both empty for root.

	NAT    bool
	Target netip.Addr // NAT: an address of the instance; not valid for those that it has at the time.
	Public bool       // NAT: what the host's firewall refuses comes in, too.
	Bridge string     // NAT: the target's.
	Port   string     // NAT: of the bridge, to which the target is connected; empty if it is not known.

	// NAT without a target: the managed network in which the instance has
	// addresses, and of which families they are forwarded to.
	Network   string
	Four, Six bool
}

// An Owner is the device of an instance that a proxy is for.
type Owner struct{ Instance, Device string }

// A Service keeps proxies. Its methods are safe for concurrent use; those for
// one instance are not called at the same time.
type Service struct {
	Dir     string // What belongs to proxies that run.
	Shim    string // Path of cuib-shim.
	Forward nft.Forwards
	Log     *slog.Logger

	// Guest returns the init of a running instance. While the guest reboots
	// it waits. It returns an error of kind NotFound if there is none any more.
	Guest func(instance string) (pid int, pidfd *os.File, err error)

	// Taken returns who else has ports of the host; an empty string for
	// nobody. Nil if nobody can.
	Taken func(ctx context.Context, e networks.Published) (string, error)

	// Listener returns which process of the host waits for clients at ports
	// that e would take from it; an empty string for none. Nil if none does.
	Listener func(e networks.Published) (string, error)

	recordsOnce sync.Once
	kept        process.Records // See [Service.records].

	// Follow returns the addresses that an instance has in a network at the
	// time.
	Follow func(ctx context.Context, instance, network string) (Place, error)

	// Admit puts what is published behind gates that let in what the host's
	// firewall lets in. Nil if all is let in.
	Admit func(ctx context.Context, list []networks.Published) []networks.Published

	nat sync.Mutex // Held by who changes rules of nftables, before mu.
	mu  sync.Mutex // Guards all.
	all map[Owner]*proxy

	begun chan struct{} // See [Service.starts].
}

// proxy is one that is wanted.
type proxy struct {
	owner Owner
	rule  Rule
	stop  context.CancelFunc
	done  chan struct{} // Closed when nobody looks after it any more.
	end   func()        // Ends the process that there is now; guarded by Service.mu. Nil for none.
	place Place         // NAT: what it leads to; guarded by Service.mu.
	since time.Time     // NAT: when it began.
}

// Start starts a proxy of a running instance, and returns when clients can
// connect. It refuses ports that somebody has, and names who.
func (s *Service) Start(ctx context.Context, of Owner, r Rule) error {
	if err := s.checkTaken(ctx, r); err != nil {
		return err
	}
	p, err := s.claim(of, r)
	if err != nil {
		return err
	}
	if r.NAT {
		s.follow(ctx, p)
		if err = s.applyNAT(ctx, of.Instance); err == nil {
			close(p.done)
			select {
			case s.starts() <- struct{}{}:
			default:
			}
			return nil
		}
	} else {
		var run *program
		if run, err = s.spawn(ctx, of, r); err == nil {
			s.look(ctx, p, run)
			return nil
		}
	}
	s.release(of)
	close(p.done)
	return err
}

// claim notes that a proxy is wanted, unless another has a port of it.
func (s *Service) claim(of Owner, r Rule) (*proxy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[of] != nil {
		return nil, errs.Conflictf("the proxy runs already")
	}
	if err := s.checkOthers(of, r); err != nil {
		return nil, err
	}
	if s.all == nil {
		s.all = map[Owner]*proxy{}
	}
	p := &proxy{owner: of, rule: r, stop: func() {}, done: make(chan struct{}), since: time.Now()}
	s.all[of] = p
	return p, nil
}

// clash reports a port that two proxies want on one side.
func clash(r Rule, other Owner, o Rule, same bool) error { //nolint:revive // Not exported.
	if r.Inside != o.Inside || r.Inside && !same {
		return nil
	}
	a, err := profiles.ParseProxyAddress(r.Listen)
	if err != nil {
		return err
	}
	b, err := profiles.ParseProxyAddress(o.Listen)
	if err != nil {
		return err
	}
	port, overlaps := a.Overlaps(b)
	if (r.NAT || o.NAT) && a.Kind != "unix" {
		port, overlaps = natOverlap(r, o)
	}
	switch {
	case !overlaps:
		return nil
	case a.Kind == "unix":
		return errs.Conflictf("listen: %s is taken by device %q of instance %q", r.Listen, other.Device, other.Instance)
	}
	return errs.Conflictf("listen: port %d of %s is taken by device %q of instance %q, which listens on %s", port, r.Listen, other.Device, other.Instance, o.Listen)
}

// natOverlap returns a port that two rules are for, of which one at least is
// for nftables. What comes for the loopback is not forwarded.
func natOverlap(r, o Rule) (port uint16, overlaps bool) {
	mine, err := hostPorts(r)
	if err != nil {
		return 0, false
	}
	others, err := hostPorts(o)
	if err != nil {
		return 0, false
	}
	for _, a := range mine {
		for _, b := range others {
			if a.Overlaps(b) && !a.Listen.IsLoopback() && !b.Listen.IsLoopback() {
				return max(a.First, b.First), true
			}
		}
	}
	return 0, false
}

func (s *Service) release(of Owner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, of)
}

// Stop ends a proxy, with the connections that it has; what nftables forwards
// goes on. It succeeds if there is none.
func (s *Service) Stop(ctx context.Context, of Owner) error {
	s.mu.Lock()
	p := s.all[of]
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	s.quit(p)
	if p.rule.NAT {
		return s.applyNAT(ctx, of.Instance)
	}
	return errors.Join(s.forget(of), s.removeSocket(ctx, p))
}

// quit ends a proxy and waits for that.
func (s *Service) quit(p *proxy) {
	s.mu.Lock()
	delete(s.all, p.owner)
	p.stop()
	if p.end != nil {
		p.end()
	}
	s.mu.Unlock()
	<-p.done
}

// End ends all proxies of an instance that has ended.
func (s *Service) End(ctx context.Context, instance string) error {
	var failed error
	forwards := false
	for _, p := range s.of(instance) {
		s.quit(p)
		forwards = forwards || p.rule.NAT
		failed = errors.Join(failed, s.forget(p.owner), removeListen(p.rule))
	}
	if forwards {
		failed = errors.Join(failed, s.applyNAT(ctx, instance))
	}
	return failed
}

func (s *Service) of(instance string) []*proxy {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*proxy
	for of, p := range s.all {
		if of.Instance == instance {
			out = append(out, p)
		}
	}
	return out
}

// Recover takes over the proxies of an instance that runs: those that run as
// they are wanted go on, others are ended, and those that are missing are
// started. What goes wrong with one does not keep the others.
func (s *Service) Recover(ctx context.Context, instance string, want map[string]Rule) error {
	have, failed := s.states(instance)
	for device, st := range have {
		if r, ok := want[device]; ok && r == st.Rule && s.adopt(ctx, Owner{instance, device}, st) {
			continue
		}
		failed = errors.Join(failed, s.discard(Owner{instance, device}, st))
	}
	for device, r := range want {
		if err := s.resume(ctx, Owner{instance, device}, r); err != nil {
			failed = errors.Join(failed, fmt.Errorf("device %q: %w", device, err))
		}
	}
	return failed
}

// resume starts a proxy that was there before, unless it runs. A process is
// started later: nobody waits for a guest that keeps it from that.
func (s *Service) resume(ctx context.Context, of Owner, r Rule) error {
	if s.runsAs(of) {
		return nil
	}
	if r.NAT {
		return s.Start(ctx, of, r)
	}
	p, err := s.claim(of, r)
	if err == nil {
		s.look(ctx, p, nil)
	}
	return err
}

func (s *Service) runsAs(of Owner) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[of] != nil
}

// adopt looks after a proxy that an earlier daemon has started.
func (s *Service) adopt(ctx context.Context, of Owner, st state) bool {
	run, err := st.find()
	if err != nil {
		return false
	}
	p, err := s.claim(of, st.Rule)
	if err != nil {
		run.close()
		return false
	}
	s.look(ctx, p, run)
	return true
}

// Settle ends what earlier daemons left of proxies of instances that do not
// run. The daemon calls it when it has recovered those that do.
func (s *Service) Settle(runs func(instance string) bool) error {
	names, failed := s.records().Instances()
	for _, name := range names {
		if runs(name) {
			continue
		}
		have, err := s.states(name)
		failed = errors.Join(failed, err)
		for device, st := range have {
			failed = errors.Join(failed, s.discard(Owner{name, device}, st))
		}
	}
	owners, err := s.Forward.Owners()
	failed = errors.Join(failed, err)
	for _, name := range owners {
		if !runs(name) {
			failed = errors.Join(failed, s.Forward.Apply(name, nil, nft.Near{}))
		}
	}
	return failed
}
