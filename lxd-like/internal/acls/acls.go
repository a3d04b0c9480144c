// Package acls keeps network ACLs and address sets, and has the host's kernel
// follow them: at networks, and at the interfaces of instances.
package acls

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/mirror"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/undo"
)

// What the database calls ACLs and address sets.
const (
	kind    db.PartKind[api.NetworkACLPut]        = "network ACL"
	setKind db.PartKind[api.NetworkAddressSetPut] = "network address set"
)

type (
	record    = db.NetworkObject[api.NetworkACLPut]
	setRecord = db.NetworkObject[api.NetworkAddressSetPut]
)

// networker keeps networks. It is [nets.Service].
type networker interface {
	Addresses(ctx context.Context, network string) ([]nets.Address, error)
	Reapply(ctx context.Context, network string) error
}

// A Service keeps ACLs and address sets. Its methods are safe for concurrent
// use. Its fields are set before the first call.
type Service struct {
	DB     *db.DB
	Dir    string // Of the daemon.
	Nets   networker
	Ports  *nft.ACLPorts // Of the interfaces of instances.
	Events *events.Hub
	Logger *slog.Logger

	// change is held by what changes ACLs and address sets, from its first
	// look at the records until the host follows.
	change sync.Mutex

	// behind says that the kernel may have other addresses of subjects than those
	// that are known. Guarded by change.
	behind bool

	mu        sync.Mutex // Guards what follows.
	addresses map[string][]acl.Range

	guestsOnce sync.Once
	guests     *mirror.Mirror[guest] // See [Service.concerned].

	logs logs

	renamed atomic.Bool // Rules may have names that the host does not follow yet.
}

func aclURL(name string) string { return "/1.0/network-acls/" + url.PathEscape(name) }

// List returns all ACLs.
func (s *Service) List(ctx context.Context) (all []api.NetworkACL, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := loadUsers(ctx, tx)
		if err != nil {
			return err
		}
		for _, name := range sorted(w.acls) {
			all = append(all, w.describe(name))
		}
		return nil
	})
	return all, err
}

// Get returns an ACL.
func (s *Service) Get(ctx context.Context, name string) (out api.NetworkACL, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := db.GetNetworkObject(ctx, tx, kind, name); err != nil {
			return err
		}
		w, err := loadUsers(ctx, tx)
		if err != nil {
			return err
		}
		out = w.describe(name)
		return nil
	})
	return out, err
}

func (w *world) describe(name string) api.NetworkACL {
	return api.NetworkACL{NetworkACLPut: filled(w.acls[name]), Name: name, UsedBy: w.usersOf(name), Project: project.Of(name)}
}

// filled is a document without fields that are null.
func filled(put api.NetworkACLPut) api.NetworkACLPut {
	put.Egress, put.Ingress = append([]api.NetworkACLRule{}, put.Egress...), append([]api.NetworkACLRule{}, put.Ingress...)
	if put.Config == nil {
		put.Config = api.ConfigMap{}
	}
	return put
}

// Create makes an ACL, which nothing uses yet.
func (s *Service) Create(ctx context.Context, req api.NetworkACLsPost) error {
	return s.create(ctx, req, api.NetworkACLPut{})
}

// Adopt makes an ACL that there was before the database was lost. Its rules can
// name what is not there yet.
func (s *Service) Adopt(ctx context.Context, req api.NetworkACLsPost) error {
	return s.create(ctx, req, req.NetworkACLPut)
}

// create makes an ACL. What known names need not be there.
func (s *Service) create(ctx context.Context, req api.NetworkACLsPost, known api.NetworkACLPut) (err error) {
	if err := checkName("network ACL", project.Name(req.Name)); err != nil {
		return err
	}
	s.change.Lock()
	defer s.change.Unlock()

	var u undo.Stack
	defer u.Unwind(ctx, &err)

	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		put, err := cleaned(ctx, tx, req.Name, req.NetworkACLPut, known)
		if err != nil {
			return err
		}
		return db.AddNetworkObject(ctx, tx, kind, record{Name: req.Name, Document: put})
	})
	if err != nil {
		return err
	}
	u.Push("forget the ACL", func(ctx context.Context) error {
		return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.DeleteNetworkObject(ctx, tx, kind, req.Name) })
	})
	// Of those that it names nobody may have known the addresses.
	if err := s.reload(ctx); err != nil {
		return err
	}
	s.Events.Lifecycle("network-acl-created", aclURL(req.Name), nil)
	return nil
}

// cleaned is what is kept of an ACL, checked. What known names need not be
// there.
func cleaned(ctx context.Context, tx *db.Tx, name string, put, known api.NetworkACLPut) (api.NetworkACLPut, error) {
	w, err := load(ctx, tx)
	if err != nil {
		return put, err
	}
	put = filled(put)
	put.Config = maps.Clone(put.Config)
	maps.DeleteFunc(put.Config, func(_, v string) bool { return v == "" })
	if err := checkConfig(put.Config); err != nil {
		return put, err
	}
	w.acls[name] = put // Its rules can be about itself.
	if err := w.look(ctx, tx); err != nil {
		return put, err
	}
	w.known(known)
	_, err = w.rules(name, &put, nil)
	return put, err
}

// checkConfig allows what users want to keep.
func checkConfig(config map[string]string) error {
	for _, key := range sorted(config) {
		if name, ok := strings.CutPrefix(key, "user."); !ok || name == "" {
			return errs.Invalidf("configuration key %q is not known: use user.*", key)
		}
	}
	return nil
}

// Update changes an ACL, which put has in full. Networks and interfaces that
// have it follow; if one cannot, nothing is changed.
func (s *Service) Update(ctx context.Context, name string, put api.NetworkACLPut) (err error) {
	s.change.Lock()
	defer s.change.Unlock()

	var u undo.Stack
	defer u.Unwind(ctx, &err)

	var old record
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if old, err = db.GetNetworkObject(ctx, tx, kind, name); err != nil {
			return err
		}
		if put, err = cleaned(ctx, tx, name, put, old.Document); err != nil {
			return err
		}
		return db.SetNetworkObject(ctx, tx, kind, record{Name: name, Document: put})
	})
	if err != nil {
		return err
	}
	u.Push("bring back the ACL as it was", func(ctx context.Context) error {
		err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.SetNetworkObject(ctx, tx, kind, old) })
		if err != nil {
			return err
		}
		return s.follow(ctx, name)
	})
	if err := s.follow(ctx, name); err != nil {
		return fmt.Errorf("apply network ACL %q: %w", name, err)
	}
	s.Events.Lifecycle("network-acl-updated", aclURL(name), nil)
	return nil
}

// follow has networks and interfaces with an ACL follow it.
func (s *Service) follow(ctx context.Context, name string) error {
	return s.followOn(ctx, func(w *world) []string { return w.networksWith(name) }, name)
}

// followOn has networks follow their ACLs, and the interfaces that have some of
// names; without names all interfaces. The caller holds change.
func (s *Service) followOn(ctx context.Context, with func(*world) []string, names ...string) error {
	if err := s.reload(ctx); err != nil {
		return err
	}
	var on []string
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := load(ctx, tx)
		if err != nil {
			return err
		}
		on = with(w)
		return nil
	})
	if err != nil {
		return err
	}
	for _, n := range on {
		if err := s.Nets.Reapply(ctx, n); err != nil {
			return err
		}
	}
	return s.Ports.Refresh(names...)
}

// Rename gives an ACL that nothing uses another name.
func (s *Service) Rename(ctx context.Context, name, to string) error {
	if err := checkName("network ACL", project.Name(to)); err != nil {
		return err
	}
	s.change.Lock()
	defer s.change.Unlock()

	err := s.unused(ctx, "rename", name, func(ctx context.Context, tx *db.Tx) error { return db.RenameNetworkObject(ctx, tx, kind, name, to) })
	if err != nil {
		return err
	}
	s.logs.rename(s.Dir, name, to)
	s.Events.Lifecycle("network-acl-renamed", aclURL(to), map[string]any{"old_name": name})
	return nil
}

// Delete takes an ACL away that nothing uses, with its log.
func (s *Service) Delete(ctx context.Context, name string) error {
	s.change.Lock()
	defer s.change.Unlock()

	err := s.unused(ctx, "delete", name, func(ctx context.Context, tx *db.Tx) error { return db.DeleteNetworkObject(ctx, tx, kind, name) })
	if err != nil {
		return err
	}
	s.logs.remove(s.Dir, name)
	s.Events.Lifecycle("network-acl-deleted", aclURL(name), nil)
	return nil
}

// unused does fn if nothing uses an ACL.
func (s *Service) unused(ctx context.Context, verb, name string, fn func(context.Context, *db.Tx) error) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := loadUsers(ctx, tx)
		if err != nil {
			return err
		}
		if err := inUse(verb, "network ACL", name, w.usersOf(name)); err != nil {
			return err
		}
		return fn(ctx, tx)
	})
}

// inUse returns an error that names the users of something, if it has any.
func inUse(verb, what, name string, users []string) error {
	if len(users) == 0 {
		return nil
	}
	for i, path := range users {
		users[i] = nets.UserOf(path)
	}
	const most = 5
	if len(users) > most {
		users = append(users[:most], "and others")
	}
	return errs.Conflictf("cannot %s %s %q: it is used by %s", verb, what, name, strings.Join(users, ", "))
}
