package process

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Records are files, one for each device of each instance, that tell a later
// daemon of a process. The methods are safe for concurrent use.
type Records struct {
	Dir string

	mu sync.Mutex // A directory is not removed while a file is put there.
}

// temporary ends the names of files that are being written. No device's does.
const temporary = "~"

func (r *Records) file(instance, device string) string { return filepath.Join(r.Dir, instance, device) }

// Put writes a record, in the place of one that is there.
func (r *Records) Put(instance, device string, record any) error {
	data, err := json.Marshal(record)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	file := r.file(instance, device)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(file+temporary, data, 0o600); err != nil {
		return err
	}
	return os.Rename(file+temporary, file)
}

// Get reads a record.
func (r *Records) Get(instance, device string, record any) error {
	data, err := os.ReadFile(r.file(instance, device))
	if err != nil {
		return err
	}
	return json.Unmarshal(data, record)
}

// Forget removes a record, and directories that have nothing else.
func (r *Records) Forget(instance, device string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	file := r.file(instance, device)
	for _, path := range []string{file + temporary, file, filepath.Dir(file), r.Dir} {
		err := os.Remove(path)
		if errors.Is(err, unix.ENOTEMPTY) {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Instances returns the instances of which there are records.
func (r *Records) Instances() ([]string, error) { return names(r.Dir) }

// Devices returns the devices of an instance of which there are records, also
// those that were not written to their end.
func (r *Records) Devices(instance string) ([]string, error) {
	all, err := names(filepath.Join(r.Dir, instance))
	seen := map[string]bool{}
	out := make([]string, 0, len(all))
	for _, name := range all {
		name = strings.TrimSuffix(name, temporary)
		if !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	return out, err
}

func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	out := make([]string, 0, len(entries))
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, err
}
