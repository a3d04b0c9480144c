package runtime_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/errs"
)

// TestAskedWhileItEnds asks of containers and changes them while they end: no
// failure of the host comes of what they have lost by then.
func TestAskedWhileItEnds(t *testing.T) {
	r := newRuntime(t)
	requests := map[string]func(ctx context.Context, name string, n int) error{
		"get":        func(_ context.Context, name string, _ int) error { _, err := r.Get(name); return err },
		"usage":      func(_ context.Context, name string, _ int) error { _, err := r.Usage(name); return err },
		"interfaces": func(_ context.Context, name string, _ int) error { _, err := r.Interfaces(name); return err },
		"root": func(_ context.Context, name string, _ int) error {
			f, err := r.Root(name)
			if err == nil {
				f.Close()
			}
			return err
		},
		"limits": func(ctx context.Context, name string, n int) error {
			return r.SetLimits(ctx, name, runtime.Limits{Memory: 1 << 28, Processes: int64(100 + n%2)})
		},
		"resource limits": func(ctx context.Context, name string, n int) error {
			return r.SetRlimits(ctx, name, map[string]string{"core": fmt.Sprint(n % 2)})
		},
		"score": func(ctx context.Context, name string, n int) error { return r.SetOOMScore(ctx, name, n%2) },
		"node": func(ctx context.Context, name string, n int) error {
			node := runtime.Node{Path: "/dev/x", Major: 1, Minor: 7, Mode: 0o600}
			if n%2 == 0 {
				return r.AddNode(ctx, name, node)
			}
			return r.RemoveNode(ctx, name, node)
		},
		"freeze": func(ctx context.Context, name string, n int) error {
			if n%2 == 0 {
				return r.Freeze(ctx, name)
			}
			return r.Thaw(ctx, name)
		},
		"exec": func(ctx context.Context, name string, _ int) error {
			p, err := r.Exec(ctx, name, runtime.Exec{Args: []string{"true"}})
			if err == nil {
				_, _ = p.Wait(ctx) // It can end in any way.
				for _, f := range []*os.File{p.Stdin, p.Stdout, p.Stderr} {
					f.Close()
				}
			}
			return err
		},
	}
	for what, request := range requests {
		t.Run(what, func(t *testing.T) {
			for range 4 {
				s := newSpec(t)
				exits := start(t, r, s)
				var wg sync.WaitGroup
				began := make(chan struct{})
				wg.Go(func() {
					for n := 0; ; n++ {
						err := request(t.Context(), s.Name, n)
						if n == 2 {
							close(began)
						}
						if errs.Is(err, errs.NotFound) && !strings.Contains(err.Error(), "no device") {
							return
						}
						if err != nil && errs.KindOf(err) == errs.Internal {
							t.Errorf("call %d: %v", n, err)
						}
					}
				})
				<-began
				run, err := r.Get(s.Name)
				if err == nil { // As a guest's end: nobody tells the runtime.
					err = unix.Kill(run.PID, unix.SIGKILL)
				}
				if err != nil {
					t.Error(err)
				}
				wg.Wait()
				wait(t, exits)
			}
		})
	}
}
