// Package repository keeps incremental, deduplicated and encrypted backups of
// instances, custom volumes and the host's configuration, in repositories of
// restic: directories, directories of other hosts over SFTP, buckets of S3.
//
// One backup is one snapshot in the sense of restic. It holds the files of one
// source below "data", and an [api.Document] of it as "document.yaml", so that
// it can be made again on a host that knows nothing of it. Snapshots in the
// sense of the pools are not in it: a repository has a past of its own.
//
// What is kept of a repository here is where it is and its password. The data
// is never touched but by restic.
package repository

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/clock"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/lxd-like/internal/netdocs"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/lxd-like/internal/volumes"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/locks"
)

// A Service keeps repositories and what is in them. Its methods are safe for
// concurrent use.
type Service struct {
	DB        *db.DB
	Projects  projectKeeper
	Dir       string // The daemon's state directory.
	Host      string // The name under which this host's backups are kept.
	Instances instanceKeeper
	Volumes   volumeKeeper
	Pools     poolKeeper
	Nets      netKeeper
	Images    aliasKeeper
	Config    configKeeper
	Ops       starter
	Events    *events.Hub
	Log       *slog.Logger
	Warnings  *warnings.Service // Nil for none.

	writers locks.Keyed // By repository: who adds or removes backups.
	gates   gates

	mu    sync.Mutex       // Guards what follows.
	down  map[string]error // By repository: why it could not be used when it was last tried.
	id    string           // See identity.
	ticks *clock.Clock

	idle time.Duration // How long restic may do nothing; 0 for the usual.
}

// A projectKeeper keeps projects.
type projectKeeper interface {
	scope.Views

	List(ctx context.Context) ([]api.Project, error)
	// Reinstate makes one that is not there, and reports whether it did.
	Reinstate(ctx context.Context, p api.Project) (made bool, err error)
}

// An instanceKeeper is what repositories need of instances.
type instanceKeeper interface {
	profileKeeper

	List(ctx context.Context, project string) ([]api.Instance, error)
	Document(ctx context.Context, name string) (api.Document, error)
	Stilled(ctx context.Context, name string, fn func(ctx context.Context, dir string) error) error
	CheckReinstate(ctx context.Context, r instances.Reinstatement) error
	Reinstate(ctx context.Context, r instances.Reinstatement, op *ops.Op) error
}

// A profileKeeper keeps profiles.
type profileKeeper interface {
	Profiles(ctx context.Context) ([]api.Profile, error)
	CreateProfile(ctx context.Context, req api.ProfilesPost) error
	UpdateProfile(ctx context.Context, name string, put api.ProfilePut) error
}

// A volumeKeeper is what repositories need of custom volumes.
type volumeKeeper interface {
	Document(ctx context.Context, pool, name string) (api.Document, error)
	Stilled(ctx context.Context, pool, name string, fn func(ctx context.Context, dir string) error) error
	CheckReinstate(ctx context.Context, r volumes.Reinstatement) error
	Reinstate(ctx context.Context, r volumes.Reinstatement, op *ops.Op) error
}

// A poolKeeper keeps storage pools.
type poolKeeper interface {
	List(ctx context.Context) ([]api.StoragePool, error)
	Create(ctx context.Context, req api.StoragePoolsPost) error
}

// A netKeeper keeps networks. It is [netdocs.Service].
type netKeeper interface {
	Document(ctx context.Context) (api.NetworksDocument, error)
	// Reinstate makes what is described and not there.
	Reinstate(ctx context.Context, r netdocs.Reinstatement)
}

// An aliasKeeper keeps aliases of images.
type aliasKeeper interface {
	Aliases(ctx context.Context) ([]api.ImageAliasesEntry, error)
	CreateAlias(ctx context.Context, e api.ImageAliasesEntry) error
}

// A configKeeper keeps the server's configuration.
type configKeeper interface {
	Config(ctx context.Context) (map[string]string, error)
	SetConfig(ctx context.Context, values map[string]string) error
}

// A starter runs what the clock begins.
type starter interface {
	Start(ctx context.Context, job ops.Job) (*ops.Op, error)
}
