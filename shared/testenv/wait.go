package testenv

import (
	"testing"
	"time"
)

// Patience is how long what is to happen by itself may take before a test
// fails. On a machine that many tests share that is long; it costs nothing
// when all is well.
const Patience = 3 * time.Minute

// Eventually waits until ok returns true, and fails the test if that does not
// come about; what says what was waited for.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end, pause := time.Now().Add(Patience), time.Millisecond; !ok(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("this did not come about in %v: %s", Patience, what)
		}
		time.Sleep(pause)
	}
}

// LetGo is a line of shell for a process in a new mount namespace that stays:
// it lets go of the mounts that other tests have at the same time, as they
// need theirs back. Those at $1, on the way to it and below it stay. One that
// went with the one above it is gone already.
const LetGo = `awk -v keep="$1/" '{ at = $5 "/" } at ~ "^(/tmp|/var/tmp|/dev/shm)/[^/]+/." && index(at, keep) != 1 && index(keep, at) != 1 { print $5 }' /proc/self/mountinfo |
	tac | while read -r at; do umount -l "$at" 2>/dev/null || :; done
`
