package db

import (
	"context"
	"strings"
	"time"

	"github.com/cuib/cuib/shared/errs"
)

// Image is a row of the images table.
type Image struct {
	ID           int64
	Fingerprint  string
	Filename     string
	Size         int64 // Bytes.
	Public       bool
	AutoUpdate   bool
	Cached       bool
	Architecture string
	Properties   map[string]string
	Profiles     []string
	Source       string // What it was built from; empty if it was not.
	Status       Status
	Created      time.Time
	Expires      time.Time
	Uploaded     time.Time
	LastUsed     time.Time
}

// Alias is a row of the image_aliases table.
type Alias struct {
	Name        string
	Description string
	Fingerprint string
}

const imageColumns = `SELECT id, fingerprint, filename, size, public, auto_update, cached, architecture,
	properties, profiles, source, status, created, expires, uploaded, last_used FROM images`

func scanImage(i *Image) []any {
	return []any{
		&i.ID, &i.Fingerprint, &i.Filename, &i.Size, &i.Public, &i.AutoUpdate, &i.Cached, &i.Architecture,
		asJSON{&i.Properties},
		asJSON{&i.Profiles},
		&i.Source, &i.Status,
		asTime{&i.Created},
		asTime{&i.Expires},
		asTime{&i.Uploaded},
		asTime{&i.LastUsed},
	}
}

func noImage(fingerprint string) error { return errs.NotFoundf("image %q not found", fingerprint) }

// Images returns all images, oldest first.
func Images(ctx context.Context, tx *Tx) ([]Image, error) {
	return query(ctx, tx, scanImage, imageColumns+" ORDER BY id")
}

// GetImage returns the image with exactly the given fingerprint.
func GetImage(ctx context.Context, tx *Tx, fingerprint string) (Image, error) {
	return one(ctx, tx, noImage(fingerprint), scanImage, imageColumns+" WHERE fingerprint = ?", fingerprint)
}

// FindImages returns the ready images whose fingerprints begin with prefix.
func FindImages(ctx context.Context, tx *Tx, prefix string) ([]Image, error) {
	return query(ctx, tx, scanImage, imageColumns+" WHERE substr(fingerprint, 1, ?) = ? AND status = ? ORDER BY id", len(prefix), prefix, Ready)
}

// ImageBySource returns the newest ready image that was built from source.
func ImageBySource(ctx context.Context, tx *Tx, source string) (Image, error) {
	missing := errs.NotFoundf("no image was built from %q", source)
	return one(ctx, tx, missing, scanImage, imageColumns+" WHERE source = ? AND status = ? ORDER BY id DESC LIMIT 1", source, Ready)
}

// AddImage adds an image and sets its ID.
func AddImage(ctx context.Context, tx *Tx, i *Image) (err error) {
	i.ID, err = insert(ctx, tx, `INSERT INTO images (fingerprint, filename, size, public, auto_update, cached, architecture,
		properties, profiles, source, status, created, expires, uploaded, last_used) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		i.Fingerprint, i.Filename, i.Size, i.Public, i.AutoUpdate, i.Cached, i.Architecture,
		asJSON{&i.Properties}, asJSON{&i.Profiles}, i.Source, string(i.Status),
		asTime{&i.Created}, asTime{&i.Expires}, asTime{&i.Uploaded}, asTime{&i.LastUsed})
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("Image with same fingerprint already exists")
	}
	return err
}

// UpdateImage stores what a user can change of an image: whether it is public
// and updates by itself, its properties, profiles and expiry.
func UpdateImage(ctx context.Context, tx *Tx, i Image) error {
	return exec(ctx, tx, noImage(i.Fingerprint), "UPDATE images SET public = ?, auto_update = ?, properties = ?, profiles = ?, expires = ? WHERE fingerprint = ?",
		i.Public, i.AutoUpdate, asJSON{&i.Properties}, asJSON{&i.Profiles}, asTime{&i.Expires}, i.Fingerprint)
}

// SetImageStatus sets an image's status.
func SetImageStatus(ctx context.Context, tx *Tx, fingerprint string, s Status) error {
	return exec(ctx, tx, noImage(fingerprint), "UPDATE images SET status = ? WHERE fingerprint = ?", string(s), fingerprint)
}

// TouchImage notes that an image was used now.
func TouchImage(ctx context.Context, tx *Tx, fingerprint string) error {
	now := tx.Now()
	return exec(ctx, tx, noImage(fingerprint), "UPDATE images SET last_used = ? WHERE fingerprint = ?", asTime{&now}, fingerprint)
}

// DeleteImage deletes an image and its aliases.
func DeleteImage(ctx context.Context, tx *Tx, fingerprint string) error {
	return exec(ctx, tx, noImage(fingerprint), "DELETE FROM images WHERE fingerprint = ?", fingerprint)
}

const aliasColumns = `SELECT a.name, a.description, i.fingerprint FROM image_aliases a JOIN images i ON i.id = a.image_id`

func scanAlias(a *Alias) []any { return []any{&a.Name, &a.Description, &a.Fingerprint} }

func noAlias(name string) error { return errs.NotFoundf("image alias %q not found", name) }

// Aliases returns the aliases of all images, by name.
func Aliases(ctx context.Context, tx *Tx) ([]Alias, error) {
	return query(ctx, tx, scanAlias, aliasColumns+" ORDER BY a.name")
}

// GetAlias returns the alias with the given name.
func GetAlias(ctx context.Context, tx *Tx, name string) (Alias, error) {
	return one(ctx, tx, noAlias(name), scanAlias, aliasColumns+" WHERE a.name = ?", name)
}

// AddAlias adds an alias of an image that is ready.
func AddAlias(ctx context.Context, tx *Tx, a Alias) error {
	image, err := GetImage(ctx, tx, a.Fingerprint)
	if err != nil {
		return err
	}
	err = exec(ctx, tx, nil, "INSERT INTO image_aliases (name, image_id, description) VALUES (?, ?, ?)", a.Name, image.ID, a.Description)
	return aliasTaken(err, a.Name)
}

// UpdateAlias stores an alias's description and image.
func UpdateAlias(ctx context.Context, tx *Tx, a Alias) error {
	image, err := GetImage(ctx, tx, a.Fingerprint)
	if err != nil {
		return err
	}
	return exec(ctx, tx, noAlias(a.Name), "UPDATE image_aliases SET image_id = ?, description = ? WHERE name = ?", image.ID, a.Description, a.Name)
}

// RenameAlias gives an alias another name.
func RenameAlias(ctx context.Context, tx *Tx, name, to string) error {
	err := exec(ctx, tx, noAlias(name), "UPDATE image_aliases SET name = ? WHERE name = ?", to, name)
	return aliasTaken(err, to)
}

// DeleteAlias deletes an alias.
func DeleteAlias(ctx context.Context, tx *Tx, name string) error {
	return exec(ctx, tx, noAlias(name), "DELETE FROM image_aliases WHERE name = ?", name)
}

// aliasTaken says in a sentence that the name of an alias is taken.
func aliasTaken(err error, name string) error {
	if errs.Is(err, errs.Conflict) && strings.Contains(err.Error(), "exists already") {
		return errs.Conflictf("image alias %q already exists", name)
	}
	return err
}
