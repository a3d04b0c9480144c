package instances

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cuib/cuib/shared/crash"
	"github.com/cuib/cuib/shared/errs"
)

// still calls fn while the instance, whose lock is held, is frozen or does
// not run.
func (s *Service) still(ctx context.Context, name string, fn func() error) (err error) {
	if s.index.get(name) == nil {
		if err := s.visits.end(ctx, name); err != nil {
			return err
		}
		return fn()
	}
	state, err := s.Runtime.Get(name)
	if errs.Is(err, errs.NotFound) || state.Frozen {
		return fn()
	}
	if err != nil {
		return err
	}
	s.markHeld(ctx, name)
	defer func() {
		if terr := s.unfreeze(context.WithoutCancel(ctx), name); err == nil {
			err = terr
		}
	}()
	if err := s.Runtime.Freeze(ctx, name); err != nil {
		return fmt.Errorf("freeze: %w", err)
	}
	crash.Point("an instance is frozen")
	return fn()
}

// unfreeze thaws an instance that we have frozen. It tries twice: nobody else
// will, before the next start.
func (s *Service) unfreeze(ctx context.Context, name string) error {
	err := s.Runtime.Thaw(ctx, name)
	if err != nil && !errs.Is(err, errs.NotFound) {
		err = s.Runtime.Thaw(ctx, name)
	}
	if err != nil && !errs.Is(err, errs.NotFound) {
		return fmt.Errorf("thaw: %w", err)
	}
	return ignoreMissing(os.Remove(s.heldMark(name)))
}

func (s *Service) heldDir() string { return filepath.Join(s.Dir, "held") }

// heldMark is the file that says that an instance is frozen by the daemon
// itself, and not because a user wants it so.
func (s *Service) heldMark(name string) string { return filepath.Join(s.heldDir(), name) }

// markHeld makes the mark, without which a daemon that is killed leaves the
// instance frozen. On a disk that is full that is no reason to do without a
// snapshot.
func (s *Service) markHeld(ctx context.Context, name string) {
	err := os.WriteFile(s.heldMark(name), nil, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(s.heldDir(), 0o700); err == nil {
			err = os.WriteFile(s.heldMark(name), nil, 0o600)
		}
	}
	if err != nil {
		s.Logger.WarnContext(ctx, "cannot note that an instance is frozen for a moment", "instance", name, "err", err)
	}
}

// thawHeld lets the instances go on that a daemon had frozen when it ended.
func (s *Service) thawHeld(ctx context.Context) error {
	entries, err := os.ReadDir(s.heldDir())
	err = ignoreMissing(err)
	for _, e := range entries {
		err = errors.Join(err, s.unfreeze(ctx, e.Name()))
	}
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
