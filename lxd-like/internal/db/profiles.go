package db

import (
	"context"

	"github.com/cuib/cuib/shared/errs"
)

// Profile is a row of the profiles table.
type Profile struct {
	ID          int64
	Name        string
	Description string
	Config      map[string]string
	Devices     map[string]map[string]string
}

const profileColumns = "SELECT f.id, f.name, f.description, f.config, f.devices FROM profiles f"

func scanProfile(p *Profile) []any {
	return []any{&p.ID, &p.Name, &p.Description, asJSON{&p.Config}, asJSON{&p.Devices}}
}

// Profiles returns all profiles by name.
func Profiles(ctx context.Context, tx *Tx) ([]Profile, error) {
	return query(ctx, tx, scanProfile, profileColumns+" ORDER BY f.name")
}

// GetProfile returns the profile with the name.
func GetProfile(ctx context.Context, tx *Tx, name string) (Profile, error) {
	return one(ctx, tx, noProfile(name), scanProfile, profileColumns+" WHERE f.name = ?", name)
}

// ProfilesByName returns the named profiles in the order of the names. All
// of them must exist.
func ProfilesByName(ctx context.Context, tx *Tx, names []string) ([]Profile, error) {
	all, err := ProfilesLeft(ctx, tx, names)
	if err != nil || len(all) == len(names) {
		return all, err
	}
	for i, n := range names {
		if i == len(all) || all[i].Name != n {
			return nil, noProfile(n)
		}
	}
	return all, nil
}

// ProfilesLeft is [ProfilesByName] without those that do not exist.
func ProfilesLeft(ctx context.Context, tx *Tx, names []string) ([]Profile, error) {
	if len(names) == 0 {
		return nil, nil
	}
	found, err := query(ctx, tx, scanProfile, profileColumns+" WHERE f.name IN (SELECT value FROM json_each(?))", asJSON{&names})
	if err != nil {
		return nil, err
	}
	byName := make(map[string]Profile, len(found))
	for _, p := range found {
		byName[p.Name] = p
	}
	all := make([]Profile, 0, len(names))
	for _, n := range names {
		if p, ok := byName[n]; ok {
			all = append(all, p)
		}
	}
	return all, nil
}

// AddProfile adds a row and sets its ID.
func AddProfile(ctx context.Context, tx *Tx, p *Profile) error {
	p.Config, p.Devices = object(p.Config), object(p.Devices)
	id, err := insert(ctx, tx, "INSERT INTO profiles (name, description, config, devices) VALUES (?, ?, ?, ?)",
		p.Name, p.Description, asJSON{&p.Config}, asJSON{&p.Devices})
	if err != nil {
		return taken(tx, err, "profile", p.Name)
	}
	p.ID = id
	tx.note(OfProfiles, p.Name)
	tx.Changed(OfProfiles, "", p.Name)
	return nil
}

// UpdateProfile writes description, configuration and devices.
func UpdateProfile(ctx context.Context, tx *Tx, p Profile) error {
	p.Config, p.Devices = object(p.Config), object(p.Devices)
	tx.note(OfProfiles, p.Name)
	tx.Changed(OfProfiles, "", p.Name)
	return exec(ctx, tx, noProfile(p.Name), "UPDATE profiles SET description = ?, config = ?, devices = ? WHERE name = ?",
		p.Description, asJSON{&p.Config}, asJSON{&p.Devices}, p.Name)
}

// RenameProfile gives a profile another name; the instances that have it
// keep it.
func RenameProfile(ctx context.Context, tx *Tx, name, to string) error {
	tx.note(OfProfiles, name, to)
	err := exec(ctx, tx, noProfile(name), "UPDATE profiles SET name = ? WHERE name = ?", to, name)
	return taken(tx, err, "profile", to)
}

// DeleteProfile removes a profile that no instance has.
func DeleteProfile(ctx context.Context, tx *Tx, name string) error {
	tx.note(OfProfiles, name)
	err := exec(ctx, tx, noProfile(name), "DELETE FROM profiles WHERE name = ?", name)
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("profile %q is in use", name)
	}
	return err
}

func noProfile(name string) error { return errs.NotFoundf("profile %q not found", name) }
