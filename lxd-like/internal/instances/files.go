package instances

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/guestfs"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

const (
	// visitLinger is how long the volume of an instance that does not run
	// stays mounted after the last use of its files.
	visitLinger = 2 * time.Second

	// visitPatience is how long who needs the volume waits for the end of a
	// use.
	visitPatience = 5 * time.Second
)

// Files opens the instance's file system: as the guest sees it if it runs.
func (s *Service) Files(ctx context.Context, name string) (*guestfs.FS, error) {
	unlock := s.locks.Lock(name)
	defer unlock()
	if a := s.index.get(name); a != nil {
		root, err := s.Runtime.Root(name)
		if err == nil {
			return guestfs.New(root, a.ids, nil), nil
		}
		if !errs.Is(err, errs.NotFound) {
			return nil, err
		}
		return nil, errs.Conflictf("instance %q is stopping", name)
	}
	v, err := s.visit(ctx, name, "")
	if err != nil {
		return nil, err
	}
	root, err := os.Open(filepath.Join(v.dir, "rootfs"))
	if err != nil {
		v.leave()
		return nil, fmt.Errorf("open the root of instance %q: %w", name, err)
	}
	return guestfs.New(root, nil, v.leave), nil
}

// visits are the volumes of instances that do not run, and of snapshots,
// mounted for whom reads or writes their files. The zero value is ready to
// use.
type visits struct {
	mu   sync.Mutex        // Guards what follows.
	open map[string]*visit // By [visitKey].
	held map[string]int    // How many copies are made of it, by [visitKey].
}

// visitKey names the volume of an instance or, if snapshot is not empty, that
// of a snapshot.
func visitKey(name, snapshot string) string {
	if snapshot == "" {
		return name
	}
	return name + "/" + snapshot
}

// A visit is a volume that is mounted as it is stored. It begins with the
// instance's lock held, and so it ends.
type visit struct {
	dir     string
	unmount func(context.Context) error

	mu    sync.Mutex // Guards what follows.
	users int
	idle  chan struct{} // Closed when the last user leaves; made anew by the next.
	timer *time.Timer   // Ends the visit after a while without user.
	later func()        // What the timer calls.
}

// visit mounts the volume of an instance, whose lock is held, or of a
// snapshot of it, unless it is mounted, and counts a user.
func (s *Service) visit(ctx context.Context, name, snapshot string) (*visit, error) {
	key := visitKey(name, snapshot)
	if v := s.visits.get(key); v != nil {
		v.enter()
		return v, nil
	}
	if err := s.visits.free(key); err != nil {
		return nil, err
	}
	in, err := s.load(ctx, name)
	if err != nil {
		return nil, err
	}
	d, err := s.driver(ctx, in)
	if err != nil {
		return nil, err
	}
	volume := in.snapshotVolume(snapshot)
	dir, err := d.Mount(ctx, volume, nil)
	if err != nil {
		return nil, fmt.Errorf("mount the root disk: %w", err)
	}
	v := &visit{dir: dir, unmount: unmounter(d, volume)}
	later := context.WithoutCancel(ctx)
	v.later = func() {
		unlock := s.locks.Lock(name)
		defer unlock()
		if s.visits.get(key) == v && v.free() {
			if err := s.visits.end(later, key); err != nil {
				s.Logger.ErrorContext(later, "cannot unmount the root disk after the use of its files", "instance", key, "err", err)
			}
		}
	}
	v.enter()
	s.visits.put(key, v)
	return v, nil
}

func unmounter(d storage.Driver, volume storage.Volume) func(context.Context) error {
	return func(ctx context.Context) error { return d.Unmount(ctx, volume) }
}

func (v *visit) enter() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.users == 0 {
		v.idle = make(chan struct{})
	}
	if v.timer != nil {
		v.timer.Stop()
	}
	v.users++
}

func (v *visit) leave() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.users--
	if v.users == 0 {
		close(v.idle)
		v.timer = time.AfterFunc(visitLinger, v.later)
	}
}

func (v *visit) free() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.users == 0
}

// wait waits until nobody uses the files.
func (v *visit) wait(ctx context.Context) error {
	v.mu.Lock()
	idle := v.idle
	v.mu.Unlock()
	t := time.NewTimer(visitPatience)
	defer t.Stop()
	select {
	case <-idle:
		return nil
	case <-t.C:
		return errs.Conflictf("its files are in use")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (v *visits) get(key string) *visit {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.open[key]
}

func (v *visits) put(key string, one *visit) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.open == nil {
		v.open = map[string]*visit{}
	}
	v.open[key] = one
}

// end ends the visit of an instance whose lock is held, or of a snapshot of
// it, for who needs the volume alone. It does nothing if there is none.
func (v *visits) end(ctx context.Context, key string) error {
	if err := v.free(key); err != nil {
		return err
	}
	one := v.get(key)
	if one == nil {
		return nil
	}
	if err := one.wait(ctx); err != nil {
		return fmt.Errorf("%s is busy: %w", visited(key), err)
	}
	if err := one.unmount(ctx); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.open, key)
	return nil
}

// free returns an error of kind [errs.Conflict] while a copy is made of the
// volume of an instance or of a snapshot.
func (v *visits) free(key string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.held[key] > 0 {
		return errs.Conflictf("%s is busy: it is being copied", visited(key))
	}
	return nil
}

// hold keeps the volumes of an instance, whose lock is held, from being
// visited, renamed or deleted until release is called. It ends the visits.
func (v *visits) hold(ctx context.Context, keys []string) (release func(), err error) {
	for _, key := range keys {
		if one := v.get(key); one == nil {
			continue
		}
		if err := v.end(ctx, key); err != nil {
			return nil, err
		}
	}
	v.count(keys, 1)
	return func() { v.count(keys, -1) }, nil
}

func (v *visits) count(keys []string, n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.held == nil {
		v.held = map[string]int{}
	}
	for _, key := range keys {
		if v.held[key] += n; v.held[key] == 0 {
			delete(v.held, key)
		}
	}
}

func visited(key string) string {
	if name, snapshot, ok := strings.Cut(key, "/"); ok {
		if storage.Hidden(snapshot) {
			return fmt.Sprintf("instance %q", name)
		}
		return fmt.Sprintf("snapshot %q of instance %q", snapshot, name)
	}
	return fmt.Sprintf("instance %q", key)
}

// endAll ends the visits of an instance and of all its snapshots.
func (v *visits) endAll(ctx context.Context, name string) error {
	v.mu.Lock()
	keys := slices.Sorted(maps.Keys(v.open))
	keys = slices.AppendSeq(keys, maps.Keys(v.held))
	v.mu.Unlock()
	for _, key := range keys {
		if key != name && !strings.HasPrefix(key, name+"/") {
			continue
		}
		if err := v.end(ctx, key); err != nil {
			return err
		}
	}
	return nil
}
