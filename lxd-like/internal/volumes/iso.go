package volumes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/storage"
)

// isoFile is the file that a volume of content type iso has.
const isoFile = "root.iso"

// ImportISO reads an upload to its end and makes a volume of content type iso
// of it. The job that it answers with is done when it begins.
func (s *Service) ImportISO(ctx context.Context, pool, name string, data io.Reader) (ops.Job, error) {
	req := api.StorageVolumesPost{Name: name, ContentType: iso}
	v, err := s.draft(ctx, pool, req)
	if err != nil {
		return ops.Job{}, err
	}
	m := making{v: v, fill: func(ctx context.Context, d storage.Driver, sv storage.Volume) error {
		if err := d.Create(ctx, sv); err != nil {
			return err
		}
		return within(ctx, d, sv, func(dir string) error { return receiveISO(filepath.Join(dir, isoFile), data) })
	}}
	if err := s.make(ctx, m); err != nil {
		return ops.Job{}, fmt.Errorf("import volume %q: %w", name, err)
	}
	return ops.Job{
		Description: "Importing volume", Resources: resources(v.VolumeRef),
		Run: func(context.Context, *ops.Op) error { return nil },
	}, nil
}

// receiveISO writes a file. What is on it is looked at when it is attached.
func receiveISO(path string, data io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, data); err != nil {
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return err
		}
		return errs.Newf(errs.Canceled, "read the upload: %w", err)
	}
	return f.Sync()
}

// isISO looks for the descriptors that begin in sector 16 of a disc: those of
// ISO 9660 (ECMA-119, 8.1) and of UDF (ECMA-167, 2/9.1) have their names in
// the same place.
func isISO(f io.ReaderAt) bool {
	const sector, first, last = 2048, 16, 32
	for n := int64(first); n < last; n++ {
		var id [6]byte
		if _, err := f.ReadAt(id[:], n*sector); err != nil {
			return false
		}
		switch string(id[1:]) {
		case "CD001", "NSR02", "NSR03":
			return true
		case "BEA01", "TEA01", "BOOT2":
		default:
			return false
		}
	}
	return false
}

// discTypes are the file systems of discs, and the options with which an
// instance may read all that is on them: they have no idmapped mounts.
var discTypes = []struct{ name, options string }{
	{"iso9660", "mode=0555,dmode=0555,overriderockperm"},
	{"udf", "mode=0555,dmode=0555"},
}

func (s *Service) isoDir(t target) string {
	return filepath.Join(s.Dir, "discs", t.Pool, t.Name+"@"+t.snapshot)
}

// mountISO mounts the image in a volume, and returns where it is.
func (s *Service) mountISO(t target, dir string) (string, error) {
	at := s.isoDir(t)
	// All can read what is on it: nobody of the host but root gets there.
	if err := errors.Join(os.MkdirAll(at, 0o700), os.Chmod(filepath.Join(s.Dir, "discs"), 0o700)); err != nil { //nolint:gosec // A directory.
		return "", err
	}
	mounted, err := mounts.Mounted(at)
	if err != nil || mounted {
		return at, err
	}
	if err := mountDisc(filepath.Join(dir, isoFile), at); err != nil {
		return "", errors.Join(err, os.Remove(at))
	}
	return at, nil
}

// mountDisc mounts the image of a disc, read-only.
func mountDisc(file, at string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if !isISO(f) {
		return errs.Invalidf("what was imported is no ISO 9660 or UDF image of a disc")
	}
	loop, err := mounts.Loop(file)
	if err != nil {
		return err
	}
	defer loop.Close()
	var failed error
	for _, fs := range discTypes {
		err := unix.Mount(loop.Name(), at, fs.name, unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID, fs.options)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.ENODEV) {
			failed = cmp.Or(failed, discError(fs.name, err))
		}
	}
	if failed == nil {
		failed = errs.Newf(errs.Unsupported, "the host's kernel has no file system for discs: load the module isofs or udf")
	}
	return failed
}

// discError is that of a disc that was not mounted: of one that is damaged the
// kernel says that it is invalid, or cannot be read to its end.
func discError(fs string, err error) error {
	failed := &os.PathError{Op: "mount as " + fs, Path: isoFile, Err: err}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EIO) {
		return errs.Newf(errs.Invalid, "what was imported is a damaged image of a disc: %w", failed)
	}
	return failed
}

func (s *Service) unmountISO(t target) error {
	at := s.isoDir(t)
	mounted, err := mounts.Mounted(at)
	if errors.Is(err, os.ErrNotExist) || err == nil && !mounted {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(mounts.Unmount(at), os.Remove(at))
}
