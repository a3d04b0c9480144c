// Package scope translates between the wire, where objects have a name and a
// project, and the daemon, where they have a key: see package project.
//
// What of a struct is a name is said by tags of its fields:
//
//	key:"instance"   the name of an instance, also INSTANCE/SNAPSHOT
//	key:"new"        likewise, where an empty name is one that is to be made up
//	key:"profile"    of a profile
//	key:"network"    of a network, an ACL, an address set
//	key:"zone"       of a zone
//	key:"volume"     of a volume, whose type is in the field Type
//	key:"devices"    a map of devices
//	key:"config"     the configuration of an instance or a profile
//	key:"netconfig"  the configuration of a network
//	key:"url"        the path of an object
//	key:"source"     what a backup in a repository is of
//	key:"project"    the project of the names beside it
//
// A string and a slice of strings can have a tag, and what is said to be a map.
package scope

import (
	"context"
	"reflect"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// A View is in which projects those who work in one project find what they
// name: in their own, or in the default one, which others share.
type View struct {
	Project  string
	Profiles string
	Images   string
	Volumes  string
	Networks string // Also ACLs and address sets.
	Zones    string
}

// Whole is the view of a project that has all of its own.
func Whole(name string) View { return View{name, name, name, name, name, name} }

// Views knows the views of projects. It answers with an error of kind
// [errs.NotFound] for a project that does not exist.
type Views interface {
	View(ctx context.Context, project string) (View, error)
}

// In translates what a client has sent, to which v points, from names to
// keys. The names are of the given project, or of the one that stands beside
// them.
func In(ctx context.Context, views Views, name string, v any) error {
	view, err := views.View(ctx, name)
	if err != nil {
		return err
	}
	t := &inward{ctx: ctx, views: views}
	return t.value(reflect.ValueOf(v), view)
}

// Out translates what the daemon knows, to which v points, from keys to names.
// It changes no slice of strings and no map, but puts others in their places.
func Out(v any) {
	outward{}.value(reflect.ValueOf(v))
}

// Of is the project of the object to which v points, inside the daemon, and
// the kind of its name. The kind is empty for what belongs to no project.
func Of(v any) (name, kind string) {
	rv := reflect.ValueOf(v)
	for rv.Kind() == reflect.Pointer {
		rv = rv.Elem()
	}
	if rv.Kind() != reflect.Struct {
		return project.Default, ""
	}
	return identity(rv)
}

// identity looks for the field Name, which an embedded struct can have, or for
// what a backup is of.
func identity(v reflect.Value) (name, kind string) {
	for _, f := range planOf(v.Type()).fields {
		switch {
		case f.name == "Name" && f.kind != "", f.name == "Source" && f.kind == kindSource:
			return f.projectIn(v), f.nameKind(v)
		case f.embedded:
			if name, kind = identity(v.Field(f.index)); kind != "" {
				return name, kind
			}
		}
	}
	return project.Default, ""
}

// nameKind is the kind of name that a field of v has, which can depend on
// another field, or on what it says. It is empty for the host.
func (f planned) nameKind(v reflect.Value) string {
	switch f.kind {
	case Volume:
		return volumeKind(v)
	case kindSource:
		return SourceKind(v.Field(f.index).String())
	}
	return f.kind
}

// projectIn is the project of what a field of v, a string, has the key of.
func (f planned) projectIn(v reflect.Value) string {
	key := v.Field(f.index).String()
	if f.kind == kindSource {
		key = key[strings.LastIndexByte(key, '/')+1:]
	}
	switch f.nameKind(v) {
	case Instance, kindNew:
		return project.OfInstance(key)
	case Image, "":
		return project.Default
	}
	return project.Of(key)
}

// The kinds of names, of [View.Key].
const (
	Instance = "instance"
	Profile  = "profile"
	Network  = "network" // Also of an ACL or an address set.
	Zone     = "zone"
	Volume   = "volume"
	Alias    = "image alias" // Of an image, or its fingerprint.
	Image    = "image"       // Only of volumes of images, which are of all projects.
)

// What tags say beside these.
const (
	kindNew       = "new"
	kindSource    = "source"
	kindDevices   = "devices"
	kindConfig    = "config"
	kindNetConfig = "netconfig"
	kindURL       = "url"
)

// SourceKind is the kind of name that a source of backups has; empty for the
// host.
func SourceKind(source string) string {
	switch {
	case strings.HasPrefix(source, "instances/"):
		return Instance
	case strings.HasPrefix(source, "volumes/"):
		return Volume
	}
	return ""
}

// Where is the project in which a view has names of a kind.
func (v View) Where(kind string) string {
	switch kind {
	case Profile:
		return v.Profiles
	case Network:
		return v.Networks
	case Zone:
		return v.Zones
	case Volume:
		return v.Volumes
	case Alias:
		return v.Images
	}
	return v.Project
}

// Key is the key of what a client names. It answers with an error of kind
// [errs.Invalid] for what is no name.
func (v View) Key(kind, name string) (string, error) {
	switch kind {
	case Image:
		return name, nil
	case Instance, kindNew:
		if name == "" && kind == Instance {
			return "", nil
		}
		if !project.IsInstanceName(name) {
			return "", errs.Invalidf("instance name: got %q, want letters, digits and dashes", name)
		}
		return project.Instance(v.Project, name), nil
	}
	if name == "" {
		return "", nil
	}
	if !project.IsName(name) {
		return "", errs.Invalidf(`%s name: got %q, want no "%%" in it`, kind, name)
	}
	return project.Key(v.Where(kind), name), nil
}

// ProfileKeys are the keys of profiles that have the given names, as an image
// has them.
func (v View) ProfileKeys(names []string) ([]string, error) {
	out := make([]string, 0, len(names))
	for _, name := range names {
		key, err := v.Key(Profile, name)
		if err != nil {
			return nil, err
		}
		out = append(out, key)
	}
	return out, nil
}

// volumeKind is the kind of name that a volume has.
func volumeKind(v reflect.Value) string {
	typ := v.FieldByName("Type")
	if !typ.IsValid() || typ.Kind() != reflect.String {
		return Volume
	}
	return VolumeKind(typ.String())
}

// VolumeKind is the kind of name that volumes of a type have.
func VolumeKind(typ string) string {
	switch typ {
	case "container", "virtual-machine":
		return Instance
	case "image":
		return Image
	}
	return Volume
}
