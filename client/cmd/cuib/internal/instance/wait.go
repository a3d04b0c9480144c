package instance

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// A condition tells whether an instance is as somebody waits for.
type condition func(api.InstanceState) bool

// conditions are what wait knows. Conditions that the daemon announces by an
// event are seen at once, others when they are next looked for.
var conditions = map[string]condition{
	"running": func(s api.InstanceState) bool { return s.StatusCode == api.Running || s.StatusCode == api.Ready },
	"stopped": func(s api.InstanceState) bool { return s.StatusCode == api.Stopped },
	"frozen":  func(s api.InstanceState) bool { return s.StatusCode == api.Frozen },
	"ip":      func(s api.InstanceState) bool { return hasAddress(s, "inet") || hasAddress(s, "inet6") },
	"ipv4":    func(s api.InstanceState) bool { return hasAddress(s, "inet") },
	"ipv6":    func(s api.InstanceState) bool { return hasAddress(s, "inet6") },
}

// readyStates are the states of systemd after which nothing more is started.
var readyStates = []string{"running", "degraded"}

// lookEvery is how often a condition is looked for without an event.
const lookEvery = 200 * time.Millisecond

func newWait(e *env) *cobra.Command {
	var what string
	var timeout, interval int
	cmd := &cobra.Command{
		Use:   "wait INSTANCE",
		Short: "Wait until an instance is ready, or as you want it",
		Long: `Wait until an instance fulfils a condition:

  running, stopped, frozen   its state
  ip, ipv4, ipv6             it has an address that is not of its own link
  ready                      its init has started all that starts with it`,
		Example: "  cuib wait web\n  cuib wait web --for ip --timeout 30",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(kit.Instances),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if timeout >= 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(timeout)*time.Second,
					errs.Newf(errs.Unavailable, "instance %q was not %s after %d s", args[0], what, timeout))
				defer cancel()
			}
			return e.waitUntil(ctx, args[0], what, max(lookEvery, time.Duration(interval)*time.Second))
		}),
	}
	cmd.Flags().StringVar(&what, "for", "ready", "condition to wait for")
	cmd.Flags().IntVar(&timeout, "timeout", -1, "seconds to wait at most; -1 for as long as it takes")
	cmd.Flags().IntVar(&interval, "interval", 0, "seconds between looks at what no event tells")
	_ = cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions(append(kit.KeysOf(conditions), "ready"), cobra.ShellCompDirectiveNoFileComp)) // The flag exists.
	return cmd
}

func (e *env) waitUntil(ctx context.Context, name, what string, every time.Duration) error {
	is, known := conditions[what]
	if !known && what != "ready" {
		return errs.Invalidf("condition %q is none of ready, %s", what, strings.Join(kit.KeysOf(conditions), ", "))
	}
	look := func() (bool, error) {
		if what == "ready" {
			return e.isReady(ctx, name)
		}
		s, err := e.Client().InstanceState(ctx, name)
		return err == nil && is(s), err
	}
	err := e.poll(ctx, look, every)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// poll calls look when something happened in the daemon, and now and then,
// until it is true.
func (e *env) poll(ctx context.Context, look func() (bool, error), every time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	happened := make(chan struct{}, 1)
	if events, err := e.Client().Events(ctx, "lifecycle"); err == nil {
		defer events.Close()
		go func() {
			for {
				if _, err := events.Next(ctx); err != nil {
					return
				}
				select {
				case happened <- struct{}{}:
				default:
				}
			}
		}()
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if ok, err := look(); ok || err != nil {
			return err
		}
		select {
		case <-happened:
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func hasAddress(s api.InstanceState, family string) bool {
	for _, nic := range s.Network {
		for _, a := range nic.Addresses {
			if a.Family == family && a.Scope == "global" {
				return true
			}
		}
	}
	return false
}
