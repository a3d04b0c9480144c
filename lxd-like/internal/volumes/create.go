package volumes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/shared/units"
	"github.com/cuib/cuib/storage"
)

// Create makes an empty volume.
func (s *Service) Create(ctx context.Context, pool string, req api.StorageVolumesPost) error {
	return s.CreateFor(ctx, "", pool, req)
}

// CreateFor is [Service.Create] for a volume of which is noted whose it is.
func (s *Service) CreateFor(ctx context.Context, owner, pool string, req api.StorageVolumesPost) error {
	v, err := s.draft(ctx, pool, req)
	if err != nil {
		return err
	}
	if owner != "" {
		v.Config[keyOwner] = owner
	}
	if v.ContentType != filesystem {
		return errs.Invalidf("content_type: got %q, want %s: a volume of type %s is made of a file that is uploaded", v.ContentType, filesystem, iso)
	}
	m := making{v: v, fill: func(ctx context.Context, d storage.Driver, sv storage.Volume) error {
		if err := d.Create(ctx, sv); err != nil {
			return err
		}
		return initialOwner(ctx, d, v)
	}}
	if err := s.make(ctx, m); err != nil {
		return fmt.Errorf("create volume %q: %w", v.Name, err)
	}
	return nil
}

// draft is the record of a new volume, checked.
func (s *Service) draft(ctx context.Context, pool string, req api.StorageVolumesPost) (db.Volume, error) {
	v := db.Volume{
		VolumeRef: Ref{Pool: pool, Name: req.Name}, Status: db.Pending, Description: req.Description,
		ContentType: cmp.Or(req.ContentType, filesystem), Config: given(req.Config),
	}
	if req.Type != "" && req.Type != "custom" {
		return v, errs.Invalidf("type: got %q, want custom: the volumes of instances and images are made with those", req.Type)
	}
	if err := checkContentType(v.ContentType); err != nil {
		return v, err
	}
	if err := profiles.CheckVolumeName(v.Name); err != nil {
		return v, err
	}
	p, err := s.pool(ctx, pool)
	if err != nil {
		return v, err
	}
	s.addDefaults(&v, p)
	if err := s.validate(v, p); err != nil {
		return v, err
	}
	if err := s.checkRepository(ctx, "", v); err != nil {
		return v, err
	}
	return v, s.free(ctx, v.VolumeRef)
}

// checkRepository reports a backup repository that is not there, unless the
// volume had it before.
func (s *Service) checkRepository(ctx context.Context, before string, v db.Volume) error {
	const key = "backups.repository"
	name := v.Config[key]
	if name == "" || name == before {
		return nil
	}
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.GetRepository(ctx, tx, name)
		return err
	})
	if errs.Is(err, errs.NotFound) {
		return errs.Newf(errs.Invalid, "%s: %w", key, err)
	}
	return err
}

func checkContentType(typ string) error {
	if typ != filesystem && typ != iso {
		return errs.Invalidf("content_type: got %q, want %s or %s", typ, filesystem, iso)
	}
	return nil
}

// pool reads the record of a pool.
func (s *Service) pool(ctx context.Context, name string) (p db.Pool, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err = db.GetPool(ctx, tx, name)
		return err
	})
	return p, err
}

// free returns an error of kind [errs.Conflict] if the name is taken.
func (s *Service) free(ctx context.Context, ref Ref) error {
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.GetVolume(ctx, tx, ref)
		return err
	})
	switch {
	case err == nil:
		return errs.Conflictf("volume %q in storage pool %q exists already", ref.Name, ref.Pool)
	case errs.Is(err, errs.NotFound):
		return nil
	}
	return err
}

// addDefaults gives a new volume what the pool has for its volumes.
func (s *Service) addDefaults(v *db.Volume, p db.Pool) {
	for key, value := range p.Config {
		name, ok := strings.CutPrefix(key, "volume.")
		if _, given := v.Config[name]; !ok || given || value == "" || v.ContentType == iso && name == "size" {
			continue
		}
		if s.checkKey(p, name, value) == nil {
			v.Config[name] = value
		}
	}
}

// foreign begin the keys that volumes of one kind of pool have, here or on
// other servers.
var foreign = []string{
	"block.", "btrfs.", "ceph.", "cephfs.", "dir.", "drbd.", "linstor.", "lvm.", "lvmcluster.", "overlay.", "security.shared", "truenas.", "zfs.",
}

// fitting is a configuration without the keys that only volumes of other
// drivers have.
func (s *Service) fitting(config map[string]string, p db.Pool) map[string]string {
	out := maps.Clone(config)
	maps.DeleteFunc(out, func(key, _ string) bool {
		_, own := s.Types[p.Driver].VolumeOptions[key]
		return !own && slices.ContainsFunc(foreign, func(begin string) bool { return strings.HasPrefix(key, begin) })
	})
	return out
}

// checkKey reports what is wrong with one key of a volume in a pool.
func (s *Service) checkKey(p db.Pool, name, value string) error {
	typ := s.Types[p.Driver]
	if err := profiles.CheckVolumeKey(name, value, typ.VolumeOptions); err != nil {
		return err
	}
	if _, own := typ.VolumeOptions[name]; !own || value == "" || typ.CheckOption == nil {
		return nil
	}
	if err := typ.CheckOption(name, value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// validate checks the configuration of a volume.
func (s *Service) validate(v db.Volume, p db.Pool) error {
	for _, name := range slices.Sorted(maps.Keys(v.Config)) {
		if err := s.checkKey(p, name, v.Config[name]); err != nil {
			return err
		}
	}
	const shifted, unmapped = "security.shifted", "security.unmapped"
	if isTrue(v.Config[shifted]) && isTrue(v.Config[unmapped]) {
		return errs.Invalidf("%s: it cannot be true while %s is: set one of them", unmapped, shifted)
	}
	if v.ContentType == iso && v.Config["size"] != "" {
		return errs.Invalidf("size: a volume of content type %s is as large as its file", iso)
	}
	return nil
}

func isTrue(value string) bool {
	on, _ := profiles.ParseBool(value) // It is valid.
	return on
}

// making says what volume is to be made.
type making struct {
	v         db.Volume
	snapshots []db.VolumeSnapshot // That come with it.
	inherited bool                // Its size is that of what it is made of: a pool that has no limits does without.

	// fill makes the volume, and its snapshots.
	fill func(ctx context.Context, d storage.Driver, v storage.Volume) error
}

// make makes all that belongs to a volume: its record as pending, with those
// of its snapshots, the volume, and then the record ready.
func (s *Service) make(ctx context.Context, m making) (err error) {
	release, err := s.claims.take("created", m.v.VolumeRef)
	if err != nil {
		return err
	}
	defer release()
	if err := s.build(ctx, &m); err != nil {
		return s.withRoom(ctx, m.v.Pool, err)
	}
	s.event("storage-volume-created", m.v.VolumeRef, map[string]any{"type": "custom"})
	return nil
}

// build is make for a volume that the caller has claimed, and tells of.
func (s *Service) build(ctx context.Context, m *making) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if err := s.begin(ctx, m, &u); err != nil {
		return err
	}
	return s.mark(ctx, m.v.VolumeRef, db.Ready)
}

// begin is build without the end: the record stays pending.
func (s *Service) begin(ctx context.Context, m *making, u *undo.Stack) error {
	d, err := s.driver(ctx, m.v.Pool)
	if err != nil {
		return err
	}
	if err := storage.MustBeNew(ctx, d, volume(m.v.VolumeRef), m.v.Pool); err != nil {
		return err
	}
	if err := s.record(ctx, m); err != nil {
		return err
	}
	u.Push("forget the volume", func(ctx context.Context) error { return s.forget(ctx, m.v.VolumeRef) })
	u.Push("delete the volume", func(ctx context.Context) error { return s.erase(ctx, d, m.v.VolumeRef) })

	if err := m.fill(ctx, d, volume(m.v.VolumeRef)); err != nil {
		return err
	}
	err = s.shape(ctx, d, m.v)
	if m.inherited && errs.Is(err, errs.Unsupported) && m.v.Config["size"] != "" {
		s.Log.WarnContext(ctx, "a volume has no limit any more: its new pool has none", "volume", m.v.String(), "size", m.v.Config["size"], "err", err)
		if err := s.patch(ctx, &m.v, map[string]string{"size": ""}); err != nil {
			return err
		}
		return s.shape(ctx, d, m.v)
	}
	if err != nil || m.inherited {
		return err // What is as full as its source can be a little more than full.
	}
	size, err := sizeOf(m.v)
	if err != nil || size == 0 {
		return err
	}
	return storage.MustHaveFit(ctx, d, volume(m.v.VolumeRef), size)
}

// record adds the records of a volume and its snapshots.
func (s *Service) record(ctx context.Context, m *making) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.AddVolume(ctx, tx, &m.v); err != nil {
			return err
		}
		for _, snap := range m.snapshots {
			snap.Volume = m.v.VolumeRef
			if err := db.AddVolumeSnapshot(ctx, tx, &snap); err != nil {
				return err
			}
		}
		return nil
	})
}

// forget deletes the record of a volume, if there is one.
func (s *Service) forget(ctx context.Context, ref Ref) error {
	return s.DB.Do(db.Freeing(ctx), func(ctx context.Context, tx *db.Tx) error {
		if err := db.DeleteVolume(ctx, tx, ref); !errs.Is(err, errs.NotFound) {
			return err
		}
		return nil
	})
}

func (s *Service) mark(ctx context.Context, ref Ref, status db.Status) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.SetVolumeStatus(ctx, tx, ref, status) })
}

// shape gives a volume the size and the options that its configuration says.
func (s *Service) shape(ctx context.Context, d storage.Driver, v db.Volume) error {
	if text := v.Config["size"]; text != "" {
		size, err := units.ParseBytes(text)
		if err != nil {
			return fmt.Errorf("size: %w", err)
		}
		if err := limit(ctx, d, volume(v.VolumeRef), size); err != nil {
			return err
		}
	}
	p, err := s.pool(ctx, v.Pool)
	if err != nil {
		return err
	}
	options := s.options(v, p)
	if len(options) == 0 {
		return nil
	}
	return s.tune(ctx, d, v.VolumeRef, options)
}

// options are the keys of a volume that its driver sees to.
func (s *Service) options(v db.Volume, p db.Pool) map[string]string {
	out := map[string]string{}
	for key := range s.Types[p.Driver].VolumeOptions {
		if value := v.Config[key]; value != "" {
			out[key] = value
		}
	}
	return out
}

func (s *Service) tune(ctx context.Context, d storage.Driver, ref Ref, options map[string]string) error {
	t, ok := d.(storage.Tuner)
	if !ok {
		return errs.Newf(errs.Unsupported, "the storage pool has no options for its volumes")
	}
	return t.Tune(ctx, volume(ref), options)
}

func limit(ctx context.Context, d storage.Driver, v storage.Volume, size int64) error {
	l, ok := d.(storage.Limiter)
	if !ok {
		return errs.Newf(errs.Unsupported, "size: the storage pool cannot limit the size of a volume")
	}
	if err := l.Limit(ctx, v, size); err != nil {
		return fmt.Errorf("size: %w", err)
	}
	return nil
}

// initialMode is the mode of a volume's root directory where nothing is said.
const initialMode = 0o711

// initialOwner gives the root directory of a new volume its owner and mode.
func initialOwner(ctx context.Context, d storage.Driver, v db.Volume) error {
	number := func(key string, base int, unset int64) (int64, error) {
		if v.Config[key] == "" {
			return unset, nil
		}
		return strconv.ParseInt(v.Config[key], base, 64)
	}
	uid, uerr := number("initial.uid", 10, 0)
	gid, gerr := number("initial.gid", 10, 0)
	mode, merr := number("initial.mode", 8, initialMode)
	if err := errors.Join(uerr, gerr, merr); err != nil {
		return err
	}
	return within(ctx, d, volume(v.VolumeRef), func(dir string) error {
		if uid != 0 || gid != 0 {
			if err := os.Chown(dir, int(uid), int(gid)); err != nil {
				return err
			}
		}
		return os.Chmod(dir, fileMode(mode))
	})
}

// fileMode is the mode that os has for a mode of the kernel.
func fileMode(mode int64) os.FileMode {
	out := os.FileMode(mode & 0o777)
	for bit, name := range map[int64]os.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
		if mode&bit != 0 {
			out |= name
		}
	}
	return out
}

// within calls fn with the directory of a volume that is mounted meanwhile.
func within(ctx context.Context, d storage.Driver, v storage.Volume, fn func(dir string) error) (err error) {
	dir, err := d.Mount(ctx, v, nil)
	if err != nil {
		return err
	}
	defer func() {
		if uerr := d.Unmount(context.WithoutCancel(ctx), v); err == nil {
			err = uerr
		}
	}()
	return fn(dir)
}
