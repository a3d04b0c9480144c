// Package thread runs functions that change their thread.
package thread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Do runs fn on a thread that ends with it, and waits for that: its namespaces,
// rights and ids are what fn makes of them, and nobody else's. It is never the first
// thread of the process. That one does not end, and /proc/self is about it: others
// would go on with what fn has left.
func Do(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // For good: the thread ends with this goroutine.
		if unix.Gettid() == unix.Getpid() {
			Do(fn) // This one is held meanwhile, so the next is another.
			runtime.UnlockOSThread()
			return
		}
		fn()
	}()
	<-done
}
