package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const recordSuffix = ".attachment"

// file is where the record of an interface is. Neither part has a slash: an
// instance's name is checked, and so is an interface's, which the kernel would
// not have otherwise.
func (p *Plugins) file(instance, iface string) string {
	return filepath.Join(p.Dir, instance+"@"+filepath.Base(iface)+recordSuffix)
}

// write puts a record on the disk before anything is made.
func (p *Plugins) write(r record) error {
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(p.Dir, ".new-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), p.file(r.Instance, r.Interface))
	}
	if err != nil {
		return errors.Join(err, ignoreGone(os.Remove(tmp.Name())))
	}
	return nil
}

func (p *Plugins) read(instance, iface string) (record, error) {
	return readRecord(p.file(instance, iface))
}

func readRecord(path string) (record, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return record{}, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, fmt.Errorf("record %s: %w", path, err)
	}
	return r, nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
