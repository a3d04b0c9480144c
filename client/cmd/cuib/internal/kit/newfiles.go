package kit

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// NewFiles are files that take their names when all of them are whole: what had
// one before is lost by nothing less.
type NewFiles []*NewFile

// A NewFile has another name until then.
type NewFile struct {
	*os.File

	Name string // That it is to have, in the directory where it is.
}

// Create makes one.
func (n *NewFiles) Create(name string, perm fs.FileMode) (*NewFile, error) {
	temporary := filepath.Join(filepath.Dir(name), ".cuib-new-"+rand.Text())
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, err
	}
	made := &NewFile{f, name}
	*n = append(*n, made)
	return made, nil
}

// Close closes a whole file. It is on the disk then, and may take the name of
// another.
func (f *NewFile) Close() error { return errors.Join(f.Sync(), f.File.Close()) }

// Rename gives all of them their names.
func (n *NewFiles) Rename() error {
	for len(*n) > 0 {
		f := (*n)[0]
		if err := os.Rename(f.File.Name(), f.Name); err != nil {
			return err
		}
		*n = (*n)[1:]
	}
	return nil
}

// Drop removes those that do not have their names.
func (n *NewFiles) Drop() {
	for _, f := range *n {
		_ = f.File.Close()           // It may be closed.
		_ = os.Remove(f.File.Name()) // It is cut short; an error says why.
	}
	*n = nil
}
