package zfs

import (
	"context"
	"errors"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// A guest that may have datasets has them below delegated/ID, the only one
// that is zoned, and not below its volume's own. That one could not be
// renamed any more, nor what is above it, and so not be restored or put into
// the trash; ZFS unmounts what becomes zoned; and the guest could destroy the
// snapshots of the volume, and write its record.

// delegatedProp is a property of a volume: the ID of the dataset that its
// guest has.
const delegatedProp = "cuib:delegated"

// delegated returns the name of the dataset that a guest has.
func (p place) delegated(id string) string { return p.in(delegatedDir + "/" + id) }

// Delegate implements [storage.Delegator].
func (d *driver) Delegate(ctx context.Context, v storage.Volume, userns string) error {
	return wrapf(missing(d.delegate(ctx, v, userns), v), "delegate datasets to the guest of volume %s", v)
}

func (d *driver) delegate(ctx context.Context, v storage.Volume, userns string) error {
	dataset := d.dataset(v)
	known := d.facts.of(dataset)
	if known.delegated == "" {
		// Known before it is there: what nobody knows of is removed.
		known.delegated = newID()
		if err := setProperties(ctx, dataset, map[string]string{delegatedProp: known.delegated}); err != nil {
			return err
		}
		d.facts.update(dataset, func(f *fact) { f.delegated = known.delegated })
	}
	name := d.delegated(known.delegated)
	limit, err := d.limitOf(ctx, dataset, known)
	if err != nil {
		return err
	}
	if err := d.makeDelegated(ctx, name, limit); err != nil {
		return err
	}
	_, err = zfs(ctx, "zone", userns, name)
	if exists(err) { // It has it already.
		return nil
	}
	return err
}

// limitOf returns the limit of a volume as ZFS has it.
func (*driver) limitOf(ctx context.Context, dataset string, known fact) (string, error) {
	if !known.limited {
		return "none", nil
	}
	property := "quota"
	if truth(known.options[refquotaKey]) {
		property = "refquota"
	}
	limit, err := zfs(ctx, "get", "-H", "-p", "-o", "value", property, dataset)
	if limit == "0" {
		limit = "none" // Which is how it is set.
	}
	return limit, err
}

// makeDelegated makes a dataset for a guest, or gives the one that is there
// its limit, which the guest cannot change.
func (d *driver) makeDelegated(ctx context.Context, name, limit string) error {
	create := []string{"create", "-o", "zoned=on", "-o", "mountpoint=none", "-o", "quota=" + limit, name}
	_, err := zfs(ctx, create...)
	if says(err, "parent does not exist") { // A pool of an earlier version.
		if _, err := zfs(ctx, args("create", baseProperties, []string{d.in(delegatedDir)})...); err != nil && !exists(err) {
			return err
		}
		_, err = zfs(ctx, create...)
	}
	if exists(err) {
		_, err = zfs(ctx, "set", "quota="+limit, name)
	}
	return err
}

// Delegated implements [storage.Delegator].
func (d *driver) Delegated(ctx context.Context, v storage.Volume) (bool, error) {
	id := d.facts.of(d.dataset(v)).delegated
	if id == "" {
		return false, nil
	}
	all, err := rows(ctx, "list", "-H", "-r", "-t", "all", "-o", "name", d.delegated(id))
	return len(all) > 1, wrapf(ifThere("", err), "look for datasets of the guest of volume %s", v)
}

// lookForDelegated takes note of what guests have. Of what is in there it reads
// names only: all else can be whatever a guest likes.
func (d *driver) lookForDelegated(ctx context.Context, l *leftovers) error {
	all, err := rows(ctx, "list", "-H", "-d", "1", "-t", "filesystem", "-o", "name", d.in(delegatedDir))
	for _, row := range all {
		if id, ok := strings.CutPrefix(row[0], d.delegated("")); ok {
			l.delegated = append(l.delegated, id)
		}
	}
	return ifThere("", err)
}

// lookAtDelegate takes note of which guest's dataset a volume knows.
func (d *driver) lookAtDelegate(name, id string, l *leftovers) {
	rel, _ := strings.CutPrefix(name, d.root+"/")
	if id == "-" || strings.HasPrefix(rel, deletedDir+"/") {
		return
	}
	l.delegates[id] = true
	if strings.Count(rel, "/") == 1 {
		d.facts.update(name, func(f *fact) { f.delegated = id })
	}
}

// leaveDelegated leaves to Sweep what was of guests whose volumes are gone.
func (d *driver) leaveDelegated(l leftovers) {
	for _, id := range l.delegated {
		if !l.delegates[id] {
			d.trash.leave(d.delegated(id))
		}
	}
}

// dropDelegated destroys all that the guest of a volume had that is gone. What
// is in use still goes later.
func (d *driver) dropDelegated(ctx context.Context, id string) {
	if id == "" {
		return
	}
	if err := d.destroyDelegated(ctx, d.delegated(id)); err != nil {
		d.trash.leave(d.delegated(id))
	}
}

func (d *driver) destroyDelegated(ctx context.Context, name string) error {
	if !strings.HasPrefix(name, d.delegated("")) || name == d.delegated("") {
		return errs.Newf(errs.Internal, "%q is no dataset of a guest", name)
	}
	destroy := func() error { return ifThere(zfs(ctx, "destroy", "-r", name)) }
	err := whileBusy(ctx, destroy)
	if err == nil {
		return nil
	}
	// ZFS's texts for holds differ between versions.
	held := releaseHolds(ctx, name)
	if err = whileBusy(ctx, destroy); err != nil {
		err = errors.Join(err, held)
	}
	return err
}

// releaseHolds takes the holds away that a guest has put on its snapshots.
func releaseHolds(ctx context.Context, name string) error {
	snaps, err := rows(ctx, "list", "-H", "-r", "-t", "snapshot", "-o", "name", name)
	if err != nil || len(snaps) == 0 {
		return err
	}
	get := []string{"holds", "-H"}
	for _, row := range snaps {
		get = append(get, row[0])
	}
	held, err := rows(ctx, get...)
	if err != nil {
		return err
	}
	for _, row := range held {
		if len(row) < 2 || !strings.HasPrefix(row[0], name+"@") && !strings.HasPrefix(row[0], name+"/") {
			continue // No line of ZFS, but of a tag.
		}
		if _, err := zfs(ctx, "release", "--", row[1], row[0]); err != nil {
			return err
		}
	}
	return nil
}
