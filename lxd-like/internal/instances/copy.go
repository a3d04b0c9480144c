package instances

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/units"
	"github.com/cuib/cuib/shared/uuid"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/transfer"
)

// fromCopy makes instances of other instances, or of snapshots of them.
type fromCopy struct {
	s        *Service
	from     string   // The instance's name.
	snapshot string   // Empty for the instance itself.
	alone    bool     // Without its snapshots.
	size     string   // Of its root, if its device has none.
	limit    string   // The size of its root, wherever it is from.
	left     []string // Options of the root disk that its pool does not have.
}

func (s *Service) copySource(ctx context.Context, req *api.InstancesPost) (source, error) {
	src := req.Source
	name, snapshot, _ := strings.Cut(src.Source, "/")
	from, err := s.load(ctx, name)
	if err != nil {
		return nil, err
	}
	f := &fromCopy{s: s, from: name, snapshot: snapshot, alone: snapshot != "" || src.InstanceOnly || src.ContainerOnly}
	f.size, f.limit = from.Config[keyRootSize], from.rootSize().text
	gets := inherited{config: from.Config, devices: from.Devices, profiles: from.Profiles}
	gets.architecture, gets.ephemeral = from.Architecture, from.Ephemeral
	var old *instance
	if snapshot != "" {
		if old, err = s.past(ctx, from, snapshot); err != nil {
			return nil, err
		}
		gets = inherited{config: old.Config, devices: old.Devices, profiles: old.Profiles}
		gets.architecture, gets.ephemeral = old.Architecture, old.Ephemeral
	}
	if carries(name, req.Name) {
		shown := from
		if old != nil {
			shown = old
		}
		var disk rootDisk
		disk.name, disk.dev, _ = root(shown.expanded)
		if gets, err = gets.rekeyed(ctx, s, project.OfInstance(req.Name), disk); err != nil {
			return nil, err
		}
	}
	gets.into(req)
	f.left, err = s.fitDevices(ctx, req.Devices, rootBefore(from, old))
	return f, err
}

// past is an instance as a snapshot has it, with the root disk in the pool
// where it is now: the snapshot can have been made before a move.
func (s *Service) past(ctx context.Context, in *instance, snapshot string) (old *instance, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		snap, err := snapshotTx(ctx, tx, in.Name, snapshot)
		if err != nil {
			return err
		}
		profs, err := db.ProfilesLeft(ctx, tx, snap.Profiles)
		old = newInstance(db.Instance{
			Name: in.Name, Architecture: snap.Architecture, Ephemeral: snap.Ephemeral,
			Config: snap.Config, Devices: snap.Devices, Profiles: snap.Profiles,
		}, profs)
		return err
	})
	if err != nil {
		return nil, err
	}
	_, was, _ := root(old.expanded)
	old.putRoot(in.Pool)
	_, err = s.fitRoot(ctx, old, was)
	return old, err
}

// putRoot makes the root disk, if there is one, one in another pool.
func (in *instance) putRoot(pool string) {
	name, disk, ok := root(in.expanded)
	if !ok || disk["pool"] == pool {
		return
	}
	disk = maps.Clone(disk)
	disk["pool"] = pool
	in.Devices, in.expanded.Devices = maps.Clone(in.Devices), maps.Clone(in.expanded.Devices)
	in.Devices[name], in.expanded.Devices[name] = disk, disk
}

// inherited is what a copy gets from its source where the request says nothing.
type inherited struct {
	config       map[string]string
	devices      map[string]map[string]string
	profiles     []string
	architecture string
	ephemeral    bool
}

func (g inherited) into(req *api.InstancesPost) {
	config := api.ConfigMap{}
	for k, v := range g.config {
		if !strings.HasPrefix(k, "volatile.") || k == keyBaseImage {
			config[k] = v
		}
	}
	for k, v := range req.Config { // Clients send the source's, or just what differs.
		own := strings.HasPrefix(k, "volatile.") && v == g.config[k] // Such as the address of the source's NIC.
		if !isInternal(k) && !own {
			config[k] = v
		}
	}
	maps.DeleteFunc(config, func(_, v string) bool { return v == "" })
	req.Config = config
	devices := apiDevices(g.devices)
	maps.Copy(devices, req.Devices)
	req.Devices = devices
	if req.Profiles == nil {
		req.Profiles = g.profiles
	}
	if req.Architecture == "" {
		req.Architecture = g.architecture
	}
}

func (*fromCopy) check(*instance) error { return nil }

func (f *fromCopy) prepare(ctx context.Context, in *instance, op *ops.Op) error {
	f.s.warnLeft(ctx, in, f.left, op)
	in.apply(newIdentity())
	in.apply(map[string]string{keyApplyTemplate: "copy", keyRootSize: ""})
	if in.rootSize().text == "" {
		in.apply(map[string]string{keyRootSize: f.size})
	}
	return nil
}

func (f *fromCopy) fill(ctx context.Context, d storage.Driver, in *instance, op *ops.Op) error {
	from, release, err := f.s.borrow(ctx, f)
	if err != nil {
		return err
	}
	defer release()
	f.s.warnDelegated(ctx, from.in, op)
	if err := f.s.rekeySnapshots(ctx, f.from, in.Name, from.snapshots); err != nil {
		return err
	}
	if err := f.s.recordCopies(ctx, in.Name, from.snapshots); err != nil {
		return err
	}
	if from.in.Pool == in.Pool {
		return f.s.clone(ctx, d, in.volume(), from)
	}
	o := transfer.Options{Progress: progress(op, "Copying")}
	if err := transfer.Copy(ctx, transfer.Target{Driver: d, Volume: in.volume()}, from.source(f.s), o); err != nil {
		return err
	}
	return f.s.keepSizeOf(ctx, d, in)
}

// clone copies within a pool.
func (s *Service) clone(ctx context.Context, d storage.Driver, to storage.Volume, from *loan) error {
	clone := func() error { return d.Clone(ctx, to, from.volume()) }
	var err error
	if from.snapshot == "" {
		err = from.still(ctx, s, clone)
	} else {
		err = clone()
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", from.volume(), err)
	}
	for _, snap := range from.snapshots {
		src, dst := from.in.snapshotVolume(snap.Name), to
		dst.Snapshot = snap.Name
		if err := d.Clone(ctx, dst, src); err != nil {
			return fmt.Errorf("copy %s: %w", src, err)
		}
	}
	return nil
}

// recordCopies adds the records of the snapshots to be. While that of the
// instance is pending they are too.
func (s *Service) recordCopies(ctx context.Context, name string, snaps []db.Snapshot) error {
	if len(snaps) == 0 {
		return nil
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, snap := range snaps {
			snap.Instance, snap.ID = name, 0
			if err := db.AddSnapshot(ctx, tx, &snap); err != nil {
				return err
			}
		}
		return nil
	})
}

// A loan is an instance, or a snapshot, that is being copied. It goes on
// meanwhile, but nothing that is copied of it is renamed or deleted.
type loan struct {
	in        *instance
	d         storage.Driver
	snapshot  string        // Empty for the instance itself.
	snapshots []db.Snapshot // To be copied too, oldest first.
}

func (l *loan) volume() storage.Volume { return l.in.snapshotVolume(l.snapshot) }

// copying is held while an instance is copied.
func copying(name string) string { return visitKey(name, ".copying") }

// borrow finds what is to be copied, and holds it until release is called.
// One instance is copied at a time.
func (s *Service) borrow(ctx context.Context, f *fromCopy) (_ *loan, release func(), err error) {
	turn, err := s.copies.LockContext(ctx, f.from)
	if err != nil {
		return nil, nil, err
	}
	l, end, err := s.lend(ctx, f)
	if err != nil {
		turn()
		return nil, nil, err
	}
	return l, func() { end(); turn() }, nil
}

func (s *Service) lend(ctx context.Context, f *fromCopy) (_ *loan, release func(), err error) {
	unlock, err := s.lockSoon(ctx, f.from)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	l := &loan{snapshot: f.snapshot}
	if l.in, err = s.load(ctx, f.from); err != nil {
		return nil, nil, err
	}
	if l.d, err = s.driver(ctx, l.in); err != nil {
		return nil, nil, err
	}
	keys := []string{copying(f.from)}
	if f.snapshot != "" {
		if _, err := s.snapshot(ctx, f.from, f.snapshot); err != nil {
			return nil, nil, err
		}
		keys = append(keys, visitKey(f.from, f.snapshot))
	}
	if !f.alone {
		if l.snapshots, err = s.wholeSnapshots(ctx, f.from); err != nil {
			return nil, nil, err
		}
	}
	for _, snap := range l.snapshots {
		keys = append(keys, visitKey(f.from, snap.Name))
	}
	release, err = s.visits.hold(ctx, keys)
	return l, release, err
}

// lockPatience is how long a copy waits for who works on its source.
const lockPatience = time.Minute

// lockSoon locks an instance for who holds the lock of another, and so must
// not wait forever.
func (s *Service) lockSoon(ctx context.Context, name string) (unlock func(), err error) {
	soon, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	unlock, err = s.locks.LockContext(soon, name)
	if err != nil && ctx.Err() == nil {
		err = errs.Conflictf("instance %q is busy", name)
	}
	return unlock, err
}

// still calls fn while the instance does not change.
func (l *loan) still(ctx context.Context, s *Service, fn func() error) error {
	unlock, err := s.lockSoon(ctx, l.in.Name)
	if err != nil {
		return err
	}
	defer unlock()
	return s.still(ctx, l.in.Name, fn)
}

// source is the loan as transfers want it. What is read of the instance is a
// hidden snapshot, so that it can start, stop and go on meanwhile.
func (l *loan) source(s *Service) transfer.Source {
	src := transfer.Source{Driver: l.d, Volume: l.volume()}
	for _, snap := range l.snapshots {
		src.Snapshots = append(src.Snapshots, snap.Name)
	}
	if l.snapshot == "" {
		src.Still = func(ctx context.Context, fn func() error) error { return l.still(ctx, s, fn) }
	}
	return src
}

// progressEvery is how often clients are told how far a copy is.
const progressEvery = 500 * time.Millisecond

// progress returns a function that tells clients how far a copy is.
func progress(op *ops.Op, what string) func(int64) {
	if op == nil {
		return nil
	}
	began, last := time.Now(), time.Now()
	return func(bytes int64) {
		now := time.Now()
		if now.Sub(last) < progressEvery {
			return
		}
		last = now
		rate := int64(float64(bytes) / now.Sub(began).Seconds())
		op.SetMetadata("fs_progress", fmt.Sprintf("%s: %s (%s/s)", what, units.FormatBytes(bytes), units.FormatBytes(rate)))
	}
}

// refreshed is a request to bring a copy up to date.
type refreshed struct {
	name         string
	from         *fromCopy
	excludeOlder bool
}

// refreshes reports whether a request is to bring an instance up to date that
// is there. Where it is not, it is made.
func (s *Service) refreshes(ctx context.Context, req api.InstancesPost) (bool, error) {
	if req.Source.Type != "copy" || !req.Source.Refresh {
		return false, nil
	}
	_, err := s.load(ctx, req.Name)
	if errs.Is(err, errs.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// refreshJob checks a request to bring an instance up to date with the one
// that it is a copy of. Its configuration stays as it is.
func (s *Service) refreshJob(ctx context.Context, req api.InstancesPost) (ops.Job, error) {
	name := req.Name
	if err := s.checkStopped(name, "refresh"); err != nil {
		return ops.Job{}, err
	}
	src, err := s.copySource(ctx, &req)
	if err != nil {
		return ops.Job{}, err
	}
	r := refreshed{name: name, from: src.(*fromCopy), excludeOlder: req.Source.RefreshExclude} //nolint:forcetypeassert // It makes nothing else.
	if r.from.from == name {
		return ops.Job{}, errs.Invalidf("source.source %q is the instance itself: it is refreshed from another", req.Source.Source)
	}
	return ops.Job{
		Description: "Refreshing instance", Objects: objects(name, r.from.from), Resources: resources(name), Cancelable: true,
		Run: func(ctx context.Context, op *ops.Op) error {
			in, unlock, err := s.locked(ctx, name)
			if err != nil {
				return err
			}
			defer unlock()
			if err := s.refreshCopy(ctx, in, r, op); err != nil {
				return fmt.Errorf("refresh instance %q: %w", name, s.withRoom(ctx, in.Pool, err))
			}
			s.event("instance-updated", name, nil)
			return nil
		},
	}, nil
}

// refreshCopy records the snapshots to come as pending, copies what is new,
// and then makes them ready. A crash leads back or on, as the pool says: see
// [Service.rerefresh].
func (s *Service) refreshCopy(ctx context.Context, in *instance, r refreshed, op *ops.Op) error {
	if err := s.checkStopped(in.Name, "refresh"); err != nil {
		return err
	}
	d, err := s.driver(ctx, in)
	if err != nil {
		return err
	}
	if err := s.visits.endAll(ctx, in.Name); err != nil {
		return err
	}
	from, release, err := s.borrow(ctx, r.from)
	if err != nil {
		return err
	}
	defer release()
	news, err := s.missing(ctx, in, from, r.excludeOlder)
	if err != nil {
		return err
	}
	if err := s.rekeySnapshots(ctx, r.from.from, in.Name, news); err != nil {
		return err
	}
	if err := s.beginRefresh(ctx, in, news); err != nil {
		return err
	}
	o := transfer.Options{Progress: progress(op, "Copying")}
	err = transfer.Refresh(ctx, transfer.Target{Driver: d, Volume: in.volume()}, from.source(s), o)
	if err == nil {
		err = s.limitSize(ctx, d, in)
	}
	ctx = context.WithoutCancel(ctx)
	if err != nil {
		if eerr := s.endRefresh(ctx, d, in, nil); eerr != nil {
			err = fmt.Errorf("%w; %w", err, eerr)
		}
		return err
	}
	return s.endRefresh(ctx, d, in, map[string]string{keyGeneration: uuid.New()})
}

// missing returns the snapshots of the source that the target does not have,
// oldest first; if older ones are excluded, those only that are not older than
// the newest one that the target has. What is not to be copied is no part of
// from any more.
func (s *Service) missing(ctx context.Context, in *instance, from *loan, excludeOlder bool) ([]db.Snapshot, error) { //nolint:revive // Not exported.
	have, err := s.wholeSnapshots(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	var newest time.Time
	for _, snap := range have {
		known[snap.Name] = true
		if excludeOlder && snap.Created.After(newest) {
			newest = snap.Created
		}
	}
	from.snapshots = slices.DeleteFunc(slices.Clone(from.snapshots), func(snap db.Snapshot) bool {
		return !known[snap.Name] && snap.Created.Before(newest)
	})
	return slices.DeleteFunc(slices.Clone(from.snapshots), func(snap db.Snapshot) bool { return known[snap.Name] }), nil
}

// beginRefresh writes down that the instance is being refreshed.
func (s *Service) beginRefresh(ctx context.Context, in *instance, news []db.Snapshot) error {
	keys := map[string]string{keyRefreshing: "true"}
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, snap := range news {
			snap.Instance, snap.ID, snap.Status = in.Name, 0, db.Pending
			if err := db.AddSnapshot(ctx, tx, &snap); err != nil {
				return err
			}
		}
		return db.PatchInstanceConfig(ctx, tx, in.Name, keys)
	})
	if err == nil {
		in.apply(keys)
	}
	return err
}

// endRefresh makes the records what the pool has: it has all of a refresh, or
// nothing.
func (s *Service) endRefresh(ctx context.Context, d storage.Driver, in *instance, keys map[string]string) error {
	all, err := d.List(ctx)
	if err != nil {
		return err
	}
	have := make(map[storage.Volume]bool, len(all))
	for _, v := range all {
		have[v] = true
	}
	return s.rerefresh(ctx, in, have, keys)
}

// rerefresh makes the records of a refresh that has ended, or that a crash cut
// short and the pool has finished or taken back, what the pool has. The
// instance gets the keys too.
func (s *Service) rerefresh(ctx context.Context, in *instance, have map[storage.Volume]bool, keys map[string]string) error {
	if in.Config[keyRefreshing] == "" {
		return nil
	}
	keys = patchedAlso(keys, keyRefreshing, "")
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		snaps, err := db.Snapshots(ctx, tx, in.Name)
		if err != nil {
			return err
		}
		for _, snap := range snaps {
			if snap.Status != db.Pending || storage.Hidden(snap.Name) {
				continue
			}
			if have[in.snapshotVolume(snap.Name)] {
				err = db.SetSnapshotStatus(ctx, tx, in.Name, snap.Name, db.Ready)
			} else {
				err = db.DeleteSnapshot(ctx, tx, in.Name, snap.Name)
			}
			if err != nil {
				return err
			}
		}
		return db.PatchInstanceConfig(ctx, tx, in.Name, keys)
	})
	if err == nil {
		in.apply(keys)
	}
	return err
}

// patchedAlso returns keys with one more.
func patchedAlso(keys map[string]string, key, value string) map[string]string {
	out := make(map[string]string, len(keys)+1)
	maps.Copy(out, keys)
	out[key] = value
	return out
}
