// Package volumes makes, changes, attaches and removes custom volumes, and
// keeps their snapshots.
//
// A volume is mounted, as it is stored, while at least one instance or reader
// of files uses it; each instance gets a bind mount of that, with its own ids.
//
// There are two kinds of lock. A claim is held by what changes a volume, for
// as long as that takes, and nobody waits for one: the second is refused. The
// lock of a volume is held for moments, while it is mounted or not to be. Who
// holds it waits for no lock of an instance.
package volumes

import (
	"context"
	"log/slog"
	"maps"
	neturl "net/url"
	"strings"
	"sync"

	"github.com/cuib/cuib/lxd-like/internal/clock"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/locks"
	"github.com/cuib/cuib/storage"
)

// A Ref names a custom volume by its pool and its name.
type Ref = db.VolumeRef

// The content types of volumes.
const (
	filesystem = "filesystem"
	iso        = "iso"
)

// The keys that mark work which a crash has cut short. See [Service.Recover].
const (
	keyRenaming  = "volatile.renaming"          // The name that the volume is getting.
	keySnapshot  = "volatile.renaming.snapshot" // FROM/TO of a snapshot that is renamed.
	keyRestoring = "volatile.restoring"         // The snapshot whose contents the volume is getting.
	keyShaping   = "volatile.shaping"           // Its size and options are being set.
)

// Keys of the daemon's that users see.
const (
	keyOwner = "volatile.devlxd.owner" // The id of the instance whose guest made the volume.
	keyID    = "volatile.uuid"         // An id that a snapshot keeps.
)

// A Service keeps custom volumes. Its methods are safe for concurrent use.
type Service struct {
	DB        *db.DB
	Projects  scope.Views
	Dir       string // The daemon's state directory.
	Pools     poolKeeper
	Instances instanceKeeper
	Types     map[string]storage.Type // By driver.
	Events    *events.Hub
	Log       *slog.Logger
	Warnings  *warnings.Service // Nil for none.

	locks  locks.Keyed
	claims claims
	uses   uses

	mu   sync.Mutex      // Guards seen.
	seen map[string]bool // The pools whose volumes were recovered.

	dueOnce sync.Once
	due     *clock.Clock
}

// A poolKeeper is what volumes need of storage pools.
type poolKeeper interface {
	// Driver opens a pool by its name.
	Driver(ctx context.Context, pool string) (storage.Driver, error)
}

// An instanceKeeper is what volumes need of instances.
type instanceKeeper interface {
	// Frozen calls fn while the instances are frozen or do not run, and
	// nothing changes them.
	Frozen(ctx context.Context, names []string, fn func() error) error
	// Held calls fn while nothing changes the instances.
	Held(ctx context.Context, names []string, fn func() error) error
}

func volume(ref Ref) storage.Volume { return storage.Volume{Kind: storage.Custom, Name: ref.Name} }

func snapshotVolume(ref Ref, snapshot string) storage.Volume {
	return storage.Volume{Kind: storage.Custom, Name: ref.Name, Snapshot: snapshot}
}

func url(ref Ref) string {
	return "/1.0/storage-pools/" + ref.Pool + "/volumes/custom/" + neturl.PathEscape(ref.Name)
}

func snapshotURL(ref Ref, snapshot string) string { return url(ref) + "/snapshots/" + snapshot }

// event tells who listens that something happened to a volume.
func (s *Service) event(action string, ref Ref, details map[string]any) {
	s.Events.Lifecycle(action, url(ref), details)
}

// driver opens a pool.
func (s *Service) driver(ctx context.Context, pool string) (storage.Driver, error) {
	return s.Pools.Driver(ctx, pool)
}

// withRoom adds to an error of a full disk what room the pool has.
func (s *Service) withRoom(ctx context.Context, pool string, err error) error {
	if err == nil {
		return nil
	}
	d, derr := s.driver(ctx, pool)
	if derr != nil {
		return err
	}
	return storage.Full(ctx, d, pool, err)
}

// load reads a volume that is whole.
func (s *Service) load(ctx context.Context, ref Ref) (db.Volume, error) {
	var v db.Volume
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		v, err = loadTx(ctx, tx, ref)
		return err
	})
	return v, err
}

func loadTx(ctx context.Context, tx *db.Tx, ref Ref) (db.Volume, error) {
	v, err := db.GetVolume(ctx, tx, ref)
	if err == nil && v.Status != db.Ready {
		err = errs.NotFoundf("volume %q not found in storage pool %q: it is being created or deleted", ref.Name, ref.Pool)
	}
	return v, err
}

// patch changes keys of a volume's configuration; empty values unset them.
func (s *Service) patch(ctx context.Context, v *db.Volume, keys map[string]string) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.PatchVolumeConfig(ctx, tx, v.VolumeRef, keys)
	})
	if err != nil {
		return err
	}
	v.Config = maps.Clone(v.Config)
	for k, value := range keys {
		if value == "" {
			delete(v.Config, k)
		} else {
			v.Config[k] = value
		}
	}
	return nil
}

// isInternal reports whether only the daemon may change the key.
func isInternal(key string) bool { return strings.HasPrefix(key, "volatile.") }

// visible is a configuration as users see it.
func visible(config map[string]string) map[string]string {
	out := make(map[string]string, len(config))
	for k, v := range config {
		if !isInternal(k) || k == keyOwner || k == keyID {
			out[k] = v
		}
	}
	return out
}

// given is a configuration as a client gives it: an empty value is none, and
// what is the daemon's is left out.
func given[M ~map[string]string](config M) map[string]string {
	out := make(map[string]string, len(config))
	for k, v := range config {
		if v != "" && !isInternal(k) {
			out[k] = v
		}
	}
	return out
}

// claims say which volumes are being changed, and how. The zero value is ready
// to use.
type claims struct {
	mu sync.Mutex // Guards by, and what is in it.
	by map[Ref]*claim
}

type claim struct {
	what string
	shut bool // Nobody may come to use the volume.
}

func (c *claim) refusal(ref Ref) error {
	return errs.Conflictf("volume %q in storage pool %q is busy: it is being %s", ref.Name, ref.Pool, c.what)
}

// take claims volumes, all of them or none, and returns what releases them.
func (c *claims) take(what string, refs ...Ref) (release func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ref := range refs {
		if other := c.by[ref]; other != nil {
			return nil, other.refusal(ref)
		}
	}
	if c.by == nil {
		c.by = map[Ref]*claim{}
	}
	for _, ref := range refs {
		c.by[ref] = &claim{what: what}
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, ref := range refs {
			delete(c.by, ref)
		}
	}, nil
}

// shut makes admits refuse a volume that is claimed.
func (c *claims) shut(ref Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by[ref].shut = true
}

// admits reports why nobody may come to use a volume. It is for work that
// takes long: for the other kind people wait.
func (c *claims) admits(ref Ref) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.by[ref]; other != nil && other.shut {
		return other.refusal(ref)
	}
	return nil
}
