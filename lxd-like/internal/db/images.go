package db

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// Image is a row of the images table. Each project that has an image has a row
// of its own for it. The key of an image is that of its project and its
// fingerprint.
type Image struct {
	ID           int64
	Project      string
	Fingerprint  string
	Filename     string
	Size         int64 // Bytes.
	Public       bool
	AutoUpdate   bool
	Cached       bool
	Architecture string
	Properties   map[string]string
	Profiles     []string // Names, without a project.
	Source       string   // What it was built from; empty if it was not.
	Status       Status
	Created      time.Time
	Expires      time.Time
	Uploaded     time.Time
	LastUsed     time.Time
}

// Key is the key of the image.
func (i Image) Key() string { return project.Key(i.Project, i.Fingerprint) }

// Alias is a row of the image_aliases table: of an image of the same project.
type Alias struct {
	Project     string
	Name        string
	Description string
	Fingerprint string
}

// Key is the key of the alias.
func (a Alias) Key() string { return project.Key(a.Project, a.Name) }

const imageColumns = `SELECT id, project, fingerprint, filename, size, public, auto_update, cached, architecture,
	properties, profiles, source, status, created, expires, uploaded, last_used FROM images`

func scanImage(i *Image) []any {
	return []any{
		&i.ID, &i.Project, &i.Fingerprint, &i.Filename, &i.Size, &i.Public, &i.AutoUpdate, &i.Cached, &i.Architecture,
		asJSON{&i.Properties},
		asJSON{&i.Profiles},
		&i.Source, &i.Status,
		asTime{&i.Created},
		asTime{&i.Expires},
		asTime{&i.Uploaded},
		asTime{&i.LastUsed},
	}
}

func noImage(key string) error { return errs.NotFoundf("image %q not found", key) }

// Images returns the images of all projects, oldest first.
func Images(ctx context.Context, tx *Tx) ([]Image, error) {
	return query(ctx, tx, scanImage, imageColumns+" ORDER BY id")
}

// ReadyImages returns the ready images of all projects, oldest first.
func ReadyImages(ctx context.Context, tx *Tx) ([]Image, error) {
	return query(ctx, tx, scanImage, imageColumns+" WHERE status = ? ORDER BY id", Ready)
}

// ImageKeys returns the keys of the ready images of each fingerprint.
func ImageKeys(ctx context.Context, tx *Tx) (map[string][]string, error) {
	all, err := ReadyImages(ctx, tx)
	out := map[string][]string{}
	for _, i := range all {
		out[i.Fingerprint] = append(out[i.Fingerprint], i.Key())
	}
	return out, err
}

// GetImage returns the image with exactly the given key.
func GetImage(ctx context.Context, tx *Tx, key string) (Image, error) {
	in, fingerprint := project.Split(key)
	return one(ctx, tx, noImage(key), scanImage, imageColumns+" WHERE project = ? AND fingerprint = ?", in, fingerprint)
}

// FindImages returns the ready images of one project whose keys begin with
// prefix.
func FindImages(ctx context.Context, tx *Tx, prefix string) ([]Image, error) {
	in, part := project.Split(prefix)
	return query(ctx, tx, scanImage, imageColumns+" WHERE project = ? AND substr(fingerprint, 1, ?) = ? AND status = ? ORDER BY id", in, len(part), part, Ready)
}

// ImagesSharing returns the ready images that have the same files as one of a
// fingerprint: those of all projects, the newest first.
func ImagesSharing(ctx context.Context, tx *Tx, fingerprint string) ([]Image, error) {
	return query(ctx, tx, scanImage, imageColumns+" WHERE fingerprint = ? AND status = ? ORDER BY id DESC", fingerprint, Ready)
}

// ImageBySource returns the newest ready image of a project that was built
// from a source; key is that of the source.
func ImageBySource(ctx context.Context, tx *Tx, key string) (Image, error) {
	in, source := project.Split(key)
	missing := errs.NotFoundf("no image was built from %q", source)
	return one(ctx, tx, missing, scanImage, imageColumns+" WHERE project = ? AND source = ? AND status = ? ORDER BY id DESC LIMIT 1", in, source, Ready)
}

// ImagesBySource returns the ready images that were built from a source, of
// all projects: those of the last build first, of them the oldest.
func ImagesBySource(ctx context.Context, tx *Tx, source string) ([]Image, error) {
	return query(ctx, tx, scanImage, imageColumns+" WHERE source = ? AND status = ? ORDER BY created DESC, id", source, Ready)
}

// AddImage adds an image, to the default project if it says none, and sets its
// ID.
func AddImage(ctx context.Context, tx *Tx, i *Image) (err error) {
	i.Project = cmp.Or(i.Project, project.Default)
	tx.Changed(OfImages, "", i.Key())
	i.ID, err = insert(ctx, tx, `INSERT INTO images (project, fingerprint, filename, size, public, auto_update, cached, architecture,
		properties, profiles, source, status, created, expires, uploaded, last_used) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		i.Project, i.Fingerprint, i.Filename, i.Size, i.Public, i.AutoUpdate, i.Cached, i.Architecture,
		asJSON{&i.Properties}, asJSON{&i.Profiles}, i.Source, string(i.Status),
		asTime{&i.Created}, asTime{&i.Expires}, asTime{&i.Uploaded}, asTime{&i.LastUsed})
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("Image with same fingerprint already exists")
	}
	return err
}

// ofImage is the condition that a row is that of the image with a key, which
// [imageArgs] adds to the arguments.
const ofImage = " WHERE project = ? AND fingerprint = ?"

func imageArgs(key string, args ...any) []any {
	in, fingerprint := project.Split(key)
	return append(args, in, fingerprint)
}

// UpdateImage stores what a user can change of an image: whether it is public
// and updates by itself, its properties, profiles and expiry.
func UpdateImage(ctx context.Context, tx *Tx, i Image) error {
	return exec(ctx, tx, noImage(i.Key()), "UPDATE images SET public = ?, auto_update = ?, properties = ?, profiles = ?, expires = ?"+ofImage,
		imageArgs(i.Key(), i.Public, i.AutoUpdate, asJSON{&i.Properties}, asJSON{&i.Profiles}, asTime{&i.Expires})...)
}

// SetImageStatus sets the status of the image with a key.
func SetImageStatus(ctx context.Context, tx *Tx, key string, s Status) error {
	return exec(ctx, tx, noImage(key), "UPDATE images SET status = ?"+ofImage, imageArgs(key, string(s))...)
}

// TouchImage notes that the image with a key was used now.
func TouchImage(ctx context.Context, tx *Tx, key string) error {
	now := tx.Now()
	return exec(ctx, tx, noImage(key), "UPDATE images SET last_used = ?"+ofImage, imageArgs(key, asTime{&now})...)
}

// DeleteImage deletes the image with a key, and its aliases.
func DeleteImage(ctx context.Context, tx *Tx, key string) error {
	return exec(ctx, tx, noImage(key), "DELETE FROM images"+ofImage, imageArgs(key)...)
}

const aliasColumns = `SELECT a.project, a.name, a.description, i.fingerprint FROM image_aliases a JOIN images i ON i.id = a.image_id`

func scanAlias(a *Alias) []any { return []any{&a.Project, &a.Name, &a.Description, &a.Fingerprint} }

func noAlias(key string) error { return errs.NotFoundf("image alias %q not found", key) }

// Aliases returns the aliases of the images of all projects, by name.
func Aliases(ctx context.Context, tx *Tx) ([]Alias, error) {
	return query(ctx, tx, scanAlias, aliasColumns+" ORDER BY a.name, a.project")
}

// GetAlias returns the alias with the given key.
func GetAlias(ctx context.Context, tx *Tx, key string) (Alias, error) {
	in, name := project.Split(key)
	return one(ctx, tx, noAlias(key), scanAlias, aliasColumns+" WHERE a.project = ? AND a.name = ?", in, name)
}

// AddAlias adds an alias of an image that is ready, to the default project if
// it says none.
func AddAlias(ctx context.Context, tx *Tx, a Alias) error {
	a.Project = cmp.Or(a.Project, project.Default)
	image, err := GetImage(ctx, tx, project.Key(a.Project, a.Fingerprint))
	if err != nil {
		return err
	}
	err = exec(ctx, tx, nil, "INSERT INTO image_aliases (project, name, image_id, description) VALUES (?, ?, ?, ?)", a.Project, a.Name, image.ID, a.Description)
	return aliasTaken(err, a.Key())
}

// UpdateAlias stores an alias's description and image.
func UpdateAlias(ctx context.Context, tx *Tx, a Alias) error {
	a.Project = cmp.Or(a.Project, project.Default)
	image, err := GetImage(ctx, tx, project.Key(a.Project, a.Fingerprint))
	if err != nil {
		return err
	}
	return exec(ctx, tx, noAlias(a.Key()), "UPDATE image_aliases SET image_id = ?, description = ? WHERE project = ? AND name = ?",
		image.ID, a.Description, a.Project, a.Name)
}

// RenameAlias gives the alias with a key another name in its project; to is a
// key too.
func RenameAlias(ctx context.Context, tx *Tx, key, to string) error {
	in, name := project.Split(key)
	err := exec(ctx, tx, noAlias(key), "UPDATE image_aliases SET name = ? WHERE project = ? AND name = ?", project.Name(to), in, name)
	return aliasTaken(err, to)
}

// DeleteAlias deletes the alias with a key.
func DeleteAlias(ctx context.Context, tx *Tx, key string) error {
	in, name := project.Split(key)
	return exec(ctx, tx, noAlias(key), "DELETE FROM image_aliases WHERE project = ? AND name = ?", in, name)
}

// aliasTaken says in a sentence that the key of an alias is taken.
func aliasTaken(err error, key string) error {
	if errs.Is(err, errs.Conflict) && strings.Contains(err.Error(), "exists already") {
		return errs.Conflictf("image alias %q already exists", key)
	}
	return err
}
