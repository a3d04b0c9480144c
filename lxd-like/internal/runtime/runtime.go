package runtime

import (
	"log/slog"
)

// A Runtime runs containers. Its methods are safe for concurrent use.
type Runtime struct {
	Dir  string // What belongs to running containers: Dir/NAME has their configuration, logs and status.
	Shim string // Path of cuib-shim.
	Log  *slog.Logger
}

// shimProcess is a cuib-shim that runs for us.
type shimProcess struct{}
