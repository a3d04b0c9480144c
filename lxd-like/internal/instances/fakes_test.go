package instances_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/host"
	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/fake"
)

// A world is a host with a daemon's state, and a service that works on it.
type world struct {
	testenv.Faults // Steps are the calls that change the host.

	tb      testing.TB
	dir     string
	db      *db.DB
	pool    *fake.Driver
	other   *fake.Driver // The pool "q".
	pools   *fakePools
	nets    *fakeNets
	images  *fakeImages
	disks   *fakeDisks
	rt      *fakeRuntime
	guests  *fakeGuests
	machine *fakeMachine
	svc     *instances.Service
	doc     api.Document // Of an instance that is gone.
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{tb: tb, dir: testenv.MemoryDir(tb)}
	var err error
	w.db, err = db.OpenFile(tb.Context(), filepath.Join(w.dir, "cuib.db"))
	must(tb, err)
	tb.Cleanup(func() { must(tb, w.db.Close()) })
	w.pool, err = fake.New(filepath.Join(w.dir, "pool"))
	must(tb, err)
	w.pool.Fail = w.Step
	w.other, err = fake.New(filepath.Join(w.dir, "other"))
	must(tb, err)
	w.other.Fail = w.Step
	w.pools = &fakePools{w: w, names: []string{"p", "q"}}
	w.nets = &fakeNets{w: w, hosts: map[string]networks.Host{}, names: []string{"n"}}
	w.images = &fakeImages{w: w}
	w.disks = &fakeDisks{fakeVolumes: fakeVolumes{w: w}, attached: map[string]bool{}}
	w.rt = &fakeRuntime{w: w, running: map[string]*container{}}
	w.guests = &fakeGuests{w: w, dirs: map[string]instances.Guest{}}
	must(tb, w.db.Do(tb.Context(), func(ctx context.Context, tx *db.Tx) error {
		return errors.Join(
			db.AddPool(ctx, tx, &db.Pool{Name: "p", Driver: "fake", Status: db.Ready, Config: map[string]string{}}),
			db.AddPool(ctx, tx, &db.Pool{Name: "q", Driver: "fake", Status: db.Ready, Config: map[string]string{}}))
	}))
	w.machine = &fakeMachine{}
	w.boot()
	must(tb, w.svc.UpdateProfile(tb.Context(), "default", api.ProfilePut{Devices: api.DevicesMap{
		"root": {"type": "disk", "path": "/", "pool": "p"},
		"eth0": {"type": "nic", "network": "n", "name": "eth0"},
	}}))
	return w
}

// boot makes a new service, as a daemon that has started.
func (w *world) boot() {
	w.tb.Helper()
	w.guests.open = map[string]bool{}
	w.svc = &instances.Service{
		Projects: views{},
		Guests:   w.guests, Host: host.Host{Files: w.machine},
		DB: w.db, Dir: w.dir, Pools: w.pools, Nets: w.nets, Images: w.images, Volumes: w.disks, Runtime: w.rt,
		Events: &events.Hub{}, Logger: slog.New(slog.NewTextHandler(testWriter{w.tb}, nil)),
		IDs: idmap.NewAllocator([]idmap.Range{{First: 1000000, Size: 100 * 65536}}, nil),
	}
	must(w.tb, w.svc.Recover(w.tb.Context()))
}

// autostart starts what is to run, as a daemon that serves requests.
func (w *world) autostart() {
	w.tb.Helper()
	names, err := w.svc.ToStart(w.tb.Context())
	must(w.tb, err)
	must(w.tb, w.svc.Autostart(w.tb.Context(), names))
}

// to changes whatever there is to put.
func to[Put any](put Put) instances.Change[Put] {
	return func(Put) (Put, error) { return put, nil }
}

func (w *world) update(ctx context.Context, name string, put api.InstancePut) (ops.Job, error) {
	return w.svc.Update(ctx, name, to(put))
}

func (w *world) updateNow(ctx context.Context, name string, put api.InstancePut) error {
	return w.svc.UpdateNow(ctx, name, to(put))
}

type testWriter struct{ tb testing.TB }

func (t testWriter) Write(p []byte) (int, error) { return len(p), nil }

// do runs a job to its end. It reports whether the daemon survived it.
func (w *world) do(job ops.Job, err error) (survived bool, _ error) {
	if err != nil {
		return true, err
	}
	done := make(chan struct{})
	survived = false
	go func() {
		defer close(done)
		err = job.Run(w.tb.Context(), nil)
		survived = true
	}()
	<-done
	return survived, err
}

// ok runs a job that has to succeed.
func (w *world) ok(job ops.Job, err error) {
	w.tb.Helper()
	_, err = w.do(job, err)
	must(w.tb, err)
}

func (w *world) create(name string, start bool) {
	w.tb.Helper()
	w.ok(w.svc.Create(w.tb.Context(), post(name, start)))
}

func post(name string, start bool) api.InstancesPost {
	return api.InstancesPost{Name: name, Start: start, Source: api.InstanceSource{Type: "image", Alias: "debian"}}
}

func (w *world) state(name, action string, force bool) {
	w.tb.Helper()
	w.ok(w.svc.SetState(w.tb.Context(), name, api.InstanceStatePut{Action: action, Force: force, Timeout: 5}))
}

// dump is all that there is: records, volumes, what runs and what networks
// know. What differs from run to run is left out.
func (w *world) dump() string {
	w.tb.Helper()
	var b strings.Builder
	must(w.tb, w.db.View(w.tb.Context(), func(ctx context.Context, tx *db.Tx) error {
		rows, err := db.Instances(ctx, tx)
		if err != nil {
			return err
		}
		for _, row := range rows {
			fmt.Fprintln(&b, "instance", row.Name, row.Status, row.Pool, row.Description, row.Devices, row.Profiles)
			for _, k := range slices.Sorted(maps.Keys(row.Config)) {
				fmt.Fprintln(&b, "  ", k, row.Config[k])
			}
			snaps, err := db.Snapshots(ctx, tx, row.Name)
			if err != nil {
				return err
			}
			for _, s := range snaps {
				fmt.Fprintln(&b, "  snapshot", s.Name, s.Status, s.Profiles)
			}
		}
		profs, err := db.Profiles(ctx, tx)
		for _, p := range profs {
			fmt.Fprintln(&b, "profile", p.Name, p.Config, p.Devices)
		}
		return err
	}))
	for _, p := range []struct {
		what string
		d    *fake.Driver
	}{{"volume", w.pool}, {"q volume", w.other}} {
		vols, err := p.d.List(w.tb.Context())
		must(w.tb, err)
		slices.SortFunc(vols, func(a, b storage.Volume) int { return cmp.Compare(a.String(), b.String()) })
		for _, v := range vols {
			if v.Kind == storage.Instance {
				fmt.Fprintln(&b, p.what, v, "says", w.readIn(p.d, v))
			}
		}
	}
	b.WriteString(w.guests.dump())
	w.rt.mu.Lock()
	defer w.rt.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(w.rt.running)) {
		c := w.rt.running[name]
		fmt.Fprintln(&b, "running", name, c.spec.Limits, c.parts(), c.frozen)
	}
	w.nets.mu.Lock()
	defer w.nets.mu.Unlock()
	// That a network knows an instance that does not run is no harm.
	for _, mac := range slices.Sorted(maps.Keys(w.nets.hosts)) {
		if name := w.nets.hosts[mac].Instance; !strings.Contains(b.String(), "instance "+name+" ") {
			fmt.Fprintln(&b, "stray host", mac, name)
		}
	}
	for name, c := range w.rt.running {
		for _, n := range c.spec.NICs {
			if w.nets.hosts[n.MAC].Instance != name {
				fmt.Fprintln(&b, "no network knows", name, n.MAC)
			}
		}
	}
	logs, _ := os.ReadDir(filepath.Join(w.dir, "logs"))
	for _, l := range logs {
		fmt.Fprintln(&b, "logs", l.Name())
	}
	return b.String()
}

// read returns what a test has written into a volume.
func (w *world) read(v storage.Volume) string {
	w.tb.Helper()
	return w.readIn(w.pool, v)
}

func (w *world) readIn(d *fake.Driver, v storage.Volume) string {
	w.tb.Helper()
	return w.inside(d, v, func(root string) string {
		data, err := os.ReadFile(filepath.Join(root, "word"))
		if err != nil {
			return ""
		}
		return string(data)
	})
}

func (w *world) write(name, word string) {
	w.tb.Helper()
	w.inside(w.pool, vol(name), func(root string) string {
		must(w.tb, os.WriteFile(filepath.Join(root, "word"), []byte(word), 0o600))
		return ""
	})
}

// inside calls fn with the root directory of a volume. It fails no call.
func (w *world) inside(d *fake.Driver, v storage.Volume, fn func(root string) string) string {
	w.tb.Helper()
	unmute := w.Mute()
	defer unmute()
	dir, err := d.Mount(w.tb.Context(), v, nil)
	if err != nil {
		return "mounted with ids"
	}
	defer func() { must(w.tb, d.Unmount(w.tb.Context(), v)) }()
	return fn(filepath.Join(dir, "rootfs"))
}

func vol(name string) storage.Volume { return storage.Volume{Kind: storage.Instance, Name: name} }

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

type fakePools struct {
	w     *world
	names []string
	first storage.Driver // Of the pool "p", if it is not the usual.
}

func (p *fakePools) Driver(_ context.Context, pool string) (storage.Driver, error) {
	if !slices.Contains(p.names, pool) {
		return nil, errs.NotFoundf("storage pool %q not found", pool)
	}
	if pool == "q" {
		return p.w.other, nil
	}
	if p.first != nil {
		return p.first, nil
	}
	return p.w.pool, nil
}

func (*fakePools) CheckVolumeOption(_ context.Context, pool, key, value string) error {
	if key == "fake.colour" && pool != "q" && (value == "red" || value == "blue") || key == "zfs.delegate" {
		return nil
	}
	return errs.Invalidf("%s: got %q, and pool %q has no such option", key, value, pool)
}

func (*fakePools) VolumeOptions(_ context.Context, pool string) ([]string, error) {
	if pool == "q" {
		return []string{"zfs.delegate"}, nil
	}
	return []string{"fake.colour", "zfs.delegate"}, nil
}

func (p *fakePools) List(context.Context) ([]api.StoragePool, error) {
	var out []api.StoragePool
	for _, name := range p.names {
		if name == "q" {
			continue // Only who names it knows it.
		}
		out = append(out, api.StoragePool{Name: name})
	}
	return out, nil
}

func (p *fakePools) Names(ctx context.Context) ([]string, error) {
	var out []string
	all, err := p.List(ctx)
	for _, one := range all {
		out = append(out, one.Name)
	}
	return out, err
}

func (p *fakePools) Create(ctx context.Context, req api.StoragePoolsPost) error {
	if req.Driver == "overlay" {
		return errs.Newf(errs.Unsupported, "no overlay here")
	}
	p.names = append(p.names, req.Name)
	return p.w.db.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.AddPool(ctx, tx, &db.Pool{Name: req.Name, Driver: req.Driver, Status: db.Ready, Config: map[string]string{}})
	})
}

type fakeNets struct {
	w      *world
	names  []string
	others []string // Interfaces that are no managed networks.

	mu    sync.Mutex // Guards what follows.
	hosts map[string]networks.Host
	pins  []string // The MAC addresses of those that Pin was asked for and that were not released, in order.
}

func (n *fakeNets) Exists(_ context.Context, name string) error {
	if !slices.Contains(n.names, name) {
		return errs.NotFoundf("network %q not found", name)
	}
	return nil
}

func (n *fakeNets) List(context.Context) ([]api.Network, error) { return nil, nil }

func (n *fakeNets) Create(_ context.Context, req api.NetworksPost) error {
	if slices.Contains(n.others, req.Name) {
		return errs.Conflictf("the host has an interface %q", req.Name)
	}
	n.names = append(n.names, req.Name)
	return nil
}

func (n *fakeNets) Link(ctx context.Context, network string) (networks.Link, error) {
	if err := n.Exists(ctx, network); err != nil {
		return networks.Link{}, err
	}
	return networks.Link{Kind: "bridged", Parent: network}, nil
}

func (n *fakeNets) CheckHost(_ context.Context, _ string, h networks.Host) error {
	if h.IPv4.IsValid() && !strings.HasPrefix(h.IPv4.String(), "10.0.0.") {
		return errs.Invalidf("%s is not on the network", h.IPv4)
	}
	return nil
}

func (n *fakeNets) Pin(_ context.Context, _ string, h networks.Host, _ networks.Pin) (networks.Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pins = append(n.pins, h.MAC)
	h.IPv4 = netip.MustParseAddr("10.0.0.9")
	return h, nil
}

func (n *fakeNets) Release(_ string, h networks.Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, known := n.hosts[h.MAC]; !known {
		n.pins = slices.DeleteFunc(n.pins, func(mac string) bool { return mac == h.MAC })
	}
}

func (n *fakeNets) CheckClaim(context.Context, networks.Claim) error { return nil }

func (n *fakeNets) CheckNames(context.Context, string, []string) error { return nil }

func (n *fakeNets) SetHost(_ context.Context, _ string, h networks.Host) error {
	if err := n.w.Step("SetHost"); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[h.MAC] = h
	return nil
}

func (n *fakeNets) UnsetHost(_ context.Context, _ string, h networks.Host) error {
	if err := n.w.Step("UnsetHost"); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.hosts, h.MAC)
	return nil
}

type fakeImages struct {
	w        *world
	built    bool
	building func() // What happens meanwhile; nil for nothing.
}

var debian = db.Image{Fingerprint: strings.Repeat("d", 64), Architecture: "", Properties: map[string]string{"os": "Debian"}}

func (i *fakeImages) Resolve(_ context.Context, src api.InstanceSource) (db.Image, error) {
	if src.Alias == "debian" || src.Alias == "debian:sid" && i.built {
		return debian, nil
	}
	return db.Image{}, errs.NotFoundf("image %q not found", src.Alias)
}

func (i *fakeImages) Buildable(alias string) bool { return strings.HasPrefix(alias, "debian:") }

func (i *fakeImages) Build(context.Context, string, *ops.Op) (db.Image, error) {
	if err := i.w.Step("Build"); err != nil {
		return db.Image{}, err
	}
	if i.building != nil {
		i.building()
	}
	i.built = true
	return debian, nil
}

func (i *fakeImages) Volume(ctx context.Context, fingerprint, _ string, _ *ops.Op) (storage.Volume, error) {
	v := storage.Volume{Kind: storage.Image, Name: fingerprint}
	if err := i.w.Step("Volume"); err != nil {
		return v, err
	}
	unmute := i.w.Mute()
	defer unmute()
	err := i.w.pool.Create(ctx, v)
	if errs.Is(err, errs.Conflict) {
		return v, nil
	}
	if err != nil {
		return v, err
	}
	dir, err := i.w.pool.Mount(ctx, v, nil)
	if err != nil {
		return v, err
	}
	const meta = "architecture: x86_64\ntemplates:\n  /etc/hostname:\n    when: [create, copy, rename]\n    template: hostname.tpl\n"
	return v, errors.Join(
		os.MkdirAll(filepath.Join(dir, "rootfs", "etc"), 0o755),
		os.MkdirAll(filepath.Join(dir, "templates"), 0o755),
		os.WriteFile(filepath.Join(dir, "templates", "hostname.tpl"), []byte("{{ container.name }}\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "metadata.yaml"), []byte(meta), 0o600),
		i.w.pool.Unmount(ctx, v))
}

// job makes a job of a call that is none.
func job(fn func() error) ops.Job {
	return ops.Job{Run: func(context.Context, *ops.Op) error { return fn() }}
}

// reopen opens the pool as the next daemon does: mounts outlive the last one.
func reopen(w *world) *fake.Driver { return w.pool }
