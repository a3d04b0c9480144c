package repository

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"slices"
	"strconv"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/shared/api"
)

// CreateBackups makes backups of the sources, or of all that there is.
func (s *Service) CreateBackups(ctx context.Context, name string, req api.RepositoryBackupsPost) (ops.Job, error) {
	r, err := s.record(ctx, name)
	if err != nil {
		return ops.Job{}, err
	}
	if err := Look(); err != nil {
		return ops.Job{}, err
	}
	sources, err := s.sources(ctx, req.Sources)
	if err != nil {
		return ops.Job{}, err
	}
	return ops.Job{
		Description: "Backing up", Cancelable: true, Resources: resources(name),
		Run: func(ctx context.Context, op *ops.Op) error {
			return s.backUpAll(ctx, r, sources, backing{op, req.Checksum})
		},
	}, nil
}

func resources(repository string) map[string][]string {
	return map[string][]string{"backup_repositories": {repositoryURL(repository)}}
}

// A backing is how backups are made.
type backing struct {
	op       *ops.Op
	checksum bool // All files are read.
}

// backUpAll makes the backups one after the other. One that fails does not
// keep the others from being made.
func (s *Service) backUpAll(ctx context.Context, r db.Repository, sources []source, how backing) error {
	var failed []error
	made := []api.RepositoryBackup{}
	for _, src := range sources {
		b, err := s.backUp(ctx, r, src, how)
		if ctx.Err() != nil {
			return errors.Join(append(failed, err)...)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("back up %s: %w", src, err))
			continue
		}
		made = append(made, b)
		shown := slices.Clone(made)
		scope.Out(&shown)
		how.op.SetMetadata("backups", shown)
	}
	return errors.Join(failed...)
}

// backUp makes a backup of one source. One without some files, which restic keeps,
// is not what was asked for: it is forgotten as soon as nobody else is in the
// repository.
func (s *Service) backUp(ctx context.Context, r db.Repository, src source, how backing) (api.RepositoryBackup, error) {
	out, err := s.tryBackUp(ctx, r, src, how)
	if part, ok := errors.AsType[*incompleteError](err); ok {
		how.op.SetMetadata("backup_progress", "waiting for the repository")
		err = errors.Join(err, s.alone(ctx, r, func() error { return s.forget(context.WithoutCancel(ctx), r, []string{part.id}) }))
	}
	return out, err
}

// An incompleteError is about a backup that restic made without some files.
type incompleteError struct {
	id string
	error
}

func (e *incompleteError) Unwrap() error { return e.error }

// tryBackUp is backUp that fails with an [incompleteError].
func (s *Service) tryBackUp(ctx context.Context, r db.Repository, src source, how backing) (api.RepositoryBackup, error) {
	var none api.RepositoryBackup
	if err := s.allowed(ctx, src); err != nil {
		return none, err
	}
	unlock, err := s.writers.LockContext(ctx, r.Name)
	if err != nil {
		return none, err
	}
	defer unlock()
	leave, err := s.gates.share(ctx, r.Name)
	if err != nil {
		return none, err
	}
	defer leave()
	v := saving{source: src, checksum: how.checksum, progress: func(text string) {
		how.op.SetMetadata("backup_progress", fmt.Sprintf("%s: %s", src, text))
	}}
	v.progress("reading")
	if src == (source{}) {
		if v.document, err = s.hostDocument(ctx); err != nil {
			return none, err
		}
		v.tags = append(v.tags, tagSum+sum(v.document))
		return s.save(ctx, r, v)
	}
	var out api.RepositoryBackup
	err = s.stilled(ctx, src, func(ctx context.Context, dir string) error {
		doc, err := s.document(ctx, src)
		if err != nil {
			return err
		}
		scope.Out(&doc) // It can be restored into another project.
		if v.document, err = doc.YAML(); err != nil {
			return err
		}
		v.dir = dir
		out, err = s.save(ctx, r, v)
		return err
	})
	return out, err
}

func (s *Service) stilled(ctx context.Context, src source, fn func(ctx context.Context, dir string) error) error {
	if src.pool != "" {
		return s.Volumes.Stilled(ctx, src.pool, src.name, fn)
	}
	return s.Instances.Stilled(ctx, src.name, fn)
}

func (s *Service) document(ctx context.Context, src source) (api.Document, error) {
	if src.pool != "" {
		return s.Volumes.Document(ctx, src.pool, src.name)
	}
	return s.Instances.Document(ctx, src.name)
}

// A saving is one backup that is to be made.
type saving struct {
	source   source
	dir      string // The files; empty for none.
	document []byte
	tags     []string // Beyond those of all.
	checksum bool     // All files are read.
	progress func(text string)
}

// save makes a backup. The caller is the only writer of the repository.
func (s *Service) save(ctx context.Context, r db.Repository, v saving) (api.RepositoryBackup, error) {
	var none api.RepositoryBackup
	st, size, err := s.stageOf(ctx, v)
	if err != nil {
		return none, err
	}
	which, tags, err := s.reads(ctx, r, v)
	if err != nil {
		return none, err
	}
	args := append([]string{"backup", "--json", "--host", s.Host}, which...)
	tags = append(tags, tagOurs, tagSource+v.source.String(), tagSize+strconv.FormatInt(size, 10))
	for _, tag := range append(tags, v.tags...) {
		args = append(args, "--tag", tagText.Replace(tag))
	}
	var heard summary
	out := &jsonLines{fn: func(line []byte) { heard.read(line, v.progress) }}
	err = s.restic(ctx, r, call{args: append(args, "."), stdout: out, stage: st})
	if isIncomplete(err) && heard.ID != "" {
		return none, &incompleteError{heard.ID, fmt.Errorf("some files could not be read: %w", err)}
	}
	if err != nil {
		return none, err
	}
	if heard.ID == "" {
		return none, fmt.Errorf("restic did not say what it made")
	}
	b := db.RepositoryBackup{Backup: heard.ID, Added: heard.Added}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.AddRepositoryBackup(ctx, tx, r.ID, b) })
	if err != nil {
		// It is made, and only a figure is lost.
		s.Log.WarnContext(ctx, "cannot remember how large a backup is", "repository", r.Name, "backup", heard.ID, "err", err)
	}
	return api.RepositoryBackup{
		ID: heard.ID, Source: v.source.String(), CreatedAt: heard.at, Host: s.Host, Size: size, Added: heard.Added,
	}, nil
}

// stageOf returns what restic is to save, and how large it is.
func (s *Service) stageOf(ctx context.Context, v saving) (*stage, int64, error) {
	point, err := s.stagePoint()
	if err != nil {
		return nil, 0, err
	}
	st := &stage{
		state: s.Dir, point: point, name: url.PathEscape(v.source.String()), volume: v.dir,
		files: map[string][]byte{documentName: v.document},
	}
	if v.dir == "" {
		return st, int64(len(v.document)), nil
	}
	tree, err := survey(ctx, v.dir)
	if err != nil {
		return nil, 0, err
	}
	if len(tree.sparse) > 0 {
		st.files[sparseName] = tree.sparse
	}
	return st, tree.size, nil
}

// isIncomplete reports whether restic made a backup without some files.
func isIncomplete(err error) bool {
	const incomplete = 3 // Of restic backup.
	failed, ok := errors.AsType[*exec.ExitError](err)
	return ok && failed.ExitCode() == incomplete
}
