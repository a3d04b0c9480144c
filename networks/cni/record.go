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

// forget removes a record, and the last of an instance with its namespace's
// place.
func (p *Plugins) forget(r record) error {
	if err := ignoreGone(os.Remove(p.file(r.Instance, r.Interface))); err != nil {
		return err
	}
	rest, err := filepath.Glob(p.file(r.Instance, "*"))
	if err != nil || len(rest) > 0 {
		return err
	}
	return ignoreGone(os.Remove(p.placeOf(r.Instance)))
}

func (p *Plugins) placeOf(instance string) string { return filepath.Join(p.Dir, "netns", instance) }

// place returns a path for a namespace that is the same each time, and leads to
// where it is now: plugins compare it with that of before.
func (p *Plugins) place(instance, netns string) (string, error) {
	if netns == "" {
		return "", nil
	}
	at := p.placeOf(instance)
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		return "", err
	}
	next := at + "@" // No instance's name has it.
	if err := ignoreGone(os.Remove(next)); err != nil {
		return "", err
	}
	if err := os.Symlink(netns, next); err != nil {
		return "", err
	}
	return at, os.Rename(next, at)
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
