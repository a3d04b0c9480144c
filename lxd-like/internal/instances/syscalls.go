package instances

import (
	"context"
	"fmt"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/undo"
)

// syscalls adds what an instance's settings mean for its system calls.
func syscalls(set profiles.Settings, spec *runtime.Spec) {
	spec.Syscalls, spec.DevicePrograms = set.Syscalls.Policy, set.Syscalls.DevicePrograms
	spec.Mounting = runtime.Mounting(set.Syscalls.Mounting)
	spec.BPF = runtime.BPF(set.BPF)
}

// changeMounting changes what a running instance may mount.
func (s *Service) changeMounting(ctx context.Context, in, next *instance, u *undo.Stack) error {
	if profiles.SameMounting(in.expanded.Options, next.expanded.Options) {
		return nil
	}
	before, err := settings(in)
	if err != nil {
		return err
	}
	after, err := settings(next)
	if err != nil {
		return err
	}
	set := func(ctx context.Context, m profiles.Mounting) error {
		return s.Runtime.SetMounting(ctx, in.Name, runtime.Mounting(m))
	}
	if err := set(ctx, after.Syscalls.Mounting); err != nil {
		return fmt.Errorf("change what it may mount: %w", err)
	}
	u.Push("change back what it may mount", func(ctx context.Context) error { return set(ctx, before.Syscalls.Mounting) })
	return nil
}
