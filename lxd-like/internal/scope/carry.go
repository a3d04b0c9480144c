package scope

import (
	"cmp"
	"context"
	"path"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/project"
)

// Name is the reverse of [View.Key].
func Name(kind, key string) string {
	name, _ := nameOf(kind, key)
	return name
}

// Rekey has what v points to, which names objects as one project finds them,
// name those that another finds by the same names.
func Rekey(ctx context.Context, views Views, to string, v any) error {
	Out(v)
	return In(ctx, views, to, v)
}

// Bring gives a document that was written with names, in whatever project, the
// keys that they are in another, or in the default one. It can come from strangers.
func Bring(ctx context.Context, views Views, to string, doc *api.Document) error {
	if doc.Instance != nil {
		doc.Instance.Project = ""
	}
	if doc.Volume != nil {
		doc.Volume.Project = ""
	}
	for i := range doc.Profiles {
		doc.Profiles[i].Project = ""
	}
	for i := range doc.Snapshots { // Some peers write both names.
		doc.Snapshots[i].Name = path.Base(doc.Snapshots[i].Name)
	}
	for i := range doc.VolumeSnapshots {
		doc.VolumeSnapshots[i].Name = path.Base(doc.VolumeSnapshots[i].Name)
	}
	return In(ctx, views, cmp.Or(to, project.Default), doc)
}

// KeyIn is the key of what is found in a project, the default one if it is
// empty, by a name.
func KeyIn(ctx context.Context, views Views, in, kind, name string) (string, error) {
	view, err := views.View(ctx, cmp.Or(in, project.Default))
	if err != nil {
		return "", err
	}
	return view.Key(kind, name)
}
