package acls

import (
	"bytes"
	"context"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/project"
)

// NetworkRenamed has rules follow a network that gets another key. The service of
// networks calls it when the record has the new one.
func (*Service) NetworkRenamed(ctx context.Context, tx *db.Tx, from, to string) error {
	return renamed(ctx, tx, bookNetwork, from, to)
}

// InstanceRenamed is [Service.NetworkRenamed] for instances.
func (*Service) InstanceRenamed(ctx context.Context, tx *db.Tx, from, to string) error {
	return renamed(ctx, tx, bookInstance, from, to)
}

// renamed changes the rules that name something of a kind, which its prefix says.
func renamed(ctx context.Context, tx *db.Tx, prefix, from, to string) error {
	w, err := load(ctx, tx)
	if err != nil {
		return err
	}
	for _, name := range sorted(w.acls) {
		of := project.Of(name)
		old, now := nameOf(of, prefix, from), nameOf(of, prefix, to)
		// A name without its kind is that of the first kind that has it; see subject.
		alone := !w.has(bookACL, project.Key(of, old)) && (prefix == bookNetwork || !w.has(bookNetwork, project.Key(of, old)))
		is := func(s string) bool { return s == prefix+old || alone && s == old }
		if old == "" || now == "" || !w.names(name, is) {
			continue
		}
		put := w.acls[name]
		for _, rules := range [][]api.NetworkACLRule{put.Ingress, put.Egress} {
			for i := range rules {
				rules[i].Source = replaced(rules[i].Source, is, prefix+now)
				rules[i].Destination = replaced(rules[i].Destination, is, prefix+now)
			}
		}
		if err := db.SetNetworkObject(ctx, tx, kind, record{Name: name, Document: put}); err != nil {
			return err
		}
	}
	return nil
}

// replaced returns a list of subjects with another in the place of one.
func replaced(list string, is func(string) bool, by string) string {
	all := profiles.SplitList(list)
	changed := false
	for i, s := range all {
		if is(s) {
			all[i], changed = by, true
		}
	}
	if !changed {
		return list
	}
	return strings.Join(all, ",")
}

// renames reports whether after an event rules can have other names.
func renames(e *api.Event) bool {
	return bytes.Contains(e.Metadata, []byte(`"network-renamed"`)) || bytes.Contains(e.Metadata, []byte(`"instance-renamed"`))
}

// followNames has the host follow the names that rules have now, if they may be
// others than it knows. What fails is done at the next call.
func (s *Service) followNames(ctx context.Context) error {
	if !s.renamed.Swap(false) {
		return nil
	}
	s.change.Lock()
	defer s.change.Unlock()
	err := s.followOn(ctx, func(w *world) []string {
		var all []string
		for _, n := range w.networks {
			if n.Config[keyACLs] != "" {
				all = append(all, n.Name)
			}
		}
		return all
	})
	if err != nil {
		s.renamed.Store(true)
	}
	return err
}
