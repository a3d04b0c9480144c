package recovery_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/netdocs"
	"github.com/cuib/cuib/lxd-like/internal/pools"
	"github.com/cuib/cuib/lxd-like/internal/projects"
	"github.com/cuib/cuib/lxd-like/internal/recovery"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/fake"
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// keeper keeps documents of instances and volumes, by pool/name.
type keeper struct {
	mu    sync.Mutex
	docs  map[string]api.Document
	order []string // What was adopted.
	fail  string   // What is not adopted.
}

func (k *keeper) set(name string, doc api.Document) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.docs == nil {
		k.docs = map[string]api.Document{}
	}
	k.docs[name] = doc
}

func (k *keeper) get(name string) (api.Document, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	doc, ok := k.docs[name]
	if !ok {
		return doc, errs.NotFoundf("%s not found", name)
	}
	return doc, nil
}

func (k *keeper) adopt(name string, doc api.Document) error {
	if name == k.fail {
		return errors.New("it does not want to")
	}
	k.set(name, doc)
	k.order = append(k.order, name)
	return nil
}

type instances struct{ *keeper }

func (i instances) Document(_ context.Context, name string) (api.Document, error) { return i.get(name) }

func (i instances) Adopt(_ context.Context, doc api.Document) error {
	return i.adopt(doc.Instance.Name, doc)
}

type volumes struct{ *keeper }

func (v volumes) Document(_ context.Context, pool, name string) (api.Document, error) {
	return v.get(pool + "/" + name)
}

func (v volumes) Adopt(_ context.Context, doc api.Document) error {
	return v.adopt(doc.Pool.Name+"/"+doc.Volume.Name, doc)
}

type nets struct{ all map[string]api.Network }

func (n nets) Document(context.Context) (api.NetworksDocument, error) {
	return api.NetworksDocument{NetworksVersion: 1, Networks: slices.Collect(maps.Values(n.all))}, nil
}

func (n nets) Reinstate(_ context.Context, r netdocs.Reinstatement) {
	for _, net := range r.Document.Networks {
		if _, ok := n.all[net.Name]; !ok {
			n.all[net.Name] = net
		}
	}
}

// world is a daemon with pools of the driver "fake".
type world struct {
	*recovery.Service

	docs *keeper
	nets nets
}

// newWorld returns one with a new database and a state directory.
func newWorld(t *testing.T, dir string) world {
	t.Helper()
	w := world{docs: &keeper{}, nets: nets{map[string]api.Network{}}}
	hub, log, database := &events.Hub{}, slog.New(slog.DiscardHandler), dbtest.New(t)
	in := &projects.Service{DB: database, Events: hub, Log: log}
	ok(t, in.Open(t.Context()))
	w.Service = &recovery.Service{
		DB: database, Projects: in, Instances: instances{w.docs}, Volumes: volumes{w.docs}, Nets: w.nets, Events: hub, Log: log,
		Pools: &pools.Service{DB: database, Dir: dir, Types: map[string]storage.Type{"fake": fake.Type(nil)}, Events: hub, Log: log},
	}
	return w
}

func (w world) do(t *testing.T, fn func(ctx context.Context, tx *db.Tx) error) {
	t.Helper()
	ok(t, w.DB.Do(t.Context(), fn))
}

func (w world) driver(t *testing.T, pool string) storage.Driver {
	t.Helper()
	d, err := w.Pools.Driver(t.Context(), pool)
	ok(t, err)
	return d
}

func (w world) pool(t *testing.T, name, source string) storage.Driver {
	t.Helper()
	req := api.StoragePoolsPost{Name: name, Driver: "fake"}
	req.Description, req.Config = "pool "+name, api.ConfigMap{"user.a": "1"}
	if source != "" {
		req.Config["source"] = source
	}
	ok(t, w.Pools.Create(t.Context(), req))
	return w.driver(t, name)
}

func instance(name string, snapshots ...string) storage.Volume {
	v := storage.Volume{Kind: storage.Instance, Name: name}
	if len(snapshots) > 0 {
		v.Snapshot = snapshots[0]
	}
	return v
}

// addInstance makes an instance with snapshots: its volume, its record and its
// document.
func (w world) addInstance(t *testing.T, pool, name string, snapshots ...string) {
	t.Helper()
	d := w.driver(t, pool)
	ok(t, d.Create(t.Context(), instance(name)))
	doc := api.Document{Instance: &api.Instance{}, Pool: &api.StoragePool{Name: pool, Driver: "fake"}}
	doc.Instance.Name, doc.Instance.Status, doc.Instance.Config = name, "Running", api.ConfigMap{"user.name": name}
	doc.Instance.Profiles = []string{"default", "web"}
	doc.Instance.Devices = api.DevicesMap{"root": {"type": "disk", "path": "/", "pool": pool}}
	for _, s := range snapshots {
		ok(t, d.Snapshot(t.Context(), instance(name, s)))
		doc.Snapshots = append(doc.Snapshots, api.InstanceSnapshot{Name: s, Config: api.ConfigMap{"user.snapshot": s}})
	}
	w.docs.set(name, doc)
	w.do(t, func(ctx context.Context, tx *db.Tx) error {
		p, err := db.GetPool(ctx, tx, pool)
		if err != nil {
			return err
		}
		return db.AddInstance(ctx, tx, &db.Instance{Name: name, Status: db.Ready, PoolID: p.ID})
	})
}

// addVolume makes a custom volume.
func (w world) addVolume(t *testing.T, pool, name string) {
	t.Helper()
	ok(t, w.driver(t, pool).Create(t.Context(), storage.Volume{Kind: storage.Custom, Name: name}))
	doc := api.Document{Volume: &api.StorageVolume{Name: name, Type: "custom", ContentType: "filesystem"}, Pool: &api.StoragePool{Name: pool}}
	doc.Volume.Config = api.ConfigMap{"size": "1GiB"}
	w.docs.set(pool+"/"+name, doc)
	w.do(t, func(ctx context.Context, tx *db.Tx) error {
		return db.AddVolume(ctx, tx, &db.Volume{VolumeRef: db.VolumeRef{Pool: pool, Name: name}, Status: db.Ready, ContentType: "filesystem"})
	})
}

// fill makes two pools with instances and volumes, networks and profiles.
func fill(t *testing.T, w world, source string) {
	t.Helper()
	w.do(t, func(ctx context.Context, tx *db.Tx) error {
		web := db.Profile{Name: "web", Config: map[string]string{"user.web": "yes"}}
		if err := db.AddProfile(ctx, tx, &web); err != nil {
			return err
		}
		return db.UpdateProfile(ctx, tx, db.Profile{Name: "default", Devices: map[string]map[string]string{"eth0": {"type": "nic", "network": "br"}}})
	})
	w.nets.all["br"] = api.Network{Name: "br", Type: "bridge", Managed: true}
	w.pool(t, "own", "")
	w.pool(t, "far", source)
	w.addInstance(t, "own", "c1", "s0", "s1", ".hidden")
	w.addInstance(t, "far", "c2")
	w.addVolume(t, "far", "data")
	ok(t, w.driver(t, "own").Create(t.Context(), storage.Volume{Kind: storage.Image, Name: "0123"}))
	ok(t, w.WriteAll(t.Context()))
}

func TestLostDatabase(t *testing.T) {
	dir, source := t.TempDir(), filepath.Join(t.TempDir(), "disk")
	before := newWorld(t, dir)
	fill(t, before, source)

	w := newWorld(t, dir)
	found, err := w.Validate(t.Context(), recovery.Request{})
	ok(t, err)
	want := []recovery.Volume{
		{Name: "data", Type: "custom", Project: "default", Pool: "far"},
		{Name: "c2", Type: "container", Project: "default", Pool: "far"},
		{Name: "c1", Type: "container", SnapshotCount: 2, Project: "default", Pool: "own"},
	}
	if !slices.Equal(found.UnknownVolumes, want) || len(found.DependencyErrors) > 0 {
		t.Errorf("found %+v, want %v", found, want)
	}
	if all, err := w.Pools.List(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("to look has registered %v, %v", all, err)
	}
	ok(t, w.Import(t.Context(), recovery.Request{}))
	if !slices.Equal(w.docs.order, []string{"far/data", "c2", "c1"}) {
		t.Errorf("registered %v", w.docs.order)
	}
	wantSame(t, before, w)
	vols, err := w.driver(t, "own").List(t.Context())
	ok(t, err)
	if len(vols) != 4 { // The image is gone.
		t.Errorf("the pool holds %v", vols)
	}
}

// TestLostProjects has what is in projects be there again in them.
func TestLostProjects(t *testing.T) {
	dir := t.TempDir()
	before := newWorld(t, dir)
	before.pool(t, "own", "")
	for _, p := range []api.Project{
		{Name: "p", ProjectPut: api.ProjectPut{Description: "mine", Config: map[string]string{"features.images": "false", "user.a": "b"}}},
		{Name: "default", ProjectPut: api.ProjectPut{Description: "ours", Config: map[string]string{
			"features.networks": "true", "features.networks.zones": "true", "limits.instances": "7",
		}}},
	} {
		_, err := before.Projects.Reinstate(t.Context(), p)
		ok(t, err)
	}
	before.do(t, func(ctx context.Context, tx *db.Tx) error {
		if err := db.UpdateProfile(ctx, tx, db.Profile{Name: "p%default", Config: map[string]string{"user.in": "p"}}); err != nil {
			return err
		}
		return db.AddProfile(ctx, tx, &db.Profile{Name: "web"})
	})
	before.addInstance(t, "own", "c1")
	before.addInstance(t, "own", "p_c1", "s0")
	before.docs.docs["p_c1"].Instance.Profiles[1] = "p%default"
	before.addVolume(t, "own", "p%data")
	ok(t, before.WriteAll(t.Context()))
	d := before.driver(t, "own")
	r, can := d.(storage.Recorder)
	if !can {
		t.Fatal("the pool keeps no records")
	}
	text, err := r.Record(t.Context(), instance("p_c1"))
	ok(t, err)
	if strings.Contains(string(text), " name: p_") || strings.Contains(string(text), "p%") || !strings.Contains(string(text), "name: c1\n") {
		t.Errorf("the record has keys:\n%s", text)
	}
	ok(t, d.Create(t.Context(), instance("q_bare"))) // Of a project that nobody remembers.

	w := newWorld(t, dir)
	found, err := w.Validate(t.Context(), recovery.Request{})
	ok(t, err)
	want := []recovery.Volume{
		{Name: "data", Type: "custom", Project: "p", Pool: "own"},
		{Name: "c1", Type: "container", Project: "default", Pool: "own"},
		{Name: "c1", Type: "container", SnapshotCount: 1, Project: "p", Pool: "own"},
		{Name: "bare", Type: "container", Project: "q", Pool: "own"},
	}
	if !slices.Equal(found.UnknownVolumes, want) {
		t.Errorf("found %+v, want %v", found, want)
	}
	ok(t, w.Import(t.Context(), recovery.Request{}))
	if !slices.Equal(w.docs.order, []string{"own/p%data", "c1", "p_c1", "q_bare"}) {
		t.Errorf("registered %v", w.docs.order)
	}
	if doc, err := w.docs.get("p_c1"); err != nil || !slices.Equal(doc.Instance.Profiles, []string{"p%default", "p%default"}) {
		t.Errorf("it is %+v, %v", doc.Instance, err)
	}
	if doc, err := w.docs.get("own/p%data"); err != nil || doc.Volume.Config["size"] != "1GiB" {
		t.Errorf("the volume is %+v, %v", doc.Volume, err)
	}
	if doc, err := w.docs.get("q_bare"); err != nil || !slices.Equal(doc.Instance.Profiles, []string{"q%default"}) {
		t.Errorf("without a record it is %+v, %v", doc.Instance, err)
	}
	w.do(t, func(ctx context.Context, tx *db.Tx) error {
		p, err := db.GetProject(ctx, tx, "p")
		if err != nil || p.Description != "mine" || p.Config["features.images"] != "false" || p.Config["user.a"] != "b" {
			t.Errorf("the project is %+v, %v", p, err)
		}
		if f, err := db.GetProfile(ctx, tx, "p%default"); err != nil || f.Config["user.in"] != "p" {
			t.Errorf("its profile is %+v, %v", f, err)
		}
		if p, err := db.GetProject(ctx, tx, "default"); err != nil || p.Description != "ours" || p.Config["limits.instances"] != "7" {
			t.Errorf("the default project is %+v, %v", p, err)
		}
		_, err = db.GetProject(ctx, tx, "q")
		return err
	})
}

// wantSame checks that what was recovered is as it was.
func wantSame(t *testing.T, before, after world) {
	t.Helper()
	for name, was := range before.docs.docs {
		doc, err := after.docs.get(name)
		ok(t, err)
		if was.Instance == nil {
			if doc.Volume.Config["size"] != "1GiB" {
				t.Errorf("%s is %+v", name, doc.Volume)
			}
			continue
		}
		was.Snapshots = slices.DeleteFunc(slices.Clone(was.Snapshots), func(s api.InstanceSnapshot) bool { return s.Name == ".hidden" })
		if !maps.Equal(doc.Instance.Config, was.Instance.Config) || fmt.Sprint(doc.Snapshots) != fmt.Sprint(was.Snapshots) {
			t.Errorf("%s is %+v with %v, was %+v with %v", name, doc.Instance, doc.Snapshots, was.Instance, was.Snapshots)
		}
	}
	pool, err := after.Pools.Get(t.Context(), "far")
	ok(t, err)
	if pool.Description != "pool far" || pool.Config["user.a"] != "1" || pool.Config["source"] == "" || pool.Driver != "fake" {
		t.Errorf("the pool is %+v", pool)
	}
	after.do(t, func(ctx context.Context, tx *db.Tx) error {
		web, err := db.GetProfile(ctx, tx, "web")
		if err != nil || web.Config["user.web"] != "yes" {
			t.Errorf("the profile is %+v, %v", web, err)
		}
		def, err := db.GetProfile(ctx, tx, "default")
		if err != nil || def.Devices["eth0"]["network"] != "br" {
			t.Errorf("the default profile is %+v, %v", def, err)
		}
		return nil
	})
	if len(after.nets.all) != 1 || after.nets.all["br"].Type != "bridge" {
		t.Errorf("the networks are %v", after.nets.all)
	}
}

// TestLostHost has all but the disk of a pool be lost.
func TestLostHost(t *testing.T) {
	source := filepath.Join(t.TempDir(), "disk")
	before := newWorld(t, t.TempDir())
	fill(t, before, source)
	d := before.driver(t, "far")
	ok(t, d.Create(t.Context(), instance("bare"))) // It has no record.
	ok(t, d.Snapshot(t.Context(), instance("bare", "s")))
	ok(t, d.Delete(t.Context(), instance("bare", "s")))
	ok(t, d.Snapshot(t.Context(), instance("c2", "late"))) // Its record does not know.

	w := newWorld(t, t.TempDir())
	req := recovery.Request{Pools: []api.StoragePoolsPost{{Name: "other"}}}
	_, err := w.Validate(t.Context(), req)
	if !errs.Is(err, errs.NotFound) {
		t.Errorf("without a source: %v", err)
	}
	req.Pools[0].Config = api.ConfigMap{"source": source}
	w.docs.fail = "bare"
	err = w.Import(t.Context(), req)
	if err == nil || !strings.Contains(err.Error(), "bare") {
		t.Errorf("one that cannot be registered: %v", err)
	}
	doc, err := w.docs.get("c2")
	ok(t, err)
	if doc.Instance.Devices["root"]["pool"] != "other" || doc.Pool.Name != "other" || len(doc.Snapshots) != 1 || doc.Snapshots[0].Name != "late" {
		t.Errorf("registered %+v with %+v", doc.Instance, doc.Snapshots)
	}

	// Again, with what is registered on record.
	w.do(t, func(ctx context.Context, tx *db.Tx) error {
		p, err := db.GetPool(ctx, tx, "other")
		if err != nil {
			return err
		}
		return db.AddInstance(ctx, tx, &db.Instance{Name: "c2", Status: db.Ready, PoolID: p.ID})
	})
	w.docs.fail, w.docs.order = "", nil
	w.do(t, func(ctx context.Context, tx *db.Tx) error {
		return db.AddVolume(ctx, tx, &db.Volume{VolumeRef: db.VolumeRef{Pool: "other", Name: "data"}, Status: db.Ready})
	})
	ok(t, w.Import(t.Context(), recovery.Request{Pools: []api.StoragePoolsPost{{Name: "other"}}}))
	if !slices.Equal(w.docs.order, []string{"bare"}) {
		t.Errorf("registered %v", w.docs.order)
	}
	if doc, err := w.docs.get("bare"); err != nil || !slices.Equal(doc.Instance.Profiles, []string{"default"}) {
		t.Errorf("without a record: %+v, %v", doc.Instance, err)
	}
}

func TestRecordsFollow(t *testing.T) {
	w := newWorld(t, t.TempDir())
	d := w.pool(t, "p", "")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { ok(t, w.Run(ctx)) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	r, can := d.(storage.Recorder)
	if !can {
		t.Fatal("the driver keeps no records")
	}
	wait := func(v storage.Volume, want string) {
		t.Helper()
		for {
			text, err := r.Record(t.Context(), v)
			ok(t, err)
			if strings.Contains(string(text), want) {
				return
			}
			select {
			case <-t.Context().Done():
				t.Fatalf("the record of %s is %q, want %q", v, text, want)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	w.addInstance(t, "p", "c1", "s0")
	w.Events.Lifecycle("instance-created", "/1.0/instances/c1", nil)
	wait(instance("c1"), "user.name: c1")
	w.addVolume(t, "p", "data")
	w.Events.Lifecycle("storage-volume-created", "/1.0/storage-pools/p/volumes/custom/data?project=default", nil)
	wait(storage.Volume{Kind: storage.Custom, Name: "data"}, "size: 1GiB")
	wait(storage.Volume{}, "driver: fake")

	doc, err := w.docs.get("c1")
	ok(t, err)
	in := *doc.Instance
	in.Config = api.ConfigMap{"user.name": "changed"}
	doc.Instance = &in
	w.docs.set("c1", doc)
	w.Events.Lifecycle("instance-updated", "/1.0/instances/c1", nil)
	cancel() // What is to be written is written at the end.
	wg.Wait()
	text, err := r.Record(t.Context(), instance("c1"))
	ok(t, err)
	if !strings.Contains(string(text), "changed") || strings.Contains(string(text), "Running") {
		t.Errorf("after the end the record is %s", text)
	}
}

// TestMadeAgain has records be written of what is as before, but in another
// place: in a pool or a volume that took the place of one that had them.
func TestMadeAgain(t *testing.T) {
	w := newWorld(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { ok(t, w.Run(ctx)) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	wait := func(v storage.Volume) {
		t.Helper()
		r, can := w.driver(t, "p").(storage.Recorder)
		if !can {
			t.Fatal("the driver keeps no records")
		}
		testenv.Eventually(t, fmt.Sprintf("a record of %q", v), func() bool {
			text, err := r.Record(t.Context(), v)
			return err == nil && len(text) > 0
		})
	}
	w.pool(t, "p", "")
	wait(storage.Volume{})
	ok(t, w.Pools.Delete(t.Context(), "p"))
	w.pool(t, "p", "")
	wait(storage.Volume{})

	w.addInstance(t, "p", "c1")
	for _, action := range []string{"instance-created", "instance-rebuilt", "instance-restored", "instance-updated", "instance-renamed"} {
		d := w.driver(t, "p")
		ok(t, d.Delete(t.Context(), instance("c1")))
		ok(t, d.Create(t.Context(), instance("c1")))
		w.Events.Lifecycle(action, "/1.0/instances/c1", nil)
		wait(instance("c1"))
	}
}

// without makes no networks.
type without struct{ nets }

func (without) Reinstate(_ context.Context, r netdocs.Reinstatement) {
	for _, net := range r.Document.Networks {
		r.Note("network "+net.Name, errs.Conflictf("its addresses are in use"))
	}
}

// TestLostNetworks has those be told of that cannot be made again: the pool's
// record does not have them any more then.
func TestLostNetworks(t *testing.T) {
	dir := t.TempDir()
	before := newWorld(t, dir)
	fill(t, before, filepath.Join(t.TempDir(), "disk"))
	w := newWorld(t, dir)
	var log strings.Builder
	w.Nets, w.Log = without{w.nets}, slog.New(slog.NewTextHandler(&log, nil))
	err := w.Import(t.Context(), recovery.Request{})
	if err == nil || strings.Count(err.Error(), "network br: its addresses are in use") != 1 {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(log.String(), "name: br") {
		t.Errorf("the log is %s", log.String())
	}
	if len(w.docs.order) != 3 {
		t.Errorf("registered %v", w.docs.order)
	}
}
