package testenv

import (
	"errors"
	"runtime"
	"sync"
)

// ErrBoom is the error of a step that [Faults] makes fail.
var ErrBoom = errors.New("boom")

// Faults make a step of a change fail, or end the daemon there as far as the
// test is concerned: the goroutine of the step ends, and all that come after.
// The fakes of a test call [Faults.Step] before what they do. The zero value
// lets all pass. It is safe for concurrent use.
type Faults struct {
	mu    sync.Mutex // Guards what follows.
	steps int        // Since the last Arm.
	at    int        // The step that fails; 0 for none.
	crash bool       // It does not fail, but the daemon ends there.
	muted bool       // The test itself calls, and nothing fails.
}

// Arm makes the n-th step from now fail or, with crash, the daemon end.
func (f *Faults) Arm(n int, crash bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps, f.at, f.crash = 0, n, crash
}

// Disarm lets all pass again. It reports whether the step was reached.
func (f *Faults) Disarm() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	reached := f.at > 0 && f.steps >= f.at
	f.at = 0
	return reached
}

// Step is a step, whose name is for the reader.
func (f *Faults) Step(string) error {
	f.mu.Lock()
	if f.muted {
		f.mu.Unlock()
		return nil
	}
	f.steps++
	hit, crash := f.steps == f.at, f.crash
	dead := crash && f.at > 0 && f.steps > f.at
	f.mu.Unlock()
	if hit && crash || dead {
		runtime.Goexit()
	}
	if hit {
		return ErrBoom
	}
	return nil
}

// Mute lets all pass that the test itself does, until unmute is called.
func (f *Faults) Mute() (unmute func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.muted = true
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.muted = false
	}
}
