package proxies

import (
	"testing"
	"time"
)

func TestPauseAfter(t *testing.T) {
	for _, tt := range []struct {
		took, pause, want time.Duration
	}{
		{time.Millisecond, lookAgain, lookAgain},
		{time.Millisecond, lookSoon, lookSoon},
		{10 * time.Millisecond, lookSoon, 500 * time.Millisecond},
		{100 * time.Millisecond, lookAgain, 5 * time.Second},
		{10 * time.Second, lookAgain, lookLate}, // As long as a guest is waited for.
	} {
		if got := pauseAfter(tt.took, tt.pause); got != tt.want {
			t.Errorf("after %v, at least %v: %v, want %v", tt.took, tt.pause, got, tt.want)
		}
	}
}
