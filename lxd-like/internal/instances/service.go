// Package instances makes, runs, changes and removes instances, and keeps
// their snapshots and profiles.
//
// One lock an instance orders all that changes it; nothing waits for a guest
// while it holds one. What runs is asked of the runtime, never stored.
package instances

import (
	"context"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/cuib/cuib/lxd-like/internal/clock"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	machine "github.com/cuib/cuib/lxd-like/internal/host"
	"github.com/cuib/cuib/lxd-like/internal/mirror"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/lxd-like/internal/uevents"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/locks"
	"github.com/cuib/cuib/storage"
)

// A Service is what the API's handlers call.
type Service struct {
	DB       *db.DB
	Projects scope.Views
	Rules    projectRules // Of projects; nil for none.
	Dir      string       // The daemon's state directory.
	Pools    poolKeeper
	Nets     netKeeper
	Images   imageKeeper
	Volumes  volumeKeeper
	Runtime  containers
	Guests   guestListener // Nil: nobody listens to guests.
	Proxies  proxyKeeper
	Events   *events.Hub
	IDs      *idmap.Allocator // Which host ids belong to whom; filled by Recover.
	Host     machine.Host     // Whose hardware instances are given.
	CDI      []string         // Directories with specifications of the Container Device Interface.
	Logger   *slog.Logger
	Warnings *warnings.Service // Nil for none.
	TPMs     tpmKeeper         // Nil for none.
	Plugins  pluginKeeper      // Of networks; nil for none.

	// CheckACLs refuses network ACLs that are not there; nil where there are
	// none.
	CheckACLs func(ctx context.Context, names []string) error

	Renames []Rename // Of what names instances.

	locks  locks.Keyed
	index  index
	ranges idRanges
	visits visits
	copies locks.Keyed // Which instances are being copied.
	away   away
	found  map[string]bool // What ran when the daemon came. Recover makes it.

	waiters waiters // For what the host lacks.
	plugs   plugs   // What comes and goes on the host.
	late    lateDisks

	guestVolumes locks.Keyed // By instance, while its guest makes one.

	systems singleflight.Group // Reads what guests say of their systems, by instance.

	dueOnce   sync.Once
	due       *clock.Clock              // Of scheduled snapshots; see [Service.startClock].
	scheduled *mirror.Mirror[scheduled] // As due.
}

// A poolKeeper is what instances need of storage pools.
type poolKeeper interface {
	// Driver opens a pool by its name.
	Driver(ctx context.Context, pool string) (storage.Driver, error)
	// CheckVolumeOption reports what is wrong with an option that volumes of
	// the pool's driver have.
	CheckVolumeOption(ctx context.Context, pool, key, value string) error
	// VolumeOptions are the keys that only volumes of the pool's driver have.
	VolumeOptions(ctx context.Context, pool string) ([]string, error)
	List(ctx context.Context) ([]api.StoragePool, error)
	Names(ctx context.Context) ([]string, error)
	Create(ctx context.Context, req api.StoragePoolsPost) error
}

// A netKeeper is what instances need of networks.
type netKeeper interface {
	hostKeeper

	// Exists returns an error of kind NotFound if there is no such network,
	// nor such an interface of the host.
	Exists(ctx context.Context, name string) error
	List(ctx context.Context) ([]api.Network, error)
	Create(ctx context.Context, req api.NetworksPost) error
	// Link says what a NIC on a managed network is connected to.
	Link(ctx context.Context, network string) (networks.Link, error)
	// CheckClaim reports who else has what an instance is to have alone.
	CheckClaim(ctx context.Context, c networks.Claim) error
	// CheckNames reports who else has the name of an instance, or one of its
	// aliases.
	CheckNames(ctx context.Context, instance string, aliases []string) error
}

// A hostKeeper is what instances need of networks for their addresses.
type hostKeeper interface {
	// CheckHost reports what is wrong with a static address on the network:
	// outside of it, or another instance's.
	CheckHost(ctx context.Context, network string, h networks.Host) error
	SetHost(ctx context.Context, network string, h networks.Host) error
	UnsetHost(ctx context.Context, network string, h networks.Host) error
	// Pin chooses addresses that a host is held to.
	Pin(ctx context.Context, network string, h networks.Host, want networks.Pin) (networks.Host, error)

	// Release gives them back, if it is of a host that the network was not told of.
	Release(network string, h networks.Host)
}

// An imageKeeper is what instances need of images.
type imageKeeper interface {
	// Resolve finds the image of source.Project that a source names by alias,
	// fingerprint or properties. Of source.Alias "debian:bookworm" and the like, which can
	// be built, it returns the image built before, if there is one.
	Resolve(ctx context.Context, source api.InstanceSource) (db.Image, error)
	// Buildable reports whether alias names something that Build can make.
	Buildable(alias string) bool
	// Build makes the image that an alias, such as "debian:bookworm", names,
	// in the project of the alias's key.
	Build(ctx context.Context, key string, op *ops.Op) (db.Image, error)
	// Volume returns the volume of the image with a key in a pool, unpacked.
	Volume(ctx context.Context, key, pool string, op *ops.Op) (storage.Volume, error)
}

// containers is what instances need of [runtime.Runtime].
type containers interface {
	runner
	changer
	limiter

	Exec(ctx context.Context, name string, e runtime.Exec) (*runtime.Process, error)
	Console(ctx context.Context, name string) (*runtime.Console, error)
	ConsoleLog(ctx context.Context, name string, o runtime.LogOptions) (io.ReadCloser, error)
	ClearConsoleLog(name string) error
	Usage(name string) (runtime.Usage, error)
	Interfaces(name string) (map[string]runtime.Interface, error)
}

// A runner starts and ends containers.
type runner interface {
	// Start returns when init runs. onExit is called once, on a goroutine of
	// the runtime, when the container has ended and all of it is gone.
	Start(ctx context.Context, spec runtime.Spec, onExit func(runtime.Exit)) (runtime.Running, error)
	// Recover finds the containers that run already.
	Recover(ctx context.Context, onExit func(name string, e runtime.Exit)) ([]runtime.Running, error)
	// Get returns an error of kind NotFound if the container does not run.
	Get(name string) (runtime.Running, error)
	// Shutdown asks init to end, with the signal that its kind of init takes
	// for that, and returns at once; Reboot likewise.
	Shutdown(ctx context.Context, name string) error
	Reboot(ctx context.Context, name string) error
	// Kill ends the container and returns when it is gone.
	Kill(ctx context.Context, name string) error
	// Wait returns when the container has ended and all of it is gone.
	Wait(ctx context.Context, name string) error
	Freeze(ctx context.Context, name string) error
	Thaw(ctx context.Context, name string) error
}

// A limiter limits containers that run.
type limiter interface {
	// CheckLimits reports limits that the host cannot hold a container to.
	CheckLimits(l runtime.Limits) error
	SetLimits(ctx context.Context, name string, l runtime.Limits) error
	SetRlimits(ctx context.Context, name string, limits map[string]string) error
	SetOOMScore(ctx context.Context, name string, score int) error
	SetMounting(ctx context.Context, name string, m runtime.Mounting) error
}

// A changer changes containers that run.
type changer interface {
	mounter

	AddNode(ctx context.Context, name string, n runtime.Node) error
	RemoveNode(ctx context.Context, name string, n runtime.Node) error
	AddNIC(ctx context.Context, name string, n runtime.NIC) error
	RemoveNIC(ctx context.Context, name string, n runtime.NIC) error
	ChangeNIC(ctx context.Context, name string, n runtime.NIC) error
	// Given returns what the container was given by now.
	Given(name string) (runtime.Spec, error)
	// Tell tells programs in the container of an event of a device.
	Tell(name string, e uevents.Event) error
	// Root opens the root directory as the container sees it, for openat2.
	Root(name string) (*os.File, error)
}

// A mounter changes the mounts of containers that run.
type mounter interface {
	AddMount(ctx context.Context, name string, m runtime.Mount) error
	RemoveMount(ctx context.Context, name, target string) error
	// Missing returns the targets of mounts whose sources were missing, and
	// MountLate mounts one of these.
	Missing(name string) ([]string, error)
	MountLate(ctx context.Context, name string, m runtime.Mount) error
}

// stopGrace is how long a clean stop waits for the guest where nothing is said.
const stopGrace = 30 * time.Second
