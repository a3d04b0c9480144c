package db

import (
	"context"
	"time"

	"github.com/cuib/cuib/shared/errs"
)

// VolumeRef names a custom volume.
type VolumeRef struct {
	Pool string
	Name string
}

// String returns POOL/NAME.
func (r VolumeRef) String() string { return r.Pool + "/" + r.Name }

// Volume is a row of the volumes table: a custom volume.
type Volume struct {
	VolumeRef

	ID          int64
	Status      Status
	ContentType string // filesystem or iso
	Description string
	Config      map[string]string
	Created     time.Time
}

const volumeColumns = `SELECT v.id, p.name, v.name, v.status, v.content_type, v.description, v.config, v.created
	FROM volumes v JOIN pools p ON p.id = v.pool_id`

// idOfVolume is the id of a volume by the names of its pool and of itself.
const idOfVolume = "(SELECT v.id FROM volumes v JOIN pools p ON p.id = v.pool_id WHERE p.name = ? AND v.name = ?)"

func scanVolume(v *Volume) []any {
	return []any{&v.ID, &v.Pool, &v.Name, &v.Status, &v.ContentType, &v.Description, asJSON{&v.Config}, asTime{&v.Created}}
}

// Volumes returns all custom volumes, by pool and name.
func Volumes(ctx context.Context, tx *Tx) ([]Volume, error) {
	return query(ctx, tx, scanVolume, volumeColumns+" ORDER BY p.name, v.name")
}

// VolumesIn returns the custom volumes of a pool, by name.
func VolumesIn(ctx context.Context, tx *Tx, pool string) ([]Volume, error) {
	return query(ctx, tx, scanVolume, volumeColumns+" WHERE p.name = ? ORDER BY v.name", pool)
}

// GetVolume returns one custom volume.
func GetVolume(ctx context.Context, tx *Tx, ref VolumeRef) (Volume, error) {
	return one(ctx, tx, noVolume(ref), scanVolume, volumeColumns+" WHERE p.name = ? AND v.name = ?", ref.Pool, ref.Name)
}

// AddVolume adds a row and sets its ID. It creates the volume at the
// transaction's time unless it has a time of creation.
func AddVolume(ctx context.Context, tx *Tx, v *Volume) error {
	if v.Created.IsZero() {
		v.Created = tx.now
	}
	v.Config = object(v.Config)
	pool, err := GetPool(ctx, tx, v.Pool)
	if err != nil {
		return err
	}
	v.ID, err = insert(ctx, tx, `INSERT INTO volumes (pool_id, name, status, content_type, description, config, created)
		VALUES (?, ?, ?, ?, ?, ?, ?)`,
		pool.ID, v.Name, v.Status, v.ContentType, v.Description, asJSON{&v.Config}, asTime{&v.Created})
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("volume %q in storage pool %q exists already", v.Name, v.Pool)
	}
	tx.Changed(OfVolumes, v.Pool, v.Name)
	return err
}

// UpdateVolume writes description and configuration.
func UpdateVolume(ctx context.Context, tx *Tx, v Volume) error {
	v.Config = object(v.Config)
	tx.Changed(OfVolumes, v.Pool, v.Name)
	return exec(ctx, tx, noVolume(v.VolumeRef), "UPDATE volumes SET description = ?, config = ? WHERE id = "+idOfVolume,
		v.Description, asJSON{&v.Config}, v.Pool, v.Name)
}

// PatchVolumeConfig sets some keys of a volume's configuration and leaves the
// others; an empty value unsets its key.
func PatchVolumeConfig(ctx context.Context, tx *Tx, ref VolumeRef, patch map[string]string) error {
	merge := make(map[string]*string, len(patch)) // null unsets, RFC 7396
	for k, v := range patch {
		merge[k] = nil
		if v != "" {
			merge[k] = &v
		}
	}
	return exec(ctx, tx, noVolume(ref), "UPDATE volumes SET config = json_patch(config, ?) WHERE id = "+idOfVolume,
		asJSON{&merge}, ref.Pool, ref.Name)
}

// SetVolumeStatus sets the status alone.
func SetVolumeStatus(ctx context.Context, tx *Tx, ref VolumeRef, s Status) error {
	return exec(ctx, tx, noVolume(ref), "UPDATE volumes SET status = ? WHERE id = "+idOfVolume, s, ref.Pool, ref.Name)
}

// RenameVolume gives a volume another name in its pool.
func RenameVolume(ctx context.Context, tx *Tx, ref VolumeRef, to string) error {
	err := exec(ctx, tx, noVolume(ref), "UPDATE volumes SET name = ? WHERE id = "+idOfVolume, to, ref.Pool, ref.Name)
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("volume %q in storage pool %q exists already", to, ref.Pool)
	}
	tx.Changed(OfVolumes, ref.Pool, to)
	return err
}

// DeleteVolume removes a volume and its snapshots from the database.
func DeleteVolume(ctx context.Context, tx *Tx, ref VolumeRef) error {
	return exec(ctx, tx, noVolume(ref), "DELETE FROM volumes WHERE id = "+idOfVolume, ref.Pool, ref.Name)
}

func noVolume(ref VolumeRef) error {
	return errs.NotFoundf("volume %q not found in storage pool %q", ref.Name, ref.Pool)
}
