package layout

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// recordOf returns the file that keeps the record of v, or of the pool.
func (p *Pool) recordOf(v storage.Volume) string {
	if v == (storage.Volume{}) {
		return filepath.Join(p.Root, record)
	}
	return filepath.Join(p.dir(v), record)
}

// mustHold returns an error of kind NotFound if there is no v to keep a record
// of.
func (p *Pool) mustHold(v storage.Volume) error {
	switch {
	case v == (storage.Volume{}):
		return nil
	case v.Snapshot != "":
		return errs.Invalidf("the snapshot %s has no record: its volume has one", v)
	}
	return p.MustExist(v)
}

// SetRecord implements [storage.Recorder].
func (b *Base) SetRecord(_ context.Context, v storage.Volume, doc []byte) error {
	if err := b.Pool.mustHold(v); err != nil {
		return err
	}
	staged := filepath.Join(b.Pool.Root, staging, NewID())
	err := writeFile(staged, doc)
	if err == nil {
		err = os.Rename(staged, b.Pool.recordOf(v))
	}
	if err == nil {
		return nil
	}
	_ = os.Remove(staged) // The next start does, if this fails too.
	if errors.Is(err, fs.ErrNotExist) {
		return errs.NotFoundf("volume %s not found", v)
	}
	return err
}

// writeFile is os.WriteFile for what must be whole after a loss of power.
func writeFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Record implements [storage.Recorder].
func (b *Base) Record(_ context.Context, v storage.Volume) ([]byte, error) {
	if err := b.Pool.mustHold(v); err != nil {
		return nil, err
	}
	doc, err := os.ReadFile(b.Pool.recordOf(v))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return doc, err
}
