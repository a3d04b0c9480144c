package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/cuib/cuib/shared/errs"
)

// BackupOwner is what a backup is of: an instance, or else a custom volume.
type BackupOwner struct {
	Instance string
	Volume   VolumeRef
}

// String returns the owner as users name it.
func (o BackupOwner) String() string {
	if o.Instance != "" {
		return o.Instance
	}
	return o.Volume.String()
}

// Backup is a row of the backups table: an archive that a client asked for,
// and that is written when it is read.
type Backup struct {
	ID      int64
	Owner   BackupOwner
	Name    string
	Status  Status
	Options BackupOptions
	Created time.Time
	Expires time.Time // Zero for never.
}

// BackupOptions say what a backup holds.
type BackupOptions struct {
	Hidden      string          `json:"hidden"`              // The snapshot of what it is of.
	Snapshots   []string        `json:"snapshots,omitempty"` // Those that were there, oldest first.
	Only        bool            `json:"only,omitempty"`      // It is without them.
	Optimized   bool            `json:"optimized,omitempty"`
	Compression string          `json:"compression"`
	Document    json.RawMessage `json:"document,omitempty"` // An [api.Document].
}

const backupColumns = `SELECT b.id, COALESCE(i.name, ''), COALESCE(p.name, ''), COALESCE(v.name, ''),
	b.name, b.status, b.options, b.created, b.expires
	FROM backups b LEFT JOIN instances i ON i.id = b.instance_id
	LEFT JOIN volumes v ON v.id = b.volume_id LEFT JOIN pools p ON p.id = v.pool_id`

func scanBackup(b *Backup) []any {
	return []any{
		&b.ID, &b.Owner.Instance, &b.Owner.Volume.Pool, &b.Owner.Volume.Name, &b.Name, &b.Status,
		asJSON{&b.Options},
		asTime{&b.Created},
		asTime{&b.Expires},
	}
}

// of is the condition that a backup is of the owner, with what it compares to.
func (o BackupOwner) of() (where string, args []any) {
	if o.Instance != "" {
		return "i.name = ?", []any{o.Instance}
	}
	return "p.name = ? AND v.name = ?", []any{o.Volume.Pool, o.Volume.Name}
}

// Backups returns the backups of an owner, oldest first.
func Backups(ctx context.Context, tx *Tx, owner BackupOwner) ([]Backup, error) {
	where, args := owner.of()
	return query(ctx, tx, scanBackup, backupColumns+" WHERE "+where+" ORDER BY b.created, b.id", args...)
}

// AllBackups returns all backups, oldest first.
func AllBackups(ctx context.Context, tx *Tx) ([]Backup, error) {
	return query(ctx, tx, scanBackup, backupColumns+" ORDER BY b.created, b.id")
}

// ExpiredBackups returns the backups that are whole and whose time is over.
func ExpiredBackups(ctx context.Context, tx *Tx, now time.Time) ([]Backup, error) {
	return query(ctx, tx, scanBackup, backupColumns+
		" WHERE b.status = ? AND b.expires != 0 AND b.expires <= ? ORDER BY b.created, b.id", Ready, asTime{&now})
}

// HiddenOfBackups returns the hidden snapshots that the backups of an owner
// are made from, of those that are whole.
func HiddenOfBackups(ctx context.Context, tx *Tx, owner BackupOwner) (map[string]bool, error) {
	all, err := Backups(ctx, tx, owner)
	out := map[string]bool{}
	for _, b := range all {
		if b.Status == Ready {
			out[b.Options.Hidden] = true
		}
	}
	return out, err
}

// GetBackup returns one backup.
func GetBackup(ctx context.Context, tx *Tx, owner BackupOwner, name string) (Backup, error) {
	where, args := owner.of()
	return one(ctx, tx, noBackup(owner, name), scanBackup, backupColumns+" WHERE "+where+" AND b.name = ?", append(args, name)...)
}

// AddBackup adds a row, and sets its ID and time.
func AddBackup(ctx context.Context, tx *Tx, b *Backup) error {
	b.Created = tx.now
	var instance, volume sql.NullInt64
	if b.Owner.Instance != "" {
		in, err := GetInstance(ctx, tx, b.Owner.Instance)
		if err != nil {
			return err
		}
		instance = sql.NullInt64{Int64: in.ID, Valid: true}
	} else {
		v, err := GetVolume(ctx, tx, b.Owner.Volume)
		if err != nil {
			return err
		}
		volume = sql.NullInt64{Int64: v.ID, Valid: true}
	}
	id, err := insert(
		ctx, tx, "INSERT INTO backups (instance_id, volume_id, name, status, options, created, expires) VALUES (?, ?, ?, ?, ?, ?, ?)",
		instance, volume, b.Name, b.Status, asJSON{&b.Options}, asTime{&b.Created}, asTime{&b.Expires},
	)
	b.ID = id
	return backupTaken(err, b.Owner, b.Name)
}

// SetBackupStatus sets the status, and the options.
func SetBackupStatus(ctx context.Context, tx *Tx, b Backup, st Status) error {
	return exec(ctx, tx, noBackup(b.Owner, b.Name), "UPDATE backups SET status = ?, options = ? WHERE id = ?", st, asJSON{&b.Options}, b.ID)
}

// RenameBackup gives a backup another name.
func RenameBackup(ctx context.Context, tx *Tx, b Backup, to string) error {
	err := exec(ctx, tx, noBackup(b.Owner, b.Name), "UPDATE backups SET name = ? WHERE id = ?", to, b.ID)
	return backupTaken(err, b.Owner, to)
}

// DeleteBackup removes a backup from the database. It succeeds if there is
// none.
func DeleteBackup(ctx context.Context, tx *Tx, b Backup) error {
	return exec(ctx, tx, nil, "DELETE FROM backups WHERE id = ?", b.ID)
}

func backupTaken(err error, owner BackupOwner, name string) error {
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("backup %q of %q exists already", name, owner)
	}
	return err
}

func noBackup(owner BackupOwner, name string) error {
	return errs.NotFoundf("backup %q of %q not found", name, owner)
}
