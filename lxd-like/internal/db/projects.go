package db

import (
	"context"
	"time"

	"github.com/cuib/cuib/shared/errs"
)

// Project is a row of the projects table.
type Project struct {
	ID          int64
	Name        string
	Description string
	Config      map[string]string
	Created     time.Time
}

const projectColumns = "SELECT id, name, description, config, created FROM projects"

func scanProject(p *Project) []any {
	return []any{&p.ID, &p.Name, &p.Description, asJSON{&p.Config}, asTime{&p.Created}}
}

// Projects returns all projects by name.
func Projects(ctx context.Context, tx *Tx) ([]Project, error) {
	return query(ctx, tx, scanProject, projectColumns+" ORDER BY name")
}

// GetProject returns the project with the name.
func GetProject(ctx context.Context, tx *Tx, name string) (Project, error) {
	return one(ctx, tx, NoProject(name), scanProject, projectColumns+" WHERE name = ?", name)
}

// AddProject adds a row and sets its ID and time.
func AddProject(ctx context.Context, tx *Tx, p *Project) error {
	p.Created, p.Config = tx.now, object(p.Config)
	id, err := insert(ctx, tx, "INSERT INTO projects (name, description, config, created) VALUES (?, ?, ?, ?)",
		p.Name, p.Description, asJSON{&p.Config}, asTime{&p.Created})
	if err != nil {
		return taken(tx, err, "project", p.Name)
	}
	p.ID = id
	return nil
}

// UpdateProject writes description and configuration.
func UpdateProject(ctx context.Context, tx *Tx, p Project) error {
	p.Config = object(p.Config)
	return exec(ctx, tx, NoProject(p.Name), "UPDATE projects SET description = ?, config = ? WHERE name = ?",
		p.Description, asJSON{&p.Config}, p.Name)
}

// RenameProject gives a project another name. What it has does not follow.
func RenameProject(ctx context.Context, tx *Tx, name, to string) error {
	err := exec(ctx, tx, NoProject(name), "UPDATE projects SET name = ? WHERE name = ?", to, name)
	return taken(tx, err, "project", to)
}

// DeleteProject removes a project from the database.
func DeleteProject(ctx context.Context, tx *Tx, name string) error {
	return exec(ctx, tx, NoProject(name), "DELETE FROM projects WHERE name = ?", name)
}

// NoProject is the error of a project that does not exist.
func NoProject(name string) error { return errs.NotFoundf("project %q not found", name) }

// The kinds of [ProjectObject]. Those that networks share are of the same
// [PartKind].
const (
	OfInstances = "instances"
	OfVolumes   = "volumes"
	OfProfiles  = "profiles"
	OfImages    = "images"
	OfNetworks  = "networks"
	OfACLs      = "network ACL"
	OfSets      = "network address set"
	OfZones     = "network zone"

	// Snapshots that users or schedules make, and backups, by the keys of the
	// instances or volumes that they are of. No row is of such a kind.
	OfSnapshots       = "snapshots"
	OfBackups         = "backups"
	OfVolumeSnapshots = "snapshots of volumes"
	OfVolumeBackups   = "backups of volumes"
)

// A ProjectObject is what is in a project.
type ProjectObject struct {
	Kind string
	Pool string // Of a volume.
	Key  string
}

// projectObjects finds what has a key of a project, which is both parameters,
// or of any if that is an empty text. Those of the default one have no sign in
// them.
const projectObjects = `WITH objects (kind, pool, key, sign) AS (
	SELECT 'instances', '', name, '_' FROM instances
	UNION ALL SELECT 'profiles', '', name, '%' FROM profiles
	UNION ALL SELECT 'images', '', CASE project WHEN 'default' THEN '' ELSE project || '%' END || fingerprint, '%' FROM images
	UNION ALL SELECT 'networks', '', name, '%' FROM networks
	UNION ALL SELECT 'volumes', p.name, v.name, '%' FROM volumes v JOIN pools p ON p.id = v.pool_id
	UNION ALL SELECT kind, '', name, '%' FROM network_objects)
	SELECT kind, pool, key FROM objects
	WHERE ? = '' OR CASE instr(key, sign) WHEN 0 THEN 'default' ELSE substr(key, 1, instr(key, sign) - 1) END = ?
	ORDER BY kind, pool, key`

// ProjectObjects returns what is in a project, or in all if it is an empty text.
func ProjectObjects(ctx context.Context, tx *Tx, name string) ([]ProjectObject, error) {
	scan := func(o *ProjectObject) []any { return []any{&o.Kind, &o.Pool, &o.Key} }
	return query(ctx, tx, scan, projectObjects, name, name)
}

// ofProject is the condition that a column has the key of what is in a project,
// and its parameters. An empty project is for all. The indexes of it have the
// same words.
func ofProject(column, sign, project string) (condition string, args []any) {
	if project == "" {
		return "TRUE", nil
	}
	at := "instr(" + column + ", '" + sign + "')"
	return "CASE " + at + " WHEN 0 THEN 'default' ELSE substr(" + column + ", 1, " + at + " - 1) END = ?", []any{project}
}

// instanceOf is [ofProject] for the instance i.
func instanceOf(project string) (condition string, args []any) {
	return ofProject("i.name", "_", project)
}

// ProfilesOf returns the profiles of a project, by name.
func ProfilesOf(ctx context.Context, tx *Tx, project string) ([]Profile, error) {
	of, args := ofProject("f.name", "%", project)
	return query(ctx, tx, scanProfile, profileColumns+" WHERE "+of+" ORDER BY f.name", args...)
}

// VolumesOf returns the custom volumes of a project, by pool and name.
func VolumesOf(ctx context.Context, tx *Tx, project string) ([]Volume, error) {
	of, args := ofProject("v.name", "%", project)
	return query(ctx, tx, scanVolume, volumeColumns+" WHERE "+of+" ORDER BY p.name, v.name", args...)
}

// NetworksOf returns the networks of a project, by name.
func NetworksOf(ctx context.Context, tx *Tx, project string) ([]Network, error) {
	of, args := ofProject("name", "%", project)
	return query(ctx, tx, scanNetwork, networkColumns+" WHERE "+of+" ORDER BY name", args...)
}

// CountInstances is how many instances a project has, and CountNetworks how
// many networks.
func CountInstances(ctx context.Context, tx *Tx, project string) (int64, error) {
	of, args := ofProject("name", "_", project)
	return count(ctx, tx, "instances WHERE "+of, args...)
}

// CountNetworks is described at [CountInstances].
func CountNetworks(ctx context.Context, tx *Tx, project string) (int64, error) {
	of, args := ofProject("name", "%", project)
	return count(ctx, tx, "networks WHERE "+of, args...)
}

func count(ctx context.Context, tx *Tx, from string, args ...any) (int64, error) {
	return one(ctx, tx, nil, func(n *int64) []any { return []any{n} }, "SELECT count(*) FROM "+from, args...)
}
