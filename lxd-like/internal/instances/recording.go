package instances

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"
)

// How much is kept of what programs wrote: what that is, the guest decides, and
// the disk is the host's. The oldest goes first.
const (
	maxRecording  = 64 << 20  // Of a program's output, and of its errors.
	maxRecordings = 100       // Files of an instance.
	maxRecorded   = 256 << 20 // Bytes of an instance, without those that are being written.
)

// outputDir is where recorded output is, among an instance's logs.
const outputDir = "exec-output"

// outputs makes the files that the output of an operation's program goes to.
func (s *Service) outputs(name, id string) (stdio, map[string]string, error) {
	dir := filepath.Join(s.logDir(name), outputDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return stdio{}, nil, err
	}
	if err := makeRoom(dir); err != nil {
		return stdio{}, nil, err
	}
	var files stdio
	urls := map[string]string{}
	for fd, f := range map[string]struct {
		suffix string
		to     **os.File
	}{streamOut: {"stdout", &files.out}, streamErr: {"stderr", &files.err}} {
		file := "exec_" + id + "." + f.suffix
		var err error
		if *f.to, err = os.OpenFile(filepath.Join(dir, file), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			files.close()
			return stdio{}, nil, err
		}
		urls[fd] = path.Join(instanceURL(name), "logs", outputDir, file)
	}
	return files, urls, nil
}

// A recorded file has the output of a program.
type recorded struct {
	name    string
	size    int64
	written time.Time
}

// makeRoom deletes the oldest files of a directory, so that two more fit.
func makeRoom(dir string) error {
	all, err := readRecorded(dir)
	if err != nil {
		return err
	}
	for _, name := range surplus(all, maxRecordings-2, maxRecorded) {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func readRecorded(dir string) ([]recorded, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []recorded
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // Somebody deletes it.
		}
		if err != nil {
			return nil, err
		}
		all = append(all, recorded{e.Name(), info.Size(), info.ModTime()})
	}
	return all, nil
}

// surplus returns the names of those that go when only so many files and bytes
// may stay.
func surplus(all []recorded, files int, bytes int64) []string {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b recorded) int { // The newest first.
		return cmp.Or(b.written.Compare(a.written), cmp.Compare(a.name, b.name))
	})
	var out []string
	for i, r := range all {
		if bytes -= r.size; i >= files || bytes < 0 {
			out = append(out, r.name)
		}
	}
	return out
}
