package projects_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// usedBy says what projects have, by their names.
func (w world) usedBy() string {
	w.t.Helper()
	all, err := w.List(w.t.Context())
	w.must(err)
	var out []string
	for _, p := range all {
		one, err := w.Get(w.t.Context(), p.Name)
		w.must(err)
		if fmt.Sprint(one) != fmt.Sprint(p) {
			w.t.Errorf("alone %v, in the list %v", one, p)
		}
		out = append(out, p.Name+": "+strings.Join(p.UsedBy, " "))
	}
	return strings.Join(out, "\n")
}

func TestLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	w.refused(w.Create(ctx, api.ProjectsPost{Name: "p"}), errs.Conflict, `"p"`)
	w.refused(w.Create(ctx, api.ProjectsPost{Name: "a_b"}), errs.Invalid, `"a_b"`)
	w.must(w.add(draft("p_c1", nil)))
	const want = "default: /1.0/profiles/default\np: /1.0/instances/p_c1 /1.0/profiles/p%25default"
	if got := w.usedBy(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	// What has something stays as it is.
	w.refused(w.Delete(ctx, "p", false), errs.Conflict, "/1.0/instances/c1?project=p", "deleted")
	w.refused(w.Rename(ctx, "p", "q"), errs.Conflict, "renamed")
	w.refused(w.set(map[string]string{"features.profiles": "false"}), errs.Conflict, "features.profiles")
	w.must(w.set(map[string]string{"user.a": "1"}))
	w.refused(w.Delete(ctx, "default", true), errs.Denied, "default")
	w.refused(w.Rename(ctx, "default", "q"), errs.Denied, "default")
	if got := w.usedBy(); got != want {
		t.Errorf("refusals have left\n%s\nof\n%s", got, want)
	}

	// What is empty can change its features, and its name.
	w.must(w.do(func(ctx context.Context, tx *db.Tx) error { return db.DeleteInstance(ctx, tx, "p_c1") }))
	w.must(w.set(map[string]string{"features.profiles": "false"}))
	if v, err := w.View(ctx, "p"); err != nil || v.Profiles != "default" || v.Images != "p" {
		t.Errorf("got %+v, %v", v, err)
	}
	w.must(w.set(nil))
	w.must(w.Rename(ctx, "p", "q"))
	if got := w.usedBy(); got != "default: /1.0/profiles/default\nq: /1.0/profiles/q%25default" {
		t.Errorf("got\n%s", got)
	}
	w.must(w.Delete(ctx, "q", false))
	if _, err := w.View(ctx, "q"); !errs.Is(err, errs.NotFound) {
		t.Errorf("q is seen: %v", err)
	}
	if got := w.usedBy(); got != "default: /1.0/profiles/default" {
		t.Errorf("got\n%s", got)
	}
}

// TestDeletedMeanwhile has nothing be made in a project that went after the
// request for it was let in.
func TestDeletedMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.must(w.Delete(t.Context(), "p", false))
	w.refused(w.add(draft("p_c1", nil)), errs.NotFound, `project "p" not found`)
	w.refused(w.volume("tank", "p%v", ""), errs.NotFound, `project "p" not found`)
	for name, fn := range map[string]func(context.Context, *db.Tx) error{
		"a profile": func(ctx context.Context, tx *db.Tx) error { return db.AddProfile(ctx, tx, &db.Profile{Name: "p%web"}) },
		"a network": func(ctx context.Context, tx *db.Tx) error { return db.AddNetwork(ctx, tx, &db.Network{Name: "p%lan"}) },
		"an image": func(ctx context.Context, tx *db.Tx) error {
			return db.AddImage(ctx, tx, &db.Image{Project: "p", Fingerprint: "0123"})
		},
		"a zone": func(ctx context.Context, tx *db.Tx) error {
			return db.AddNetworkObject(ctx, tx, db.PartKind[string](db.OfZones), db.NetworkObject[string]{Name: "p%a.example"})
		},
	} {
		if err := w.do(fn); !errs.Is(err, errs.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := w.usedBy(); got != "default: /1.0/profiles/default" {
		t.Errorf("left are\n%s", got)
	}
}

// TestForced deletes a project with all that it has: what uses other things
// goes before them, and what cannot go keeps the rest.
func TestForced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	w.must(w.add(draft("p_c1", nil)))
	w.must(w.volume("tank", "p%v", ""))
	w.must(w.do(func(ctx context.Context, tx *db.Tx) error {
		return db.UpdateProfile(ctx, tx, db.Profile{Name: "p%default", Devices: map[string]map[string]string{"v": {"type": "disk", "pool": "tank", "source": "p%v", "path": "/v"}}})
	}))
	var gone []string
	var stuck string
	w.Remove = func(ctx context.Context, o db.ProjectObject) error {
		if o.Key == stuck {
			return errors.New("it is stuck")
		}
		gone = append(gone, o.Key)
		return w.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			if o.Kind == db.OfInstances {
				return db.DeleteInstance(ctx, tx, o.Key)
			}
			p, err := db.GetProfile(ctx, tx, "p%default")
			if len(p.Devices) > 0 {
				t.Error("the volume goes while the profile has it")
			}
			return errors.Join(err, db.DeleteVolume(ctx, tx, db.VolumeRef{Pool: o.Pool, Name: o.Key}))
		})
	}
	kept := errs.Conflictf("it is kept")
	w.Keep = func(_ context.Context, o db.ProjectObject) error {
		if o.Key == "p%v" {
			return kept
		}
		return nil
	}
	if err := w.Delete(ctx, "p", true); !errors.Is(err, kept) || len(gone) > 0 {
		t.Errorf("what is kept: %v, gone is %v", err, gone)
	}
	w.Keep = func(context.Context, db.ProjectObject) error { return errs.NotFoundf("it went meanwhile") }
	stuck = "p%v"
	if err := w.Delete(ctx, "p", true); err == nil || !strings.Contains(err.Error(), "it is stuck") || !strings.Contains(err.Error(), "volumes/custom/v?project=p") {
		t.Errorf("got %v", err)
	}
	if got := w.usedBy(); !strings.HasSuffix(got, "p: /1.0/profiles/p%25default /1.0/storage-pools/tank/volumes/custom/p%25v") {
		t.Errorf("left are\n%s", got)
	}
	stuck = ""
	w.must(w.Delete(ctx, "p", true))
	if got := fmt.Sprint(gone) + w.usedBy(); got != "[p_c1 p%v]default: /1.0/profiles/default" {
		t.Errorf("got %s", got)
	}
}
