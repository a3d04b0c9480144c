package instances

import (
	"context"
	"fmt"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/devices"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/undo"
)

// retakeNIC gives a running instance, whose lock is held, an interface of the
// host again that had gone from it and has come back to the host.
func (s *Service) retakeNIC(ctx context.Context, in *instance, device string, have []runtime.NIC) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if len(have) == 0 {
		return nil
	}
	inside, err := s.Runtime.Interfaces(in.Name)
	if err != nil {
		return nil // It has ended, or boots again: who starts it takes the interface.
	}
	if _, has := inside[have[0].Name]; has {
		return nil
	}
	next := in.clone()
	next.apply(devices.ForgetLastState(next.Config, device))
	want, _, err := s.plan(ctx, next)
	if err != nil {
		return fmt.Errorf("device %q: %w", device, err)
	}
	of := owner{in.Name, device}
	if err := s.detach(ctx, of, devices.Plan{NICs: have}, &u); err != nil {
		return fmt.Errorf("device %q: what is left of the interface that has gone: %w", device, err)
	}
	if err := s.attach(ctx, of, want[device], &u); err != nil {
		return fmt.Errorf("device %q: %w", device, err)
	}
	next.apply(want[device].LastState)
	err = s.DB.Do(db.Admitted(ctx), func(ctx context.Context, tx *db.Tx) error { return db.UpdateInstance(ctx, tx, next.Instance) })
	if err != nil {
		return err
	}
	in.Instance = next.Instance
	s.Logger.InfoContext(ctx, "an instance has an interface of the host again that was gone", "instance", in.Name, "device", device)
	s.tellPlugged(in, device, 0, 1)
	return nil
}
