package projects_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/projects"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// A world has the projects default and p, two pools, and a network of each.
type world struct {
	*projects.Service

	t *testing.T
}

func newWorld(t *testing.T, config map[string]string) world {
	t.Helper()
	d := dbtest.New(t)
	w := world{&projects.Service{DB: d, Events: &events.Hub{}, Log: slog.New(slog.DiscardHandler)}, t}
	d.Admitter = w.Service
	if err := w.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.must(w.Create(t.Context(), api.ProjectsPost{Name: "p", ProjectPut: api.ProjectPut{Config: config}}))
	for _, pool := range []string{"tank", "other"} {
		w.must(w.do(func(ctx context.Context, tx *db.Tx) error {
			return db.AddPool(ctx, tx, &db.Pool{Name: pool, Driver: "dir", Status: db.Ready})
		}))
	}
	return w
}

func (w world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// refused wants an error of a kind that says all of the words.
func (w world) refused(err error, kind errs.Kind, words ...string) {
	w.t.Helper()
	if !errs.Is(err, kind) {
		w.t.Errorf("got %v, want an error of kind %v", err, kind)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			w.t.Errorf("%q does not say %q", err, word)
		}
	}
}

func (w world) do(fn func(context.Context, *db.Tx) error) error {
	return w.DB.Do(w.t.Context(), fn)
}

func (w world) set(config map[string]string) error {
	return w.Update(w.t.Context(), "p", api.ProjectPut{Config: config})
}

// draft is an instance with a root disk in the pool tank.
func draft(key string, options map[string]string) db.Instance {
	return db.Instance{
		Name: key, PoolID: 1, Config: options,
		Devices: map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "tank", "size": "1GiB"}},
	}
}

func (w world) add(in db.Instance) error {
	return w.do(func(ctx context.Context, tx *db.Tx) error { return db.AddInstance(ctx, tx, &in) })
}

func (w world) update(in db.Instance) error {
	return w.do(func(ctx context.Context, tx *db.Tx) error { return db.UpdateInstance(ctx, tx, in) })
}

func (w world) volume(pool, key, size string) error {
	return w.do(func(ctx context.Context, tx *db.Tx) error {
		v := db.Volume{VolumeRef: db.VolumeRef{Pool: pool, Name: key}, ContentType: "filesystem", Config: map[string]string{}}
		if size != "" {
			v.Config["size"] = size
		}
		return db.AddVolume(ctx, tx, &v)
	})
}

func (w world) count() int64 {
	w.t.Helper()
	var n int64
	w.must(w.DB.View(w.t.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		n, err = db.CountInstances(ctx, tx, "p")
		return err
	}))
	return n
}

func TestCounts(t *testing.T) {
	w := newWorld(t, map[string]string{"limits.instances": "2", "features.networks": "yes", "limits.networks": "1"})
	w.must(w.add(draft("p_c1", nil)))
	w.must(w.add(draft("c1", nil)))
	w.must(w.add(draft("p_c2", nil)))
	w.refused(w.add(draft("p_c3", nil)), errs.Denied, `project "p"`, "limits.instances=2", "3 would be in use")
	if n := w.count(); n != 2 {
		t.Errorf("there are %d instances, want 2", n)
	}
	for _, name := range []string{"c3", "c4", "c5"} { // The default project has no limits.
		w.must(w.add(draft(name, nil)))
	}
	// A move is a renaming.
	err := w.do(func(ctx context.Context, tx *db.Tx) error { return db.RenameInstance(ctx, tx, "c3", "p_c3") })
	w.refused(err, errs.Denied, "limits.instances=2")
	w.must(w.do(func(ctx context.Context, tx *db.Tx) error { return db.RenameInstance(ctx, tx, "p_c2", "p_c3") }))
	w.must(w.do(func(ctx context.Context, tx *db.Tx) error { return db.DeleteInstance(ctx, tx, "p_c3") }))
	w.must(w.add(draft("p_c4", nil)))

	network := func(key string) error {
		return w.do(func(ctx context.Context, tx *db.Tx) error {
			return db.AddNetwork(ctx, tx, &db.Network{Name: key, Type: "bridge", Status: db.Ready})
		})
	}
	w.must(network("n1"))
	w.must(network("p%n1"))
	w.refused(network("p%n2"), errs.Denied, "limits.networks=1", "2 would be in use")

	w.refused(w.set(map[string]string{"features.networks": "true", "limits.containers": "1"}), errs.Conflict, "limits.containers=1", "2 would be in use")
	if got := w.Rules("p"); got == nil {
		t.Fatal("a change that was refused has taken the old rules away")
	}
	w.must(w.set(map[string]string{"features.networks": "true"}))
	w.must(w.add(draft("p_c5", nil)))
}

// TestAtOnce has many take the last places at the same time.
func TestAtOnce(t *testing.T) {
	w := newWorld(t, map[string]string{"limits.instances": "5", "limits.memory": "4GiB"})
	var wg sync.WaitGroup
	var made atomic.Int64
	for i := range 40 {
		wg.Go(func() {
			err := w.add(draft(fmt.Sprintf("p_c%d", i), map[string]string{"limits.memory": "1GiB"}))
			switch {
			case err == nil:
				made.Add(1)
			case !errs.Is(err, errs.Denied):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := w.count(); n != 4 || made.Load() != 4 {
		t.Errorf("%d were made and %d are there, want 4", made.Load(), n)
	}
}

// TestLimitAtOnce sets a limit while instances are made.
func TestLimitAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			if err := w.add(draft(fmt.Sprintf("p_c%d", i), nil)); err != nil && !errs.Is(err, errs.Denied) {
				t.Error(err)
			}
		})
	}
	var limited atomic.Int64
	wg.Go(func() {
		for n := range int64(30) { // The lowest that is not below what there is.
			if err := w.set(map[string]string{"limits.instances": fmt.Sprint(n)}); err == nil {
				limited.Store(n)
				return
			}
		}
	})
	wg.Wait()
	if rules := w.Rules("p"); rules != nil && w.count() > limited.Load() {
		t.Errorf("there are %d instances, and the limit is %d", w.count(), limited.Load())
	}
}

func TestSums(t *testing.T) {
	w := newWorld(t, map[string]string{"limits.memory": "2GiB", "limits.cpu": "4", "limits.disk": "3GiB"})
	options := map[string]string{"limits.memory": "1GiB", "limits.cpu": "2"}
	w.must(w.add(draft("p_c1", options)))
	for missing, want := range map[string]string{"limits.memory": `it has no limits.memory: set it`, "limits.cpu": "it has no limits.cpu"} {
		fewer := map[string]string{"limits.memory": "1GiB", "limits.cpu": "2"}
		delete(fewer, missing)
		w.refused(w.add(draft("p_c2", fewer)), errs.Invalid, `instance "c2"`, want, "the project has "+missing)
	}
	w.refused(w.add(draft("p_c2", map[string]string{"limits.memory": "50%", "limits.cpu": "1"})), errs.Invalid, `limits.memory is "50%"`)
	w.refused(w.add(draft("p_c2", map[string]string{"limits.memory": "1GiB", "limits.cpu": "0-1"})), errs.Invalid, `limits.cpu is "0-1"`)
	w.refused(w.add(draft("p_c2", map[string]string{"limits.memory": "1025MiB", "limits.cpu": "1"})), errs.Denied, "limits.memory=2GiB", "2.00GiB would")
	w.must(w.add(draft("p_c2", options)))

	// Growth, by itself and by a profile.
	in := draft("p_c2", map[string]string{"limits.memory": "1GiB", "limits.cpu": "3"})
	w.refused(w.update(in), errs.Denied, "limits.cpu=4", "5 would be in use")
	in.Profiles, in.Config = []string{"p%default"}, map[string]string{"limits.memory": "1GiB"}
	w.refused(w.update(in), errs.Invalid, "limits.cpu")
	profile := func(cpus string) error {
		return w.do(func(ctx context.Context, tx *db.Tx) error {
			return db.UpdateProfile(ctx, tx, db.Profile{Name: "p%default", Config: map[string]string{"limits.cpu": cpus}})
		})
	}
	w.must(profile("2"))
	w.must(w.update(in))
	w.refused(profile("3"), errs.Denied, "limits.cpu=4", "5 would be in use")

	// Disks: two roots of 1 GiB, and volumes.
	w.refused(w.volume("tank", "p%v", ""), errs.Invalid, `volume "v" in storage pool "tank"`, "it has no size")
	w.must(w.volume("tank", "p%v", "512MiB"))
	w.refused(w.volume("other", "p%v", "513MiB"), errs.Denied, "limits.disk=3GiB")
	w.must(w.volume("other", "v", "100GiB"))
	err := w.do(func(ctx context.Context, tx *db.Tx) error {
		return db.UpdateVolume(ctx, tx, db.Volume{VolumeRef: db.VolumeRef{Pool: "tank", Name: "p%v"}, Config: map[string]string{"size": "2GiB"}})
	})
	w.refused(err, errs.Denied, "limits.disk=3GiB")

	state, err := w.State(t.Context(), "p")
	w.must(err)
	for name, want := range map[string]api.ProjectStateResource{
		"instances": {Limit: -1, Usage: 2}, "containers": {Limit: -1, Usage: 2}, "virtual-machines": {Limit: -1}, "networks": {Limit: -1},
		"memory": {Limit: 2 << 30, Usage: 2 << 30}, "cpu": {Limit: 4, Usage: 4}, "processes": {Limit: -1}, "disk": {Limit: 3 << 30, Usage: 2<<30 + 512<<20},
	} {
		if got := state.Resources[name]; got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	w.refused(w.set(map[string]string{"limits.memory": "2GiB", "limits.processes": "100"}), errs.Conflict, `instance "c1"`, "it has no limits.processes")
}

func TestPools(t *testing.T) {
	w := newWorld(t, map[string]string{"limits.disk.pool.other": "0", "limits.disk.pool.tank": "2GiB"})
	w.refused(w.volume("other", "p%v", "1GiB"), errs.Invalid, `storage pool "other" not found`)
	w.must(w.volume("tank", "p%v", "1GiB"))
	w.must(w.add(draft("p_c1", nil)))
	in := draft("p_c2", nil)
	w.refused(w.add(in), errs.Denied, "limits.disk.pool.tank=2GiB")
	in.Devices = map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "other"}}
	w.refused(w.add(in), errs.Invalid, `device "root": storage pool "other" not found`)
	in.Devices = map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "tank"}}
	w.refused(w.add(in), errs.Invalid, "its root disk has no size")
	in.Config = map[string]string{"volatile.root.size": "1GiB"} // By its pool.
	w.refused(w.add(in), errs.Denied, "limits.disk.pool.tank=2GiB")
	state, err := w.State(t.Context(), "p")
	w.must(err)
	if got, want := state.Resources["disk.tank"], (api.ProjectStateResource{Limit: 2 << 30, Usage: 2 << 30}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRestricted(t *testing.T) {
	w := newWorld(t, map[string]string{"restricted": "on"})
	in := draft("p_c1", map[string]string{"security.nesting": "true"})
	w.refused(w.add(in), errs.Denied, `project "p": instance "c1": security.nesting cannot be set to "true": the project has restricted.containers.nesting=block`)
	in.Config = nil
	w.must(w.add(in))
	in.Devices["host"] = map[string]string{"type": "disk", "path": "/srv", "source": "/srv"}
	w.refused(w.update(in), errs.Denied, `device "host"`, "restricted.devices.disk=managed")
	// By a profile of another project, too.
	w.must(w.do(func(ctx context.Context, tx *db.Tx) error {
		return db.UpdateProfile(ctx, tx, db.Profile{Name: "default", Config: map[string]string{"security.nesting": "true"}})
	}))
	err := w.do(func(ctx context.Context, tx *db.Tx) error {
		return db.UpdateProfile(ctx, tx, db.Profile{Name: "p%default", Config: map[string]string{"security.privileged": "true"}})
	})
	w.refused(err, errs.Denied, `profile "default"`, "restricted.containers.privilege=unprivileged")

	for _, o := range []db.ProjectObject{
		{Kind: db.OfSnapshots, Key: "p_c1"},
		{Kind: db.OfBackups, Key: "p_c1"},
		{Kind: db.OfVolumeSnapshots, Pool: "tank", Key: "p%v"},
		{Kind: db.OfVolumeBackups, Pool: "tank", Key: "p%v"},
	} {
		w.refused(w.DB.Allowed(t.Context(), o), errs.Denied, `project "p"`, "=block")
		o.Key = "c1"
		w.must(w.DB.Allowed(t.Context(), o))
	}

	// A recovery is asked nothing.
	ctx := db.Admitted(t.Context())
	bad := draft("p_c9", map[string]string{"security.nesting": "true"})
	w.must(w.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.AddInstance(ctx, tx, &bad) }))
	w.refused(w.set(map[string]string{"restricted": "true", "restricted.snapshots": "allow"}), errs.Conflict, `instance "c9"`, "security.nesting")
}

// TestSharedProfiles has a project that uses the profiles of default.
func TestSharedProfiles(t *testing.T) {
	w := newWorld(t, map[string]string{"features.profiles": "0", "restricted": "true"})
	in := draft("p_c1", nil)
	in.Profiles = []string{"default"}
	w.must(w.add(in))
	update := func() error {
		return w.do(func(ctx context.Context, tx *db.Tx) error {
			return db.UpdateProfile(ctx, tx, db.Profile{Name: "default", Config: map[string]string{"security.nesting": "1"}})
		})
	}
	w.refused(update(), errs.Denied, `profile "default": instance "c1"`, "restricted.containers.nesting")
	w.must(w.do(func(ctx context.Context, tx *db.Tx) error { return db.DeleteInstance(ctx, tx, "p_c1") }))
	w.must(update())
	w.refused(w.add(in), errs.Denied, "restricted.containers.nesting")
	if got := w.Config("p", "features.profiles"); got != "false" {
		t.Errorf("features.profiles is kept as %q", got)
	}
	if view, err := w.View(t.Context(), "p"); err != nil || view.Profiles != project.Default {
		t.Errorf("got %v, %v", view, err)
	}
}

// TestTry has nothing changed by what is only tried.
func TestTry(t *testing.T) {
	w := newWorld(t, map[string]string{"limits.instances": "1"})
	try := func(key string) error {
		in := draft(key, nil)
		return w.DB.Try(t.Context(), db.ProjectObject{Kind: db.OfInstances, Key: key}, func(ctx context.Context, tx *db.Tx) error {
			return db.AddInstance(ctx, tx, &in)
		})
	}
	w.must(try("p_c1"))
	if n := w.count(); n != 0 {
		t.Errorf("there are %d instances", n)
	}
	w.must(w.add(draft("p_c1", nil)))
	w.refused(try("p_c2"), errs.Denied, "limits.instances=1")
	w.must(try("c2")) // Nobody has a say in it.
}

func BenchmarkAdd(b *testing.B) {
	for _, others := range []int{0, 1000} {
		b.Run(fmt.Sprintf("others=%d", others), func(b *testing.B) {
			d := dbtest.New(b)
			s := &projects.Service{DB: d, Events: &events.Hub{}, Log: slog.New(slog.DiscardHandler)}
			d.Admitter = s
			do := func(fn func(context.Context, *db.Tx) error) {
				if err := d.Do(b.Context(), fn); err != nil {
					b.Fatal(err)
				}
			}
			if err := s.Create(b.Context(), api.ProjectsPost{Name: "p", ProjectPut: api.ProjectPut{Config: map[string]string{"limits.instances": "5", "limits.disk": "100GiB", "restricted": "true"}}}); err != nil {
				b.Fatal(err)
			}
			do(func(ctx context.Context, tx *db.Tx) error {
				if err := db.AddPool(ctx, tx, &db.Pool{Name: "tank", Driver: "dir", Status: db.Ready}); err != nil {
					return err
				}
				for i := range others {
					in := draft(fmt.Sprintf("q_c%d", i), nil)
					if err := db.AddInstance(ctx, tx, &in); err != nil {
						return err
					}
				}
				return nil
			})
			for b.Loop() {
				in := draft("p_c1", nil)
				if err := d.Try(b.Context(), db.ProjectObject{Kind: db.OfInstances, Key: "p_c1"}, func(ctx context.Context, tx *db.Tx) error {
					return db.AddInstance(ctx, tx, &in)
				}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
