package instances

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// How a guest is let have datasets of its own: the option of the root disk
// and, where it has none, the pool's key.
const (
	optionDelegate = "initial.zfs.delegate"
	poolDelegate   = "volume.zfs.delegate"
)

// zfsNode is what programs in the guest talk to.
const zfsNode = "/dev/zfs"

// startDelegation finds out whether the guest gets volumes of its own.
func (s *Service) startDelegation(ctx context.Context, l *launch, _ *undo.Stack) error {
	d, err := s.driver(ctx, l.in)
	if err != nil {
		return err
	}
	delegator, can := d.(storage.Delegator)
	name, disk, _ := root(l.in.expanded)
	wish := disk[optionDelegate]
	switch {
	case !can && isTrue(wish):
		return errs.Newf(errs.Unsupported, "device %q: %s: only a storage pool with the driver zfs can do that", name, optionDelegate)
	case !can:
		return nil
	case wish == "":
		err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
			pool, err := db.GetPool(ctx, tx, l.in.Pool)
			wish = pool.Config[poolDelegate]
			return err
		})
		if err != nil {
			return err
		}
		if l.ids == nil { // The default is for those that can have it.
			return nil
		}
	}
	if !isTrue(wish) {
		return nil
	}
	if l.ids == nil {
		return errs.Invalidf("device %q: %s: an instance with security.privileged has no user namespace to delegate to", name, optionDelegate)
	}
	l.delegator = delegator
	return nil
}

// delegation adds what the guest needs for it. A reboot gives the guest
// another user namespace, so that it is a start like any other.
func (l *launch) delegation(spec *runtime.Spec) {
	if l.delegator == nil {
		return
	}
	spec.EndsAtReboot = true
	for _, n := range spec.Nodes {
		if n.Path == zfsNode {
			return
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(zfsNode, &st); err == nil {
		spec.Nodes = append(spec.Nodes, runtime.Node{
			Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev), Path: zfsNode, Mode: os.FileMode(0o666),
		})
	}
}

// delegate gives the guest that runs now what it is to have.
func (l *launch) delegate(ctx context.Context, r runtime.Running) error {
	if l.delegator == nil {
		return nil
	}
	return l.delegator.Delegate(ctx, l.in.volume(), fmt.Sprintf("/proc/%d/ns/user", r.PID))
}

// hasDelegated reports whether the guest of an instance has made volumes.
func hasDelegated(ctx context.Context, d storage.Driver, in *instance) (bool, error) {
	delegator, can := d.(storage.Delegator)
	if !can {
		return false, nil
	}
	return delegator.Delegated(ctx, in.volume())
}

// undelegated returns an error if the guest of an instance has made volumes,
// which would be lost with the instance's own.
func undelegated(ctx context.Context, d storage.Driver, in *instance) error {
	has, err := hasDelegated(ctx, d, in)
	if err == nil && has {
		err = errs.Conflictf("the guest of instance %q has made datasets, which do not move: destroy them in it first", in.Name)
	}
	return err
}

// warnDelegated tells who has something made of an instance that it is without
// what the guest has made besides. The operation is nil where there is none.
func (s *Service) warnDelegated(ctx context.Context, in *instance, op *ops.Op) {
	d, err := s.driver(ctx, in)
	if err != nil { // What is made fails for that, or does not need it.
		return
	}
	if has, err := hasDelegated(ctx, d, in); err != nil || !has {
		return
	}
	s.Logger.WarnContext(ctx, "what the guest of an instance has made of datasets is not in what is made of the instance", "instance", in.Name)
	if op != nil {
		op.Warn(fmt.Sprintf("the datasets that the guest of instance %q has made are not in it", in.Name))
	}
}
