package announce_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cuib/cuib/networks/announce"
)

// TestFollow calls at once, after each event, and never again after an error or
// the end.
func TestFollow(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	events := make(chan error, 1)
	calls := make(chan struct{}, 10)
	ended := make(chan error)
	go func() { ended <- announce.Follow(ctx, events, time.Nanosecond, func() { calls <- struct{}{} }) }()
	<-calls
	announce.Post(events, nil)
	<-calls
	broken := errors.New("broken")
	announce.Post(events, broken)
	if err := <-ended; !errors.Is(err, broken) {
		t.Errorf("after an error: %v", err)
	}
	go func() { ended <- announce.Follow(ctx, events, time.Hour, func() { calls <- struct{}{} }) }()
	<-calls
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("after the end: %v", err)
	}
	if len(calls) > 0 {
		t.Errorf("%d calls more", len(calls))
	}
}
