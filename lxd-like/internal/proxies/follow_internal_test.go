package proxies

import (
	"testing"
	"time"
)

func TestPauseAfter(t *testing.T) {
	for _, tt := range []struct {
		took time.Duration
		soon bool
		want time.Duration
	}{
		{time.Millisecond, false, lookAgain},
		{time.Millisecond, true, lookSoon},
		{10 * time.Millisecond, true, 500 * time.Millisecond},
		{100 * time.Millisecond, false, 5 * time.Second},
		{10 * time.Second, false, lookLate}, // As long as a guest is waited for.
	} {
		if got := pauseAfter(tt.took, tt.soon); got != tt.want {
			t.Errorf("after %v, soon %v: %v, want %v", tt.took, tt.soon, got, tt.want)
		}
	}
}
