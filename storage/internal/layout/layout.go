// Package layout is how the drivers that keep volumes in directories arrange
// them, so that each change is one rename and a crash leaves what [Base.Sweep]
// finds.
//
//	ROOT/volumes/KIND/NAME/cur             the volume
//	ROOT/volumes/KIND/NAME/snapshots/SNAP  its snapshots
//	ROOT/volumes/KIND/NAME/record          its record, see [storage.Recorder]
//	ROOT/record                            that of the pool
//	ROOT/staging/ID                        what is being made
//	ROOT/trash/ID                          what is being removed
//
// What cur and SNAP are is the driver's matter.
package layout

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/crash"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/tree"
)

const (
	volumes   = "volumes"
	staging   = "staging"
	trash     = "trash"
	record    = "record"
	current   = "cur"
	snapshots = "snapshots"
)

// A Pool is the directory that a pool's volumes are in.
type Pool struct {
	Root string

	// Remove takes a directory tree away; tree.Remove if it is nil.
	Remove func(path string) error

	// Move gives a snapshot another place, which is free; a rename if it is
	// nil.
	Move func(from, to string) error
}

// Path returns where v is.
func (p *Pool) Path(v storage.Volume) string {
	dir := p.dir(v)
	if v.Snapshot != "" {
		return filepath.Join(dir, snapshots, escape(v.Snapshot))
	}
	return filepath.Join(dir, current)
}

// dir returns the directory of a volume and its snapshots.
func (p *Pool) dir(v storage.Volume) string {
	return filepath.Join(p.Root, volumes, escape(string(v.Kind)), escape(v.Name))
}

// MustBeThere returns an error of kind Unavailable if the pool is gone, in
// which nothing can be found.
func (p *Pool) MustBeThere() error {
	_, err := os.Lstat(filepath.Join(p.Root, marker))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return errs.Newf(errs.Unavailable, "%s holds no pool any more: was its disk unmounted, or the pool renamed?", p.Root)
	}
	return err
}

// MustExist returns an error of kind NotFound if there is no v.
func (p *Pool) MustExist(v storage.Volume) error {
	_, err := os.Lstat(p.Path(v))
	if errors.Is(err, fs.ErrNotExist) {
		return cmp.Or(p.MustBeThere(), errs.NotFoundf("volume %s not found", v))
	}
	return err
}

// MustNotExist returns an error of kind Conflict if there is a v.
func (p *Pool) MustNotExist(v storage.Volume) error {
	err := p.MustExist(v)
	switch {
	case err == nil:
		return errs.Conflictf("volume %s exists already", v)
	case errs.Is(err, errs.NotFound):
		return nil
	}
	return err
}

// Stage makes an empty directory for a thing to be made in.
func (p *Pool) Stage() (string, error) {
	dir := filepath.Join(p.Root, staging, NewID())
	return dir, os.Mkdir(dir, 0o700)
}

// Cur is the name of a staged volume's contents in the staged directory.
func Cur(staged string) string { return filepath.Join(staged, current) }

// Publish gives what was staged its name: a directory with [Cur] within if v
// is a volume, and one that is the snapshot itself if v is one.
func (p *Pool) Publish(staged string, v storage.Volume) error {
	dst := p.dir(v)
	if v.Snapshot != "" {
		dst = p.Path(v)
	}
	err := rename(staged, dst)
	if errors.Is(err, unix.ENOENT) {
		if err := p.MakeParent(v); err != nil {
			return err
		}
		err = rename(staged, dst)
	}
	if errors.Is(err, unix.EEXIST) {
		return errs.Conflictf("volume %s exists already", v)
	}
	return err
}

// MakeParent makes the directory that v will be in.
func (p *Pool) MakeParent(v storage.Volume) error {
	parent := filepath.Dir(p.dir(v))
	if v.Snapshot != "" {
		if err := p.MustExist(v.Parent()); err != nil {
			return err
		}
		parent = filepath.Dir(p.Path(v))
	}
	err := os.Mkdir(parent, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// rename is os.Rename that replaces nothing.
func rename(from, to string) error {
	crash.Point("before the renaming of", from)
	defer crash.Point("after the renaming of", from)
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// Exchange makes each of two paths name what the other did, at once.
func Exchange(a, b string) error {
	crash.Point("before the exchange of", a)
	defer crash.Point("after the exchange of", a)
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if err != nil {
		return &os.LinkError{Op: "exchange", Old: a, New: b, Err: err}
	}
	return nil
}

// Rename renames a volume, with its snapshots, or a snapshot.
func (p *Pool) Rename(v storage.Volume, name string) error {
	if err := p.MustExist(v); err != nil {
		return err
	}
	from, to := p.dir(v), p.dir(storage.Volume{Kind: v.Kind, Name: name})
	if v.Snapshot != "" {
		from, to = p.Path(v), filepath.Join(filepath.Dir(p.Path(v)), escape(name))
	}
	err := rename(from, to)
	if errors.Is(err, unix.EEXIST) {
		return errs.Conflictf("rename %s: %q exists already", v, name)
	}
	return err
}

// Delete removes v, if there is one.
func (p *Pool) Delete(v storage.Volume) error {
	gone, err := p.Trash(v)
	if err != nil || gone == "" {
		return err
	}
	return p.Discard(gone)
}

// Trash moves v out of sight, and returns where it is for [Pool.Discard]; an
// empty string if there is no v.
func (p *Pool) Trash(v storage.Volume) (string, error) {
	from := p.dir(v)
	if v.Snapshot != "" {
		from = p.Path(v)
	} else if err := p.mustHaveNoSnapshots(v); err != nil {
		return "", err
	}
	to, err := p.Retire(from)
	if errors.Is(err, unix.ENOENT) {
		return "", p.MustBeThere()
	}
	return to, err
}

func (p *Pool) mustHaveNoSnapshots(v storage.Volume) error {
	snaps, err := os.ReadDir(filepath.Join(p.dir(v), snapshots))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(snaps) > 0 {
		return errs.Conflictf("volume %s has snapshots: delete them first", v)
	}
	return err
}

// Discard removes a directory tree of the pool. What a crash in it leaves
// [Base.Sweep] removes.
func (p *Pool) Discard(path string) error {
	in := filepath.Dir(path)
	if in != filepath.Join(p.Root, trash) && in != filepath.Join(p.Root, staging) {
		to, err := p.Retire(path)
		if err != nil {
			return err
		}
		path = to
	}
	return p.remove(path)
}

// Retire moves a directory tree of the pool into the trash, and returns where
// it is.
func (p *Pool) Retire(path string) (string, error) {
	to := filepath.Join(p.Root, trash, NewID())
	return to, rename(path, to)
}

func (p *Pool) remove(path string) error {
	if p.Remove != nil {
		return p.Remove(path)
	}
	return tree.Remove(path)
}

// List returns all volumes and snapshots.
func (p *Pool) List() ([]storage.Volume, error) {
	kinds, err := names(filepath.Join(p.Root, volumes))
	if err != nil {
		return nil, err
	}
	var all []storage.Volume
	for _, kind := range kinds {
		vols, err := names(filepath.Join(p.Root, volumes, escape(kind)))
		if err != nil {
			return nil, err
		}
		for _, name := range vols {
			v := storage.Volume{Kind: storage.Kind(kind), Name: name}
			snaps, err := names(filepath.Join(p.dir(v), snapshots))
			if err != nil {
				return nil, err
			}
			all = append(all, v)
			for _, snap := range snaps {
				all = append(all, storage.Volume{Kind: v.Kind, Name: name, Snapshot: snap})
			}
		}
	}
	return all, nil
}

// names returns what the file names in dir stand for; none if there is no dir.
func names(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	files, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	for i, file := range files {
		if files[i], err = url.PathUnescape(file); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, file), err)
		}
	}
	return files, nil
}

// escape returns a file name for any name: without slashes, commas, colons,
// at signs and the like, and not beginning with a dot.
func escape(name string) string { return Escape(name, '%') }

// Escape returns a name with only letters, digits and "-_." in it, not at its
// beginning, and the codes of all other bytes behind a mark, in hexadecimal.
func Escape(name string, mark byte) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if strings.IndexByte(plain, c) < 0 || i == 0 && c == '.' {
			fmt.Fprintf(&b, "%c%02X", mark, c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// NewID returns a name that nothing has.
func NewID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // It never fails.
	return hex.EncodeToString(b[:])
}

// Space returns the room of the file system that path is on.
func Space(path string) (storage.Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return storage.Space{}, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	block := uint64(st.Bsize)
	return storage.Space{
		UsedBytes:   (st.Blocks - st.Bfree) * block,
		TotalBytes:  st.Blocks * block,
		FreeBytes:   st.Bavail * block,
		UsedInodes:  st.Files - st.Ffree,
		TotalInodes: st.Files,
	}, nil
}
