package volumes_test

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/volumes"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/fake"
)

// A world is a host with a daemon's state, two pools p and q, and a service
// that works on them.
type world struct {
	testenv.Faults // Steps are the calls that change the host.

	tb        testing.TB
	dir       string
	db        *db.DB
	pools     map[string]*fake.Driver
	instances *fakeInstances
	svc       *volumes.Service
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{tb: tb, dir: tb.TempDir(), pools: map[string]*fake.Driver{}, instances: &fakeInstances{}}
	var err error
	w.db, err = db.OpenFile(tb.Context(), filepath.Join(w.dir, "cuib.db"))
	must(tb, err)
	tb.Cleanup(func() { must(tb, w.db.Close()) })
	for _, name := range []string{"p", "q"} {
		d, err := fake.New(filepath.Join(w.dir, name))
		must(tb, err)
		d.Fail = w.Step
		w.pools[name] = d
		must(tb, w.db.Do(tb.Context(), func(ctx context.Context, tx *db.Tx) error {
			return db.AddPool(ctx, tx, &db.Pool{Name: name, Driver: "fake", Status: db.Ready})
		}))
	}
	w.boot()
	return w
}

// boot makes a new service, as a daemon that has started.
func (w *world) boot() {
	w.tb.Helper()
	w.svc = &volumes.Service{
		DB: w.db, Dir: w.dir, Pools: w, Instances: w.instances, Types: map[string]storage.Type{"fake": fake.Type(nil)},
		Events: &events.Hub{}, Log: slog.New(slog.DiscardHandler),
	}
	must(w.tb, w.svc.Recover(w.tb.Context()))
	must(w.tb, w.svc.Settle(w.tb.Context()))
}

func (w *world) Driver(_ context.Context, pool string) (storage.Driver, error) {
	if w.pools[pool] == nil {
		return nil, errs.NotFoundf("storage pool %q not found", pool)
	}
	return w.pools[pool], nil
}

// do calls fn. It reports whether the daemon survived it.
func (w *world) do(fn func() error) (survived bool, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = fn()
		survived = true
	}()
	<-done
	return survived, err
}

// refuse makes the database refuse a kind of statement.
func (w *world) refuse(statement string) {
	w.tb.Helper()
	conn, err := sql.Open("sqlite3", filepath.Join(w.dir, "cuib.db"))
	must(w.tb, err)
	defer func() { must(w.tb, conn.Close()) }()
	_, err = conn.ExecContext(w.tb.Context(), "CREATE TRIGGER t BEFORE "+statement+" BEGIN SELECT RAISE(ABORT, 'refused'); END")
	must(w.tb, err)
}

// run does a job to its end.
func (w *world) run(job ops.Job, err error) error {
	if err != nil {
		return err
	}
	return job.Run(w.tb.Context(), nil)
}

func ref(pool, name string) volumes.Ref { return volumes.Ref{Pool: pool, Name: name} }

func post(name string, config api.ConfigMap) api.StorageVolumesPost {
	req := api.StorageVolumesPost{Name: name, Type: "custom"}
	req.Config = config
	return req
}

// create makes the volume p/name, in which a file says its name.
func (w *world) create(name string) {
	w.tb.Helper()
	must(w.tb, w.svc.Create(w.tb.Context(), "p", post(name, nil)))
	w.write(name, name)
}

// snapshot makes a snapshot of p/v.
func (w *world) snapshot(snapshot string) {
	w.tb.Helper()
	must(w.tb, w.run(w.svc.CreateSnapshot(w.tb.Context(), ref("p", "v"), api.StorageVolumeSnapshotsPost{Name: snapshot})))
}

// write writes into a volume of p, also while it is in use.
func (w *world) write(name, word string) {
	w.tb.Helper()
	w.inside("p", storage.Volume{Kind: storage.Custom, Name: name}, func(dir string) {
		must(w.tb, os.WriteFile(filepath.Join(dir, "word"), []byte(word), 0o600))
	})
}

// read returns what a test has written into a volume.
func (w *world) read(pool string, v storage.Volume) (word string) {
	w.tb.Helper()
	w.inside(pool, v, func(dir string) {
		data, err := os.ReadFile(filepath.Join(dir, "word"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			w.tb.Error(err)
		}
		word = string(data)
	})
	return word
}

func (w *world) inside(pool string, v storage.Volume, fn func(dir string)) {
	w.tb.Helper()
	unmute := w.Mute()
	defer unmute()
	d := w.pools[pool]
	mounted := slices.Contains(d.Mounted(), v)
	dir, err := d.Mount(w.tb.Context(), v, nil)
	must(w.tb, err)
	fn(dir)
	if !mounted {
		must(w.tb, d.Unmount(w.tb.Context(), v))
	}
}

// addInstance adds the record of an instance that has a volume of p.
func (w *world) addInstance(name, source string) {
	w.tb.Helper()
	must(w.tb, w.db.Do(w.tb.Context(), func(ctx context.Context, tx *db.Tx) error {
		p, err := db.GetPool(ctx, tx, "p")
		if err != nil {
			return err
		}
		return db.AddInstance(ctx, tx, &db.Instance{
			Name: name, Status: db.Ready, PoolID: p.ID, Architecture: "x86_64",
			Devices: map[string]map[string]string{"data": {"type": "disk", "pool": "p", "source": source, "path": "/data"}},
		})
	}))
}

// dump is all that there is: records, volumes, and who has which. What differs
// from run to run is left out.
func (w *world) dump() string {
	w.tb.Helper()
	var b strings.Builder
	must(w.tb, w.db.View(w.tb.Context(), func(ctx context.Context, tx *db.Tx) error {
		b.Reset()
		all, err := db.Volumes(ctx, tx)
		if err != nil {
			return err
		}
		for _, v := range all {
			fmt.Fprintln(&b, "volume", v, v.Status, v.ContentType, v.Description, v.Config)
			snaps, err := db.VolumeSnapshots(ctx, tx, v.VolumeRef)
			if err != nil {
				return err
			}
			for _, s := range snaps {
				delete(s.Config, "volatile.uuid") // It is another each time.
				fmt.Fprintln(&b, "  snapshot", s.Name, s.Status, s.Config)
			}
		}
		rows, err := db.Instances(ctx, tx)
		for _, in := range rows {
			fmt.Fprintln(&b, "instance", in.Name, in.Devices)
		}
		return err
	}))
	for _, pool := range slices.Sorted(maps.Keys(w.pools)) {
		vols, err := w.pools[pool].List(w.tb.Context())
		must(w.tb, err)
		slices.SortFunc(vols, func(a, b storage.Volume) int { return cmp.Compare(a.String(), b.String()) })
		for _, v := range vols {
			fmt.Fprintln(&b, pool, v, "says", w.read(pool, v), w.pools[pool].Limited(v), w.pools[pool].Tuned(v))
		}
	}
	return b.String()
}

// mounted are the volumes that are mounted, in both pools.
func (w *world) mounted() []storage.Volume {
	return append(w.pools["p"].Mounted(), w.pools["q"].Mounted()...)
}

// fakeInstances note who was frozen.
type fakeInstances struct {
	mu     sync.Mutex // Guards what follows.
	frozen []string
}

func (f *fakeInstances) Frozen(_ context.Context, names []string, fn func() error) error {
	f.mu.Lock()
	f.frozen = append(f.frozen, names...)
	f.mu.Unlock()
	return fn()
}

func (*fakeInstances) Held(_ context.Context, _ []string, fn func() error) error { return fn() }

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func wantKind(tb testing.TB, err error, kind errs.Kind, text string) {
	tb.Helper()
	if !errs.Is(err, kind) || !strings.Contains(err.Error(), text) {
		tb.Fatalf("got error %v, want one of kind %d with %q", err, kind, text)
	}
}

// onePool has one pool, whatever its name.
type onePool struct{ d storage.Driver }

func (p onePool) Driver(context.Context, string) (storage.Driver, error) { return p.d, nil }
