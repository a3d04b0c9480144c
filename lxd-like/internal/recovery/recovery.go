// Package recovery has each pool tell what it holds, for the day on which the
// database is lost.
//
// In the background it writes a document of each instance and each custom
// volume into its pool, beside it, and one about the pool itself: see
// [storage.Recorder]. On that day it reads them, and registers again what is
// there, without a change to any of it.
package recovery

import (
	"context"
	"log/slog"
	"sync"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/netdocs"
	"github.com/cuib/cuib/lxd-like/internal/pools"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/shared/api"
)

// A Service writes and reads these documents. Its methods are safe for
// concurrent use.
type Service struct {
	DB        *db.DB
	Projects  projectKeeper
	Pools     *pools.Service
	Instances instanceKeeper
	Volumes   volumeKeeper
	Nets      netKeeper
	Events    *events.Hub
	Log       *slog.Logger

	importing sync.Mutex // Held by Import: one at a time.

	mu      sync.Mutex          // Guards what follows.
	written map[object][32]byte // The digests of what is known to be written.
	again   chan<- struct{}     // Has Run write all; nil before that runs.
}

// A projectKeeper is what recovery needs of projects.
type projectKeeper interface {
	scope.Views

	// Reinstate makes one that is not there, and reports whether it did.
	Reinstate(ctx context.Context, p api.Project) (made bool, err error)
}

// An instanceKeeper is what recovery needs of instances.
type instanceKeeper interface {
	// Document returns all that is needed, besides files, to make the
	// instance again.
	Document(ctx context.Context, name string) (api.Document, error)
	// Adopt registers an instance whose volume and snapshots are there.
	Adopt(ctx context.Context, doc api.Document) error
}

// A volumeKeeper is what recovery needs of custom volumes.
type volumeKeeper interface {
	Document(ctx context.Context, pool, name string) (api.Document, error)
	Adopt(ctx context.Context, doc api.Document) error
}

// A netKeeper is what recovery needs of networks. It is [netdocs.Service].
type netKeeper interface {
	Document(ctx context.Context) (api.NetworksDocument, error)
	// Reinstate makes what is described and not there.
	Reinstate(ctx context.Context, r netdocs.Reinstatement)
}
