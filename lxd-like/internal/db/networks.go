package db

import (
	"context"
	"time"

	"github.com/cuib/cuib/shared/errs"
)

// Network is a row of the networks table.
type Network struct {
	ID          int64
	Name        string
	Type        string
	Description string
	Config      map[string]string
	Status      Status
	Created     time.Time
}

const networkColumns = "SELECT id, name, type, description, config, status, created FROM networks"

func scanNetwork(n *Network) []any {
	return []any{&n.ID, &n.Name, &n.Type, &n.Description, asJSON{&n.Config}, &n.Status, asTime{&n.Created}}
}

// Networks returns all networks by name.
func Networks(ctx context.Context, tx *Tx) ([]Network, error) {
	return query(ctx, tx, scanNetwork, networkColumns+" ORDER BY name")
}

// GetNetwork returns the network with the name.
func GetNetwork(ctx context.Context, tx *Tx, name string) (Network, error) {
	return one(ctx, tx, noNetwork(name), scanNetwork, networkColumns+" WHERE name = ?", name)
}

// AddNetwork adds a row and sets its ID and time.
func AddNetwork(ctx context.Context, tx *Tx, n *Network) error {
	n.Created = tx.Now()
	id, err := insert(
		ctx, tx, "INSERT INTO networks (name, type, description, config, status, created) VALUES (?, ?, ?, ?, ?, ?)",
		n.Name, n.Type, n.Description, asJSON{&n.Config}, n.Status, asTime{&n.Created},
	)
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("network %q exists already", n.Name)
	}
	n.ID = id
	tx.Changed(OfNetworks, "", n.Name)
	return err
}

// UpdateNetwork changes the description and the configuration.
func UpdateNetwork(ctx context.Context, tx *Tx, n Network) error {
	tx.Changed(OfNetworks, "", n.Name)
	return exec(
		ctx, tx, noNetwork(n.Name), "UPDATE networks SET description = ?, config = ? WHERE name = ?",
		n.Description, asJSON{&n.Config}, n.Name,
	)
}

// RenameNetwork changes a network's name.
func RenameNetwork(ctx context.Context, tx *Tx, name, to string) error {
	err := exec(ctx, tx, noNetwork(name), "UPDATE networks SET name = ? WHERE name = ?", to, name)
	tx.Changed(OfNetworks, "", to)
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("network %q exists already", to)
	}
	return err
}

// SetNetworkStatus changes a network's status.
func SetNetworkStatus(ctx context.Context, tx *Tx, name string, s Status) error {
	return exec(ctx, tx, noNetwork(name), "UPDATE networks SET status = ? WHERE name = ?", s, name)
}

// DeleteNetwork deletes a row. It succeeds if there is none.
func DeleteNetwork(ctx context.Context, tx *Tx, name string) error {
	return exec(ctx, tx, nil, "DELETE FROM networks WHERE name = ?", name)
}

func noNetwork(name string) error { return errs.NotFoundf("network %q not found", name) }
