package instances

import (
	"context"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/images"
	"github.com/cuib/cuib/shared/errs"
)

// CheckStored checks that [Service.Stored] could open something.
func (s *Service) CheckStored(ctx context.Context, source string) error {
	_, _, err := s.stored(ctx, source)
	return err
}

// Stored opens what there is on disk of an instance, which must not run, or
// of a snapshot: "c1" or "c1/snap0". Until it is released, what needs the
// volume alone, such as a start of the instance, waits a little and then is
// refused.
func (s *Service) Stored(ctx context.Context, source string) (images.Stored, error) {
	name, snapshot, _ := strings.Cut(source, "/")
	unlock := s.locks.Lock(name)
	defer unlock()
	architecture, config, err := s.stored(ctx, source)
	if err != nil {
		return images.Stored{}, err
	}
	v, err := s.visit(ctx, name, snapshot)
	if err != nil {
		return images.Stored{}, err
	}
	out := images.Stored{Dir: v.dir, Architecture: architecture, Properties: map[string]string{}, Release: v.leave}
	for key, value := range config {
		if property, ok := strings.CutPrefix(key, "image."); ok {
			out.Properties[property] = value
		}
	}
	return out, nil
}

// stored finds what [Service.Stored] is to open.
func (s *Service) stored(ctx context.Context, source string) (architecture string, config map[string]string, err error) {
	name, snapshot, ok := strings.Cut(source, "/")
	in, err := s.load(ctx, name)
	if err != nil {
		return "", nil, err
	}
	if ok {
		snap, err := s.snapshot(ctx, name, snapshot)
		return snap.Architecture, snap.Config, err
	}
	if s.index.get(name) != nil {
		return "", nil, errs.Conflictf("instance %q is running: stop it first, name a snapshot of it, or let cuib publish --force stop it meanwhile", name)
	}
	return in.Architecture, in.Config, nil
}
