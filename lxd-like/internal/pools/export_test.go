package pools

import (
	"context"
	"runtime"
)

// Level is level.
var Level = level

// CheckRoom is checkRoom.
func (s *Service) CheckRoom(ctx context.Context) { s.checkRoom(ctx) }

// WaitUntilRuns waits until Run has begun.
func (s *Service) WaitUntilRuns() {
	for !s.watch.runs() {
		runtime.Gosched()
	}
}
