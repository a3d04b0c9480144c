package instances

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cuib/cuib/shared/errs"
)

// runLogs are the runtime's files about an instance that are logs.
var runLogs = []string{"lxc.log", "lxc.conf", "console.log", "shim.log"}

// Logs returns the names of an instance's logs. Recorded output of programs
// is in a directory of its own.
func (s *Service) Logs(ctx context.Context, name string) ([]string, error) {
	if _, err := s.load(ctx, name); err != nil {
		return nil, err
	}
	out := []string{}
	for _, file := range runLogs {
		if _, err := os.Stat(s.runFile(name, file)); err == nil {
			out = append(out, file)
		}
	}
	root := s.logDir(name)
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(root, p)
		out = append(out, rel)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Log opens one of the logs that [Service.Logs] names.
func (s *Service) Log(ctx context.Context, name, file string) (*os.File, error) {
	p, err := s.logPath(ctx, name, file)
	if err != nil {
		return nil, err
	}
	return os.Open(p)
}

// DeleteLog removes a log that nothing writes to any more.
func (s *Service) DeleteLog(ctx context.Context, name, file string) error {
	p, err := s.logPath(ctx, name, file)
	if err != nil {
		return err
	}
	if slices.Contains(runLogs, file) {
		return errs.Invalidf("log %q belongs to the running of the instance: it can't be deleted", file)
	}
	return os.Remove(p)
}

// logPath finds a log by its name. Only names in the list lead anywhere.
func (s *Service) logPath(ctx context.Context, name, file string) (string, error) {
	all, err := s.Logs(ctx, name)
	if err != nil {
		return "", err
	}
	if !slices.Contains(all, file) {
		return "", errs.NotFoundf("instance %q has no log %q", name, file)
	}
	if slices.Contains(runLogs, file) {
		return s.runFile(name, file), nil
	}
	return filepath.Join(s.logDir(name), file), nil
}

func (s *Service) runFile(name, file string) string { return filepath.Join(s.Dir, "run", name, file) }
