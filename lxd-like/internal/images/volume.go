package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/archive"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// touchEvery is how exact an image's time of last use is: to note it costs
// about as much as all else that a launch writes to the database.
const touchEvery = 10 * time.Minute

// Volume returns the volume of the image with a key in a pool, unpacked. It
// holds what the image does: rootfs, metadata.yaml and templates. Callers that
// want the same one at the same time share one unpacking, and so do projects.
func (s *Service) Volume(ctx context.Context, key, pool string, op *ops.Op) (storage.Volume, error) {
	fingerprint := project.Name(key)
	have, err := s.volume(ctx, key, pool)
	if err != nil || have.Status == db.Ready {
		return volumeOf(fingerprint), err
	}
	unlock, err := s.locks.LockContext(ctx, fingerprint)
	if err != nil {
		return storage.Volume{}, err
	}
	defer unlock()

	// The one before us may have made it, or deleted the image.
	have, err = s.volume(ctx, key, pool)
	if err != nil || have.Status == db.Ready {
		return volumeOf(fingerprint), err
	}
	if have.Status == db.Pending {
		if err := s.dropVolume(ctx, have); err != nil {
			return storage.Volume{}, err
		}
	}
	return volumeOf(fingerprint), s.makeVolume(ctx, have, op)
}

func volumeOf(fingerprint string) storage.Volume {
	return storage.Volume{Kind: storage.Image, Name: fingerprint}
}

// volume returns the record of an image's volume, with an empty status if
// there is none, and notes that the image is used.
func (s *Service) volume(ctx context.Context, key, pool string) (db.ImageVolume, error) {
	out := db.ImageVolume{Fingerprint: project.Name(key), Pool: pool}
	var image db.Image
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if image, err = db.GetImage(ctx, tx, key); err != nil {
			return err
		}
		if image.Status != db.Ready {
			return errs.NotFoundf("image %q not found", key)
		}
		p, err := db.GetPool(ctx, tx, pool)
		if err != nil {
			return err
		}
		out.PoolID = p.ID
		all, err := db.ImageVolumes(ctx, tx)
		for _, v := range all {
			if v.Fingerprint == image.Fingerprint && v.PoolID == p.ID {
				out.Status = v.Status
			}
		}
		return err
	})
	if err != nil || time.Since(image.LastUsed) < touchEvery {
		return out, err
	}
	return out, s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.TouchImage(ctx, tx, key) })
}

// makeVolume unpacks an image into a pool that does not have it.
func (s *Service) makeVolume(ctx context.Context, row db.ImageVolume, op *ops.Op) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	d, err := s.Pools.Driver(ctx, row.Pool)
	if err != nil {
		return err
	}
	row.Status = db.Pending
	if err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.AddImageVolume(ctx, tx, row) }); err != nil {
		return err
	}
	u.Push("remove the image's volume", func(ctx context.Context) error { return s.dropVolume(ctx, row) })

	v := volumeOf(row.Fingerprint)
	if err := createVolume(ctx, d, v); err != nil {
		return fmt.Errorf("create volume %s: %w", v, err)
	}
	dir, err := d.Mount(ctx, v, nil)
	if err != nil {
		return fmt.Errorf("mount volume %s: %w", v, err)
	}
	if err := s.unpack(ctx, row.Fingerprint, dir, progress(op)); err != nil {
		return diskFull(dir, err)
	}
	if err := syncFS(dir); err != nil {
		return err
	}
	if err := d.Unmount(ctx, v); err != nil {
		return fmt.Errorf("unmount volume %s: %w", v, err)
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.SetImageVolumeStatus(ctx, tx, row.Fingerprint, row.PoolID, db.Ready)
	})
}

// createVolume creates a volume. One of which there was no record is in the
// way: it is what another database knew, which is lost.
func createVolume(ctx context.Context, d storage.Driver, v storage.Volume) error {
	err := d.Create(ctx, v)
	if !errs.Is(err, errs.Conflict) {
		return err
	}
	if err := errors.Join(d.Unmount(ctx, v), d.Delete(ctx, v)); err != nil {
		return err
	}
	return d.Create(ctx, v)
}

// progress tells an operation how much is unpacked.
func progress(op *ops.Op) func(percent int64) {
	return func(percent int64) {
		if op != nil {
			op.SetMetadata("create_instance_from_image_unpack_progress", fmt.Sprintf("Unpacking image: %d%%", percent))
		}
	}
}

// unpack unpacks the files of an image into a directory.
func (s *Service) unpack(ctx context.Context, fingerprint, dir string, tell func(percent int64)) error {
	root := filepath.Join(dir, rootfsDir)
	if err := os.Mkdir(root, 0o755); err != nil { //nolint:gosec // It is the guest's root.
		return err
	}
	own := archive.Root{Dir: dir, Place: ownPlace}
	rootfs := s.file(fingerprint, rootfsSuffix)
	f, err := os.Open(rootfs)
	if errors.Is(err, fs.ErrNotExist) {
		return s.extract(ctx, s.file(fingerprint, ""), tell, archive.Root{Dir: root, Place: rootPlace}, own)
	}
	if err != nil {
		return err
	}
	defer f.Close()

	if err := s.extract(ctx, s.file(fingerprint, ""), func(int64) {}, own); err != nil {
		return err
	}
	format, err := detect(f)
	if err != nil {
		return err
	}
	if format == archive.Squashfs {
		tell(0) // It does not say how far it is.
		return archive.Unsquash(ctx, rootfs, root)
	}
	return s.extract(ctx, rootfs, tell, archive.Root{Dir: root})
}

// ownPlace is where what the daemon itself reads of an image goes.
func ownPlace(name string) string {
	top, _, _ := strings.Cut(name, "/")
	if top == metadataFile || top == templatesDir {
		return name
	}
	return ""
}

// rootPlace is where the rootfs of a unified image goes.
func rootPlace(name string) string {
	if name == rootfsDir {
		return "."
	}
	rest, ok := strings.CutPrefix(name, rootfsDir+"/")
	if !ok {
		return ""
	}
	return rest
}

func (s *Service) extract(ctx context.Context, file string, tell func(percent int64), roots ...archive.Root) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()

	st, err := f.Stat()
	if err != nil {
		return err
	}
	return archive.Extract(ctx, &meter{r: f, size: st.Size(), tell: tell, last: -1}, roots...)
}

// A meter tells each percent that is read.
type meter struct {
	r          io.Reader
	done, size int64
	last       int64
	tell       func(percent int64)
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.done += int64(n)
	if percent := m.done * 100 / max(1, m.size); percent != m.last {
		m.last = percent
		m.tell(percent)
	}
	return n, err
}

// syncFS brings all that was written to the file system of dir to the disk.
func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()

	return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
}

// dropVolumes removes an image's volumes from all pools. The caller holds the
// image's lock.
func (s *Service) dropVolumes(ctx context.Context, fingerprint string) error {
	var all []db.ImageVolume
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		all, err = db.ImageVolumes(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	for _, v := range all {
		if v.Fingerprint != fingerprint {
			continue
		}
		err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			return db.SetImageVolumeStatus(ctx, tx, fingerprint, v.PoolID, db.Pending)
		})
		if err != nil {
			return err
		}
		if err := s.dropVolume(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

// dropVolume removes a pending volume and its record.
func (s *Service) dropVolume(ctx context.Context, row db.ImageVolume) error {
	d, err := s.Pools.Driver(ctx, row.Pool)
	if err != nil {
		return err
	}
	v := volumeOf(row.Fingerprint)
	if err := d.Unmount(ctx, v); err != nil && !errs.Is(err, errs.NotFound) {
		return fmt.Errorf("unmount volume %s: %w", v, err)
	}
	if err := d.Delete(ctx, v); err != nil {
		return fmt.Errorf("delete volume %s: %w", v, err)
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.DeleteImageVolume(ctx, tx, row.Fingerprint, row.PoolID)
	})
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}
