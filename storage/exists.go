package storage

import (
	"context"
	"slices"

	"github.com/cuib/cuib/shared/errs"
)

// Exists reports whether a pool holds a volume, which is no snapshot, whoever
// knows of it. If the driver is a [Recorder] it is quick.
func Exists(ctx context.Context, d Driver, v Volume) (bool, error) {
	r, ok := d.(Recorder)
	if !ok {
		all, err := d.List(ctx)
		return slices.Contains(all, v), err
	}
	_, err := r.Record(ctx, v)
	if errs.Is(err, errs.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// MustBeNew returns an error of kind [errs.Conflict] if the pool of that name
// holds a volume that is to be made. It is asked before there is a record of
// the volume: who takes back what is half made goes by that, and would remove
// what only the pool knows since the database was lost.
func MustBeNew(ctx context.Context, d Driver, v Volume, pool string) error {
	found, err := Exists(ctx, d, v)
	if err == nil && found {
		err = errs.Conflictf("storage pool %q holds a volume %s that nobody knows: register it (cuib admin recover), or use another name", pool, v)
	}
	return err
}
