package db

import (
	"context"
	"time"

	"github.com/cuib/cuib/shared/errs"
)

// Pool is a row of the pools table.
type Pool struct {
	ID          int64
	Name        string
	Driver      string
	Description string
	Config      map[string]string
	Status      Status
	Created     time.Time
}

const poolColumns = "SELECT id, name, driver, description, config, status, created FROM pools"

func scanPool(p *Pool) []any {
	return []any{&p.ID, &p.Name, &p.Driver, &p.Description, asJSON{&p.Config}, &p.Status, asTime{&p.Created}}
}

func noPool(name string) error { return errs.NotFoundf("storage pool %q not found", name) }

// Pools returns all pools by name.
func Pools(ctx context.Context, tx *Tx) ([]Pool, error) {
	return query(ctx, tx, scanPool, poolColumns+" ORDER BY name")
}

// GetPool returns the pool with the name.
func GetPool(ctx context.Context, tx *Tx, name string) (Pool, error) {
	return one(ctx, tx, noPool(name), scanPool, poolColumns+" WHERE name = ?", name)
}

// AddPool adds a row and sets its ID and time.
func AddPool(ctx context.Context, tx *Tx, p *Pool) error {
	p.Config, p.Created = object(p.Config), tx.Now()
	id, err := insert(
		ctx, tx, "INSERT INTO pools (name, driver, description, config, status, created) VALUES (?, ?, ?, ?, ?, ?)",
		p.Name, p.Driver, p.Description, asJSON{&p.Config}, p.Status, asTime{&p.Created},
	)
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("storage pool %q exists already", p.Name)
	}
	p.ID = id
	return err
}

// UpdatePool changes the description and the configuration.
func UpdatePool(ctx context.Context, tx *Tx, p Pool) error {
	p.Config = object(p.Config)
	return exec(
		ctx, tx, noPool(p.Name), "UPDATE pools SET description = ?, config = ? WHERE name = ?",
		p.Description, asJSON{&p.Config}, p.Name,
	)
}

// SetPoolStatus changes a pool's status.
func SetPoolStatus(ctx context.Context, tx *Tx, name string, s Status) error {
	return exec(ctx, tx, noPool(name), "UPDATE pools SET status = ? WHERE name = ?", s, name)
}

// DeletePool deletes a row. It succeeds if there is none.
func DeletePool(ctx context.Context, tx *Tx, name string) error {
	return exec(ctx, tx, nil, "DELETE FROM pools WHERE name = ?", name)
}

// ImageVolume is a row of the image_volumes table: a pool that holds an
// image's unpacked volume.
type ImageVolume struct {
	Fingerprint string
	PoolID      int64
	Pool        string // The pool's name; read only.
	Status      Status
}

// ImageVolumes returns all rows.
func ImageVolumes(ctx context.Context, tx *Tx) ([]ImageVolume, error) {
	return query(ctx, tx, func(v *ImageVolume) []any { return []any{&v.Fingerprint, &v.PoolID, &v.Pool, &v.Status} },
		`SELECT v.fingerprint, v.pool_id, p.name, v.status FROM image_volumes v JOIN pools p ON p.id = v.pool_id
		ORDER BY v.fingerprint, p.name`)
}

// AddImageVolume adds a row.
func AddImageVolume(ctx context.Context, tx *Tx, v ImageVolume) error {
	_, err := insert(ctx, tx, "INSERT INTO image_volumes (fingerprint, pool_id, status) VALUES (?, ?, ?)", v.Fingerprint, v.PoolID, v.Status)
	return err
}

// SetImageVolumeStatus changes a row's status.
func SetImageVolumeStatus(ctx context.Context, tx *Tx, fingerprint string, poolID int64, s Status) error {
	return exec(ctx, tx, errs.NotFoundf("volume of image %q not found", fingerprint),
		"UPDATE image_volumes SET status = ? WHERE fingerprint = ? AND pool_id = ?", s, fingerprint, poolID)
}

// DeleteImageVolume deletes a row. It succeeds if there is none.
func DeleteImageVolume(ctx context.Context, tx *Tx, fingerprint string, poolID int64) error {
	return exec(ctx, tx, nil, "DELETE FROM image_volumes WHERE fingerprint = ? AND pool_id = ?", fingerprint, poolID)
}
