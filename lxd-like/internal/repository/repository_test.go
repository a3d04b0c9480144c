package repository_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/lxd-like/internal/netdocs"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/projects"
	"github.com/cuib/cuib/lxd-like/internal/repository"
	"github.com/cuib/cuib/lxd-like/internal/volumes"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/dir"
)

// A world is a host with a service whose instances and volumes are plain
// directories.
type world struct {
	*repository.Service

	t    *testing.T
	dir  string // For what the test makes.
	pool storage.Driver
	ops  *ops.Manager

	mu     sync.Mutex
	dirs   map[string]string // By source: what is backed up.
	config map[string]map[string]string
	host   hostState
}

// hostState is what the host has beside instances and volumes.
type hostState struct {
	config   map[string]string
	pools    []api.StoragePool
	networks []api.Network
	profiles []api.Profile
	aliases  []api.ImageAliasesEntry
	log      []string // What was made.
}

func newWorld(t *testing.T) *world {
	t.Helper()
	testenv.Kernel(t, "restic")
	w := &world{t: t, dir: t.TempDir(), dirs: map[string]string{}, config: map[string]map[string]string{}}
	hub := &events.Hub{}
	w.ops = ops.NewManager(t.Context(), hub.Publish)
	state := filepath.Join(w.dir, "state")
	must(t, os.Mkdir(state, 0o711))
	in := &projects.Service{DB: dbtest.New(t), Events: hub, Log: slog.New(slog.DiscardHandler)}
	must(t, in.Open(t.Context()))
	w.Service = &repository.Service{
		DB: in.DB, Projects: in, Dir: state, Host: "h1", Instances: fakeInstances{w}, Volumes: fakeVolumes{w}, Pools: fakePools{w},
		Nets: fakeNets{w}, Images: fakeImages{w}, Config: fakeConfig{w}, Ops: w.ops, Events: hub, Log: slog.New(slog.DiscardHandler),
	}
	w.pool = w.openPool(filepath.Join(state, "pools", "p"))
	w.do(func(ctx context.Context, tx *db.Tx) error {
		return db.AddPool(ctx, tx, &db.Pool{Name: "p", Driver: "dir", Status: db.Ready})
	})
	return w
}

func (w *world) openPool(path string) storage.Driver {
	w.t.Helper()
	must(w.t, os.MkdirAll(path, 0o711))
	cfg, err := dir.Type().Make(w.t.Context(), storage.Config{Name: "p", Dir: path})
	must(w.t, err)
	d, err := dir.Type().Open(w.t.Context(), cfg)
	must(w.t, err)
	return d
}

func (w *world) do(fn func(ctx context.Context, tx *db.Tx) error) {
	w.t.Helper()
	must(w.t, w.DB.Do(w.t.Context(), fn))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err error, kind errs.Kind, text string) {
	t.Helper()
	if !errs.Is(err, kind) || !strings.Contains(fmt.Sprint(err), text) {
		t.Errorf("got %v, want one of kind %v with %q", err, kind, text)
	}
}

// instance adds an instance whose volume is the returned directory.
func (w *world) instance(name string) string {
	w.t.Helper()
	w.do(func(ctx context.Context, tx *db.Tx) error {
		return db.AddInstance(ctx, tx, &db.Instance{Name: name, PoolID: 1, Status: db.Ready})
	})
	return w.source("instances/"+name, "rootfs")
}

// volume adds a custom volume, whose directory it returns.
func (w *world) volume(name string) string {
	w.t.Helper()
	w.do(func(ctx context.Context, tx *db.Tx) error {
		return db.AddVolume(ctx, tx, &db.Volume{VolumeRef: db.VolumeRef{Pool: "p", Name: name}, Status: db.Ready, ContentType: "filesystem"})
	})
	return w.source("volumes/p/"+name, "")
}

func (w *world) source(name, sub string) string {
	d := filepath.Join(w.dir, "sources", name)
	must(w.t, os.MkdirAll(filepath.Join(d, sub), 0o755))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirs[name] = d
	return d
}

// forget removes an instance, so that it can be restored.
func (w *world) forget(name string) {
	w.t.Helper()
	w.do(func(ctx context.Context, tx *db.Tx) error { return db.DeleteInstance(ctx, tx, name) })
}

// run runs a job to its end.
func (w *world) run(job ops.Job, err error) error {
	w.t.Helper()
	if err != nil {
		return err
	}
	_, err = w.finish(job)
	return err
}

func (w *world) finish(job ops.Job) (api.Operation, error) {
	w.t.Helper()
	op, err := w.ops.Start(w.t.Context(), job)
	must(w.t, err)
	desc := op.Wait(w.t.Context())
	if desc.Err != "" {
		return desc, errs.FromStatus(int(desc.ErrCode), desc.Err)
	}
	return desc, nil
}

// repo makes the repository "r" in a directory, which it returns.
func (w *world) repo() string {
	w.t.Helper()
	location := filepath.Join(testenv.MemoryDir(w.t), "repo")
	_, err := w.Create(w.t.Context(), api.BackupRepositoriesPost{
		Name: "r", BackupRepositoryPut: api.BackupRepositoryPut{Config: api.ConfigMap{"location": location, "password": "secret"}},
	})
	must(w.t, err)
	return location
}

// backUp makes backups and returns them.
func (w *world) backUp(sources ...string) []api.RepositoryBackup {
	w.t.Helper()
	job, err := w.CreateBackups(w.t.Context(), "r", api.RepositoryBackupsPost{Sources: sources})
	must(w.t, err)
	desc, err := w.finish(job)
	must(w.t, err)
	made, ok := desc.Metadata["backups"].([]api.RepositoryBackup)
	if !ok || len(made) == 0 {
		w.t.Fatalf("the operation says %v", desc.Metadata)
	}
	return made
}

func (w *world) restore(req api.RepositoryRestorePost) error {
	w.t.Helper()
	return w.run(w.Restore(w.t.Context(), "r", req))
}

// restored returns the directory of a volume of the pool.
func (w *world) restored(kind storage.Kind, name string) string {
	w.t.Helper()
	v := storage.Volume{Kind: kind, Name: name}
	d, err := w.pool.Mount(w.t.Context(), v, nil)
	must(w.t, err)
	w.t.Cleanup(func() { must(w.t, w.pool.Unmount(context.WithoutCancel(w.t.Context()), v)) })
	return d
}

// listing describes all that there is of all files below root.
func listing(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	links := map[uint64]string{}
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%s: no stat", path)
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		what := ""
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			what, err = os.Readlink(path)
		case info.Mode().IsRegular():
			data, rerr := os.ReadFile(path)
			h := sha256.Sum256(data)
			first, seen := links[st.Ino]
			if !seen {
				links[st.Ino] = rel
				first = rel
			}
			what, err = hex.EncodeToString(h[:8])+" link to "+first, rerr
		case info.IsDir():
		default:
			what = fmt.Sprint(st.Rdev)
		}
		out = append(out, fmt.Sprintf("%q %o %d:%d %d %s %v", rel, st.Mode, st.Uid, st.Gid, st.Mtim.Nano(), what, xattrs(t, path)))
		return err
	}))
	return out
}

func xattrs(t *testing.T, path string) []string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	must(t, err)
	var out []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 4096)
		m, err := unix.Lgetxattr(path, name, value)
		must(t, err)
		out = append(out, fmt.Sprintf("%s=%x", name, value[:m]))
	}
	slices.Sort(out)
	return out
}

func wantSame(t *testing.T, got, want string) {
	t.Helper()
	g, w := listing(t, got), listing(t, want)
	for _, line := range w {
		if !slices.Contains(g, line) {
			t.Errorf("missing %s", line)
		}
	}
	for _, line := range g {
		if !slices.Contains(w, line) {
			t.Errorf("too much: %s", line)
		}
	}
}

// The services that a world has.
type (
	fakeInstances struct{ w *world }
	fakeVolumes   struct{ w *world }
	fakePools     struct{ w *world }
	fakeNets      struct{ w *world }
	fakeImages    struct{ w *world }
	fakeConfig    struct{ w *world }
)

func (f fakeInstances) List(ctx context.Context, _ string) ([]api.Instance, error) {
	var out []api.Instance
	err := f.w.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		rows, err := db.Instances(ctx, tx)
		for _, r := range rows {
			out = append(out, api.Instance{Name: r.Name, ExpandedConfig: f.w.config[r.Name]})
		}
		return err
	})
	return out, err
}

func (f fakeInstances) Document(_ context.Context, name string) (api.Document, error) {
	return api.Document{
		Instance: &api.Instance{Name: name}, Pool: &api.StoragePool{Name: "p"},
		Snapshots: []api.InstanceSnapshot{{Name: "s"}},
	}, nil
}

func (f fakeInstances) Stilled(ctx context.Context, name string, fn func(ctx context.Context, dir string) error) error {
	return fn(ctx, f.w.dirOf("instances/"+name))
}

func (w *world) dirOf(source string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dirs[source]
}

func (f fakeInstances) CheckReinstate(ctx context.Context, r instances.Reinstatement) error {
	name := cmp.Or(r.Name, r.Document.Instance.Name)
	return f.w.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := db.GetInstance(ctx, tx, name); err == nil {
			return errs.Conflictf("instance %q exists already", name)
		}
		return nil
	})
}

func (f fakeInstances) Reinstate(ctx context.Context, r instances.Reinstatement, _ *ops.Op) error {
	if len(r.Document.Snapshots) > 0 {
		return fmt.Errorf("snapshots are asked for")
	}
	if err := f.CheckReinstate(ctx, r); err != nil {
		return err
	}
	v := storage.Volume{Kind: storage.Instance, Name: cmp.Or(r.Name, r.Document.Instance.Name)}
	if err := r.Fill(ctx, f.w.pool, v); err != nil {
		return cmp.Or(f.w.pool.Delete(context.WithoutCancel(ctx), v), err)
	}
	return f.w.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.AddInstance(ctx, tx, &db.Instance{Name: v.Name, PoolID: 1, Status: db.Ready})
	})
}

func (f fakeInstances) Profiles(context.Context) ([]api.Profile, error) {
	return slices.Clone(f.w.host.profiles), nil
}

func (f fakeInstances) CreateProfile(_ context.Context, req api.ProfilesPost) error {
	f.w.host.log = append(f.w.host.log, "profile "+req.Name)
	f.w.host.profiles = append(f.w.host.profiles, api.Profile{Name: req.Name, ProfilePut: req.ProfilePut})
	return nil
}

func (f fakeInstances) UpdateProfile(_ context.Context, name string, put api.ProfilePut) error {
	f.w.host.log = append(f.w.host.log, "change profile "+name)
	for i := range f.w.host.profiles {
		if f.w.host.profiles[i].Name == name {
			f.w.host.profiles[i].ProfilePut = put
		}
	}
	return nil
}

func (f fakeVolumes) Document(_ context.Context, pool, name string) (api.Document, error) {
	return api.Document{Volume: &api.StorageVolume{Name: name, Pool: pool, Type: "custom"}}, nil
}

func (f fakeVolumes) Stilled(ctx context.Context, pool, name string, fn func(ctx context.Context, dir string) error) error {
	return fn(ctx, f.w.dirOf("volumes/"+pool+"/"+name))
}

func (f fakeVolumes) CheckReinstate(context.Context, volumes.Reinstatement) error { return nil }

func (f fakeVolumes) Reinstate(ctx context.Context, r volumes.Reinstatement, _ *ops.Op) error {
	v := storage.Volume{Kind: storage.Custom, Name: cmp.Or(r.Name, r.Document.Volume.Name)}
	if err := r.Fill(ctx, f.w.pool, v); err != nil {
		return cmp.Or(f.w.pool.Delete(context.WithoutCancel(ctx), v), err)
	}
	return f.w.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.AddVolume(ctx, tx, &db.Volume{VolumeRef: db.VolumeRef{Pool: "p", Name: v.Name}, Status: db.Ready, ContentType: "filesystem"})
	})
}

func (f fakePools) List(context.Context) ([]api.StoragePool, error) {
	return slices.Clone(f.w.host.pools), nil
}

func (f fakePools) Create(_ context.Context, req api.StoragePoolsPost) error {
	if req.Driver == "bad" {
		return errs.Invalidf("no such driver")
	}
	f.w.host.log = append(f.w.host.log, fmt.Sprintf("pool %s %v", req.Name, req.Config))
	f.w.host.pools = append(f.w.host.pools, api.StoragePool{Name: req.Name, Driver: req.Driver, StoragePoolPut: req.StoragePoolPut})
	return nil
}

func (f fakeNets) Document(context.Context) (api.NetworksDocument, error) {
	return api.NetworksDocument{NetworksVersion: 1, Networks: slices.Clone(f.w.host.networks)}, nil
}

func (f fakeNets) Reinstate(_ context.Context, r netdocs.Reinstatement) {
	for _, n := range r.Document.Networks {
		if slices.ContainsFunc(f.w.host.networks, func(have api.Network) bool { return have.Name == n.Name }) {
			continue
		}
		f.w.host.log = append(f.w.host.log, "network "+n.Name)
		f.w.host.networks = append(f.w.host.networks, n)
		r.Note("network "+n.Name, nil)
	}
}

func (f fakeImages) Aliases(context.Context) ([]api.ImageAliasesEntry, error) {
	return slices.Clone(f.w.host.aliases), nil
}

func (f fakeImages) CreateAlias(_ context.Context, e api.ImageAliasesEntry) error {
	if e.Target == "gone" {
		return errs.NotFoundf("no such image")
	}
	f.w.host.log = append(f.w.host.log, "alias "+e.Name)
	return nil
}

func (f fakeConfig) Config(context.Context) (map[string]string, error) { return f.w.host.config, nil }

func (f fakeConfig) SetConfig(_ context.Context, values map[string]string) error {
	f.w.host.log = append(f.w.host.log, fmt.Sprint("config ", values))
	return nil
}
