package rest

import (
	"context"
	"io"
	"os"

	"github.com/cuib/cuib/lxd-like/internal/guestfs"
	"github.com/cuib/cuib/lxd-like/internal/images"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
)

// The services that the handlers call. A method that answers with an
// [ops.Job] has checked the request: what is wrong with it is its error, and
// the job is what remains to be done.

// instanceService is all that there is to do with instances.
type instanceService interface {
	instanceLister
	instanceReader
	instanceLife
	instanceStreams
	templateService
	snapshotService
	profileService
	instanceImporter
}

// instanceLister lists the instances of a project, or of all if it is an empty
// text, in more and more detail.
type instanceLister interface {
	Names(ctx context.Context, project string) ([]string, error)
	Heads(ctx context.Context, project string) ([]api.InstanceBrief, error)
	Briefs(ctx context.Context, project string) ([]api.InstanceBrief, error) // With addresses and snapshots.
	List(ctx context.Context, project string) ([]api.Instance, error)
	ListFull(ctx context.Context, project string) ([]api.InstanceFull, error)
}

// instanceReader reads instances.
type instanceReader interface {
	Get(ctx context.Context, name string) (api.Instance, error)
	GetFull(ctx context.Context, name string) (api.InstanceFull, error)
	Summary(ctx context.Context, name string) (api.InstanceSummary, error)
	State(ctx context.Context, name string) (api.InstanceState, error)
	Examine(ctx context.Context, name string) ([]api.NetworkCheck, error) // By network plugins.
	Metadata(ctx context.Context, name string) (api.ImageMetadata, error)
	SetMetadata(ctx context.Context, name string, meta api.ImageMetadata) error
	Logs(ctx context.Context, name string) ([]string, error) // File names.
	Log(ctx context.Context, name, file string) (*os.File, error)
}

// instanceLife changes instances. What an update is of says what the instance is
// to be, from what it is: it is asked when the request is checked, and again when
// nobody else changes the instance any more.
type instanceLife interface {
	Create(ctx context.Context, req api.InstancesPost) (ops.Job, error)
	Delete(ctx context.Context, name string) (ops.Job, error)
	Rename(ctx context.Context, name string, req api.InstancePost) (ops.Job, error)
	Rebuild(ctx context.Context, name string, req api.InstanceRebuildPost) (ops.Job, error)
	SetState(ctx context.Context, name string, req api.InstanceStatePut) (ops.Job, error)
	SetStates(ctx context.Context, project string, req api.InstanceStatePut) (ops.Job, error)
	Update(ctx context.Context, name string, change func(now api.InstancePut) (api.InstancePut, error)) (ops.Job, error) // PUT; also restores a snapshot.
	UpdateNow(ctx context.Context, name string, change func(now api.InstancePut) (api.InstancePut, error)) error         // PATCH.
	WantPool(ctx context.Context, pool string) error                                                                     // Sets a new server up, if that makes the pool.
	DeleteLog(ctx context.Context, name, file string) error
}

// instanceStreams reaches into running instances.
type instanceStreams interface {
	Exec(ctx context.Context, name string, req api.InstanceExecPost) (ops.Job, error)
	Console(ctx context.Context, name string, req api.InstanceConsolePost) (ops.Job, error)
	ConsoleLog(ctx context.Context, name string, o runtime.LogOptions) (io.ReadCloser, error)
	ClearConsoleLog(ctx context.Context, name string) error
	// Files opens the instance's file system, which the caller closes.
	Files(ctx context.Context, name string) (*guestfs.FS, error)
}

// templateService keeps the templates of instances.
type templateService interface {
	Templates(ctx context.Context, instance string) ([]string, error)
	Template(ctx context.Context, instance, template string) ([]byte, error)
	SetTemplate(ctx context.Context, instance, template, text string) error
	DeleteTemplate(ctx context.Context, instance, template string) error
}

// snapshotService keeps snapshots of instances.
type snapshotService interface {
	Snapshots(ctx context.Context, instance string) ([]api.InstanceSnapshot, error)
	SnapshotSummaries(ctx context.Context, instance string) ([]api.SnapshotSummary, error)
	Snapshot(ctx context.Context, instance, snapshot string) (api.InstanceSnapshot, error)
	CreateSnapshot(ctx context.Context, instance string, req api.InstanceSnapshotsPost) (ops.Job, error)
	RenameSnapshot(ctx context.Context, instance, snapshot string, req api.InstanceSnapshotPost) (ops.Job, error)
	UpdateSnapshot(ctx context.Context, instance, snapshot string, change func(now api.InstanceSnapshotPut) (api.InstanceSnapshotPut, error)) (ops.Job, error)
	DeleteSnapshot(ctx context.Context, instance, snapshot string) (ops.Job, error)
	DeleteSnapshots(ctx context.Context, instance string, snapshots []string) (ops.Job, error)
	// Diff calls fn with what changed from one snapshot to another.
	Diff(ctx context.Context, instance, from, to string, fn func(api.FileChange) error) error
}

// profileService keeps profiles. A change reaches all running instances that
// use the profile, or is refused as a whole.
type profileService interface {
	Profiles(ctx context.Context) ([]api.Profile, error)
	Profile(ctx context.Context, name string) (api.Profile, error)
	CreateProfile(ctx context.Context, req api.ProfilesPost) error
	Preview(ctx context.Context, instance string, put api.InstancePut) ([]api.InstanceChange, error)
	PreviewProfile(ctx context.Context, name string, put api.ProfilePut) ([]api.InstanceChange, error)
	UpdateProfile(ctx context.Context, name string, put api.ProfilePut) error
	RenameProfile(ctx context.Context, name, to string) error
	DeleteProfile(ctx context.Context, name string) error
}

// imageService keeps images.
type imageService interface {
	aliasService

	List(ctx context.Context) ([]api.Image, error)
	// Get finds an image by the beginning of its key.
	Get(ctx context.Context, key string) (api.Image, error)
	// Import makes an image of an upload, which it reads whole before it
	// answers with what remains to be done.
	Import(ctx context.Context, up images.Upload) (ops.Job, error)
	// Make makes an image in a project of an instance, a snapshot or another
	// image, or builds one.
	Make(ctx context.Context, project string, req api.ImagesPost) (ops.Job, error)
	Update(ctx context.Context, key string, put api.ImagePut) error
	Delete(ctx context.Context, key string) (ops.Job, error)
	// Export opens the files of an image: one, or metadata and rootfs.
	Export(ctx context.Context, key string) ([]images.File, error)
}

// aliasService keeps aliases of images.
type aliasService interface {
	Aliases(ctx context.Context) ([]api.ImageAliasesEntry, error)
	Alias(ctx context.Context, key string) (api.ImageAliasesEntry, error)
	CreateAlias(ctx context.Context, e api.ImageAliasesEntry) error
	UpdateAlias(ctx context.Context, key string, put api.ImageAliasesEntryPut) error
	RenameAlias(ctx context.Context, key, to string) error
	DeleteAlias(ctx context.Context, key string) error
}

// poolService keeps storage pools.
type poolService interface {
	List(ctx context.Context) ([]api.StoragePool, error)
	Get(ctx context.Context, name string) (api.StoragePool, error)
	Create(ctx context.Context, req api.StoragePoolsPost) error
	Update(ctx context.Context, name string, put api.StoragePoolPut) error
	Delete(ctx context.Context, name string) error
	Resources(ctx context.Context, name string) (api.ResourcesStoragePool, error)
	Metadata() map[string]map[string]profiles.DocGroup // Of their keys.
}

// netService keeps networks.
type netService interface {
	List(ctx context.Context) ([]api.Network, error) // Managed ones, and the host's interfaces.
	Get(ctx context.Context, name string) (api.Network, error)
	Create(ctx context.Context, req api.NetworksPost) error
	Update(ctx context.Context, name string, put api.NetworkPut) error
	Rename(ctx context.Context, name, to string) error
	Delete(ctx context.Context, name string) error
	Leases(ctx context.Context, name string) ([]api.NetworkLease, error)
	Allocations(ctx context.Context) ([]api.NetworkAllocation, error)
	State(ctx context.Context, name string) (api.NetworkState, error)
	Examine(ctx context.Context, name string) ([]api.NetworkCheck, error)
}

// serverConfig keeps the configuration of the server.
type serverConfig interface {
	Config(ctx context.Context) (map[string]string, error)
	// SetConfig changes keys; an empty value unsets one.
	SetConfig(ctx context.Context, values map[string]string) error
}
