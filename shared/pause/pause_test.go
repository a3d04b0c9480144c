package pause_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cuib/cuib/shared/pause"
)

func TestFor(t *testing.T) {
	for name, tt := range map[string]struct {
		pause, ends, took time.Duration // ends is 0 for a context that does not end.
		err               error
	}{
		"whole":   {pause: time.Minute, took: time.Minute},
		"cut":     {pause: time.Hour, ends: time.Second, took: time.Second, err: context.DeadlineExceeded},
		"none":    {},
		"past":    {pause: -time.Second},
		"as long": {pause: time.Second, ends: time.Hour, took: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if tt.ends > 0 {
					timed, cancel := context.WithTimeout(ctx, tt.ends)
					defer cancel()
					ctx = timed
				}
				began := time.Now()
				if err := pause.For(ctx, tt.pause); !errors.Is(err, tt.err) || time.Since(began) != tt.took {
					t.Errorf("took %s, %v", time.Since(began), err)
				}
			})
		})
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := pause.For(ended, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}
