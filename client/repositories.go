package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// BackupRepositories returns all backup repositories.
func (c *Client) BackupRepositories(ctx context.Context) ([]api.BackupRepository, error) {
	return list[[]api.BackupRepository](ctx, c, path("backup-repositories")+"?recursion=1")
}

// BackupRepositoryNames returns the names of all backup repositories.
func (c *Client) BackupRepositoryNames(ctx context.Context) ([]string, error) {
	return c.names(ctx, path("backup-repositories"))
}

// BackupRepository returns a backup repository and its ETag.
func (c *Client) BackupRepository(ctx context.Context, name string) (api.BackupRepository, string, error) {
	return get[api.BackupRepository](ctx, c, path("backup-repositories", name))
}

// CreateBackupRepository makes a backup repository, or takes up one that is
// there. The answer has the password if the daemon made it up.
func (c *Client) CreateBackupRepository(ctx context.Context, req api.BackupRepositoriesPost) (api.BackupRepositoryMade, error) {
	var made api.BackupRepositoryMade
	env, err := c.call(ctx, call{method: http.MethodPost, path: path("backup-repositories"), body: req})
	if err != nil {
		return made, err
	}
	if err := json.Unmarshal(env.Metadata, &made); err != nil {
		return made, fmt.Errorf("decode the answer: %w", err)
	}
	return made, nil
}

// UpdateBackupRepository replaces the writable part of a backup repository.
// Secrets that it leaves out stay.
func (c *Client) UpdateBackupRepository(ctx context.Context, name string, put api.BackupRepositoryPut, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: path("backup-repositories", name), body: put, etag: etag})
}

// DeleteBackupRepository forgets a backup repository; what is in it stays.
func (c *Client) DeleteBackupRepository(ctx context.Context, name string) error {
	return c.send(ctx, call{method: http.MethodDelete, path: path("backup-repositories", name)})
}

// RepositoryBackups returns the backups in a repository, oldest first: those
// of one source, or all if it is empty.
func (c *Client) RepositoryBackups(ctx context.Context, repository, source string) ([]api.RepositoryBackup, error) {
	q := url.Values{"recursion": {"1"}}
	if source != "" {
		q.Set("source", source)
	}
	return list[[]api.RepositoryBackup](ctx, c, path("backup-repositories", repository, "backups")+"?"+q.Encode())
}

// CreateRepositoryBackups makes backups. The metadata of the operation has
// them.
func (c *Client) CreateRepositoryBackups(ctx context.Context, repository string, req api.RepositoryBackupsPost) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodPost, path: path("backup-repositories", repository, "backups"), body: req})
}

// DeleteRepositoryBackup removes a backup from a repository.
func (c *Client) DeleteRepositoryBackup(ctx context.Context, repository, id string) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodDelete, path: path("backup-repositories", repository, "backups", id)})
}

// RestoreRepository makes what a repository has.
func (c *Client) RestoreRepository(ctx context.Context, repository string, req api.RepositoryRestorePost) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodPost, path: path("backup-repositories", repository, "restore"), body: req})
}

// VerifyRepository checks that a repository is whole.
func (c *Client) VerifyRepository(ctx context.Context, repository string, req api.RepositoryVerifyPost) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodPost, path: path("backup-repositories", repository, "verify"), body: req})
}

// PruneRepository removes what is not to be kept, and what nothing needs.
func (c *Client) PruneRepository(ctx context.Context, repository string) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodPost, path: path("backup-repositories", repository, "prune"), body: struct{}{}})
}

// ReadRepositoryFile opens a file of a backup, which the caller closes, or
// lists a directory: one of both is nil.
func (c *Client) ReadRepositoryFile(ctx context.Context, repository, id, file string) (io.ReadCloser, []api.RepositoryFile, error) {
	q := url.Values{"path": {file}}
	resp, err := c.do(ctx, call{method: http.MethodGet, path: path("backup-repositories", repository, "backups", id, "files") + "?" + q.Encode()})
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode == http.StatusOK && resp.Header.Get("X-Cuib-Type") == "file" {
		return resp.Body, nil, nil
	}
	defer resp.Body.Close()
	env, err := open(resp)
	if err != nil {
		return nil, nil, err
	}
	files := []api.RepositoryFile{}
	if err := json.Unmarshal(env.Metadata, &files); err != nil {
		return nil, nil, errs.Newf(errs.Unavailable, "decode the daemon's answer: %w", err)
	}
	return nil, files, nil
}
