package repository

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// accessTime is how long a new repository has to answer. What is not there is
// asked for much longer otherwise, as it can come back during a backup.
const accessTime = time.Minute

func repositoryURL(name string) string { return "/1.0/backup-repositories/" + name }

// List returns all repositories by name.
func (s *Service) List(ctx context.Context) ([]api.BackupRepository, error) {
	var rows []db.Repository
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		rows, err = db.Repositories(ctx, tx)
		return err
	})
	out := make([]api.BackupRepository, 0, len(rows))
	for _, r := range rows {
		out = append(out, s.describe(r))
	}
	return out, err
}

// Get returns a repository.
func (s *Service) Get(ctx context.Context, name string) (api.BackupRepository, error) {
	r, err := s.record(ctx, name)
	if err != nil {
		return api.BackupRepository{}, err
	}
	return s.describe(r), nil
}

func (s *Service) record(ctx context.Context, name string) (r db.Repository, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		r, err = db.GetRepository(ctx, tx, name)
		return err
	})
	return r, err
}

// describe says of a repository what is known without a look at it, but where
// that costs nothing.
func (s *Service) describe(r db.Repository) api.BackupRepository {
	out := api.BackupRepository{
		BackupRepositoryPut: api.BackupRepositoryPut{Config: shown(r.Config), Description: r.Description},
		Name:                r.Name, Status: "Available",
	}
	s.mu.Lock()
	down := s.down[r.Name]
	s.mu.Unlock()
	if location := r.Config[keyLocation]; isLocal(location) {
		_, down = os.Stat(filepath.Join(location, "config"))
	}
	if down != nil {
		out.Status = "Unavailable"
	}
	return out
}

// Create makes a repository, or takes up one that is there. It returns the
// password if it made one up: nobody can read it later.
func (s *Service) Create(ctx context.Context, req api.BackupRepositoriesPost) (password string, err error) {
	r := db.Repository{Name: req.Name, Description: req.Description, Config: given(req.Config)}
	if err := s.check(r); err != nil {
		return "", err
	}
	if err := Look(); err != nil {
		return "", err
	}
	unlock, err := s.writers.LockContext(ctx, r.Name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := s.record(ctx, r.Name); !errs.Is(err, errs.NotFound) {
		if err == nil {
			err = errs.Conflictf("backup repository %q exists already", r.Name)
		}
		return "", err
	}
	if r.Config[keyPassword] == "" {
		password = rand.Text()
		r.Config[keyPassword] = password
	}
	if err := s.access(ctx, r, req.Existing); err != nil {
		if password != "" && errs.Is(err, errs.Invalid) {
			err = errs.Conflictf("backup repository %q: there is a repository at %s already: give its password to take it up", r.Name, r.Config[keyLocation])
		}
		return "", err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.AddRepository(ctx, tx, &r) })
	if err != nil {
		return "", err
	}
	s.Events.Lifecycle("backup-repository-created", repositoryURL(r.Name), nil)
	return password, nil
}

// check reports what is wrong with the record of a repository.
func (s *Service) check(r db.Repository) error {
	if err := profiles.CheckRepositoryName(r.Name); err != nil {
		return err
	}
	if err := checkConfig(r.Config); err != nil {
		return err
	}
	location := r.Config[keyLocation]
	if location == "" {
		return errs.Invalidf("configuration key %q: it is missing, want %s", keyLocation, wantLocation)
	}
	if isLocal(location) && within(filepath.Clean(location), filepath.Clean(s.Dir)) {
		return errs.Invalidf("configuration key %q: %s is in the daemon's own directory, and would be lost with it", keyLocation, location)
	}
	return nil
}

// access opens the repository, and makes it if there is none and none must
// be there.
func (s *Service) access(ctx context.Context, r db.Repository, existing bool) error { //nolint:revive // It is the request's.
	err := s.open(ctx, r)
	if existing || !errors.Is(err, errMissing) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, accessTime)
	defer cancel()
	return s.restic(ctx, r, call{args: []string{"init", "--quiet"}})
}

// open returns an error if the repository cannot be opened.
func (s *Service) open(ctx context.Context, r db.Repository) error {
	ctx, cancel := context.WithTimeout(ctx, accessTime)
	defer cancel()
	return s.restic(ctx, r, call{args: []string{"cat", "config", "--quiet", "--no-lock"}})
}

// Update changes a repository's description and configuration. A location is
// changed when the repository is found there.
func (s *Service) Update(ctx context.Context, name string, put api.BackupRepositoryPut) error {
	unlock, err := s.writers.LockContext(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := s.record(ctx, name)
	if err != nil {
		return err
	}
	next := r
	next.Description = put.Description
	if next.Config, err = changed(r.Config, put.Config); err != nil {
		return err
	}
	if err := s.check(next); err != nil {
		return err
	}
	if reachedOtherwise(r.Config, next.Config) {
		if err := s.open(ctx, next); err != nil {
			return err
		}
	}
	if err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.UpdateRepository(ctx, tx, next) }); err != nil {
		return err
	}
	s.Events.Lifecycle("backup-repository-updated", repositoryURL(name), nil)
	return nil
}

// reachedOtherwise reports whether the way to a repository changes.
func reachedOtherwise(before, after map[string]string) bool {
	for _, k := range []string{keyLocation, keyAccess, keySecret, keyRegion, keySFTP, keySFTPKey} {
		if before[k] != after[k] {
			return true
		}
	}
	return false
}

// Delete forgets a repository. What is in it stays.
func (s *Service) Delete(ctx context.Context, name string) error {
	if _, err := s.record(ctx, name); err != nil {
		return err
	}
	unlock, err := s.writers.LockContext(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.DeleteRepository(ctx, tx, name) })
	if err != nil {
		return err
	}
	if err := os.RemoveAll(s.cacheDir(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.Log.WarnContext(ctx, "cannot remove the cache of a backup repository", "repository", name, "err", err)
	}
	s.Events.Lifecycle("backup-repository-deleted", repositoryURL(name), nil)
	return nil
}
