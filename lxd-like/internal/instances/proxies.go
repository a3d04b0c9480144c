package instances

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/devices"
	"github.com/cuib/cuib/lxd-like/internal/proxies"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
)

// A proxyKeeper is what instances need of [proxies.Service].
type proxyKeeper interface {
	// Check reports ports that a rule is for and somebody has.
	Check(ctx context.Context, of proxies.Owner, r proxies.Rule) error
	Start(ctx context.Context, of proxies.Owner, r proxies.Rule) error
	Stop(ctx context.Context, of proxies.Owner) error
	// End ends all proxies of an instance that has ended.
	End(ctx context.Context, instance string) error
	// Recover takes over the proxies of an instance that runs.
	Recover(ctx context.Context, instance string, want map[string]proxies.Rule) error
	// Settle ends what is left of those of others.
	Settle(runs func(instance string) bool) error
}

// checkProxies reports ports that an instance would not get if it was started
// now.
func (s *Service) checkProxies(ctx context.Context, in *instance) error {
	if s.Proxies == nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(in.expanded.Devices)) {
		dev := in.expanded.Devices[name]
		if dev["type"] != "proxy" {
			continue
		}
		if err := s.Proxies.Check(ctx, proxies.Owner{Instance: in.Name, Device: name}, devices.ProxyRule(dev)); err != nil {
			return fmt.Errorf("device %q: %w", name, err)
		}
	}
	return nil
}

// startProxies starts the proxies of an instance that has just started.
func (s *Service) startProxies(ctx context.Context, l *launch, u *undo.Stack) error {
	for _, name := range slices.Sorted(maps.Keys(l.plan)) {
		p := l.plan[name]
		if p.Proxy == (proxies.Rule{}) {
			continue
		}
		part := s.proxyPart(owner{l.in.Name, name}, p)
		if err := part.add(ctx); err != nil {
			return fmt.Errorf("device %q: %w", name, err)
		}
		u.Push("end the proxy", part.remove)
	}
	return nil
}

// proxyPart is a proxy that a running instance can be given, and lose.
func (s *Service) proxyPart(of owner, p devices.Plan) part {
	o := proxies.Owner{Instance: of.instance, Device: of.device}
	return part{
		add: func(ctx context.Context) error {
			if s.Proxies == nil {
				return errs.Newf(errs.Unsupported, "this server has no proxies")
			}
			return s.Proxies.Start(ctx, o, p.Proxy)
		},
		remove: func(ctx context.Context) error { return s.Proxies.Stop(ctx, o) },
	}
}

// endProxies ends the proxies of an instance that has ended.
func (s *Service) endProxies(ctx context.Context, name string) error {
	if s.Proxies == nil {
		return nil
	}
	return s.Proxies.End(ctx, name)
}

// recoverProxies takes over the proxies of a running instance.
func (s *Service) recoverProxies(ctx context.Context, in *instance) {
	if s.Proxies == nil {
		return
	}
	want := map[string]proxies.Rule{}
	for name, p := range s.recall(ctx, in) {
		if p.Proxy != (proxies.Rule{}) {
			want[name] = p.Proxy
		}
	}
	if err := s.Proxies.Recover(ctx, in.Name, want); err != nil {
		s.Logger.ErrorContext(ctx, "an instance is without a proxy", "instance", in.Name, "err", err)
	}
}

// settleProxies ends what is left of proxies of instances that do not run.
func (s *Service) settleProxies(ctx context.Context) {
	if s.Proxies == nil {
		return
	}
	if err := s.Proxies.Settle(func(name string) bool { return s.index.get(name) != nil }); err != nil {
		s.Logger.ErrorContext(ctx, "proxies of instances that have ended are left", "err", err)
	}
}
