package proxies

import (
	"context"
	"time"

	"github.com/cuib/cuib/shared/errs"
)

// How long the service waits before it starts a proxy again that has ended by
// itself: longer each time, if it does so soon.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 10 * time.Second
	longLife   = 10 * time.Second
)

// look looks after a proxy, which has a process or is to get one, until it is
// not wanted any more or its instance has ended.
func (s *Service) look(ctx context.Context, p *proxy, run *program) {
	ctx, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.runs(p, run)
	go func() {
		defer close(p.done)
		for pause := firstPause; ; {
			if run != nil {
				run.wait()
				s.runs(p, nil)
				if time.Since(run.began) > longLife {
					pause = firstPause
				}
				run.close()
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, lastPause)
			var err error
			run, err = s.spawn(ctx, p.owner, p.rule)
			switch {
			case err == nil:
				s.runs(p, run)
				s.Log.WarnContext(ctx, "a proxy ended and was started again", "instance", p.owner.Instance, "device", p.owner.Device)
			case ctx.Err() != nil:
				return
			case errs.Is(err, errs.NotFound):
				return // The instance has ended, of which the service is told.
			default:
				s.Log.ErrorContext(ctx, "cannot start a proxy again", "instance", p.owner.Instance, "device", p.owner.Device, "err", err)
			}
		}
	}()
}

// runs notes what ends the process of a proxy; at once, if it is not wanted
// any more.
func (s *Service) runs(p *proxy, run *program) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.end = nil
	if run == nil {
		return
	}
	p.end = run.kill
	if s.all[p.owner] != p {
		run.kill()
	}
}
