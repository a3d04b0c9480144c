package zfs

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/layout"
)

type driver struct {
	place

	points    layout.Points
	cloneCopy atomic.Pointer[string] // Of the key zfs.clone_copy.

	// moving is held while a volume that gives way to another has no name.
	moving sync.RWMutex
	// families is held while it is looked what depends on a dataset, and that is
	// destroyed.
	families sync.Mutex

	facts facts
	trash trash
}

// own are the properties of every dataset of a volume.
var own = []string{"-o", "mountpoint=legacy", "-o", "canmount=noauto"}

// args returns the arguments of a program.
func args(verb string, more ...[]string) []string {
	all := []string{verb}
	for _, m := range more {
		all = append(all, m...)
	}
	return all
}

// Create implements [storage.Driver].
func (d *driver) Create(ctx context.Context, v storage.Volume) error {
	_, err := zfs(ctx, args("create", own, []string{d.dataset(v)})...)
	return wrapf(existing(err, v), "create volume %s", v)
}

// existing makes an error that says that a dataset is there one of kind
// Conflict that names the volume.
func existing(err error, v storage.Volume) error {
	if exists(err) {
		return errs.Conflictf("volume %s exists already", v)
	}
	return err
}

// missing makes an error that says that a dataset is not there one of kind
// NotFound that names the volume.
func missing(err error, v storage.Volume) error {
	if isMissing(err) {
		return errs.NotFoundf("volume %s not found", v)
	}
	return err
}

// Clone implements [storage.Driver].
func (d *driver) Clone(ctx context.Context, dst, src storage.Volume) error {
	var err error
	switch {
	case dst.Snapshot != "":
		err = d.cloneSnapshot(ctx, dst, src)
	case src.Snapshot != "":
		err = d.onSnapshot(ctx, src, func(name string) error { return d.copy(ctx, d.dataset(dst), name) })
	case src.Kind == storage.Image:
		err = d.cloneImage(ctx, dst, src)
	default:
		err = d.cloneHead(ctx, dst, src)
	}
	return wrapf(missing(existing(err, dst), src), "clone volume %s to %s", src, dst)
}

// cloneImage clones the snapshot that an image has since it was unmounted.
func (d *driver) cloneImage(ctx context.Context, dst, src storage.Volume) error {
	mounted, err := d.points.Mounted(src)
	if err != nil {
		return err
	}
	if mounted { // Someone may change it.
		return d.cloneHead(ctx, dst, src)
	}
	name := d.dataset(src) + "@" + imageSnap
	err = d.clone(ctx, d.dataset(dst), name)
	if !isMissing(err) {
		return err
	}
	if _, err := zfs(ctx, "snapshot", name); err != nil && !exists(err) {
		return err
	}
	return d.clone(ctx, d.dataset(dst), name)
}

// cloneHead clones a volume as it is now.
func (d *driver) cloneHead(ctx context.Context, dst, src storage.Volume) error {
	name := d.dataset(src) + "@" + copyPrefix + newID()
	if _, err := zfs(ctx, "snapshot", name); err != nil {
		return err
	}
	err := d.copy(ctx, d.dataset(dst), name)
	d.release(ctx, name)
	return err
}

// copy makes a dataset of a snapshot, as the pool's key says.
func (d *driver) copy(ctx context.Context, dataset, snap string) error {
	if how := *d.cloneCopy.Load(); how == "false" || how == "rebase" {
		return d.copyWhole(ctx, dataset, snap)
	}
	return d.clone(ctx, dataset, snap)
}

func (d *driver) clone(ctx context.Context, dataset, snap string) error {
	_, err := zfs(ctx, args("clone", own, []string{snap, dataset})...)
	return err
}

// copyWhole makes a dataset that does not depend on the snapshot; at most on
// what that is a clone of.
func (d *driver) copyWhole(ctx context.Context, dataset, snap string) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	send, receive := sendCommand(), args("receive", []string{"-u"}, own)
	if *d.cloneCopy.Load() == "rebase" {
		of, _ := cut(snap)
		origin, err := zfs(ctx, "get", "-H", "-o", "value", "origin", of)
		if err != nil {
			return err
		}
		if origin != "-" {
			send, receive = append(send, "-i", origin), append(receive, "-o", "origin="+origin)
		}
	}
	if err := mustBeFree(ctx, dataset); err != nil {
		return err
	}
	staged := d.in(stagingDir + "/" + newID())
	u.Push("destroy the copy", func(ctx context.Context) error { return ifThere(zfs(ctx, "destroy", "-r", staged)) })
	name := staged + "@" + copyPrefix + newID()
	if err := pipe(ctx, append(send, snap), append(receive, name)); err != nil {
		return err
	}
	if _, err := zfs(ctx, "destroy", name); err != nil {
		return err
	}
	_, err = zfs(ctx, "rename", staged, dataset)
	return err
}

// ifThere drops the error of what is not there.
func ifThere(_ string, err error) error {
	if isMissing(err) {
		return nil
	}
	return err
}

func mustBeFree(ctx context.Context, dataset string) error {
	free, err := isFree(ctx, dataset)
	if err == nil && !free {
		return errs.Conflictf("the dataset %q exists already", dataset)
	}
	return err
}

// isFree reports whether there is no such dataset.
func isFree(ctx context.Context, dataset string) (bool, error) {
	_, err := zfs(ctx, "list", "-H", "-o", "name", dataset)
	return isMissing(err), ifThere("", err)
}

// Snapshot implements [storage.Driver].
func (d *driver) Snapshot(ctx context.Context, v storage.Volume) error {
	err := d.mustBeNew(ctx, v)
	if err == nil {
		_, err = zfs(ctx, "snapshot", d.name(v))
	}
	return wrapf(missing(existing(err, v), v.Parent()), "snapshot volume %s", v)
}

// Rename implements [storage.Driver].
func (d *driver) Rename(ctx context.Context, v storage.Volume, name string) error {
	if err := d.mustNotBeMounted(v); err != nil {
		return err
	}
	to := storage.Volume{Kind: v.Kind, Name: name}
	if v.Snapshot != "" {
		return d.renameSnapshot(ctx, v, storage.Volume{Kind: v.Kind, Name: v.Name, Snapshot: name})
	}
	_, err := zfs(ctx, "rename", d.dataset(v), d.dataset(to))
	if err == nil {
		d.facts.move(d.dataset(v), d.dataset(to))
	}
	return wrapf(missing(existing(err, to), v), "rename volume %s", v)
}

func (d *driver) renameSnapshot(ctx context.Context, v, to storage.Volume) error {
	err := d.mustBeNew(ctx, to)
	if err == nil {
		err = d.onSnapshot(ctx, v, func(name string) error {
			dataset, _ := cut(name)
			_, err := zfs(ctx, "rename", name, dataset+"@"+snapName(to.Snapshot))
			return err
		})
	}
	return wrapf(missing(existing(err, to), v), "rename snapshot %s", v)
}

func (d *driver) mustNotBeMounted(v storage.Volume) error {
	mounted, err := d.points.Mounted(v)
	if err == nil && mounted {
		err = errs.Conflictf("volume %s is mounted", v)
	}
	return err
}

// Mount implements [storage.Driver].
func (d *driver) Mount(ctx context.Context, v storage.Volume, ids idmap.Map) (string, error) {
	dir, err := d.points.Mount(v, ids, func() (f *os.File, err error) {
		if v.Snapshot == "" {
			return mountDataset(d.dataset(v), mounts.Options{IDs: ids})
		}
		err = d.onSnapshot(ctx, v, func(name string) (err error) {
			f, err = mountDataset(name, mounts.Options{IDs: ids, ReadOnly: true})
			return err
		})
		return f, err
	})
	return dir, missing(err, v)
}

// mountDataset returns a detached mount of a dataset or a snapshot.
func mountDataset(name string, o mounts.Options) (*os.File, error) {
	f, err := mounts.New("zfs", name, o)
	if errors.Is(err, unix.ENOENT) {
		return nil, errs.NotFoundf("dataset %q not found", name)
	}
	return f, err
}

// Unmount implements [storage.Driver]. An image gets the snapshot that it is
// cloned from.
func (d *driver) Unmount(ctx context.Context, v storage.Volume) error {
	mounted, err := d.points.Mounted(v)
	if err != nil {
		return err
	}
	// What is destroyed next must not be in use any more: there is no waiting
	// for a kernel that does it later.
	if err := mounts.Unmount(d.points.Path(v)); err != nil {
		return err
	}
	if err := d.points.Unmount(v); err != nil {
		return err
	}
	if mounted && v.Kind == storage.Image && v.Snapshot == "" {
		return wrapf(d.freezeImage(ctx, d.dataset(v)), "snapshot image %s", v)
	}
	return nil
}

// freezeImage makes the snapshot that an image is cloned from have what the
// image has.
func (d *driver) freezeImage(ctx context.Context, dataset string) error {
	name := dataset + "@" + imageSnap
	_, err := zfs(ctx, "snapshot", name)
	if !exists(err) {
		return err
	}
	written, err := zfs(ctx, "get", "-H", "-p", "-o", "value", "written@"+imageSnap, dataset)
	if err != nil || written == "0" {
		return err
	}
	gone := dataset + "@" + gonePrefix + newID()
	if _, err := zfs(ctx, "rename", name, gone); err != nil {
		return err
	}
	if _, err := zfs(ctx, "destroy", "-d", gone); err != nil {
		d.trash.wait(gone) // What is copied from it is being sent.
	}
	_, err = zfs(ctx, "snapshot", name)
	return err
}

// List implements [storage.Driver].
func (d *driver) List(ctx context.Context) ([]storage.Volume, error) {
	d.moving.RLock()
	defer d.moving.RUnlock()

	out, err := zfs(ctx, "list", "-H", "-r", "-t", "filesystem,snapshot", "-o", "name", d.in("containers"), d.in("images"), d.in("custom"))
	if err != nil {
		return nil, err
	}
	var all []storage.Volume
	for name := range strings.SplitSeq(out, "\n") {
		if v, ok := d.volume(name); ok {
			all = append(all, v)
		}
	}
	return all, nil
}

var (
	_ storage.Driver    = (*driver)(nil)
	_ storage.Limiter   = (*driver)(nil)
	_ storage.Spacer    = (*driver)(nil)
	_ storage.Grower    = (*driver)(nil)
	_ storage.Tuner     = (*driver)(nil)
	_ storage.Streamer  = (*driver)(nil)
	_ storage.Differ    = (*driver)(nil)
	_ storage.Recorder  = (*driver)(nil)
	_ storage.Sweeper   = (*driver)(nil)
	_ storage.Adjuster  = (*driver)(nil)
	_ storage.Delegator = (*driver)(nil)
)
