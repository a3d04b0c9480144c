package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/storage"
)

// Points are the mount points of a pool's volumes. With each the ids that it
// is mounted with are kept, since the kernel does not tell them.
type Points struct {
	Dir string
}

// PointsOf returns the mount points of a pool.
func PointsOf(cfg storage.Config) Points { return Points{Dir: filepath.Join(cfg.Dir, "mnt")} }

// Path returns where v is mounted, if it is.
func (p Points) Path(v storage.Volume) string {
	name := escape(v.Name)
	if v.Snapshot != "" {
		name += "@" + escape(v.Snapshot)
	}
	return filepath.Join(p.Dir, escape(string(v.Kind)), name)
}

// noteOf returns the symbolic link that keeps the ids of the mount at path.
func noteOf(path string) string {
	return filepath.Join(filepath.Dir(path), "@"+filepath.Base(path))
}

// Mounted reports whether v is mounted.
func (p Points) Mounted(v storage.Volume) (bool, error) { return mounts.Mounted(p.Path(v)) }

// Mount mounts what open returns, which is v, and returns where.
func (p Points) Mount(v storage.Volume, ids idmap.Map, open func() (*os.File, error)) (string, error) {
	path, want := p.Path(v), digest(ids)
	mounted, err := mounts.Mounted(path)
	if err != nil {
		return "", err
	}
	if mounted {
		have, err := os.Readlink(noteOf(path))
		if err == nil && have != want {
			err = errs.Conflictf("volume %s is mounted with other ids", v)
		}
		return path, err
	}
	if err := p.makePoint(path); err != nil {
		return "", err
	}
	if err := setLink(noteOf(path), want); err != nil {
		return "", err
	}
	f, err := open()
	if err != nil {
		return "", errors.Join(fmt.Errorf("mount %s: %w", v, err), p.clear(path))
	}
	defer f.Close()
	if err := mounts.Attach(f, path); err != nil {
		return "", errors.Join(err, p.clear(path))
	}
	return path, nil
}

// makePoint makes a mount point, to which root alone has a way: a set-user-ID
// program of a guest's root is on the disk one of the host's.
func (p Points) makePoint(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return os.Chmod(p.Dir, 0o700) // An earlier version let all through it.
}

// Unmount unmounts v if it is mounted.
func (p Points) Unmount(v storage.Volume) error {
	path := p.Path(v)
	if err := mounts.Detach(path); err != nil {
		return err
	}
	return p.clear(path)
}

// clear removes an unused mount point.
func (p Points) clear(path string) error {
	for _, name := range []string{path, noteOf(path)} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// setLink is os.Symlink that replaces.
func setLink(name, text string) error {
	err := os.Symlink(text, name)
	if errors.Is(err, fs.ErrExist) {
		if err := os.Remove(name); err != nil {
			return err
		}
		err = os.Symlink(text, name)
	}
	return err
}

// Remove removes all mount points, none of which is in use.
func (p Points) Remove() error {
	mounts.Settle()
	kinds, err := os.ReadDir(p.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, k := range kinds {
		dir := filepath.Join(p.Dir, k.Name())
		points, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range points { // Left by a reboot.
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
		if err := os.Remove(dir); err != nil {
			return err
		}
	}
	return os.Remove(p.Dir)
}

// digest returns a text that is the same for the same ids only.
func digest(ids idmap.Map) string {
	if ids == nil {
		return "none"
	}
	sum := sha256.Sum256(fmt.Append(nil, []idmap.Entry(ids)))
	return hex.EncodeToString(sum[:])
}
