package rest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"sync"

	"github.com/cuib/cuib/lxd-like/internal/guestfs"
	"github.com/cuib/cuib/lxd-like/internal/images"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// calls notes what the services were asked to do.
type calls struct {
	mu   sync.Mutex
	list []string
}

func (c *calls) add(words ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, strings.Join(words, " "))
}

func (c *calls) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.list) == 0 {
		return ""
	}
	return c.list[len(c.list)-1]
}

// fakeInstances has one instance, c1, with a snapshot s0 and a profile
// "default".
type fakeInstances struct {
	calls

	root string // Of c1's files.
	exec ops.Job
	put  api.InstancePut // The last one.
	err  error           // Of every change.

	changes int // How many Diff knows, before it fails with err.
}

var errBoom = errors.New("boom")

func (f *fakeInstances) instance() api.Instance {
	return api.Instance{
		Name: "c1", Status: "Stopped", StatusCode: api.Stopped, Type: "container",
		InstancePut: api.InstancePut{Config: api.ConfigMap{"user.a": "1"}, Devices: api.DevicesMap{}, Profiles: []string{"default"}},
	}
}

func known(name string) error {
	switch name {
	case "c1", "default", "s0", "p1", "n1", "deb", "deb/12", "abc":
		return nil
	case "boom":
		return errBoom
	case "panic":
		panic("a bug")
	}
	return errs.NotFoundf("%q not found", name)
}

func (f *fakeInstances) job(err error, what ...string) (ops.Job, error) {
	if err == nil {
		err = f.err
	}
	f.add(what...)
	return ops.Job{
		Description: what[0], Resources: map[string][]string{"instances": {"/1.0/instances/" + what[1]}},
		Run: func(context.Context, *ops.Op) error { return nil },
	}, err
}

func (f *fakeInstances) Names(context.Context, string) ([]string, error) {
	return []string{"c1"}, f.err
}

func (f *fakeInstances) List(context.Context, string) ([]api.Instance, error) {
	return []api.Instance{f.instance()}, f.err
}

func (f *fakeInstances) Heads(context.Context, string) ([]api.InstanceBrief, error) {
	return []api.InstanceBrief{{Name: "c1", Type: "container"}}, f.err
}

func (f *fakeInstances) Briefs(context.Context, string) ([]api.InstanceBrief, error) {
	return []api.InstanceBrief{{Name: "c1", State: &api.InstanceBriefState{}}}, f.err
}

func (f *fakeInstances) ListFull(context.Context, string) ([]api.InstanceFull, error) {
	return []api.InstanceFull{{Instance: f.instance()}}, f.err
}

func (f *fakeInstances) Get(_ context.Context, name string) (api.Instance, error) {
	return f.instance(), known(name)
}

func (f *fakeInstances) GetFull(_ context.Context, name string) (api.InstanceFull, error) {
	return api.InstanceFull{Instance: f.instance()}, known(name)
}

func (f *fakeInstances) Summary(_ context.Context, name string) (api.InstanceSummary, error) {
	return api.InstanceSummary{Instance: f.instance(), Snapshots: []api.SnapshotSummary{{Name: "snap0"}}}, known(name)
}

func (f *fakeInstances) State(_ context.Context, name string) (api.InstanceState, error) {
	return api.InstanceState{Status: "Stopped"}, known(name)
}

func (f *fakeInstances) Examine(_ context.Context, name string) ([]api.NetworkCheck, error) {
	return []api.NetworkCheck{{Name: "eth0", Status: "ok"}}, known(name)
}

func (f *fakeInstances) Metadata(_ context.Context, name string) (api.ImageMetadata, error) {
	return api.ImageMetadata{Architecture: "x86_64", Properties: map[string]string{"os": "debian"}}, known(name)
}

func (f *fakeInstances) SetMetadata(_ context.Context, name string, m api.ImageMetadata) error {
	f.add("metadata", name, m.Architecture, m.Properties["os"], m.Properties["release"])
	return known(name)
}

func (f *fakeInstances) Logs(_ context.Context, name string) ([]string, error) {
	return []string{"exec-output/exec_1.stdout", "lxc.log"}, known(name)
}

func (f *fakeInstances) Log(_ context.Context, name, file string) (*os.File, error) {
	if err := errors.Join(known(name)); err != nil || file == "none" {
		return nil, errs.NotFoundf("no log %q of %q", file, name)
	}
	return os.Open(os.DevNull)
}

func (f *fakeInstances) DeleteLog(_ context.Context, name, file string) error {
	f.add("delete log", name, file)
	return known(name)
}

func (f *fakeInstances) Templates(_ context.Context, name string) ([]string, error) {
	return []string{"hosts.tpl"}, known(name)
}

func (f *fakeInstances) Template(_ context.Context, name, template string) ([]byte, error) {
	return []byte("the text of " + template), known(name)
}

func (f *fakeInstances) SetTemplate(_ context.Context, name, template, text string) error {
	f.add("template", name, template, text)
	return known(name)
}

func (f *fakeInstances) DeleteTemplate(_ context.Context, name, template string) error {
	f.add("delete template", name, template)
	return known(name)
}

func (f *fakeInstances) Create(_ context.Context, req api.InstancesPost) (ops.Job, error) {
	if req.Name == "" {
		req.Name = "calm-otter"
	}
	return f.job(nil, "create", req.Name, req.Source.Alias)
}

func (f *fakeInstances) Delete(_ context.Context, name string) (ops.Job, error) {
	return f.job(known(name), "delete", name)
}

func (*fakeInstances) WantPool(context.Context, string) error { return nil }

func (f *fakeInstances) Rename(_ context.Context, name string, req api.InstancePost) (ops.Job, error) {
	return f.job(known(name), "rename", name, req.Name)
}

func (f *fakeInstances) Rebuild(_ context.Context, name string, req api.InstanceRebuildPost) (ops.Job, error) {
	return f.job(known(name), "rebuild", name, req.Source.Alias)
}

func (f *fakeInstances) SetState(_ context.Context, name string, req api.InstanceStatePut) (ops.Job, error) {
	return f.job(known(name), "state", name, req.Action)
}

func (f *fakeInstances) SetStates(_ context.Context, _ string, req api.InstanceStatePut) (ops.Job, error) {
	return f.job(nil, "states", "all", req.Action)
}

func (f *fakeInstances) Update(_ context.Context, name string, change func(api.InstancePut) (api.InstancePut, error)) (ops.Job, error) {
	var err error
	if f.put, err = change(f.instance().InstancePut); err != nil {
		return ops.Job{}, err
	}
	job, err := f.job(known(name), "update", name)
	job.Run = func(context.Context, *ops.Op) error {
		_, err := change(f.instance().InstancePut)
		return err
	}
	return job, err
}

func (f *fakeInstances) UpdateNow(_ context.Context, name string, change func(api.InstancePut) (api.InstancePut, error)) (err error) {
	if err := known(name); err != nil {
		return err
	}
	f.put, err = change(f.instance().InstancePut)
	f.add("update now", name)
	return err
}

func (f *fakeInstances) Preview(_ context.Context, name string, put api.InstancePut) ([]api.InstanceChange, error) {
	f.put = put
	f.add("preview", name)
	return []api.InstanceChange{{Instance: name}}, known(name)
}

func (f *fakeInstances) Exec(_ context.Context, name string, req api.InstanceExecPost) (ops.Job, error) {
	if f.exec.Run != nil {
		return f.exec, known(name)
	}
	return f.job(known(name), "exec", name, strings.Join(req.Command, " "))
}

func (f *fakeInstances) Console(_ context.Context, name string, _ api.InstanceConsolePost) (ops.Job, error) {
	return f.job(known(name), "console", name)
}

func (f *fakeInstances) ConsoleLog(_ context.Context, name string, o runtime.LogOptions) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(fmt.Sprintf("booting %d %t", o.Last, o.Follow))), known(name)
}

func (f *fakeInstances) ClearConsoleLog(_ context.Context, name string) error {
	f.add("clear console", name)
	return known(name)
}

func (f *fakeInstances) Files(_ context.Context, name string) (*guestfs.FS, error) {
	if err := known(name); err != nil {
		return nil, err
	}
	root, err := os.Open(f.root)
	if err != nil {
		return nil, err
	}
	return guestfs.New(root, nil, nil), nil
}

func snapshot() api.InstanceSnapshot {
	return api.InstanceSnapshot{Name: "s0", InstanceSnapshotPut: api.InstanceSnapshotPut{Description: "first"}}
}

func (f *fakeInstances) SnapshotSummaries(ctx context.Context, in string) ([]api.SnapshotSummary, error) {
	one, err := f.Summary(ctx, in)
	return one.Snapshots, err
}

func (f *fakeInstances) Snapshots(_ context.Context, in string) ([]api.InstanceSnapshot, error) {
	return []api.InstanceSnapshot{snapshot()}, known(in)
}

func (f *fakeInstances) Snapshot(_ context.Context, in, name string) (api.InstanceSnapshot, error) {
	return snapshot(), errors.Join(known(in), known(name))
}

func (f *fakeInstances) CreateSnapshot(_ context.Context, in string, req api.InstanceSnapshotsPost) (ops.Job, error) {
	return f.job(known(in), "snapshot", in, req.Name)
}

func (f *fakeInstances) RenameSnapshot(_ context.Context, in, name string, req api.InstanceSnapshotPost) (ops.Job, error) {
	return f.job(known(in), "rename snapshot", in, name, req.Name)
}

func (f *fakeInstances) UpdateSnapshot(_ context.Context, in, name string, change func(api.InstanceSnapshotPut) (api.InstanceSnapshotPut, error)) (ops.Job, error) {
	put, err := change(snapshot().InstanceSnapshotPut)
	if err != nil {
		return ops.Job{}, err
	}
	return f.job(known(in), "update snapshot", in, name, put.Description)
}

func (f *fakeInstances) DeleteSnapshot(_ context.Context, in, name string) (ops.Job, error) {
	return f.job(known(in), "delete snapshot", in, name)
}

func (f *fakeInstances) DeleteSnapshots(_ context.Context, in string, names []string) (ops.Job, error) {
	return f.job(known(in), "delete snapshots", in, strings.Join(names, ","))
}

func (f *fakeInstances) Diff(_ context.Context, in, from, to string, fn func(api.FileChange) error) error {
	f.add("diff", in, from, to)
	for range f.changes {
		if err := fn(api.FileChange{Op: "added", Type: "file", Path: "/some/where"}); err != nil {
			return err
		}
	}
	if f.err != nil {
		return f.err
	}
	return known(in)
}

func (f *fakeInstances) Profiles(context.Context) ([]api.Profile, error) {
	return []api.Profile{{Name: "default"}, {Name: "p1"}}, f.err
}

func (f *fakeInstances) Profile(_ context.Context, name string) (api.Profile, error) {
	return api.Profile{Name: name, ProfilePut: api.ProfilePut{Config: api.ConfigMap{"limits.cpu": "1"}, Devices: api.DevicesMap{}}}, known(name)
}

func (f *fakeInstances) CreateProfile(_ context.Context, req api.ProfilesPost) error {
	f.add("create profile", req.Name)
	return f.err
}

func (f *fakeInstances) UpdateProfile(_ context.Context, name string, put api.ProfilePut) error {
	f.add("update profile", name, put.Description, put.Config["limits.cpu"])
	return known(name)
}

func (f *fakeInstances) PreviewProfile(_ context.Context, name string, put api.ProfilePut) ([]api.InstanceChange, error) {
	f.add("preview profile", name, put.Description, put.Config["limits.cpu"])
	return []api.InstanceChange{{Instance: "c1"}}, known(name)
}

func (f *fakeInstances) RenameProfile(_ context.Context, name, to string) error {
	f.add("rename profile", name, to)
	return known(name)
}

func (f *fakeInstances) DeleteProfile(_ context.Context, name string) error {
	f.add("delete profile", name)
	return known(name)
}

// fakeImages has the image abc with the alias deb/12.
type fakeImages struct {
	calls

	files []images.File
}

func (f *fakeImages) List(context.Context) ([]api.Image, error) {
	return []api.Image{{Fingerprint: "abc", Project: "default"}, {Fingerprint: "abc", Project: "p"}}, nil
}

func (f *fakeImages) Get(_ context.Context, key string) (api.Image, error) {
	in, fp := project.Split(key)
	return api.Image{Fingerprint: fp, Project: in}, known(key)
}

func (f *fakeImages) Import(_ context.Context, up images.Upload) (ops.Job, error) {
	meta, err := io.ReadAll(up.Metadata)
	words := []string{"import", up.Filename, up.Fingerprint, string(meta)}
	if err == nil && up.NextRootfs != nil {
		r, name, rerr := up.NextRootfs()
		if rerr != nil {
			return ops.Job{}, rerr
		}
		data, derr := io.ReadAll(r)
		words = append(words, name, string(data))
		err = derr
	}
	for _, a := range up.Aliases {
		words = append(words, "alias="+a.Name)
	}
	if up.Put.Public {
		words = append(words, "public")
	}
	f.add(append(words, "os="+up.Put.Properties["os"], strings.Join(up.Put.Profiles, ","))...)
	return ops.Job{Description: "Importing image", Run: func(context.Context, *ops.Op) error { return nil }}, err
}

func (f *fakeImages) Make(_ context.Context, in string, req api.ImagesPost) (ops.Job, error) {
	f.add(strings.Fields(strings.Join([]string{"make", req.Source.Type, req.Source.Name, in, req.Source.Project}, " "))...)
	return ops.Job{Description: "Making image", Run: func(context.Context, *ops.Op) error { return nil }}, nil
}

func (f *fakeImages) Update(_ context.Context, fp string, put api.ImagePut) error {
	f.add("update image", fp, put.Properties["os"])
	return known(fp)
}

func (f *fakeImages) Delete(_ context.Context, fp string) (ops.Job, error) {
	return ops.Job{Description: "Deleting image", Run: func(context.Context, *ops.Op) error { return nil }}, known(fp)
}

func (f *fakeImages) Export(_ context.Context, fp string) ([]images.File, error) {
	return f.files, known(fp)
}

func (f *fakeImages) Aliases(context.Context) ([]api.ImageAliasesEntry, error) {
	return []api.ImageAliasesEntry{{Name: "deb/12", Project: "default"}, {Name: "mine", Project: "p"}}, nil
}

func (f *fakeImages) Alias(_ context.Context, name string) (api.ImageAliasesEntry, error) {
	in, short := project.Split(name)
	return api.ImageAliasesEntry{Name: short, Project: in}, known(name)
}

func (f *fakeImages) CreateAlias(_ context.Context, e api.ImageAliasesEntry) error {
	f.add("create alias", e.Name, e.Target)
	return nil
}

func (f *fakeImages) UpdateAlias(_ context.Context, name string, put api.ImageAliasesEntryPut) error {
	f.add("update alias", name, put.Description)
	return known(name)
}

func (f *fakeImages) RenameAlias(_ context.Context, name, to string) error {
	f.add("rename alias", name, to)
	return known(name)
}

func (f *fakeImages) DeleteAlias(_ context.Context, name string) error {
	f.add("delete alias", name)
	return known(name)
}

// fakePools has the pool p1.
type fakePools struct{ calls }

func (*fakePools) Metadata() map[string]map[string]profiles.DocGroup {
	keys := []map[string]profiles.Doc{{"size": {Type: "string"}}}
	return map[string]map[string]profiles.DocGroup{"storage-dir": {"pool-conf": {Keys: keys}}}
}

func (f *fakePools) List(context.Context) ([]api.StoragePool, error) {
	return []api.StoragePool{{Name: "p1"}}, nil
}

func (f *fakePools) Get(_ context.Context, name string) (api.StoragePool, error) {
	return api.StoragePool{Name: name}, known(name)
}

func (f *fakePools) Create(_ context.Context, req api.StoragePoolsPost) error {
	f.add("create pool", req.Name, req.Driver)
	return nil
}

func (f *fakePools) Update(_ context.Context, name string, put api.StoragePoolPut) error {
	f.add("update pool", name, put.Description)
	return known(name)
}

func (f *fakePools) Delete(_ context.Context, name string) error {
	f.add("delete pool", name)
	return known(name)
}

func (f *fakePools) Resources(_ context.Context, name string) (api.ResourcesStoragePool, error) {
	return api.ResourcesStoragePool{}, known(name)
}

// fakeNets has the network n1.
type fakeNets struct{ calls }

func (f *fakeNets) List(context.Context) ([]api.Network, error) {
	return []api.Network{{Name: "n1"}}, nil
}

func (f *fakeNets) Get(_ context.Context, name string) (api.Network, error) {
	return api.Network{Name: name}, known(name)
}

func (f *fakeNets) Create(_ context.Context, req api.NetworksPost) error {
	f.add("create network", req.Name, req.Type)
	return nil
}

func (f *fakeNets) Update(_ context.Context, name string, put api.NetworkPut) error {
	f.add("update network", name, put.Description)
	return known(name)
}

func (f *fakeNets) Rename(_ context.Context, name, to string) error {
	f.add("rename network", name, to)
	return known(name)
}

func (f *fakeNets) Delete(_ context.Context, name string) error {
	f.add("delete network", name)
	return known(name)
}

func (f *fakeNets) Allocations(context.Context) ([]api.NetworkAllocation, error) {
	return []api.NetworkAllocation{
		{Address: "10.0.0.1/24", Type: "network", Network: "n1", UsedBy: "/1.0/networks/n1"},
		{Address: "10.0.0.2/32", Type: "instance", Network: "n1", UsedBy: "/1.0/instances/shared_c1"},
		{Address: "10.0.1.1/24", Type: "network", Network: "p%lan", UsedBy: "/1.0/networks/p%25lan"},
	}, nil
}

func (f *fakeNets) Leases(_ context.Context, name string) ([]api.NetworkLease, error) {
	return nil, known(name)
}

func (f *fakeNets) Examine(_ context.Context, name string) ([]api.NetworkCheck, error) {
	return []api.NetworkCheck{}, known(name)
}

func (f *fakeNets) State(_ context.Context, name string) (api.NetworkState, error) {
	return api.NetworkState{}, known(name)
}

// fakeConfig keeps the server's configuration.
type fakeConfig struct {
	mu     sync.Mutex
	values map[string]string
}

func (f *fakeConfig) Config(context.Context) (map[string]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]string{}
	maps.Copy(out, f.values)
	return out, nil
}

func (f *fakeConfig) SetConfig(_ context.Context, values map[string]string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, v := range values {
		if v == "" {
			delete(f.values, k)
		} else {
			f.values[k] = v
		}
	}
	return nil
}
