// Package transfer copies volumes with their snapshots between pools of any
// two drivers, and brings copies up to date. Where both drivers have the same
// stream it is used; else what differs from state to state is copied file by
// file.
//
// What is being made has a name that begins with a dot, as no user's has,
// until it is whole: [RecoverRefresh] removes what a crash left of it.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/tree"
)

// A Target is the volume to make or to bring up to date.
type Target struct {
	Driver storage.Driver
	Volume storage.Volume
}

// A Source is what to copy. The caller sees to it that neither it nor the
// target is changed, mounted or unmounted meanwhile, but for what Still is
// for.
type Source struct {
	Driver storage.Driver

	// Volume is a volume, or a snapshot of one, which is copied as a volume
	// without snapshots.
	Volume storage.Volume

	// Snapshots are those to copy too, the oldest first.
	Snapshots []string

	// Still runs fn while nobody changes the volume. It is needed if the
	// volume is mounted, and nil else. It takes no longer than a snapshot.
	Still func(ctx context.Context, fn func() error) error
}

// Options are how to copy. The zero value is ready to use.
type Options struct {
	// Progress is called with the number of bytes that were copied so far,
	// if it is not nil; not by two goroutines at once.
	Progress func(bytes int64)

	// Checksum has [Refresh] compare the contents of files too that have the
	// same size and time.
	Checksum bool

	// ExcludeOlder has [Refresh] leave out snapshots that are older than the
	// newest that both sides have.
	ExcludeOlder bool
}

func snapshotOf(v storage.Volume, name string) storage.Volume {
	v.Snapshot = name
	return v
}

// Copy makes the target, which does not exist, a copy of the source. The
// target is seen when it is whole.
func Copy(ctx context.Context, to Target, from Source, o Options) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("copy volume %s to %s: %w", from.Volume, to.Volume, err)
		}
	}()
	if err := check(to, from); err != nil {
		return err
	}
	if to.Driver == from.Driver {
		return clone(ctx, to, from)
	}
	return from.held(ctx, func(head storage.Volume) error {
		s := session{to: to, from: from, head: head, o: o, count: counter(o)}
		err := s.streams(ctx, nil)
		if !errs.Is(err, errs.Unsupported) {
			return err
		}
		return s.trees(ctx)
	})
}

func check(to Target, from Source) error {
	if to.Volume.Snapshot != "" {
		return errs.Invalidf("the target %s is a snapshot", to.Volume)
	}
	if from.Volume.Snapshot != "" && len(from.Snapshots) > 0 {
		return errs.Invalidf("the source %s is a snapshot, which has none itself", from.Volume)
	}
	return nil
}

// A session is one copy.
type session struct {
	to    Target
	from  Source
	head  storage.Volume // What the volume itself is copied from.
	o     Options
	count func(int64)
}

// counter returns a function that adds to what progress is told of.
func counter(o Options) func(int64) {
	if o.Progress == nil {
		return nil
	}
	var mu sync.Mutex
	var sum int64
	return func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		sum += n
		o.Progress(sum)
	}
}

// held runs fn with a volume or snapshot that has what the source has now,
// and that nobody changes.
func (s Source) held(ctx context.Context, fn func(head storage.Volume) error) error {
	if s.Still == nil {
		return fn(s.Volume)
	}
	name, done := hide(storage.ForCopy)
	defer done()
	hidden := snapshotOf(s.Volume, name)
	if err := s.Still(ctx, func() error { return s.Driver.Snapshot(ctx, hidden) }); err != nil {
		return err
	}
	// If this fails the copy is whole nevertheless; the next start tries again.
	defer func() { _ = s.Driver.Delete(context.WithoutCancel(ctx), hidden) }()
	return fn(hidden)
}

// clone is [Copy] within a pool.
func clone(ctx context.Context, to Target, from Source) (err error) {
	name, done := hide(storage.ForCopy)
	defer done()
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	d, whole := to.Driver, to.Volume
	if len(from.Snapshots) > 0 {
		if err := mustBeFree(ctx, d, to.Volume); err != nil {
			return err
		}
		whole.Name = name
	}
	u.Push("delete the copy", func(ctx context.Context) error {
		if whole == to.Volume {
			return nil // It is made at once, or not.
		}
		return remove(ctx, d, whole, from.Snapshots)
	})
	derive := func() error { return d.Clone(ctx, whole, from.Volume) }
	if from.Still != nil {
		err = from.Still(ctx, derive)
	} else {
		err = derive()
	}
	if err != nil {
		return err
	}
	for _, name := range from.Snapshots {
		if err := d.Clone(ctx, snapshotOf(whole, name), snapshotOf(from.Volume, name)); err != nil {
			return err
		}
	}
	if whole == to.Volume {
		return nil
	}
	return d.Rename(ctx, whole, to.Volume.Name)
}

// mustBeFree returns an error of kind Conflict if there is such a volume.
func mustBeFree(ctx context.Context, d storage.Driver, v storage.Volume) error {
	found, err := storage.Exists(ctx, d, v)
	if err == nil && found {
		err = errs.Conflictf("volume %s exists already", v)
	}
	return err
}

// remove deletes a volume with its snapshots, whether they are there or not.
func remove(ctx context.Context, d storage.Driver, v storage.Volume, snapshots []string) error {
	for _, name := range slices.Backward(snapshots) {
		if err := d.Delete(ctx, snapshotOf(v, name)); err != nil {
			return err
		}
	}
	return d.Delete(ctx, v)
}

// states are what to make of the target, in their order: its snapshots, and
// itself as the last, whose name is empty.
func (s session) states() []state {
	all := make([]state, 0, len(s.from.Snapshots)+1)
	for _, name := range s.from.Snapshots {
		all = append(all, state{name: name, from: snapshotOf(s.from.Volume, name)})
	}
	return append(all, state{from: s.head})
}

// A state is what a snapshot, or the volume itself, is copied from.
type state struct {
	name string
	from storage.Volume
}

// trees is [Copy] file by file.
func (s session) trees(ctx context.Context) (err error) {
	name, done := hide(storage.ForCopy)
	defer done()
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	d, whole := s.to.Driver, s.to.Volume
	if err := mustBeFree(ctx, d, whole); err != nil {
		return err
	}
	whole.Name = name
	if err := d.Create(ctx, whole); err != nil {
		return err
	}
	u.Push("delete the copy", func(ctx context.Context) error {
		if err := d.Unmount(ctx, whole); err != nil {
			return err
		}
		return remove(ctx, d, whole, s.from.Snapshots)
	})
	states := s.states()
	err = mounted(ctx, s.from.Driver, states[0].from, func(src string) error {
		return mounted(ctx, d, whole, func(dst string) error {
			return tree.Options{Progress: s.count}.CopyInto(ctx, dst, src)
		})
	})
	if err != nil {
		return err
	}
	if err := s.follow(ctx, whole, states, course{like: states[0].from}); err != nil {
		return err
	}
	if err := settle(ctx, d, whole); err != nil {
		return err
	}
	return d.Rename(ctx, whole, s.to.Volume.Name)
}

// A course is how a volume becomes other states.
type course struct {
	like   storage.Volume // The state of the source that it is now, if any.
	prefix string         // Of the snapshots' names.
}

// follow makes the volume v each of the states, one after the other, and
// snapshots of it.
func (s session) follow(ctx context.Context, v storage.Volume, states []state, c course) error {
	for _, st := range states {
		if st.from != c.like {
			if err := s.step(ctx, v, st.from, c.like); err != nil {
				return err
			}
			c.like = st.from
		}
		if st.name == "" {
			continue
		}
		if err := s.to.Driver.Snapshot(ctx, snapshotOf(v, c.prefix+st.name)); err != nil {
			return err
		}
	}
	return nil
}

// step makes the volume v like from. If before is not zero, v is like that,
// which is an earlier state of from.
func (s session) step(ctx context.Context, v, from, before storage.Volume) error {
	return mounted(ctx, s.from.Driver, from, func(src string) error {
		return mounted(ctx, s.to.Driver, v, func(dst string) error {
			if before == (storage.Volume{}) {
				return tree.Options{Progress: s.count, Checksum: s.o.Checksum}.Mirror(ctx, dst, src)
			}
			return mounted(ctx, s.from.Driver, before, func(old string) error {
				return tree.Options{Progress: s.count, Before: old}.Mirror(ctx, dst, src)
			})
		})
	})
}

// settle returns when a volume is on the disk: what it is a copy of may go
// away next.
func settle(ctx context.Context, d storage.Driver, v storage.Volume) error {
	return mounted(ctx, d, v, tree.Sync)
}

// mounted runs fn with the directory of a volume, which it unmounts then.
func mounted(ctx context.Context, d storage.Driver, v storage.Volume, fn func(dir string) error) (err error) {
	dir, err := d.Mount(ctx, v, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Unmount(context.WithoutCancel(ctx), v)) }()
	return fn(dir)
}
