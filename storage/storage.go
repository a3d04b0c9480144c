// Package storage keeps the file systems of instances, images and snapshots.
//
// A [Driver] does it on one kind of pool. The drivers are the subpackages;
// each passes the tests of storagetest. A driver knows volumes and nothing
// else: it never sees the database, a request or another driver.
package storage

import (
	"context"
	"crypto/rand"
	"io"
	"io/fs"
	"strings"

	"github.com/cuib/cuib/shared/idmap"
)

// Kind says what a volume is for.
type Kind string

// The kinds of volume.
const (
	Instance Kind = "instance"
	Image    Kind = "image"
	Custom   Kind = "custom"
)

// A Volume names a volume or, if Snapshot is not empty, one of its snapshots.
type Volume struct {
	Kind     Kind
	Name     string
	Snapshot string
}

// String returns the volume's name as users see it.
func (v Volume) String() string {
	s := string(v.Kind) + "/" + v.Name
	if v.Snapshot != "" {
		s += "@" + v.Snapshot
	}
	return s
}

// Parent returns the volume that v is a snapshot of, or v itself.
func (v Volume) Parent() Volume { return Volume{Kind: v.Kind, Name: v.Name} }

// Hidden reports whether a snapshot is none of a user's, whose names cannot
// begin with a dot: it is made to read a volume that goes on meanwhile, or to
// come back to. No listing has it.
func Hidden(snapshot string) bool { return strings.HasPrefix(snapshot, ".") }

// NewHidden makes up the name of a hidden snapshot.
func NewHidden(what string) string { return "." + what + "-" + strings.ToLower(rand.Text()[:12]) }

// What a hidden snapshot is for that nobody needs once the process has ended
// that made it.
const (
	ForReading = "still" // To be read as it is.
	ForCopy    = "copy"  // To be copied to another pool.
	ForDiff    = "diff"  // To be compared.
)

// Fleeting reports whether a hidden snapshot is one of those, as its name
// says: it does not have to be on the disk.
func Fleeting(snapshot string) bool {
	what, _, ok := strings.Cut(strings.TrimPrefix(snapshot, "."), "-")
	return ok && Hidden(snapshot) && (what == ForReading || what == ForCopy || what == ForDiff)
}

const aside = ".was-"

// Aside is the hidden name that a snapshot has while another is made that
// replaces it.
func Aside(snapshot string) string { return aside + snapshot }

// IsAside returns the name that a snapshot has when it is not aside.
func IsAside(hidden string) (snapshot string, ok bool) { return strings.CutPrefix(hidden, aside) }

// A Driver keeps volumes in one pool. Its methods are safe for concurrent use
// on different volumes; the caller serializes those on one, except that one
// source may be cloned several times at once.
//
// Files are stored with the ids that they have inside the instance. A driver
// never changes their owners: [Driver.Mount] maps the ids.
//
// A method that fails leaves the pool as it was. One that is given a volume
// that does not exist returns an error of kind [errs.NotFound], and one that
// would replace a volume an error of kind [errs.Conflict]. A daemon that is
// killed within a method leaves the pool as before or as after it, once
// [Opener] has opened the pool again.
type Driver interface {
	// Create makes an empty volume.
	Create(ctx context.Context, v Volume) error

	// Clone makes the volume dst with the contents of src, which is a volume
	// or a snapshot. If src is mounted its users are frozen by the caller.
	// If dst is a snapshot, src is one too, dst.Parent() exists, and dst is
	// made a read-only snapshot of it beside those that it has: this is how
	// a copy of a volume gets copies of the snapshots.
	Clone(ctx context.Context, dst, src Volume) error

	// Snapshot makes the read-only snapshot v of v.Parent(). If that is
	// mounted its users are frozen by the caller.
	Snapshot(ctx context.Context, v Volume) error

	// Restore puts the contents of the snapshot v back into v.Parent(),
	// which is not mounted.
	Restore(ctx context.Context, v Volume) error

	// Rename gives the volume v, and so its snapshots, another name; or, if
	// v is a snapshot, the snapshot. Nothing of it is mounted.
	Rename(ctx context.Context, v Volume, name string) error

	// Delete removes a volume without snapshots, or a snapshot. It succeeds
	// if there is none. What was cloned from v stays whole. Nothing of it is
	// mounted.
	Delete(ctx context.Context, v Volume) error

	// Mount makes the volume's root directory available, with the owners of
	// files mapped by ids, or as stored if ids is nil, and returns it. A
	// snapshot is mounted read-only. Mounting a mounted volume with the same
	// ids returns the same directory; with others it is an error of kind
	// [errs.Conflict]. A mount outlives the process.
	Mount(ctx context.Context, v Volume, ids idmap.Map) (dir string, err error)

	// Unmount undoes Mount. It succeeds if the volume is not mounted.
	Unmount(ctx context.Context, v Volume) error

	// Usage returns the bytes that only this volume occupies; if it has a limit,
	// those that the limit counts.
	Usage(ctx context.Context, v Volume) (int64, error)

	// List returns all volumes and snapshots of the pool, in no order.
	List(ctx context.Context) ([]Volume, error)
}

// A Limiter is a [Driver] that can limit the size of a volume. A driver that
// could if the file system below could returns an error of kind
// [errs.Unsupported] that names what is missing.
type Limiter interface {
	// Limit sets the volume's maximum size in bytes, 0 for none.
	Limit(ctx context.Context, v Volume, size int64) error
}

// A Meter is a [Driver] that knows what some volumes occupy without a look at
// their files.
type Meter interface {
	// Measure returns the bytes that each of the volumes and snapshots
	// occupies, or that count against its limit where it has one; but for
	// those of which it is not known at once.
	Measure(ctx context.Context, volumes []Volume) (map[Volume]int64, error)
}

// A Spacer is a [Driver] that knows how much room its pool has.
type Spacer interface {
	// Space fails with an error of kind Unavailable if the pool that was
	// opened is not there any more. It is quick.
	Space(ctx context.Context) (Space, error)
}

// A Grower is a [Driver] whose pool can become larger.
type Grower interface {
	// Grow makes the pool at least size bytes large.
	Grow(ctx context.Context, size int64) error
}

// A Sweeper is a [Driver] that leaves to its caller when what an earlier
// process left half made or half removed is taken away. None of it is seen.
type Sweeper interface {
	// Sweep removes what Open found. It may run at the same time as all other
	// methods, and goes on where an earlier one was cut short.
	Sweep(ctx context.Context) error
}

// An Adjuster is a [Driver] whose pool has keys that can change while it is
// open, those of [Type.Live].
type Adjuster interface {
	// Adjust applies new values of such keys, empty ones for those that return
	// to their defaults.
	Adjust(ctx context.Context, changed map[string]string) error
}

// A Tuner is a [Driver] whose volumes have options of their own, those of
// [Type.VolumeOptions], such as a compression.
type Tuner interface {
	// Tune sets the options of a volume; those that are not given return to
	// their defaults. What is written already stays as it is.
	Tune(ctx context.Context, v Volume, options map[string]string) error
}

// A Delegator is a [Driver] that can let the root user of a guest have volumes
// of its own, of the pool's own kind.
type Delegator interface {
	// Delegate gives that right to a user namespace, a file such as
	// /proc/1/ns/user, for as long as it lives. What a guest has made is there
	// for the next one of the same volume. It is no part of what the other
	// methods do with the volume, but that it goes with it.
	Delegate(ctx context.Context, v Volume, userns string) error

	// Delegated reports whether there is anything that guests of v made.
	Delegated(ctx context.Context, v Volume) (bool, error)
}

// A Streamer is a [Driver] with a stream of its own for volumes, in which
// what they share with their snapshots is sent once.
type Streamer interface {
	// Format names the stream, such as "btrfs". Drivers of the same format
	// understand each other.
	Format() string

	// Send writes a volume or a snapshot. If base is not empty it is a
	// snapshot of the same volume that is older, and the stream has what
	// changed since then. If v is mounted its users are frozen by the caller.
	Send(ctx context.Context, w io.Writer, v Volume, base string) error

	// Receive begins to make the volume v of such streams. If v exists, is
	// not mounted, and what comes builds on snapshots that it has, v gets
	// what is new.
	Receive(ctx context.Context, v Volume) (Receiver, error)
}

// A Receiver makes one volume. Until Commit nothing of it is seen; a crash
// before leaves the pool as it was. It is for one goroutine.
type Receiver interface {
	// Next reads one stream of [Streamer.Send] to its end: of a snapshot with
	// that name or, as the last, with an empty name of the volume itself.
	// Streams come in the order in which they build on each other; base is
	// that of Send.
	Next(ctx context.Context, r io.Reader, snapshot, base string) error

	// Commit makes the volume visible, or puts it in the place of what there
	// is of it. The caller calls Abort if it fails.
	Commit(ctx context.Context) error

	// Abort removes what was received. After Commit it does nothing.
	Abort(ctx context.Context) error
}

// A Differ is a [Driver] that knows what changed without a look at all files.
type Differ interface {
	// Diff calls fn with each change from one state to another of the same
	// volume, in no order. The states are snapshots or the volume itself,
	// from is older, and to may be in use. An error of fn ends it.
	Diff(ctx context.Context, from, to Volume, fn func(Change) error) error
}

// A Change is a file that is not as it was.
type Change struct {
	Op   ChangeOp
	Path string      // Relative to the volume's root directory, without a leading slash.
	Mode fs.FileMode // The type; of what was removed only if it is known.
}

// A ChangeOp says what happened to a file. What was renamed was removed, and
// added with the other name.
type ChangeOp string

// The changes.
const (
	Added    ChangeOp = "added"
	Modified ChangeOp = "modified"
	Removed  ChangeOp = "removed"
)

// A Recorder is a [Driver] that keeps a small document with each volume, and
// one of the pool itself, whose Volume is zero. It is renamed and deleted
// with the volume, and not copied. This is how a pool tells what it holds
// when the database is lost.
type Recorder interface {
	// SetRecord replaces the document of a volume, which is no snapshot.
	SetRecord(ctx context.Context, v Volume, doc []byte) error

	// Record returns the document, nil if there is none.
	Record(ctx context.Context, v Volume) ([]byte, error)
}

// Space is the room in a pool. Inodes are 0 where there is no limit.
type Space struct {
	UsedBytes, TotalBytes   uint64
	FreeBytes               uint64 // For guests; a part of the rest can be kept for root, or for the file system itself.
	UsedInodes, TotalInodes uint64
}

// Config is a pool's configuration.
type Config struct {
	Name    string            // The pool's name.
	Dir     string            // The daemon's directory for this pool: mount points, and data of pools without a source.
	Source  string            // What the user gave as "source": a directory or device; the driver says which.
	Options map[string]string // All the pool's keys, "source" and "size" among them.
	Owner   Owner             // Who opens it.
}

// An Owner is the daemon that opens a pool. One that has a source keeps who has
// it, so that two daemons do not use it at once.
type Owner struct {
	ID    string // Names the daemon. If it is empty nobody asks who has a pool.
	Lock  string // A file that holds ID, and is locked (see flock(2)) while the daemon runs.
	Claim Claim
}

// A Claim says what a daemon that opens a pool does if another has it.
type Claim int

// The claims.
const (
	Mine   Claim = iota // Returns an error of kind Unavailable that names the other.
	Glance              // Opens it, unless the other is known to run, and leaves it to that.
	Take                // Takes the pool over, unless the other is known to run.
)

// A Type is a kind of pool.
type Type struct {
	// Check returns an error of kind [errs.Unsupported] that names what is
	// missing if this host cannot run the driver.
	Check func(ctx context.Context) error

	// Make makes a new pool, such as by formatting a loop file, and returns
	// the configuration to keep. It leaves nothing behind if it fails, and
	// refuses a source that holds data.
	Make func(ctx context.Context, cfg Config) (Config, error)

	// Adopt returns the configuration to keep of a pool that is there, made
	// earlier by Make, in the database or not. It changes nothing, and
	// refuses with an error of kind NotFound what holds no such pool.
	Adopt func(ctx context.Context, cfg Config) (Config, error)

	// Open opens a pool that Make made, mounts it if need be, and finishes
	// or unmakes what a crash left; what takes long of that is left to the
	// driver's [Sweeper]. A pool that is not there, such as while its disk is
	// missing, is an error of kind Unavailable.
	Open func(ctx context.Context, cfg Config) (Driver, error)

	// Remove takes an empty pool away: unmounts it and deletes what Make
	// made. No Sweep runs. What the user brought as source stays, empty.
	Remove func(ctx context.Context, cfg Config) error

	// Options are the pool keys that the driver has beyond "source" and
	// "size", with a sentence each.
	Options map[string]string

	// Live are those of the Options that can change; the driver is an
	// [Adjuster] if there are some.
	Live []string

	// VolumeOptions are the keys that the driver's volumes have beyond those
	// of all, with a sentence each; its driver is a [Tuner] if there are some.
	VolumeOptions map[string]string

	// CheckOption returns an error of kind [errs.Invalid] that says what is
	// allowed if a key of Options or VolumeOptions takes no such value. It is
	// nil if they take all.
	CheckOption func(key, value string) error

	// Version returns the version to show, such as that of the tools.
	Version func(ctx context.Context) string
}
