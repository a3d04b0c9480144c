package zfs

import (
	"context"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// A dataset of ZFS has one past: what is rolled back to a snapshot loses those
// that are newer. So that a volume does not, it gives way to a clone of the
// snapshot when it is restored, and becomes, below that, the history that
// keeps the newer ones. Snapshots that were copied from another volume are in
// such datasets too.

// onSnapshot runs fn with the name of a snapshot: that in the volume's own
// dataset or, if there is none, that in the history.
func (d *driver) onSnapshot(ctx context.Context, v storage.Volume, fn func(name string) error) error {
	err := fn(d.name(v))
	if !isMissing(err) || !d.facts.of(d.dataset(v)).history {
		return err
	}
	name, err := d.locate(ctx, v)
	if err != nil {
		return err
	}
	return fn(name)
}

// locate returns the name of a snapshot, wherever it is.
func (d *driver) locate(ctx context.Context, v storage.Volume) (string, error) {
	if v.Snapshot == "" {
		return d.dataset(v), nil
	}
	if !d.facts.of(d.dataset(v)).history {
		return d.name(v), nil
	}
	all, err := rows(ctx, "list", "-H", "-r", "-t", "snapshot", "-o", "name", d.dataset(v))
	if err != nil {
		return "", err
	}
	for _, row := range all {
		if found, ok := d.volume(row[0]); ok && found == v {
			return row[0], nil
		}
	}
	return "", errs.NotFoundf("volume %s not found", v)
}

// mustBeNew returns an error of kind Conflict if the history has the snapshot.
// The volume's own dataset need not be asked.
func (d *driver) mustBeNew(ctx context.Context, v storage.Volume) error {
	if !d.facts.of(d.dataset(v)).history {
		return nil
	}
	_, err := d.locate(ctx, v)
	if err == nil {
		return errs.Conflictf("volume %s exists already", v)
	}
	return ifThere("", err)
}

// cloneSnapshot gives a volume a copy of another one's snapshot.
func (d *driver) cloneSnapshot(ctx context.Context, dst, src storage.Volume) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	dataset := d.dataset(dst)
	all, err := rows(ctx, "list", "-H", "-r", "-t", "filesystem,snapshot", "-o", "name", dataset)
	if isMissing(err) {
		return errs.NotFoundf("volume %s not found", dst.Parent())
	}
	if err != nil {
		return err
	}
	for _, row := range all {
		if v, ok := d.volume(row[0]); ok && v == dst {
			return errs.Conflictf("volume %s exists already", dst)
		}
	}
	// Without a snapshot nobody sees it.
	history := dataset + "/" + historyPrefix + newID()
	u.Push("destroy the copy", func(ctx context.Context) error { return ifThere(zfs(ctx, "destroy", "-r", history)) })
	if err := d.onSnapshot(ctx, src, func(name string) error { return d.copy(ctx, history, name) }); err != nil {
		return missing(err, src)
	}
	d.facts.update(dataset, func(f *fact) { f.history = true })
	_, err = zfs(ctx, "snapshot", history+"@"+snapName(dst.Snapshot))
	return err
}

// swapProp is a property of what is to take the place of a volume: its id,
// that of the dataset in staging, and the volume's dataset without that of
// the pool.
const swapProp = "cuib:swap"

// Restore implements [storage.Driver].
func (d *driver) Restore(ctx context.Context, v storage.Volume) error {
	if err := d.mustNotBeMounted(v.Parent()); err != nil {
		return err
	}
	err := whileBusy(ctx, func() error {
		_, err := zfs(ctx, "rollback", d.name(v))
		return err
	})
	if says(err, "more recent snapshots") || isBusy(err) || isMissing(err) && d.facts.of(d.dataset(v)).history {
		err = d.restoreOlder(ctx, v)
	}
	return wrapf(missing(err, v), "restore %s", v)
}

// restoreOlder restores a snapshot that is not the newest, or one of a volume
// that someone still has in use.
func (d *driver) restoreOlder(ctx context.Context, v storage.Volume) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	name, err := d.locate(ctx, v)
	if err != nil {
		return err
	}
	props, err := localProperties(ctx, d.dataset(v))
	if err != nil {
		return err
	}
	id := newID()
	fresh := d.in(stagingDir + "/" + id)
	var options []string
	for _, p := range append(props, swapProp+"="+id+" "+relative(v)) {
		options = append(options, "-o", p)
	}
	u.Push("destroy the clone", func(ctx context.Context) error { return ifThere(zfs(ctx, "destroy", fresh)) })
	if _, err := zfs(ctx, args("clone", options, []string{name, fresh})...); err != nil {
		return err
	}
	return d.swap(ctx, fresh, id, d.dataset(v))
}

// fixed are properties that a clone has of what it is a clone of, or that are
// not worth two of.
var fixed = map[string]bool{
	"encryption": true, "keyformat": true, "keylocation": true, "pbkdf2iters": true, swapProp: true,
	"reservation": true, "refreservation": true,
}

// localProperties returns the properties that a dataset does not inherit, as
// arguments.
func localProperties(ctx context.Context, dataset string) ([]string, error) {
	all, err := rows(ctx, "get", "-H", "-p", "-s", "local,received", "-o", "property,value", "all", dataset)
	var props []string
	for _, row := range all {
		if len(row) == 2 && strings.HasSuffix(row[0], "quota") && row[1] == "0" {
			row[1] = "none" // Which is how it is set.
		}
		if len(row) == 2 && !fixed[row[0]] {
			props = append(props, row[0]+"="+row[1])
		}
	}
	return props, err
}

// swap puts the dataset fresh, which has the swapProp, in the place of
// another. What is there moves below it if it has snapshots that fresh has
// not.
func (d *driver) swap(ctx context.Context, fresh, id, place string) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	old := d.in(stagingDir + "/" + id + oldSuffix)
	if err := d.exchange(ctx, fresh, old, place, &u); err != nil {
		return err
	}
	return d.settleSwap(ctx, old, place, &u)
}

// exchange renames place to old and fresh to place.
func (d *driver) exchange(ctx context.Context, fresh, old, place string, u *undo.Stack) error {
	d.moving.Lock()
	defer d.moving.Unlock()

	u.Push("put the volume back", func(ctx context.Context) error {
		d.moving.Lock()
		defer d.moving.Unlock()
		return ifThere(zfs(ctx, "rename", old, place))
	})
	if _, err := zfs(ctx, "rename", place, old); err != nil {
		return err
	}
	u.Push("take the clone away", func(ctx context.Context) error { return ifThere(zfs(ctx, "rename", place, fresh)) })
	_, err := zfs(ctx, "rename", fresh, place)
	return err
}

// settleSwap keeps what the volume was before as a part of its history.
func (d *driver) settleSwap(ctx context.Context, old, place string, u *undo.Stack) error {
	t, err := treeOf(ctx, old)
	if err != nil {
		return err
	}
	for _, child := range t.children {
		_, name, _ := cutLast(child)
		to := place + "/" + name
		if _, err := zfs(ctx, "rename", child, to); err != nil {
			return err
		}
		u.Push("move "+name+" back", func(ctx context.Context) error { return ifThere(zfs(ctx, "rename", to, child)) })
	}
	reserved, err := takeReservation(ctx, old)
	if err != nil {
		return err
	}
	history := place + "/" + historyPrefix + newID()
	if _, err := zfs(ctx, "rename", old, history); err != nil {
		return err
	}
	d.facts.update(place, func(f *fact) { f.history = true })
	d.tidy(ctx, place, history)
	if len(reserved) > 0 {
		// Where there is no room for it, a volume restored is worth more.
		_, _ = zfs(ctx, args("set", reserved, []string{place})...)
	}
	return nil
}

// takeReservation takes what a dataset has reserved from it, and returns it
// as arguments.
func takeReservation(ctx context.Context, dataset string) ([]string, error) {
	all, err := rows(ctx, "get", "-H", "-p", "-s", "local", "-o", "property,value", "reservation,refreservation", dataset)
	if err != nil {
		return nil, err
	}
	var reserved []string
	for _, row := range all {
		if row[1] != "0" {
			reserved = append(reserved, row[0]+"="+row[1])
		}
	}
	if len(reserved) == 0 {
		return nil, nil
	}
	_, err = zfs(ctx, "set", "reservation=none", "refreservation=none", dataset)
	return reserved, err
}

// tidy gives a volume the snapshots of its own past back, and removes what its
// history does not need any more. Without it all is right but takes more room.
func (d *driver) tidy(ctx context.Context, place, history string) {
	for range mostHistories {
		origin, err := zfs(ctx, "get", "-H", "-o", "value", "origin", place)
		if err != nil || !strings.HasPrefix(origin, place+"/") {
			break
		}
		if _, err := zfs(ctx, "promote", place); err != nil { // Names may clash.
			break
		}
	}
	t, err := treeOf(ctx, place)
	if err != nil {
		return
	}
	for _, child := range t.children {
		in := func(name string) bool {
			return strings.HasPrefix(name, child+"@") || strings.HasPrefix(name, child+"/")
		}
		snaps := slices.DeleteFunc(slices.Clone(t.snapshots), func(name string) bool { return !in(name) })
		switch {
		case !strings.HasPrefix(child, place+"/"+historyPrefix):
		case !anyVisible(snaps):
			_ = d.discard(ctx, child)
		case child == history:
			// What was written since the newest snapshot nobody can see.
			_, newest := cut(snaps[len(snaps)-1])
			_, _ = zfs(ctx, "rollback", history+"@"+newest)
		}
	}
}

// mostHistories bounds the search for where a volume comes from.
const mostHistories = 1000

// A family is a dataset with what depends on it.
type family struct {
	children  []string // The datasets below it.
	own       []string // Its snapshots, the oldest first.
	snapshots []string // These, and those of the datasets below.
	clones    []string // The datasets elsewhere that are clones of one of them.
}

func treeOf(ctx context.Context, dataset string) (f family, err error) {
	all, err := rows(ctx, "list", "-H", "-r", "-t", "filesystem,snapshot", "-s", "createtxg", "-o", "name,clones", dataset)
	for _, row := range all {
		of, snap := cut(row[0])
		parent, _, _ := cutLast(of)
		if snap == "" {
			if parent == dataset {
				f.children = append(f.children, of)
			}
			continue
		}
		f.snapshots = append(f.snapshots, row[0])
		if of == dataset {
			f.own = append(f.own, row[0])
		}
		for clone := range strings.SplitSeq(row[1], ",") {
			if clone != "" && clone != "-" && clone != dataset && !strings.HasPrefix(clone, dataset+"/") {
				f.clones = append(f.clones, clone)
			}
		}
	}
	return f, err
}

// anyVisible reports whether users see any of the snapshots.
func anyVisible(snapshots []string) bool {
	return slices.ContainsFunc(snapshots, func(name string) bool {
		_, snap := cut(name)
		return strings.HasPrefix(snap, snapPrefix)
	})
}
