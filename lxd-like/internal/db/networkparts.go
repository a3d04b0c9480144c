package db

import (
	"context"

	"github.com/cuib/cuib/shared/errs"
)

// A NetworkPart is what belongs to one network, such as a forward. T is what
// its document holds, as JSON.
type NetworkPart[T any] struct {
	Network  string
	Name     string // Of this kind there is one with the name in the network.
	Document T
}

// A PartKind is a kind of [NetworkPart], or of [NetworkObject]: how errors name
// it, such as "network forward".
type PartKind[T any] string

func noPart[T any](kind PartKind[T], network, name string) error {
	return errs.NotFoundf("%s %q of network %q not found", kind, name, network)
}

const partColumns = "SELECT n.name, p.name, p.document FROM network_parts p JOIN networks n ON n.id = p.network_id WHERE p.kind = ?"

func scanPart[T any](p *NetworkPart[T]) []any {
	return []any{&p.Network, &p.Name, asJSON{&p.Document}}
}

// NetworkParts returns all of a kind that belong to a network, or to any if
// network is an empty string.
func NetworkParts[T any](ctx context.Context, tx *Tx, kind PartKind[T], network string) ([]NetworkPart[T], error) {
	return query(ctx, tx, scanPart[T], partColumns+" AND (? = '' OR n.name = ?) ORDER BY n.name, p.name", string(kind), network, network)
}

// GetNetworkPart returns the one with the name.
func GetNetworkPart[T any](ctx context.Context, tx *Tx, kind PartKind[T], network, name string) (NetworkPart[T], error) {
	return one(ctx, tx, noPart(kind, network, name), scanPart[T], partColumns+" AND n.name = ? AND p.name = ?", string(kind), network, name)
}

// AddNetworkPart adds a row.
func AddNetworkPart[T any](ctx context.Context, tx *Tx, kind PartKind[T], p NetworkPart[T]) error {
	err := exec(
		ctx, tx, noNetwork(p.Network),
		"INSERT INTO network_parts (network_id, kind, name, document) SELECT id, ?, ?, ? FROM networks WHERE name = ?",
		string(kind), p.Name, asJSON{&p.Document}, p.Network,
	)
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("%s %q of network %q exists already", kind, p.Name, p.Network)
	}
	return err
}

// SetNetworkPart changes the document.
func SetNetworkPart[T any](ctx context.Context, tx *Tx, kind PartKind[T], p NetworkPart[T]) error {
	return exec(
		ctx, tx, noPart(kind, p.Network, p.Name),
		"UPDATE network_parts SET document = ? WHERE kind = ? AND name = ? AND network_id = (SELECT id FROM networks WHERE name = ?)",
		asJSON{&p.Document}, string(kind), p.Name, p.Network,
	)
}

// DeleteNetworkPart deletes a row.
func DeleteNetworkPart[T any](ctx context.Context, tx *Tx, kind PartKind[T], network, name string) error {
	return exec(
		ctx, tx, noPart(kind, network, name),
		"DELETE FROM network_parts WHERE kind = ? AND name = ? AND network_id = (SELECT id FROM networks WHERE name = ?)",
		string(kind), name, network,
	)
}

// A NetworkObject is what networks share, such as an ACL.
type NetworkObject[T any] struct {
	Name     string
	Document T
}

func noObject[T any](kind PartKind[T], name string) error {
	return errs.NotFoundf("%s %q not found", kind, name)
}

const objectColumns = "SELECT name, document FROM network_objects WHERE kind = ?"

func scanObject[T any](o *NetworkObject[T]) []any {
	return []any{&o.Name, asJSON{&o.Document}}
}

// NetworkObjects returns all of a kind, by name.
func NetworkObjects[T any](ctx context.Context, tx *Tx, kind PartKind[T]) ([]NetworkObject[T], error) {
	return query(ctx, tx, scanObject[T], objectColumns+" ORDER BY name", string(kind))
}

// GetNetworkObject returns the one with the name.
func GetNetworkObject[T any](ctx context.Context, tx *Tx, kind PartKind[T], name string) (NetworkObject[T], error) {
	return one(ctx, tx, noObject(kind, name), scanObject[T], objectColumns+" AND name = ?", string(kind), name)
}

// AddNetworkObject adds a row.
func AddNetworkObject[T any](ctx context.Context, tx *Tx, kind PartKind[T], o NetworkObject[T]) error {
	err := exec(ctx, tx, nil, "INSERT INTO network_objects (kind, name, document) VALUES (?, ?, ?)", string(kind), o.Name, asJSON{&o.Document})
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("%s %q exists already", kind, o.Name)
	}
	tx.Changed(string(kind), "", o.Name)
	return err
}

// SetNetworkObject changes the document.
func SetNetworkObject[T any](ctx context.Context, tx *Tx, kind PartKind[T], o NetworkObject[T]) error {
	return exec(
		ctx, tx, noObject(kind, o.Name), "UPDATE network_objects SET document = ? WHERE kind = ? AND name = ?",
		asJSON{&o.Document}, string(kind), o.Name,
	)
}

// RenameNetworkObject changes the name.
func RenameNetworkObject[T any](ctx context.Context, tx *Tx, kind PartKind[T], name, to string) error {
	err := exec(ctx, tx, noObject(kind, name), "UPDATE network_objects SET name = ? WHERE kind = ? AND name = ?", to, string(kind), name)
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("%s %q exists already", kind, to)
	}
	return err
}

// DeleteNetworkObject deletes a row.
func DeleteNetworkObject[T any](ctx context.Context, tx *Tx, kind PartKind[T], name string) error {
	return exec(ctx, tx, noObject(kind, name), "DELETE FROM network_objects WHERE kind = ? AND name = ?", string(kind), name)
}
