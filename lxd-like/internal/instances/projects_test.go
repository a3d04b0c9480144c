package instances_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// views are those of the default project, and of p, which has all of its own.
type views struct{}

func (views) View(_ context.Context, name string) (scope.View, error) {
	if name != "default" && name != "p" {
		return scope.View{}, db.NoProject(name)
	}
	return scope.Whole(name), nil
}

// inProject makes what an instance with two snapshots, c1, finds in the project
// p: nothing is said there of where its root is.
func (w *world) inProject() {
	w.tb.Helper()
	w.say("c1", "1", "s1", "2", "s2", "3")
	must(w.tb, w.svc.CreateProfile(w.tb.Context(), api.ProfilesPost{Name: "p%default"}))
}

// projectChanges are those that lead from one project into another.
func projectChanges() map[string]change {
	arrived := func(_ *world, dump string) bool {
		return strings.Contains(dump, "instance p_c1 ready p") && strings.Contains(dump, "[p%default]") &&
			strings.Count(dump, "ready [p%default]") == 2 && !strings.Contains(dump, "ready [default]") &&
			strings.Contains(dump, "volume instance/p_c1 says 3") && strings.Contains(dump, "volume instance/p_c1@s1 says 1") &&
			!strings.Contains(dump, "volume instance/c1") && !strings.Contains(dump, "volatile.renaming")
	}
	moved := func(_ *world, dump string) bool {
		return strings.Contains(dump, "instance p_c2 ready q") && strings.Count(dump, "ready [p%default]") == 2 &&
			strings.Contains(dump, "q volume instance/p_c2 says 3") && strings.Contains(dump, "q volume instance/p_c2@s2 says 2") &&
			!strings.Contains(dump, "\nvolume instance/c1") && !strings.Contains(dump, "volatile.mov")
	}
	return map[string]change{
		"move to a project": {
			prepare: (*world).inProject,
			act: func(w *world) (ops.Job, error) {
				return w.svc.Rename(w.tb.Context(), "c1", api.InstancePost{Name: "p_c1", Project: "p", Migration: true})
			},
			done: arrived,
		},
		"move to a project, pool": {
			prepare: (*world).inProject,
			act: func(w *world) (ops.Job, error) {
				return w.svc.Rename(w.tb.Context(), "c1", api.InstancePost{Name: "p_c2", Project: "p", Pool: "q", Migration: true})
			},
			done:   moved,
			onward: func(w *world, dump string) bool { return moved(w, unleft(dump)) },
		},
		"copy to a project": {
			prepare: (*world).inProject,
			act: func(w *world) (ops.Job, error) {
				return w.svc.Create(w.tb.Context(), api.InstancesPost{Name: "p_c1", Source: api.InstanceSource{Type: "copy", Source: "c1"}})
			},
			done: func(_ *world, dump string) bool {
				return has(dump, "p_c1") && has(dump, "c1") && strings.Count(dump, "ready [p%default]") == 2 && strings.Count(dump, "ready [default]") == 2
			},
		},
	}
}

// TestMoveToProject has what an instance refers to be found where it goes.
func TestMoveToProject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.inProject()
	w.create("db", false)
	must(t, w.svc.CreateProfile(ctx, api.ProfilesPost{Name: "web"}))
	in, err := w.svc.Get(ctx, "c1")
	must(t, err)
	put := in.InstancePut
	put.Profiles, put.Config["boot.depends_on"] = []string{"default", "web"}, "db"
	must(t, w.updateNow(ctx, "c1", put))
	to := api.InstancePost{Name: "p_c1", Project: "p"}
	refused := func(text string) {
		t.Helper()
		_, err := w.svc.Rename(ctx, "c1", to)
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v, want an error with %s", err, text)
		}
	}
	refused(`project "p": profile "web" not found`)
	must(t, w.svc.CreateProfile(ctx, api.ProfilesPost{Name: "p%web"}))
	refused(`project "p": boot.depends_on: got "db"`)
	w.create("p_db", false)
	w.ok(w.svc.Rename(ctx, "c1", to))
	in, err = w.svc.Get(ctx, "p_c1")
	must(t, err)
	if in.Config["boot.depends_on"] != "p_db" || !slices.Equal(in.Profiles, []string{"p%default", "p%web"}) || in.Devices["root"]["pool"] != "p" {
		t.Errorf("it came as %v", in.InstancePut)
	}

	// What the request says counts, and snapshots can be left behind.
	w.ok(w.svc.Rename(ctx, "p_c1", api.InstancePost{Name: "c9", Project: "default", Profiles: []string{"web", "default"}, InstanceOnly: true}))
	in, err = w.svc.Get(ctx, "c9")
	must(t, err)
	if !slices.Equal(in.Profiles, []string{"web", "default"}) || in.Config["boot.depends_on"] != "db" {
		t.Errorf("it came back as %v", in.InstancePut)
	}
	if dump := w.dump(); strings.Contains(dump, "@s1") || strings.Contains(dump, "snapshot s1") {
		t.Errorf("snapshots came with it:\n%s", dump)
	}
}

// TestOtherProjectsVolume has a profile that projects share give an instance no
// volume of another project.
func TestOtherProjectsVolume(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withVolumes()
	req := post("p_c9", false)
	req.Profiles = []string{}
	req.Devices = api.DevicesMap{"root": {"type": "disk", "path": "/", "pool": "p"}, "v": {"type": "disk", "pool": "p", "source": "a", "path": "/v"}}
	_, err := w.svc.Create(t.Context(), req)
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), `device "v": volume "a" is in project "default"`) {
		t.Errorf("got %v", err)
	}
}
