package db

import (
	"context"
	"time"

	"github.com/cuib/cuib/shared/errs"
)

// Repository is a row of the repositories table: where backups go.
type Repository struct {
	ID          int64
	Name        string
	Description string
	Config      map[string]string // With the secrets.
	Created     time.Time
}

const repositoryColumns = "SELECT id, name, description, config, created FROM repositories"

func scanRepository(r *Repository) []any {
	return []any{&r.ID, &r.Name, &r.Description, asJSON{&r.Config}, asTime{&r.Created}}
}

func noRepository(name string) error { return errs.NotFoundf("backup repository %q not found", name) }

// Repositories returns all repositories by name.
func Repositories(ctx context.Context, tx *Tx) ([]Repository, error) {
	return query(ctx, tx, scanRepository, repositoryColumns+" ORDER BY name")
}

// GetRepository returns the repository with the name.
func GetRepository(ctx context.Context, tx *Tx, name string) (Repository, error) {
	return one(ctx, tx, noRepository(name), scanRepository, repositoryColumns+" WHERE name = ?", name)
}

// AddRepository adds a row and sets its ID and time.
func AddRepository(ctx context.Context, tx *Tx, r *Repository) error {
	r.Config, r.Created = object(r.Config), tx.Now()
	id, err := insert(
		ctx, tx, "INSERT INTO repositories (name, description, config, created) VALUES (?, ?, ?, ?)",
		r.Name, r.Description, asJSON{&r.Config}, asTime{&r.Created},
	)
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("backup repository %q exists already", r.Name)
	}
	r.ID = id
	return err
}

// UpdateRepository changes the description and the configuration.
func UpdateRepository(ctx context.Context, tx *Tx, r Repository) error {
	r.Config = object(r.Config)
	return exec(
		ctx, tx, noRepository(r.Name), "UPDATE repositories SET description = ?, config = ? WHERE name = ?",
		r.Description, asJSON{&r.Config}, r.Name,
	)
}

// DeleteRepository deletes a row, and what is known of the repository's
// backups. It succeeds if there is none.
func DeleteRepository(ctx context.Context, tx *Tx, name string) error {
	return exec(ctx, tx, nil, "DELETE FROM repositories WHERE name = ?", name)
}

// RepositoryBackup is a row of the repository_backups table: what this host
// remembers of a backup that the repository does not.
type RepositoryBackup struct {
	Backup string // The whole ID.
	Added  int64  // Bytes.
}

// RepositoryBackups returns what is remembered of a repository's backups.
func RepositoryBackups(ctx context.Context, tx *Tx, repository int64) ([]RepositoryBackup, error) {
	return query(ctx, tx, func(b *RepositoryBackup) []any { return []any{&b.Backup, &b.Added} },
		"SELECT backup, added FROM repository_backups WHERE repository_id = ? ORDER BY backup", repository)
}

// AddRepositoryBackup adds a row.
func AddRepositoryBackup(ctx context.Context, tx *Tx, repository int64, b RepositoryBackup) error {
	_, err := insert(ctx, tx, "INSERT INTO repository_backups (repository_id, backup, added) VALUES (?, ?, ?)", repository, b.Backup, b.Added)
	return err
}

// DeleteRepositoryBackup deletes a row. It succeeds if there is none.
func DeleteRepositoryBackup(ctx context.Context, tx *Tx, repository int64, backup string) error {
	return exec(ctx, tx, nil, "DELETE FROM repository_backups WHERE repository_id = ? AND backup = ?", repository, backup)
}
