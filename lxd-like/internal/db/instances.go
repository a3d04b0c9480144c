package db

import (
	"context"
	"time"

	"github.com/cuib/cuib/shared/errs"
)

// Instance is a row of the instances table, with its profiles.
type Instance struct {
	ID           int64
	Name         string
	Status       Status
	PoolID       int64
	Pool         string // The pool's name; read only.
	Architecture string
	Description  string
	Ephemeral    bool
	Stateful     bool
	Config       map[string]string
	Devices      map[string]map[string]string
	Profiles     []string // Names, in order.
	Created      time.Time
	LastUsed     time.Time
}

// profilesOfInstance are the names of an instance's profiles. The inner ORDER
// BY gives the array its order: the JSON functions of SQLite before 3.44 take
// none of their own.
const profilesOfInstance = `(SELECT json_group_array(o.name) FROM (
	SELECT f.name AS name FROM instance_profiles ip JOIN profiles f ON f.id = ip.profile_id
	WHERE ip.instance_id = i.id ORDER BY ip.position) o)`

const instanceColumns = `SELECT i.id, i.name, i.status, i.pool_id, p.name, i.architecture, i.description,
	i.ephemeral, i.stateful, i.config, i.devices, i.created, i.last_used,
	` + profilesOfInstance + `
	FROM instances i JOIN pools p ON p.id = i.pool_id`

func scanInstance(i *Instance) []any {
	return []any{
		&i.ID, &i.Name, &i.Status, &i.PoolID, &i.Pool, &i.Architecture, &i.Description,
		&i.Ephemeral, &i.Stateful,
		asJSON{&i.Config},
		asJSON{&i.Devices},
		asTime{&i.Created},
		asTime{&i.LastUsed},
		asJSON{&i.Profiles},
	}
}

// Instances returns all instances by name.
func Instances(ctx context.Context, tx *Tx) ([]Instance, error) {
	return InstancesOf(ctx, tx, "")
}

// InstancesOf returns the instances of a project by name, or of all if it is
// an empty text.
func InstancesOf(ctx context.Context, tx *Tx, project string) ([]Instance, error) {
	of, args := instanceOf(project)
	return query(ctx, tx, scanInstance, instanceColumns+" WHERE "+of+" ORDER BY i.name", args...)
}

// InstanceHeads is [InstancesOf] without configurations and devices, which take
// most of the time to read.
func InstanceHeads(ctx context.Context, tx *Tx, project string) ([]Instance, error) {
	scan := func(i *Instance) []any {
		return []any{
			&i.ID, &i.Name, &i.Status, &i.Architecture, &i.Description, &i.Ephemeral, &i.Stateful,
			asTime{&i.Created},
			asTime{&i.LastUsed},
			asJSON{&i.Profiles},
		}
	}
	of, args := instanceOf(project)
	return query(ctx, tx, scan, `SELECT i.id, i.name, i.status, i.architecture, i.description, i.ephemeral, i.stateful,
		i.created, i.last_used, `+profilesOfInstance+` FROM instances i WHERE `+of+` ORDER BY i.name`, args...)
}

// InstancesUsingProfile returns the instances that have the profile, by name.
func InstancesUsingProfile(ctx context.Context, tx *Tx, profile string) ([]Instance, error) {
	return query(ctx, tx, scanInstance, instanceColumns+` WHERE i.id IN (
		SELECT ip.instance_id FROM instance_profiles ip JOIN profiles f ON f.id = ip.profile_id WHERE f.name = ?)
		ORDER BY i.name`, profile)
}

// NamesUsingProfile returns the names of the instances that have the profile, in
// order.
func NamesUsingProfile(ctx context.Context, tx *Tx, profile string) ([]string, error) {
	return query(ctx, tx, func(name *string) []any { return []any{name} }, `SELECT i.name FROM profiles f
		JOIN instance_profiles ip ON ip.profile_id = f.id JOIN instances i ON i.id = ip.instance_id WHERE f.name = ? ORDER BY i.name`, profile)
}

// InstancesInPools returns the names of all instances, in order, and their pools.
func InstancesInPools(ctx context.Context, tx *Tx) ([]Instance, error) {
	return query(ctx, tx, func(i *Instance) []any { return []any{&i.Name, &i.Pool} },
		"SELECT i.name, p.name FROM instances i JOIN pools p ON p.id = i.pool_id ORDER BY i.name")
}

// InstancesLeft returns those of the named instances that exist, by name.
func InstancesLeft(ctx context.Context, tx *Tx, names []string) ([]Instance, error) {
	return query(ctx, tx, scanInstance, instanceColumns+" WHERE i.name IN (SELECT value FROM json_each(?)) ORDER BY i.name", asJSON{&names})
}

// InstanceNames returns those of the names that instances have.
func InstanceNames(ctx context.Context, tx *Tx, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	return query(ctx, tx, func(name *string) []any { return []any{name} },
		"SELECT name FROM instances WHERE name IN (SELECT value FROM json_each(?)) ORDER BY name", asJSON{&names})
}

// GetInstance returns the instance with the name.
func GetInstance(ctx context.Context, tx *Tx, name string) (Instance, error) {
	return one(ctx, tx, noInstance(name), scanInstance, instanceColumns+" WHERE i.name = ?", name)
}

// AddInstance adds a row and sets its ID. It creates it at the transaction's
// time unless it has a time of creation.
func AddInstance(ctx context.Context, tx *Tx, i *Instance) error {
	if i.Created.IsZero() {
		i.Created = tx.now
	}
	i.Config, i.Devices = object(i.Config), object(i.Devices)
	id, err := insert(ctx, tx, `INSERT INTO instances (name, status, pool_id, architecture, description,
		ephemeral, stateful, config, devices, created, last_used) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		i.Name, i.Status, i.PoolID, i.Architecture, i.Description,
		i.Ephemeral, i.Stateful, asJSON{&i.Config}, asJSON{&i.Devices}, asTime{&i.Created}, asTime{&i.LastUsed})
	if err != nil {
		return taken(tx, err, "instance", i.Name)
	}
	i.ID = id
	tx.note(OfInstances, i.Name)
	tx.Changed(OfInstances, "", i.Name)
	return addInstanceProfiles(ctx, tx, id, i.Profiles)
}

// UpdateInstance writes what users may change: architecture, description,
// ephemeral, stateful, configuration, devices and profiles.
func UpdateInstance(ctx context.Context, tx *Tx, i Instance) error {
	old, err := GetInstance(ctx, tx, i.Name)
	if err != nil {
		return err
	}
	i.Config, i.Devices = object(i.Config), object(i.Devices)
	err = exec(ctx, tx, noInstance(i.Name), `UPDATE instances SET architecture = ?, description = ?,
		ephemeral = ?, stateful = ?, config = ?, devices = ? WHERE id = ?`,
		i.Architecture, i.Description, i.Ephemeral, i.Stateful, asJSON{&i.Config}, asJSON{&i.Devices}, old.ID)
	if err != nil {
		return err
	}
	tx.note(OfInstances, i.Name)
	tx.Changed(OfInstances, "", i.Name)
	if err := exec(ctx, tx, nil, "DELETE FROM instance_profiles WHERE instance_id = ?", old.ID); err != nil {
		return err
	}
	return addInstanceProfiles(ctx, tx, old.ID, i.Profiles)
}

// PatchInstanceConfig sets some keys of an instance's configuration and
// leaves the others; an empty value unsets its key.
func PatchInstanceConfig(ctx context.Context, tx *Tx, name string, patch map[string]string) error {
	merge := make(map[string]*string, len(patch)) // null unsets, RFC 7396
	for k, v := range patch {
		merge[k] = nil
		if v != "" {
			merge[k] = &v
		}
	}
	tx.note(OfInstances, name)
	return exec(ctx, tx, noInstance(name), "UPDATE instances SET config = json_patch(config, ?) WHERE name = ?", asJSON{&merge}, name)
}

// SetInstanceStatus sets the status alone.
func SetInstanceStatus(ctx context.Context, tx *Tx, name string, s Status) error {
	tx.note(OfInstances, name)
	return exec(ctx, tx, noInstance(name), "UPDATE instances SET status = ? WHERE name = ?", s, name)
}

// RenameInstance gives an instance another name.
func RenameInstance(ctx context.Context, tx *Tx, name, to string) error {
	err := exec(ctx, tx, noInstance(name), "UPDATE instances SET name = ? WHERE name = ?", to, name)
	tx.note(OfInstances, name, to)
	tx.Changed(OfInstances, "", to)
	return taken(tx, err, "instance", to)
}

// SetInstancePool says in which pool an instance is.
func SetInstancePool(ctx context.Context, tx *Tx, name string, pool int64) error {
	tx.note(OfInstances, name)
	tx.Changed(OfInstances, "", name)
	return exec(ctx, tx, noInstance(name), "UPDATE instances SET pool_id = ? WHERE name = ?", pool, name)
}

// TouchInstance notes that the instance was used now.
func TouchInstance(ctx context.Context, tx *Tx, name string) error {
	tx.note(OfInstances, name)
	return exec(ctx, tx, noInstance(name), "UPDATE instances SET last_used = ? WHERE name = ?", asTime{&tx.now}, name)
}

// DeleteInstance removes an instance and its snapshots from the database.
func DeleteInstance(ctx context.Context, tx *Tx, name string) error {
	tx.note(OfInstances, name)
	return exec(ctx, tx, noInstance(name), "DELETE FROM instances WHERE name = ?", name)
}

func addInstanceProfiles(ctx context.Context, tx *Tx, id int64, names []string) error {
	if len(names) == 0 {
		return nil
	}
	res, err := tx.tx.ExecContext(ctx, `INSERT INTO instance_profiles (instance_id, profile_id, position)
		SELECT ?, f.id, n.key FROM json_each(?) n JOIN profiles f ON f.name = n.value`, id, asJSON{&names})
	if err != nil {
		return classify(tx.engine, err)
	}
	if n, err := res.RowsAffected(); err != nil || n == int64(len(names)) {
		return err
	}
	_, err = ProfilesByName(ctx, tx, names) // It names the profile that is missing.
	return err
}

func noInstance(name string) error { return errs.NotFoundf("instance %q not found", name) }
