package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// What a staged directory has while it takes the place of a volume that is
// there: a file that says of which, and what was in that place.
const (
	committing = "commit"
	replaced   = "old"
)

// SnapshotIn returns where a snapshot is in a staged volume.
func SnapshotIn(staged, name string) string {
	return filepath.Join(staged, snapshots, escape(name))
}

// StageWhole makes a directory for a volume with its snapshots.
func (p *Pool) StageWhole() (string, error) {
	dir, err := p.Stage()
	if err != nil {
		return "", err
	}
	return dir, os.Mkdir(filepath.Join(dir, snapshots), 0o700)
}

// Stage makes such a directory for what v is received into, and reports
// whether there is no v yet.
func (b *Base) Stage(v storage.Volume) (staged string, fresh bool, err error) {
	if v.Snapshot != "" {
		return "", false, errs.Invalidf("%s is a snapshot, which is received with its volume", v)
	}
	if err := b.MustNotBeMounted(v); err != nil {
		return "", false, err
	}
	err = b.Pool.MustExist(v)
	if fresh = errs.Is(err, errs.NotFound); err != nil && !fresh {
		return "", false, err
	}
	staged, err = b.Pool.StageWhole()
	return staged, fresh, err
}

// Merge adds the snapshots of a staged volume to those of v, which is there,
// and puts the staged contents, if there are some, in the place of v's. What
// a crash leaves [Form.OpenAt] finishes.
func (p *Pool) Merge(staged string, v storage.Volume) error {
	if err := p.MustExist(v); err != nil {
		return err
	}
	names, err := names(filepath.Join(staged, snapshots))
	if err != nil {
		return err
	}
	for _, name := range names {
		s := v
		s.Snapshot = name
		if err := p.MustNotExist(s); err != nil {
			return err
		}
	}
	note, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(staged, committing), note); err != nil {
		return err
	}
	if err := p.resume(staged, v); err != nil {
		return errors.Join(err, p.unmerge(staged, v, names))
	}
	return nil
}

// resume does, or finishes, [Pool.Merge].
func (p *Pool) resume(staged string, v storage.Volume) error {
	dir := p.dir(v)
	entries, err := os.ReadDir(filepath.Join(staged, snapshots))
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, snapshots), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, e := range entries {
		from, to := filepath.Join(staged, snapshots, e.Name()), filepath.Join(dir, snapshots, e.Name())
		if _, err := os.Lstat(to); err == nil {
			continue // It was moved before the crash.
		}
		if err := p.move(from, to); err != nil {
			return err
		}
	}
	if err := takePlace(staged, dir); err != nil {
		return err
	}
	return os.Remove(filepath.Join(staged, committing))
}

// takePlace puts the staged contents in the place of the volume's, in two
// steps of which one can tell what is done: an exchange looks the same before
// and after.
func takePlace(staged, dir string) error {
	if _, err := os.Lstat(Cur(staged)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	old := filepath.Join(staged, replaced)
	if err := rename(Cur(dir), old); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := rename(Cur(staged), Cur(dir)); err != nil {
		return errors.Join(err, rename(old, Cur(dir)))
	}
	return nil
}

// unmerge takes back what [Pool.resume] did before it failed.
func (p *Pool) unmerge(staged string, v storage.Volume, names []string) error {
	err := os.Remove(filepath.Join(staged, committing))
	for _, name := range names {
		v.Snapshot = name
		if derr := p.remove(p.Path(v)); !errors.Is(derr, fs.ErrNotExist) {
			err = errors.Join(err, derr)
		}
	}
	return err
}

func (p *Pool) move(from, to string) error {
	if p.Move != nil {
		return p.Move(from, to)
	}
	return rename(from, to)
}

// finish finishes what a crash left of [Pool.Merge] in a staged directory.
func (p *Pool) finish(staged string) error {
	note, err := os.ReadFile(filepath.Join(staged, committing))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	var v storage.Volume
	if err := json.Unmarshal(note, &v); err != nil {
		return nil //nolint:nilerr // It was being written: nothing was done yet.
	}
	if err := p.MustExist(v); err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	if err := p.resume(staged, v); err != nil {
		return fmt.Errorf("finish what was received of %s: %w", v, err)
	}
	return nil
}

// Replaced returns where [Pool.Merge] leaves what it replaced.
func Replaced(staged string) string { return filepath.Join(staged, replaced) }
