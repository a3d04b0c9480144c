package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// Refresh makes the target, which exists and is not mounted, what the source
// is. Of the snapshots it makes those that the target does not have by name;
// what else it has stays. If it fails the target is as it was.
func Refresh(ctx context.Context, to Target, from Source, o Options) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("refresh volume %s from %s: %w", to.Volume, from.Volume, err)
		}
	}()
	if err := check(to, from); err != nil {
		return err
	}
	if to.Driver == from.Driver && to.Volume == from.Volume.Parent() {
		return errs.Invalidf("the source is the target itself")
	}
	have, err := snapshots(ctx, to.Driver, to.Volume)
	if err != nil {
		return err
	}
	return from.held(ctx, func(head storage.Volume) error {
		s := session{to: to, from: from, head: head, o: o, count: counter(o)}
		err := s.streams(ctx, have)
		if !errs.Is(err, errs.Unsupported) {
			return err
		}
		return s.refresh(ctx, s.missing(have))
	})
}

// snapshots returns the names of a volume's snapshots.
func snapshots(ctx context.Context, d storage.Driver, v storage.Volume) (names []string, err error) {
	all, err := d.List(ctx)
	if err != nil {
		return nil, err
	}
	found := false
	for _, s := range all {
		if s.Parent() != v {
			continue
		}
		if s.Snapshot != "" {
			names = append(names, s.Snapshot)
		}
		found = true
	}
	if !found {
		return nil, errs.NotFoundf("volume %s not found", v)
	}
	return names, nil
}

// missing returns the states to make of a target that has some snapshots.
func (s session) missing(have []string) []state {
	all := s.states()
	newest := 0
	for i, st := range all {
		if st.name != "" && slices.Contains(have, st.name) {
			newest = i
		}
	}
	if s.o.ExcludeOlder {
		all = all[newest:]
	}
	return slices.DeleteFunc(all, func(st state) bool { return slices.Contains(have, st.name) })
}

// refresh is [Refresh] file by file.
func (s session) refresh(ctx context.Context, states []state) (err error) {
	prefix, done := hide(refreshing)
	defer done()
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	d, v := s.to.Driver, s.to.Volume
	old := snapshotOf(v, prefix+oldSuffix)
	if err := d.Snapshot(ctx, old); err != nil {
		return err
	}
	u.Push("restore the volume", func(ctx context.Context) error { return rollBack(ctx, d, v, prefix) })

	if err := s.follow(ctx, v, states, course{prefix: prefix + newInfix}); err != nil {
		return err
	}
	if err := settle(ctx, d, v); err != nil {
		return err
	}
	if err := d.Rename(ctx, old, prefix+doneSuffix); err != nil {
		return err
	}
	u = undo.Stack{} // It is done: what follows can be repeated.
	return finish(ctx, d, v, prefix)
}

// rollBack makes a volume what it was before a refresh that is not done.
func rollBack(ctx context.Context, d storage.Driver, v storage.Volume, prefix string) error {
	if err := d.Unmount(ctx, v); err != nil {
		return err
	}
	old := snapshotOf(v, prefix+oldSuffix)
	if err := d.Restore(ctx, old); err != nil {
		return err
	}
	names, err := snapshots(ctx, d, v)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, prefix+newInfix) {
			err = errors.Join(err, d.Delete(ctx, snapshotOf(v, name)))
		}
	}
	if err != nil {
		return err
	}
	return d.Delete(ctx, old) // The last: until then it can be repeated.
}

// finish gives the new snapshots their names.
func finish(ctx context.Context, d storage.Driver, v storage.Volume, prefix string) error {
	names, err := snapshots(ctx, d, v)
	if err != nil {
		return err
	}
	for _, name := range names {
		if final, ok := strings.CutPrefix(name, prefix+newInfix); ok {
			if err := d.Rename(ctx, snapshotOf(v, name), final); err != nil {
				return err
			}
		}
	}
	return d.Delete(ctx, snapshotOf(v, prefix+doneSuffix))
}

// RecoverRefresh finishes or takes back what a crash left of each [Refresh]
// in a pool, and removes what it left of copies. It is to be called before
// anything else is done in the pool.
func RecoverRefresh(ctx context.Context, d storage.Driver) error {
	all, err := d.List(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, v := range all {
		if err := recoverOne(ctx, d, v); err != nil {
			failed = errors.Join(failed, fmt.Errorf("recover %s: %w", v, err))
		}
	}
	for _, v := range all { // Whose snapshots are gone now.
		if v.Snapshot == "" && isLeft(v.Name, copyPrefix) {
			failed = errors.Join(failed, d.Delete(ctx, v))
		}
	}
	return failed
}

func recoverOne(ctx context.Context, d storage.Driver, v storage.Volume) error {
	prefix, old := strings.CutSuffix(v.Snapshot, oldSuffix)
	done := false
	if !old {
		prefix, done = strings.CutSuffix(v.Snapshot, doneSuffix)
	}
	refresh := isLeft(v.Snapshot, refreshPrefix)
	switch {
	case isLeft(v.Name, copyPrefix):
		if err := d.Unmount(ctx, v); err != nil || v.Snapshot == "" {
			return err
		}
		return d.Delete(ctx, v)
	case isLeft(v.Snapshot, copyPrefix):
		if err := d.Unmount(ctx, v); err != nil {
			return err
		}
		return d.Delete(ctx, v)
	case refresh && old && !strings.Contains(prefix, newInfix):
		return rollBack(ctx, d, v.Parent(), prefix)
	case refresh && done && !strings.Contains(prefix, newInfix):
		return finish(ctx, d, v.Parent(), prefix)
	}
	return nil
}
