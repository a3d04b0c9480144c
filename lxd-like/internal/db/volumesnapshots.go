package db

import (
	"context"
	"time"

	"github.com/cuib/cuib/shared/errs"
)

// VolumeSnapshot is a row of the volume_snapshots table: a snapshot of a
// custom volume.
type VolumeSnapshot struct {
	ID          int64
	Volume      VolumeRef
	Name        string
	Status      Status
	Description string
	Config      map[string]string // That of the volume, when it was made.
	Created     time.Time
	Expires     time.Time // Zero for never.
}

const volumeSnapshotColumns = `SELECT s.id, p.name, v.name, s.name, s.status, s.description, s.config, s.created, s.expires
	FROM volume_snapshots s JOIN volumes v ON v.id = s.volume_id JOIN pools p ON p.id = v.pool_id`

// ofVolumeSnapshot is the condition that an UPDATE or DELETE is for one
// snapshot of a volume.
const ofVolumeSnapshot = " WHERE name = ? AND volume_id = " + idOfVolume

func scanVolumeSnapshot(s *VolumeSnapshot) []any {
	return []any{
		&s.ID, &s.Volume.Pool, &s.Volume.Name, &s.Name, &s.Status, &s.Description,
		asJSON{&s.Config},
		asTime{&s.Created},
		asTime{&s.Expires},
	}
}

// VolumeSnapshots returns a volume's snapshots, oldest first.
func VolumeSnapshots(ctx context.Context, tx *Tx, ref VolumeRef) ([]VolumeSnapshot, error) {
	return query(ctx, tx, scanVolumeSnapshot, volumeSnapshotColumns+
		" WHERE p.name = ? AND v.name = ? ORDER BY s.created, s.id", ref.Pool, ref.Name)
}

// AllVolumeSnapshots returns the snapshots of each volume that has some,
// oldest first.
func AllVolumeSnapshots(ctx context.Context, tx *Tx) (map[VolumeRef][]VolumeSnapshot, error) {
	all, err := query(ctx, tx, scanVolumeSnapshot, volumeSnapshotColumns+" ORDER BY s.created, s.id")
	if err != nil {
		return nil, err
	}
	out := map[VolumeRef][]VolumeSnapshot{}
	for _, s := range all {
		out[s.Volume] = append(out[s.Volume], s)
	}
	return out, nil
}

// ExpiredVolumeSnapshots returns the snapshots that are whole and whose time
// is over.
func ExpiredVolumeSnapshots(ctx context.Context, tx *Tx, now time.Time) ([]VolumeSnapshot, error) {
	return query(ctx, tx, scanVolumeSnapshot, volumeSnapshotColumns+
		" WHERE s.status = ? AND s.expires != 0 AND s.expires <= ? ORDER BY s.created, s.id", Ready, asTime{&now})
}

// GetVolumeSnapshot returns one snapshot of a volume.
func GetVolumeSnapshot(ctx context.Context, tx *Tx, ref VolumeRef, name string) (VolumeSnapshot, error) {
	return one(ctx, tx, noVolumeSnapshot(ref, name), scanVolumeSnapshot, volumeSnapshotColumns+
		" WHERE p.name = ? AND v.name = ? AND s.name = ?", ref.Pool, ref.Name, name)
}

// AddVolumeSnapshot adds a row to the volume that s names, and sets its ID.
// It creates it at the transaction's time unless it has a time of creation.
func AddVolumeSnapshot(ctx context.Context, tx *Tx, s *VolumeSnapshot) error {
	if s.Created.IsZero() {
		s.Created = tx.now
	}
	s.Config = object(s.Config)
	v, err := GetVolume(ctx, tx, s.Volume)
	if err != nil {
		return err
	}
	s.ID, err = insert(ctx, tx, `INSERT INTO volume_snapshots (volume_id, name, status, description, config, created, expires)
		VALUES (?, ?, ?, ?, ?, ?, ?)`,
		v.ID, s.Name, s.Status, s.Description, asJSON{&s.Config}, asTime{&s.Created}, asTime{&s.Expires})
	return volumeSnapshotTaken(err, s.Volume, s.Name)
}

// UpdateVolumeSnapshot writes what users may change: description and expiry.
func UpdateVolumeSnapshot(ctx context.Context, tx *Tx, s VolumeSnapshot) error {
	return exec(ctx, tx, noVolumeSnapshot(s.Volume, s.Name), "UPDATE volume_snapshots SET description = ?, expires = ?"+ofVolumeSnapshot,
		s.Description, asTime{&s.Expires}, s.Name, s.Volume.Pool, s.Volume.Name)
}

// SetVolumeSnapshotStatus sets the status alone.
func SetVolumeSnapshotStatus(ctx context.Context, tx *Tx, s VolumeSnapshot) error {
	return exec(ctx, tx, noVolumeSnapshot(s.Volume, s.Name), "UPDATE volume_snapshots SET status = ?"+ofVolumeSnapshot,
		s.Status, s.Name, s.Volume.Pool, s.Volume.Name)
}

// RenameVolumeSnapshot gives a snapshot another name.
func RenameVolumeSnapshot(ctx context.Context, tx *Tx, s VolumeSnapshot, to string) error {
	err := exec(ctx, tx, noVolumeSnapshot(s.Volume, s.Name), "UPDATE volume_snapshots SET name = ?"+ofVolumeSnapshot,
		to, s.Name, s.Volume.Pool, s.Volume.Name)
	return volumeSnapshotTaken(err, s.Volume, to)
}

// DeleteVolumeSnapshot removes a snapshot from the database.
func DeleteVolumeSnapshot(ctx context.Context, tx *Tx, ref VolumeRef, name string) error {
	return exec(ctx, tx, noVolumeSnapshot(ref, name), "DELETE FROM volume_snapshots"+ofVolumeSnapshot, name, ref.Pool, ref.Name)
}

func volumeSnapshotTaken(err error, ref VolumeRef, name string) error {
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("snapshot %q of volume %q in storage pool %q exists already", name, ref.Name, ref.Pool)
	}
	return err
}

func noVolumeSnapshot(ref VolumeRef, name string) error {
	return errs.NotFoundf("snapshot %q of volume %q not found in storage pool %q", name, ref.Name, ref.Pool)
}
