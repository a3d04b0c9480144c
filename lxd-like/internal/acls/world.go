package acls

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/project"
)

// The key of networks and option of interfaces that name ACLs.
const keyACLs = "security.acls"

// A world is the records that rules can be about, or that can have ACLs.
type world struct {
	acls     map[string]api.NetworkACLPut
	sets     map[string]api.NetworkAddressSetPut
	networks []db.Network

	// named are those keys of instances that the rules of acls can mean and that
	// instances have: all others are nothing to them.
	named []string

	// The users of ACLs that can be many. See [loadUsers].
	instances []db.Instance
	profiles  []db.Profile

	// had are the names in rules that there are already: what they name can
	// have gone meanwhile.
	had map[string]bool
}

// load reads a world without the users of ACLs.
func load(ctx context.Context, tx *db.Tx) (*world, error) {
	w := &world{acls: map[string]api.NetworkACLPut{}, sets: map[string]api.NetworkAddressSetPut{}, had: map[string]bool{}}
	all, err := db.NetworkObjects(ctx, tx, kind)
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		w.acls[a.Name] = a.Document
	}
	sets, err := db.NetworkObjects(ctx, tx, setKind)
	if err != nil {
		return nil, err
	}
	for _, a := range sets {
		w.sets[a.Name] = a.Document
	}
	if w.networks, err = db.Networks(ctx, tx); err != nil {
		return nil, err
	}
	return w, w.look(ctx, tx)
}

// look finds out which instances the rules of the ACLs name.
func (w *world) look(ctx context.Context, tx *db.Tx) (err error) {
	instances, _ := w.subjects()
	w.named, err = db.InstanceNames(ctx, tx, slices.Sorted(maps.Keys(instances)))
	return err
}

// loadUsers is load with the users of ACLs.
func loadUsers(ctx context.Context, tx *db.Tx) (*world, error) {
	w, err := load(ctx, tx)
	if err != nil {
		return nil, err
	}
	if w.instances, err = db.Instances(ctx, tx); err != nil {
		return nil, err
	}
	w.profiles, err = db.Profiles(ctx, tx)
	return w, err
}

// subjects are the keys of instances and of ACLs that rules name, or can mean: a
// name alone can be that of either.
func (w *world) subjects() (instances, acls map[string]bool) {
	kinds := map[string]map[string]bool{bookInstance: {}, bookACL: {}}
	for name, put := range w.acls {
		of := project.Of(name)
		for _, r := range slices.Concat(put.Ingress, put.Egress) {
			for _, s := range slices.Concat(profiles.SplitList(r.Source), profiles.SplitList(r.Destination)) {
				for prefix, keys := range kinds {
					name, said := strings.CutPrefix(s, prefix)
					other := strings.HasPrefix(s, bookACL) || strings.HasPrefix(s, bookNetwork) || strings.HasPrefix(s, bookInstance)
					if key := keyOf(of, prefix, name); key != "" && (said || !other) {
						keys[key] = true
					}
				}
			}
		}
	}
	return kinds[bookInstance], kinds[bookACL]
}

// known has the names in the rules of an ACL be right, whatever they name.
func (w *world) known(put api.NetworkACLPut) {
	for _, r := range slices.Concat(put.Ingress, put.Egress) {
		for _, s := range slices.Concat(profiles.SplitList(r.Source), profiles.SplitList(r.Destination)) {
			w.had[s] = true
		}
	}
}

// has reports whether there is a subject of a kind, which its prefix says, by its
// key.
func (w *world) has(prefix, key string) bool {
	switch prefix {
	case bookACL:
		_, ok := w.acls[key]
		return ok
	case bookNetwork:
		return slices.ContainsFunc(w.networks, func(n db.Network) bool { return n.Name == key })
	}
	return slices.Contains(w.named, key)
}

// keyOf is the key of what rules of a project's ACLs name; empty for what is no
// name. Those of the default project are for all projects without networks of
// their own, and can name the instances of others as PROJECT/NAME.
func keyOf(of, prefix, name string) string {
	if other, short, ok := strings.Cut(name, "/"); ok && prefix == bookInstance && of == project.Default {
		of, name = other, short
	}
	switch {
	case prefix == bookInstance && project.IsInstanceName(name):
		return project.Instance(of, name)
	case prefix != bookInstance && project.IsName(name):
		return project.Key(of, name)
	}
	return ""
}

// nameOf is the reverse of keyOf; empty for what they cannot name.
func nameOf(of, prefix, key string) string {
	split := project.Split
	if prefix == bookInstance {
		split = project.SplitInstance
	}
	switch whose, name := split(key); {
	case whose == of:
		return name
	case prefix == bookInstance && of == project.Default:
		return whose + "/" + name
	}
	return ""
}

// networksWith returns the names of the networks with an ACL.
func (w *world) networksWith(name string) []string {
	var all []string
	for _, n := range w.networks {
		if slices.Contains(profiles.SplitList(n.Config[keyACLs]), name) {
			all = append(all, n.Name)
		}
	}
	return all
}

// usersOf returns the URLs of what uses an ACL.
func (w *world) usersOf(name string) []string {
	all := []string{}
	for _, n := range w.networksWith(name) {
		all = append(all, "/1.0/networks/"+url.PathEscape(n))
	}
	uses := func(devices map[string]profiles.Device) bool {
		for _, d := range devices {
			if d["type"] == "nic" && slices.Contains(profiles.SplitList(d[keyACLs]), name) {
				return true
			}
		}
		return false
	}
	for _, in := range w.instances {
		if uses(w.devices(in)) {
			all = append(all, "/1.0/instances/"+in.Name)
		}
	}
	for _, p := range w.profiles {
		if uses(p.Devices) {
			all = append(all, "/1.0/profiles/"+url.PathEscape(p.Name))
		}
	}
	of, short := project.Split(name)
	for _, other := range sorted(w.acls) {
		if other != name && project.Of(other) == of && w.names(other, func(s string) bool { return s == bookACL+short || s == short }) {
			all = append(all, aclURL(other))
		}
	}
	return all
}

// usersOfSet returns the URLs of the ACLs that name an address set.
func (w *world) usersOfSet(name string) []string {
	all := []string{}
	of, short := project.Split(name)
	for _, a := range sorted(w.acls) {
		if project.Of(a) == of && w.names(a, func(s string) bool { return s == "$"+short }) {
			all = append(all, aclURL(a))
		}
	}
	return all
}

// names reports whether a rule of an ACL has a subject.
func (w *world) names(name string, is func(string) bool) bool {
	put := w.acls[name]
	for _, r := range slices.Concat(put.Ingress, put.Egress) {
		if slices.ContainsFunc(slices.Concat(profiles.SplitList(r.Source), profiles.SplitList(r.Destination)), is) {
			return true
		}
	}
	return false
}

// devices are those of an instance, with those of its profiles.
func (w *world) devices(in db.Instance) map[string]profiles.Device {
	var all []profiles.Config
	for _, name := range in.Profiles {
		i := slices.IndexFunc(w.profiles, func(p db.Profile) bool { return p.Name == name })
		if i >= 0 {
			all = append(all, profiles.Config{Options: w.profiles[i].Config, Devices: w.profiles[i].Devices})
		}
	}
	return profiles.Expand(profiles.Config{Options: in.Config, Devices: in.Devices}, all...).Devices
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
