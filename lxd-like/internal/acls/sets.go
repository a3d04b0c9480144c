package acls

import (
	"context"
	"maps"
	"net/netip"
	"net/url"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/undo"
)

// Sets are the address sets. Its methods are safe for concurrent use.
type Sets struct{ s *Service }

// Sets returns the address sets that ACLs can name.
func (s *Service) Sets() Sets { return Sets{s} }

func setURL(name string) string { return "/1.0/network-address-sets/" + url.PathEscape(name) }

// List returns all address sets.
func (a Sets) List(ctx context.Context) (all []api.NetworkAddressSet, err error) {
	err = a.s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := load(ctx, tx)
		if err != nil {
			return err
		}
		for _, name := range sorted(w.sets) {
			all = append(all, w.describeSet(name))
		}
		return nil
	})
	return all, err
}

// Get returns an address set.
func (a Sets) Get(ctx context.Context, name string) (out api.NetworkAddressSet, err error) {
	err = a.s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := db.GetNetworkObject(ctx, tx, setKind, name); err != nil {
			return err
		}
		w, err := load(ctx, tx)
		if err != nil {
			return err
		}
		out = w.describeSet(name)
		return nil
	})
	return out, err
}

func (w *world) describeSet(name string) api.NetworkAddressSet {
	put := w.sets[name]
	put.Addresses = append([]string{}, put.Addresses...)
	if put.Config == nil {
		put.Config = api.ConfigMap{}
	}
	return api.NetworkAddressSet{NetworkAddressSetPut: put, Name: name, UsedBy: w.usersOfSet(name), Project: project.Of(name)}
}

// Create makes an address set.
func (a Sets) Create(ctx context.Context, req api.NetworkAddressSetsPost) error {
	if err := checkName("network address set", project.Name(req.Name)); err != nil {
		return err
	}
	put, err := cleanedSet(req.NetworkAddressSetPut)
	if err != nil {
		return err
	}
	a.s.change.Lock()
	defer a.s.change.Unlock()

	err = a.s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.AddNetworkObject(ctx, tx, setKind, setRecord{Name: req.Name, Document: put})
	})
	if err != nil {
		return err
	}
	a.s.Events.Lifecycle("network-address-set-created", setURL(req.Name), nil)
	return nil
}

// cleanedSet is what is kept of an address set, checked.
func cleanedSet(put api.NetworkAddressSetPut) (api.NetworkAddressSetPut, error) {
	put.Config = maps.Clone(put.Config)
	maps.DeleteFunc(put.Config, func(_, v string) bool { return v == "" })
	if err := checkConfig(put.Config); err != nil {
		return put, err
	}
	list := []string{}
	seen := map[string]bool{}
	for _, v := range put.Addresses {
		v = strings.TrimSpace(v)
		if _, err := parseRange(v); err != nil {
			return put, errs.Invalidf("addresses: %w", err)
		}
		if !seen[v] {
			list = append(list, v)
		}
		seen[v] = true
	}
	put.Addresses = list
	return put, nil
}

// parseRange reads an address, a network, or FIRST-LAST.
func parseRange(v string) (acl.Range, error) {
	if p, err := netip.ParsePrefix(v); err == nil && !p.Addr().Is4In6() {
		return acl.OfPrefix(p), nil
	}
	first, last, both := strings.Cut(v, "-")
	if !both {
		last = first
	}
	a, err1 := netip.ParseAddr(first)
	b, err2 := netip.ParseAddr(last)
	if err1 != nil || err2 != nil || a.BitLen() != b.BitLen() || b.Less(a) || a.Zone() != "" || b.Zone() != "" || a.Is4In6() || b.Is4In6() {
		return acl.Range{}, errs.Invalidf("got %q, want an IP address, a network such as 10.1.2.0/24, or FIRST-LAST", v)
	}
	return acl.Range{First: a, Last: b}, nil
}

// Update changes an address set, which put has in full. Rules that name it
// follow.
func (a Sets) Update(ctx context.Context, name string, put api.NetworkAddressSetPut) (err error) {
	if put, err = cleanedSet(put); err != nil {
		return err
	}
	a.s.change.Lock()
	defer a.s.change.Unlock()

	var u undo.Stack
	defer u.Unwind(ctx, &err)

	var old setRecord
	err = a.s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if old, err = db.GetNetworkObject(ctx, tx, setKind, name); err != nil {
			return err
		}
		return db.SetNetworkObject(ctx, tx, setKind, setRecord{Name: name, Document: put})
	})
	if err != nil {
		return err
	}
	u.Push("bring back the address set as it was", func(ctx context.Context) error {
		err := a.s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.SetNetworkObject(ctx, tx, setKind, old) })
		if err != nil {
			return err
		}
		return a.s.readdress(ctx)
	})
	if err := a.s.readdress(ctx); err != nil {
		return err
	}
	a.s.Events.Lifecycle("network-address-set-updated", setURL(name), nil)
	return nil
}

// Rename gives an address set that no ACL names another name.
func (a Sets) Rename(ctx context.Context, name, to string) error {
	if err := checkName("network address set", project.Name(to)); err != nil {
		return err
	}
	err := a.unused(ctx, "rename", name, func(ctx context.Context, tx *db.Tx) error {
		return db.RenameNetworkObject(ctx, tx, setKind, name, to)
	})
	if err != nil {
		return err
	}
	a.s.Events.Lifecycle("network-address-set-renamed", setURL(to), map[string]any{"old_name": name})
	return nil
}

// Delete takes an address set away that no ACL names.
func (a Sets) Delete(ctx context.Context, name string) error {
	err := a.unused(ctx, "delete", name, func(ctx context.Context, tx *db.Tx) error { return db.DeleteNetworkObject(ctx, tx, setKind, name) })
	if err != nil {
		return err
	}
	a.s.Events.Lifecycle("network-address-set-deleted", setURL(name), nil)
	return nil
}

func (a Sets) unused(ctx context.Context, verb, name string, fn func(context.Context, *db.Tx) error) error {
	a.s.change.Lock()
	defer a.s.change.Unlock()
	return a.s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := load(ctx, tx)
		if err != nil {
			return err
		}
		if err := inUse(verb, "network address set", name, w.usersOfSet(name)); err != nil {
			return err
		}
		return fn(ctx, tx)
	})
}
