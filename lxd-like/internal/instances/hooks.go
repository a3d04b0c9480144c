package instances

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/devices"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
)

// hooksLeft says which hooks of specifications of the Container Device
// Interface an instance's devices have, that nobody runs: of those that another
// state of the instance has too, if there is one, it says nothing. It is empty
// where there are none.
func (s *Service) hooksLeft(in, before *instance) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(in.expanded.Devices)) {
		dev := in.expanded.Devices[name]
		if before != nil && maps.Equal(dev, before.expanded.Devices[name]) {
			continue
		}
		if hooks := devices.Hooks(dev, s.env(in)); len(hooks) > 0 {
			all = append(all, fmt.Sprintf("device %q: the hooks of the CDI specification of %s are not run, do inside what they would: %s",
				name, dev["id"], strings.Join(hooks, ", ")))
		}
	}
	return strings.Join(all, "; ")
}

// tellHooks tells who gives devices to an instance that hooks are not run.
func (s *Service) tellHooks(in, before *instance, op *ops.Op) {
	if text := s.hooksLeft(in, before); text != "" {
		op.Warn(text)
	}
}

// warnHooks tells administrators which hooks were not run for an instance that
// runs.
func (s *Service) warnHooks(ctx context.Context, in *instance) {
	text := s.hooksLeft(in, nil)
	if text == "" {
		s.Warnings.Resolve(ctx, warnings.HooksNotRun, instanceURL(in.Name))
		return
	}
	s.Warnings.Raise(ctx, warnings.HooksNotRun, instanceURL(in.Name), text)
}
