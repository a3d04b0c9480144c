package rest

import (
	"context"
	"net/http"
	"net/url"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/repository"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/project"
)

// repositoryService keeps backup repositories.
type repositoryService interface {
	List(ctx context.Context) ([]api.BackupRepository, error)
	Get(ctx context.Context, name string) (api.BackupRepository, error)
	// Create returns the password, if it made one up.
	Create(ctx context.Context, req api.BackupRepositoriesPost) (string, error)
	Update(ctx context.Context, name string, put api.BackupRepositoryPut) error
	Delete(ctx context.Context, name string) error
	Restore(ctx context.Context, name string, req api.RepositoryRestorePost) (ops.Job, error)
	Verify(ctx context.Context, name string, req api.RepositoryVerifyPost) (ops.Job, error)
	Prune(ctx context.Context, name string) (ops.Job, error)

	repositoryBackups
}

// repositoryBackups keeps what is in backup repositories.
type repositoryBackups interface {
	// Backups lists those of one source, or all.
	Backups(ctx context.Context, name, source string) ([]api.RepositoryBackup, error)
	Backup(ctx context.Context, name, id string) (api.RepositoryBackup, error)
	CreateBackups(ctx context.Context, name string, req api.RepositoryBackupsPost) (ops.Job, error)
	DeleteBackup(ctx context.Context, name, id string) (ops.Job, error)
	// Open opens a file, or lists a directory.
	Open(ctx context.Context, name, id, path string) (*repository.File, []api.RepositoryFile, error)
}

func (s *Server) repositoryRoutes() []route {
	const one = "/1.0/backup-repositories/{name}"
	return []route{
		{get, "/1.0/backup-repositories", s.listRepositories},
		{post, "/1.0/backup-repositories", s.createRepository},
		{get, one, s.getRepository},
		{put, one, s.putRepository},
		{patch, one, s.patchRepository},
		{remove, one, s.deleteRepository},
		{get, one + "/backups", s.listRepositoryBackups},
		{post, one + "/backups", s.createRepositoryBackups},
		{get, one + "/backups/{id}", s.getRepositoryBackup},
		{remove, one + "/backups/{id}", s.deleteRepositoryBackup},
		{get, one + "/backups/{id}/files", s.getRepositoryFile},
		{post, one + "/restore", s.restoreRepository},
		{post, one + "/verify", s.verifyRepository},
		{post, one + "/prune", s.pruneRepository},
	}
}

func repositoryURL(name string) string { return "/1.0/backup-repositories/" + url.PathEscape(name) }

func (s *Server) listRepositories(r *http.Request) (response, error) {
	all, err := s.Repositories.List(r.Context())
	return list(r, all, err, func(b api.BackupRepository) string { return repositoryURL(b.Name) })
}

func (s *Server) createRepository(r *http.Request) (response, error) {
	body, err := decode[api.BackupRepositoriesPost](r)
	if err != nil {
		return nil, err
	}
	password, err := s.Repositories.Create(r.Context(), body)
	if err != nil {
		return nil, err
	}
	made := api.Response{
		Type: "sync", Status: api.Success.String(), StatusCode: int(api.Success), Metadata: api.BackupRepositoryMade{Password: password},
	}
	return withHeader(envelope(http.StatusCreated, made), "Location", repositoryURL(body.Name)), nil
}

func (s *Server) repository(r *http.Request) (whole, writable any, err error) {
	b, err := s.Repositories.Get(r.Context(), r.PathValue("name"))
	return b, b.BackupRepositoryPut, err
}

func (s *Server) getRepository(r *http.Request) (response, error) { return read(r, s.repository) }

func (s *Server) putRepository(r *http.Request) (response, error) {
	return replace(r, s.repository, s.Repositories.Update)
}

func (s *Server) patchRepository(r *http.Request) (response, error) {
	return change(r, s.repository, s.Repositories.Update)
}

func (s *Server) deleteRepository(r *http.Request) (response, error) {
	return done(s.Repositories.Delete(r.Context(), r.PathValue("name")))
}

func (s *Server) listRepositoryBackups(r *http.Request) (response, error) {
	name := r.PathValue("name")
	of := struct {
		Source string `key:"source"`
	}{r.URL.Query().Get("source")}
	if err := keys(r, &of); err != nil {
		return nil, err
	}
	all, err := s.Repositories.Backups(r.Context(), name, of.Source)
	return list(r, all, err, func(b api.RepositoryBackup) string { return repositoryURL(name) + "/backups/" + b.ID })
}

func (s *Server) getRepositoryBackup(r *http.Request) (response, error) {
	return got(s.Repositories.Backup(r.Context(), r.PathValue("name"), r.PathValue("id")))
}

func (s *Server) createRepositoryBackups(r *http.Request) (response, error) {
	body, err := decode[api.RepositoryBackupsPost](r)
	if err != nil {
		return nil, err
	}
	job, err := s.Repositories.CreateBackups(r.Context(), r.PathValue("name"), body)
	return s.start(r, job, err)
}

func (s *Server) deleteRepositoryBackup(r *http.Request) (response, error) {
	job, err := s.Repositories.DeleteBackup(r.Context(), r.PathValue("name"), r.PathValue("id"))
	return s.start(r, job, err)
}

// getRepositoryFile answers with a file, or with what is in a directory. A
// header says which.
func (s *Server) getRepositoryFile(r *http.Request) (response, error) {
	file, files, err := s.Repositories.Open(r.Context(), r.PathValue("name"), r.PathValue("id"), r.URL.Query().Get("path"))
	if err != nil {
		return nil, err
	}
	if file == nil {
		return withHeader(synced(files), "X-Cuib-Type", "directory"), nil
	}
	resp := raw{data: file.Data, name: file.Name, size: file.Size, modified: file.Time}.response()
	return withHeader(resp, "X-Cuib-Type", "file"), nil
}

func (s *Server) restoreRepository(r *http.Request) (response, error) {
	body, err := decode[api.RepositoryRestorePost](r)
	if err != nil {
		return nil, err
	}
	if body.Name, err = s.restoredAs(r, body); err != nil {
		return nil, err
	}
	job, err := s.Repositories.Restore(r.Context(), r.PathValue("name"), body)
	return s.start(r, job, err)
}

// restoredAs is the key of what is made of a backup under another name, if that
// is said. Of what kind the name is depends on what the backup is of.
func (s *Server) restoredAs(r *http.Request, body api.RepositoryRestorePost) (string, error) {
	in := view(r)
	plain := project.IsInstanceName(body.Name) && project.IsName(body.Name)
	if body.Name == "" || in.Project == project.Default && plain { // It is the key, whatever the backup is of.
		return body.Name, nil
	}
	source := body.From
	if source == "" {
		b, err := s.Repositories.Backup(r.Context(), r.PathValue("name"), body.ID)
		if err != nil {
			return "", err
		}
		source = b.Source
	}
	return in.Key(scope.SourceKind(source), body.Name)
}

func (s *Server) verifyRepository(r *http.Request) (response, error) {
	body, err := decode[api.RepositoryVerifyPost](r)
	if err != nil {
		return nil, err
	}
	job, err := s.Repositories.Verify(r.Context(), r.PathValue("name"), body)
	return s.start(r, job, err)
}

func (s *Server) pruneRepository(r *http.Request) (response, error) {
	job, err := s.Repositories.Prune(r.Context(), r.PathValue("name"))
	return s.start(r, job, err)
}
