package main

import (
	"context"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/projectkeys"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// backupAlgorithm is the compression of backups that ask for none.
func (d *daemon) backupAlgorithm(ctx context.Context) (string, error) {
	if v := d.projects.RequestConfig(ctx, projectkeys.BackupCompression); v != "" {
		return v, nil
	}
	return settings{d.db}.backupAlgorithm(ctx)
}

// deleteObject deletes what a project has.
func (d *daemon) deleteObject(ctx context.Context, o db.ProjectObject) error {
	switch o.Kind {
	case db.OfInstances:
		return d.deleteInstance(ctx, o.Key)
	case db.OfImages:
		job, err := d.images.Delete(ctx, o.Key)
		return d.do(ctx, job, err)
	case db.OfVolumes:
		return d.volumes.Delete(ctx, db.VolumeRef{Pool: o.Pool, Name: o.Key})
	case db.OfProfiles:
		return d.instances.DeleteProfile(ctx, o.Key)
	case db.OfNetworks:
		return d.nets.Delete(ctx, o.Key)
	case db.OfACLs:
		return d.acls.Delete(ctx, o.Key)
	case db.OfSets:
		return d.acls.Sets().Delete(ctx, o.Key)
	case db.OfZones:
		return d.zones.Delete(ctx, o.Key)
	}
	return errs.Newf(errs.Internal, "there is no way to delete what is of kind %q", o.Kind)
}

// keepObject returns an error if what a project has is not to be deleted.
func (d *daemon) keepObject(ctx context.Context, o db.ProjectObject) error {
	if o.Kind != db.OfInstances {
		return nil
	}
	return d.instances.Protected(ctx, o.Key)
}

// deleteInstance deletes an instance, also one that runs.
func (d *daemon) deleteInstance(ctx context.Context, name string) error {
	state, err := d.instances.State(ctx, name)
	if err != nil {
		return err
	}
	if state.StatusCode != api.Stopped {
		job, err := d.instances.SetState(ctx, name, api.InstanceStatePut{Action: "stop", Force: true, Timeout: -1})
		if err := d.do(ctx, job, err); err != nil {
			return err
		}
	}
	job, err := d.instances.Delete(ctx, name)
	if errs.Is(err, errs.NotFound) { // It was ephemeral.
		return nil
	}
	return d.do(ctx, job, err)
}

// do does a job, as an operation that others see.
func (d *daemon) do(ctx context.Context, job ops.Job, err error) error {
	if err != nil {
		return err
	}
	op, err := d.ops.Start(ctx, job)
	if err != nil {
		return err
	}
	if end := op.Wait(ctx); end.Err != "" {
		return errs.FromStatus(int(end.ErrCode), end.Err)
	}
	return nil
}
