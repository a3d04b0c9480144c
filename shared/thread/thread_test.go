package thread_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/thread"
)

// TestNeverTheFirst takes so many turns that a goroutine comes to the first thread in
// some of them.
func TestNeverTheFirst(t *testing.T) {
	for range 2000 {
		ran := false
		thread.Do(func() {
			if ran = true; unix.Gettid() == unix.Getpid() {
				t.Error("it runs on the first thread")
			}
		})
		if !ran {
			t.Fatal("it has not run")
		}
	}
}
