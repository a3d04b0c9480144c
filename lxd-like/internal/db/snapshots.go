package db

import (
	"context"
	"time"

	"github.com/cuib/cuib/shared/errs"
)

// Snapshot is a row of the snapshots table.
type Snapshot struct {
	ID           int64
	Instance     string // The instance's name.
	Name         string
	Status       Status
	Architecture string
	Description  string
	Ephemeral    bool
	Stateful     bool
	Config       map[string]string
	Devices      map[string]map[string]string
	Profiles     []string
	Created      time.Time
	LastUsed     time.Time
	Expires      time.Time
}

const snapshotColumns = `SELECT s.id, i.name, s.name, s.status, s.architecture, s.description,
	s.ephemeral, s.stateful, s.config, s.devices, s.profiles, s.created, s.last_used, s.expires
	FROM snapshots s JOIN instances i ON i.id = s.instance_id`

// ofSnapshot is the condition that an UPDATE or DELETE is for one snapshot.
const ofSnapshot = " WHERE name = ? AND instance_id = (SELECT id FROM instances WHERE name = ?)"

func scanSnapshot(s *Snapshot) []any {
	return []any{
		&s.ID, &s.Instance, &s.Name, &s.Status, &s.Architecture, &s.Description,
		&s.Ephemeral, &s.Stateful,
		asJSON{&s.Config},
		asJSON{&s.Devices},
		asJSON{&s.Profiles},
		asTime{&s.Created},
		asTime{&s.LastUsed},
		asTime{&s.Expires},
	}
}

// Snapshots returns an instance's snapshots, oldest first.
func Snapshots(ctx context.Context, tx *Tx, instance string) ([]Snapshot, error) {
	return query(ctx, tx, scanSnapshot, snapshotColumns+" WHERE i.name = ? ORDER BY s.created, s.id", instance)
}

// SnapshotHeads is [Snapshots] without configurations, devices and profiles,
// which take most of the time to read.
func SnapshotHeads(ctx context.Context, tx *Tx, instance string) ([]Snapshot, error) {
	scan := func(s *Snapshot) []any {
		return []any{&s.ID, &s.Name, &s.Status, &s.Description, &s.Stateful, asTime{&s.Created}, asTime{&s.Expires}}
	}
	all, err := query(ctx, tx, scan, `SELECT s.id, s.name, s.status, s.description, s.stateful, s.created, s.expires
		FROM snapshots s JOIN instances i ON i.id = s.instance_id WHERE i.name = ? ORDER BY s.created, s.id`, instance)
	for i := range all {
		all[i].Instance = instance
	}
	return all, err
}

// SnapshotNames returns the names of the snapshots that are whole of each
// instance that has some, oldest first, but for hidden ones, which begin with
// a dot.
func SnapshotNames(ctx context.Context, tx *Tx, project string) (map[string][]string, error) {
	type named struct{ instance, name string }
	scan := func(n *named) []any { return []any{&n.instance, &n.name} }
	of, args := instanceOf(project)
	all, err := query(ctx, tx, scan, `SELECT i.name, s.name FROM snapshots s JOIN instances i ON i.id = s.instance_id
		WHERE s.status = ? AND s.name NOT LIKE '.%' AND `+of+` ORDER BY s.created, s.id`, append([]any{Ready}, args...)...)
	if err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, n := range all {
		out[n.instance] = append(out[n.instance], n.name)
	}
	return out, nil
}

// SnapshotHeadsByInstance is [SnapshotHeads] for each instance that has
// snapshots.
func SnapshotHeadsByInstance(ctx context.Context, tx *Tx) (map[string][]Snapshot, error) {
	scan := func(s *Snapshot) []any {
		return []any{&s.ID, &s.Instance, &s.Name, &s.Status, &s.Description, asTime{&s.Created}, asTime{&s.Expires}}
	}
	all, err := query(ctx, tx, scan, `SELECT s.id, i.name, s.name, s.status, s.description, s.created, s.expires
		FROM snapshots s JOIN instances i ON i.id = s.instance_id ORDER BY s.created, s.id`)
	out := map[string][]Snapshot{}
	for _, s := range all {
		out[s.Instance] = append(out[s.Instance], s)
	}
	return out, err
}

// SnapshotNamesOf returns the names of all snapshots of an instance, oldest
// first: also of those that are not whole, and hidden ones.
func SnapshotNamesOf(ctx context.Context, tx *Tx, instance string) ([]string, error) {
	return query(ctx, tx, func(s *string) []any { return []any{s} }, `SELECT s.name FROM snapshots s
		JOIN instances i ON i.id = s.instance_id WHERE i.name = ? ORDER BY s.created, s.id`, instance)
}

// SnapshotName names a snapshot of an instance.
type SnapshotName struct {
	Instance, Name string
}

// ExpiredSnapshots returns the snapshots that are whole and whose time is
// over, the longest first.
func ExpiredSnapshots(ctx context.Context, tx *Tx, now time.Time) ([]SnapshotName, error) {
	scan := func(s *SnapshotName) []any { return []any{&s.Instance, &s.Name} }
	return query(ctx, tx, scan, `SELECT i.name, s.name FROM snapshots s JOIN instances i ON i.id = s.instance_id
		WHERE s.status = ? AND s.expires > 0 AND s.expires <= ? ORDER BY s.expires, s.id`, Ready, asTime{&now})
}

// AllSnapshots returns the snapshots of each instance that has some, oldest
// first.
func AllSnapshots(ctx context.Context, tx *Tx, project string) (map[string][]Snapshot, error) {
	of, args := instanceOf(project)
	all, err := query(ctx, tx, scanSnapshot, snapshotColumns+" WHERE "+of+" ORDER BY s.created, s.id", args...)
	if err != nil {
		return nil, err
	}
	out := map[string][]Snapshot{}
	for _, s := range all {
		out[s.Instance] = append(out[s.Instance], s)
	}
	return out, nil
}

// GetSnapshot returns one snapshot of an instance.
func GetSnapshot(ctx context.Context, tx *Tx, instance, name string) (Snapshot, error) {
	return one(ctx, tx, noSnapshot(instance, name), scanSnapshot, snapshotColumns+" WHERE i.name = ? AND s.name = ?", instance, name)
}

// AddSnapshot adds a row to the instance that s names, and sets its ID. It
// creates it at the transaction's time unless it has a time of creation.
func AddSnapshot(ctx context.Context, tx *Tx, s *Snapshot) error {
	if s.Created.IsZero() {
		s.Created = tx.now
	}
	s.Config, s.Devices = object(s.Config), object(s.Devices)
	if s.Profiles == nil {
		s.Profiles = []string{}
	}
	in, err := GetInstance(ctx, tx, s.Instance)
	if err != nil {
		return err
	}
	s.ID, err = insert(ctx, tx, `INSERT INTO snapshots (instance_id, name, status, architecture, description,
		ephemeral, stateful, config, devices, profiles, created, last_used, expires)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		in.ID, s.Name, s.Status, s.Architecture, s.Description,
		s.Ephemeral, s.Stateful, asJSON{&s.Config}, asJSON{&s.Devices}, asJSON{&s.Profiles},
		asTime{&s.Created}, asTime{&s.LastUsed}, asTime{&s.Expires})
	return taken(tx, err, "snapshot", s.Instance+"/"+s.Name)
}

// UpdateSnapshot writes what users may change: description and expiry.
func UpdateSnapshot(ctx context.Context, tx *Tx, s Snapshot) error {
	return exec(ctx, tx, noSnapshot(s.Instance, s.Name), "UPDATE snapshots SET description = ?, expires = ?"+ofSnapshot,
		s.Description, asTime{&s.Expires}, s.Name, s.Instance)
}

// RewriteSnapshot writes the configuration, devices and profiles that were
// those of the instance.
func RewriteSnapshot(ctx context.Context, tx *Tx, s Snapshot) error {
	s.Config, s.Devices = object(s.Config), object(s.Devices)
	if s.Profiles == nil {
		s.Profiles = []string{}
	}
	return exec(ctx, tx, noSnapshot(s.Instance, s.Name), "UPDATE snapshots SET config = ?, devices = ?, profiles = ?"+ofSnapshot,
		asJSON{&s.Config}, asJSON{&s.Devices}, asJSON{&s.Profiles}, s.Name, s.Instance)
}

// SetSnapshotStatus sets the status alone.
func SetSnapshotStatus(ctx context.Context, tx *Tx, instance, name string, st Status) error {
	return exec(ctx, tx, noSnapshot(instance, name), "UPDATE snapshots SET status = ?"+ofSnapshot, st, name, instance)
}

// RenameSnapshot gives a snapshot another name.
func RenameSnapshot(ctx context.Context, tx *Tx, instance, name, to string) error {
	err := exec(ctx, tx, noSnapshot(instance, name), "UPDATE snapshots SET name = ?"+ofSnapshot, to, name, instance)
	return taken(tx, err, "snapshot", instance+"/"+to)
}

// DeleteSnapshot removes a snapshot from the database.
func DeleteSnapshot(ctx context.Context, tx *Tx, instance, name string) error {
	return exec(ctx, tx, noSnapshot(instance, name), "DELETE FROM snapshots"+ofSnapshot, name, instance)
}

func noSnapshot(instance, name string) error {
	return errs.NotFoundf("snapshot %q not found", instance+"/"+name)
}
