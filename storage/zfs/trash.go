package zfs

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// A trash knows whether there may be something in it that waits for its last
// clone, or its last user, to go.
type trash struct {
	mu       sync.Mutex
	waiting  bool
	emptying bool
	again    bool

	snapshots []string // Of those that wait: snapshots within volumes.
	staged    []string // Datasets that Open found half-made.
}

// Delete implements [storage.Driver].
func (d *driver) Delete(ctx context.Context, v storage.Volume) error {
	if err := d.mustNotBeMounted(v); err != nil {
		return err
	}
	var err error
	if v.Snapshot != "" {
		err = d.deleteSnapshot(ctx, v)
	} else {
		err = d.deleteVolume(ctx, v)
	}
	if err != nil {
		return wrapf(d.heldError(err), "delete volume %s", v)
	}
	d.emptyTrash(ctx)
	return nil
}

func (d *driver) deleteVolume(ctx context.Context, v storage.Volume) error {
	dataset := d.dataset(v)
	delegated := d.facts.of(dataset).delegated
	err := errNotTried
	if v.Kind != storage.Image { // One has a snapshot in any case.
		_, err = zfs(ctx, "destroy", dataset)
	}
	if err != nil && !isMissing(err) {
		err = d.deleteFamily(ctx, v)
	}
	if isMissing(err) {
		err = d.mustBeThere(ctx)
	}
	if err != nil {
		return err
	}
	d.facts.drop(dataset)
	d.dropDelegated(ctx, delegated)
	return nil
}

var errNotTried = errors.New("not tried")

// deleteFamily deletes a volume that has snapshots that users do not see, or
// that is in use.
func (d *driver) deleteFamily(ctx context.Context, v storage.Volume) error {
	f, err := treeOf(ctx, d.dataset(v))
	if err != nil {
		return err
	}
	if anyVisible(f.snapshots) {
		return errs.Conflictf("volume %s has snapshots: delete them first", v)
	}
	return d.discard(ctx, d.dataset(v))
}

func (d *driver) deleteSnapshot(ctx context.Context, v storage.Volume) error {
	at := ""
	err := d.onSnapshot(ctx, v, func(name string) error {
		at = name
		_, err := zfs(ctx, "destroy", name)
		if says(err, "has dependent clones") || isBusy(err) {
			err = d.hideSnapshot(ctx, name)
		}
		return err
	})
	if isMissing(err) {
		return d.mustBeThere(ctx)
	}
	if err != nil {
		return err
	}
	dataset, _ := cut(at)
	if dataset == d.dataset(v) {
		return nil
	}
	f, err := treeOf(ctx, dataset)
	if err != nil || anyVisible(f.snapshots) {
		return ifThere("", err)
	}
	return d.discard(ctx, dataset)
}

// hideSnapshot takes a snapshot out of sight that cannot be destroyed yet.
func (d *driver) hideSnapshot(ctx context.Context, name string) error {
	dataset, _ := cut(name)
	gone := dataset + "@" + gonePrefix + newID()
	if _, err := zfs(ctx, "rename", name, gone); err != nil {
		return err
	}
	// ZFS destroys it with the last clone.
	if _, err := zfs(ctx, "destroy", "-d", gone); err != nil {
		d.trash.wait(gone)
	}
	return nil
}

// release has ZFS destroy a snapshot with its last clone. Nobody waits for it.
func (d *driver) release(ctx context.Context, name string) {
	ctx = context.WithoutCancel(ctx)
	background.run(d.root, func() {
		if _, err := zfs(ctx, "destroy", "-d", name); err != nil && !isMissing(err) {
			d.trash.wait(name)
		}
	})
}

// discard removes a dataset, or takes it out of sight if something depends on
// it, or has it in use.
func (d *driver) discard(ctx context.Context, dataset string) error {
	done, err := d.destroy(ctx, dataset)
	if done || err != nil {
		return err
	}
	kind, name := "containers", ""
	rel := strings.TrimPrefix(dataset, d.root+"/")
	if parts := strings.Split(rel, "/"); len(parts) > 1 {
		name = parts[1]
		if parts[0] != stagingDir {
			kind = parts[0]
		}
	}
	to := d.in(deletedDir + "/" + kind + "/" + name + "-" + newID())
	if _, err := zfs(ctx, "rename", dataset, to); err != nil {
		return err
	}
	d.trash.wait("")
	f, err := treeOf(ctx, to)
	if err == nil && len(f.own) > 0 {
		// What no clone has in common with it goes now, unless it is in use.
		_, newest := cut(f.own[len(f.own)-1])
		_, _ = zfs(ctx, "rollback", to+"@"+newest)
	}
	return nil
}

// destroy destroys a dataset with its snapshots, and reports whether nothing
// keeps it from that.
func (d *driver) destroy(ctx context.Context, dataset string) (done bool, err error) {
	// Another one could promote what is destroyed here to what it destroys.
	d.families.Lock()
	defer d.families.Unlock()

	f, err := treeOf(ctx, dataset)
	if isMissing(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	image := strings.HasPrefix(dataset, d.in("images/")) || strings.HasPrefix(dataset, d.in(deletedDir+"/images/"))
	switch slices.Sort(f.clones); {
	case len(f.clones) > 1 || len(f.clones) == 1 && image:
		return false, nil
	case len(f.clones) == 1:
		// The clone gets what it has in common with the dataset. Where that
		// is more than its limit, it has to stay as it is.
		if _, err := zfs(ctx, "promote", f.clones[0]); err != nil {
			return false, nil // The dataset stays for now.
		}
	}
	done, err = destroyTree(ctx, dataset)
	if says(err, "recursive dependency") {
		return d.destroyApart(ctx, dataset, f)
	}
	return done, err
}

// destroyTree destroys a dataset and what is below it, and reports whether
// nothing keeps it from that.
func destroyTree(ctx context.Context, dataset string) (done bool, err error) {
	err = whileBusy(ctx, func() error {
		_, err := zfs(ctx, "destroy", "-r", dataset)
		return err
	})
	switch {
	case err == nil:
		return true, nil
	case isMissing(err): // It, or a snapshot of it that went meanwhile.
		return isFree(ctx, dataset)
	case isBusy(err) || says(err, "has dependent clones"):
		return false, nil
	}
	return false, err
}

// destroyApart destroys a dataset that is a clone of what is below it, which
// ZFS does not at once.
func (d *driver) destroyApart(ctx context.Context, dataset string, f family) (done bool, err error) {
	for _, child := range f.children {
		to := d.in(deletedDir + "/containers/" + newID())
		if _, err := zfs(ctx, "rename", child, to); err != nil {
			return false, err
		}
	}
	d.trash.wait("")
	return destroyTree(ctx, dataset)
}

func (t *trash) wait(snapshot string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = true
	if snapshot != "" {
		t.snapshots = append(t.snapshots, snapshot)
	}
}

// emptyTrash removes, without being waited for, what nothing depends on any
// more.
func (d *driver) emptyTrash(ctx context.Context) {
	if !d.trash.begin() {
		return
	}
	ctx = context.WithoutCancel(ctx)
	background.run(d.root, func() {
		for {
			_ = d.empty(ctx) // What is left now the next one removes.
			if !d.trash.goOn() {
				return
			}
		}
	})
}

// begin reports whether the caller is to empty the trash.
func (t *trash) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.emptying { // It may have looked already at what can go now.
		t.again = true
		return false
	}
	if !t.waiting {
		return false
	}
	t.emptying = true
	return true
}

// goOn reports whether begin was called meanwhile.
func (t *trash) goOn() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	again := t.again
	t.again = false
	t.emptying = again
	return again
}

// take returns the snapshots and half-made datasets that wait.
func (t *trash) take() (snapshots, staged []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	snapshots, staged = t.snapshots, t.staged
	t.snapshots, t.staged, t.waiting = nil, nil, false
	return snapshots, staged
}

// Sweep implements [storage.Sweeper].
func (d *driver) Sweep(ctx context.Context) error {
	d.trash.wait("")
	return d.empty(ctx)
}

// empty removes what nothing depends on any more.
func (d *driver) empty(ctx context.Context) error {
	snaps, staged := d.trash.take()
	var failed []error
	for _, name := range staged {
		remove := d.discard
		if strings.HasPrefix(name, d.delegated("")) {
			remove = d.destroyDelegated
		}
		if err := remove(ctx, name); err != nil {
			failed = append(failed, err)
			d.trash.leave(name)
		}
	}
	for _, name := range snaps {
		if _, err := zfs(ctx, "destroy", "-d", name); err != nil && !isMissing(err) {
			d.trash.wait(name)
		}
	}
	for ctx.Err() == nil {
		left, progress, err := d.emptyOnce(ctx)
		failed = append(failed, err)
		if left {
			d.trash.wait("")
		}
		if !left || !progress {
			break
		}
	}
	return errors.Join(failed...)
}

func (t *trash) leave(staged string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.staged, t.waiting = append(t.staged, staged), true
}

// emptyOnce destroys what it can of the trash. What goes may have been the
// last clone of something that stayed.
func (d *driver) emptyOnce(ctx context.Context) (left, progress bool, err error) {
	all, err := rows(ctx, "list", "-H", "-d", "2", "-t", "filesystem", "-s", "createtxg", "-o", "name", d.in(deletedDir))
	if err != nil {
		return true, false, err
	}
	for _, row := range slices.Backward(all) {
		// What is in deleted/KIND, and neither of these.
		rel, below := strings.CutPrefix(row[0], d.in(deletedDir)+"/")
		if !below || !strings.Contains(rel, "/") {
			continue
		}
		done, derr := d.destroy(ctx, row[0])
		err = errors.Join(err, derr)
		left, progress = left || !done, progress || done
	}
	return left, progress, err
}
