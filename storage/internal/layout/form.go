package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// A Form is what the pools of one driver have of their own.
type Form struct {
	Driver string                  // The driver's name, which the marker holds.
	Others []string                // Directories beside those of all.
	Remove func(path string) error // Of [Pool].

	Move func(from, to string) error // Of [Pool].
}

// marker is the file in a pool's directory that says that it is one, and of
// which driver. Where it is not, nothing is removed. Before records there
// were pools whose marker was empty.
const marker = ".cuib-pool"

// RootOf returns the directory that is a pool's source or, without one, in
// one of its own.
func RootOf(cfg storage.Config) string {
	if cfg.Source == "" {
		return filepath.Join(cfg.Dir, "data")
	}
	return filepath.Clean(cfg.Source)
}

// made is the file that says that the directory of the source was made for
// the pool.
func made(cfg storage.Config) string { return filepath.Join(cfg.Dir, "made") }

// MakePool makes a pool in its directory, which mkdir makes if there is none,
// unless check says that it cannot hold one.
func (f Form) MakePool(ctx context.Context, cfg storage.Config, mkdir, check func(root string) error) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	root := RootOf(cfg)
	if cfg.Source == "" { // The parent of what is checked.
		if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
			return err
		}
	}
	if err := f.CheckSource(cfg, root); err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
		return err
	}
	u.Push("empty the pool's directory", func(context.Context) error { return f.RemovePool(cfg) })

	if err := f.makeRoot(cfg, mkdir); err != nil {
		return err
	}
	if err := f.Make(root); err != nil {
		return fmt.Errorf("make the pool's directories: %w", err)
	}
	return check(root)
}

// makeRoot makes a pool's directory if there is none. That it was made is on
// record before.
func (f Form) makeRoot(cfg storage.Config, mkdir func(root string) error) error {
	root := RootOf(cfg)
	_, err := os.Lstat(root)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if cfg.Source != "" {
		if err := os.WriteFile(made(cfg), nil, 0o600); err != nil {
			return err
		}
	}
	return mkdir(root)
}

// RemovePool removes what [Form.MakePool] made, if the pool is empty.
func (f Form) RemovePool(cfg storage.Config) error {
	root := RootOf(cfg)
	theirs := f.Owned(cfg, root) // By then the pool is that of another, who keeps it.
	if theirs != nil && !errs.Is(theirs, errs.Unavailable) {
		return theirs
	}
	if theirs == nil {
		if err := f.Unmake(root); err != nil {
			return err
		}
	}
	_, err := os.Lstat(made(cfg))
	ours := (err == nil || cfg.Source == "") && theirs == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if ours {
		if err := f.removeRoot(root); err != nil {
			return err
		}
	}
	if err := os.Remove(made(cfg)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return PointsOf(cfg).Remove()
}

// removeRoot removes an empty directory, or none.
func (f Form) removeRoot(root string) error {
	_, err := os.Lstat(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if f.Remove != nil {
		return f.Remove(root)
	}
	return os.Remove(root)
}

// Make makes what is in a pool's directory, which is there, or what it lacks
// of that.
func (f Form) Make(root string) error {
	if err := os.WriteFile(filepath.Join(root, marker), []byte(f.Driver+"\n"), 0o600); err != nil {
		return err
	}
	for _, dir := range append([]string{staging, trash, volumes}, f.Others...) {
		if err := os.Mkdir(filepath.Join(root, dir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// Unmake removes what Make made, but not root, if the pool is empty. It
// finishes what an earlier one left undone.
func (f Form) Unmake(root string) error {
	if _, err := os.Stat(filepath.Join(root, marker)); errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	} else if err != nil {
		return err
	}
	kinds, err := os.ReadDir(filepath.Join(root, volumes))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, k := range kinds {
		if err := os.Remove(filepath.Join(root, volumes, k.Name())); err != nil {
			return errs.Conflictf("the pool holds volumes: %w", err)
		}
	}
	pool := Pool{Root: root, Remove: f.Remove}
	for _, name := range append(f.Others, volumes, staging, trash, record, owner, marker) { // The marker last.
		if err := pool.remove(filepath.Join(root, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Check returns an error of kind Unavailable if root holds no pool, such as
// while the disk that it is on is not mounted, and one of kind Conflict if it
// holds one of another driver.
func (f Form) Check(root string) error {
	text, err := os.ReadFile(filepath.Join(root, marker))
	if err == nil {
		_, err = os.Stat(filepath.Join(root, volumes))
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return errs.Newf(errs.Unavailable, "%s holds no pool: is its disk mounted?", root)
	}
	if err != nil {
		return err
	}
	driver := strings.TrimSpace(string(text))
	if driver != "" && driver != f.Driver {
		return errs.Conflictf("%s holds a pool of storage driver %q, not %q", root, driver, f.Driver)
	}
	for _, dir := range f.Others {
		if _, err := os.Stat(filepath.Join(root, dir)); errors.Is(err, fs.ErrNotExist) {
			return errs.Conflictf("%s holds a pool, but not one of storage driver %q: it has no directory %q", root, f.Driver, dir)
		}
	}
	return nil
}

// Adopt is [Form.Check] for a directory that may hold no pool at all, which is
// an error of kind NotFound.
func (f Form) Adopt(root string) error {
	err := f.Check(root)
	if errs.Is(err, errs.Unavailable) || errs.Is(err, errs.Conflict) {
		return errs.NotFoundf("%w", err)
	}
	return err
}

// CheckSource returns an error if path, a source that a user gave, is not
// absolute, or is anything but an empty directory, nothing, or an empty pool
// that nobody uses.
func (f Form) CheckSource(cfg storage.Config, path string) error {
	if !filepath.IsAbs(path) {
		return errs.Invalidf("source %q: give an absolute path", path)
	}
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return checkParent(path)
	case errors.Is(err, unix.ENOTDIR):
		return errs.Invalidf("source %q is no directory", path)
	case err != nil:
		return fmt.Errorf("look into the source: %w", err)
	}
	if _, err := os.Lstat(filepath.Join(path, marker)); err == nil {
		return f.checkOurs(cfg, path)
	}
	for _, e := range entries {
		if e.Name() != "lost+found" { // A new file system has it.
			return errs.Invalidf("source %q is not empty: it holds %q; give an empty directory", path, e.Name())
		}
	}
	return nil
}

func checkParent(path string) error {
	st, err := os.Stat(filepath.Dir(path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errs.Invalidf("source %q: its directory does not exist", path)
	case err == nil && !st.IsDir():
		return errs.Invalidf("source %q: it is below what is no directory", path)
	}
	return err
}

// checkOurs returns an error unless path holds a pool of this driver without
// volumes.
func (f Form) checkOurs(cfg storage.Config, path string) error {
	h, err := holderOf(cfg, path)
	if err == nil && h != (holder{}) && h.lives() {
		err = errs.Invalidf("source: %w", f.Owned(cfg, path))
	}
	if err != nil {
		return err
	}
	if err := f.Check(path); err != nil && !errs.Is(err, errs.Unavailable) { // It may be half-made.
		return errs.Invalidf("source: %w: give an empty directory", err)
	}
	vols, err := (&Pool{Root: path}).List()
	if err != nil {
		return err
	}
	if len(vols) > 0 {
		return errs.Invalidf("source %q holds a storage pool with volumes, such as %s: recover it (cuib admin recover NAME=%s:%s), or give an empty directory", path, vols[0], f.Driver, path)
	}
	return nil
}
