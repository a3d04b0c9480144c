package instance

import (
	"context"
	"strconv"
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

// probes are scripts that succeed in an instance that fulfils a condition with
// the value $1.
var probes = map[string]string{
	"unit": `systemctl is-active --quiet -- "$1"`,
	"file": `test -e "$1"`,
	"port": `cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q ":$(printf %04X "$1") [0-9A-F]*:0000 0A"`,
}

// readyStates are the states of systemd after which nothing more is started.
var readyStates = []string{"running", "degraded"}

// lookEvery is how often a condition is looked for without an event.
const lookEvery = 200 * time.Millisecond

const waitLong = `Wait until instances fulfil a condition:

  running, stopped, frozen   its state
  ip, ipv4, ipv6             it has an address that is not of its own link
  ready                      its init has started all that starts with it, or
                             it has said by the guest API that it is ready
  systemd                    its systemd says "running": all is started and no
                             unit failed; for ready, "degraded" is enough
  unit=NAME                  a unit of its systemd is active
  file=PATH                  there is such a file
  port=NUMBER                a program listens on the TCP port

If there is no address when the time is over, the networks of the instance are
tried out, as "cuib network doctor" does it, and what fails is told.

Of several instances all are waited for at the same time. The exit status is 4 if
the time is over, or if systemd has failed units, and 2 if it has no systemd.`

func newWait(e *env) *cobra.Command {
	var what string
	var timeout, interval int
	cmd := &cobra.Command{
		Use: "wait INSTANCE...", Short: "Wait until instances are ready, or as you want them", Long: waitLong,
		Example: "  cuib wait web\n  cuib wait web db --for ip --timeout 30\n  cuib wait web --for port=80",
		Args:    kit.Needs(1, -1), ValidArgsFunction: e.Complete(kit.Instances),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error {
			if timeout < -1 || interval < 0 {
				return errs.Invalidf("--timeout is %d, --interval %d: want seconds, or --timeout -1 for as long as it takes", timeout, interval)
			}
			ctx, stop := kit.Interruptible(cmd.Context())
			defer stop()
			return e.each(args, func(name string) error {
				w := waiting{name: name, what: what, every: max(lookEvery, time.Duration(interval)*time.Second)}
				return e.waitFor(ctx, w, time.Duration(timeout)*time.Second)
			})
		}),
	}
	cmd.Flags().StringVar(&what, "for", "ready", "condition to wait for")
	cmd.Flags().IntVar(&timeout, "timeout", -1, "seconds to wait at most; -1 for as long as it takes")
	cmd.Flags().IntVar(&interval, "interval", 0, "seconds between looks at what no event tells")
	_ = cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions(conditionNames(), cobra.ShellCompDirectiveNoFileComp)) // The flag exists.
	return cmd
}

// waiting is what is waited for.
type waiting struct {
	name, what string
	every      time.Duration
}

// conditionNames are all conditions; those with a value end in "=".
func conditionNames() []string {
	out := append(kit.KeysOf(conditions), "ready", "systemd")
	for _, name := range kit.KeysOf(probes) {
		out = append(out, name+"=")
	}
	return out
}

// waitFor waits for so long, or if that is negative for as long as it takes.
func (e *env) waitFor(ctx context.Context, w waiting, limit time.Duration) error {
	parent := ctx
	if limit >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, max(limit, lookEvery), // To look once takes a moment.
			errs.Conflictf("instance %q does not fulfil %q after %.0f s", w.name, w.what, limit.Seconds()))
		defer cancel()
	}
	look, err := e.looker(ctx, w)
	if err != nil {
		return err
	}
	err = e.poll(ctx, look, w.every)
	if ctx.Err() != nil {
		if parent.Err() == nil && strings.HasPrefix(w.what, "ip") {
			e.tellWhy(parent, w.name)
		}
		return context.Cause(ctx)
	}
	return err
}

// looker returns what tells whether the condition is fulfilled.
func (e *env) looker(ctx context.Context, w waiting) (func() (bool, error), error) {
	switch w.what {
	case "ready":
		return func() (bool, error) { return e.isReady(ctx, w.name) }, nil
	case "systemd":
		return func() (bool, error) { return e.isHealthy(ctx, w.name) }, nil
	}
	if is, ok := conditions[w.what]; ok {
		return func() (bool, error) {
			s, err := e.Client().InstanceState(ctx, w.name)
			return err == nil && is(s), err
		}, nil
	}
	key, value, _ := strings.Cut(w.what, "=")
	script, ok := probes[key]
	if !ok || value == "" {
		return nil, errs.Invalidf("condition %q is none of %s", w.what, strings.Join(conditionNames(), ", "))
	}
	if n, err := strconv.ParseUint(value, 10, 16); key == "port" && (err != nil || n == 0) {
		return nil, errs.Invalidf("condition %q: want a number from 1 to 65535", w.what)
	}
	return func() (bool, error) {
		_, status, err := e.probe(ctx, w.name, script, value)
		return err == nil && status == 0, err
	}, nil
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
