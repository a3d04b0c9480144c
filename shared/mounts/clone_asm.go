//go:build amd64 || arm64

package mounts

import "golang.org/x/sys/unix"

// sharing has the child share the daemon's memory, which it never uses: the
// copy that it would else get costs milliseconds.
const sharing = unix.CLONE_VM

// cloneIdle makes a child process of the process parent that waits to be
// killed, with all signals blocked. It returns its id, or an error number
// below 0.
//
//go:noescape
func cloneIdle(flags, parent uintptr) (pid uintptr)
