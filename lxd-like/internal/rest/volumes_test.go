package rest_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/guestfs"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/volumes"
	"github.com/cuib/cuib/shared/api"
)

// fakeVolumes has the volume c1 in the pool p1, with a snapshot s0, and an
// image's.
type fakeVolumes struct {
	calls

	root string // Of c1's files.
}

func (*fakeVolumes) volume(typ, name string) api.StorageVolume {
	return api.StorageVolume{
		StorageVolumePut: api.StorageVolumePut{Config: api.ConfigMap{"user.a": "1"}}, Name: name, Type: typ, Pool: "p1",
	}
}

func (f *fakeVolumes) List(_ context.Context, pool, typ string) ([]api.StorageVolume, error) {
	var out []api.StorageVolume
	for _, v := range []api.StorageVolume{f.volume("custom", "c1"), f.volume("custom", "c1/s0"), f.volume("image", "abc")} {
		if typ == "" || v.Type == typ {
			out = append(out, v)
		}
	}
	return out, known(cmp.Or(pool, "p1"))
}

func (f *fakeVolumes) ListFull(ctx context.Context, pool, typ string) ([]api.StorageVolumeFull, error) {
	all, err := f.List(ctx, pool, typ)
	var out []api.StorageVolumeFull
	for _, v := range all {
		out = append(out, api.StorageVolumeFull{StorageVolume: v})
	}
	return out, err
}

func (f *fakeVolumes) Get(_ context.Context, pool, typ, name string) (api.StorageVolume, error) {
	return f.volume(typ, name), errors.Join(known(pool), known(name))
}

func (f *fakeVolumes) GetFull(ctx context.Context, pool, typ, name string) (api.StorageVolumeFull, error) {
	v, err := f.Get(ctx, pool, typ, name)
	return api.StorageVolumeFull{StorageVolume: v}, err
}

func (*fakeVolumes) State(_ context.Context, _, _, name string) (api.StorageVolumeState, error) {
	return api.StorageVolumeState{Usage: &api.StorageVolumeStateUsage{Used: 5}}, known(name)
}

func (f *fakeVolumes) Diff(_ context.Context, ref volumes.Ref, from, to string) ([]api.FileChange, error) {
	f.add("diff", ref.String(), from, to)
	return []api.FileChange{}, known(ref.Name)
}

func (f *fakeVolumes) Files(_ context.Context, ref volumes.Ref) (*guestfs.FS, error) {
	if err := known(ref.Name); err != nil {
		return nil, err
	}
	root, err := os.Open(f.root)
	if err != nil {
		return nil, err
	}
	return guestfs.New(root, nil, nil), nil
}

func (f *fakeVolumes) Create(_ context.Context, pool string, req api.StorageVolumesPost) error {
	f.add("create", pool, req.Type, req.Name)
	return known(pool)
}

func (f *fakeVolumes) job(err error, what ...string) (ops.Job, error) {
	return ops.Job{Run: func(context.Context, *ops.Op) error {
		f.add(what...)
		return nil
	}}, err
}

func (f *fakeVolumes) Copy(_ context.Context, pool string, req api.StorageVolumesPost) (ops.Job, error) {
	return f.job(known(pool), "copy", pool, req.Name, req.Source.Pool, req.Source.Name)
}

func (f *fakeVolumes) ImportISO(_ context.Context, pool, name string, data io.Reader) (ops.Job, error) {
	text, err := io.ReadAll(data)
	return f.job(errors.Join(err, known(pool)), "import", pool, name, string(text))
}

func (f *fakeVolumes) Update(_ context.Context, ref volumes.Ref, put api.StorageVolumePut) error {
	f.add("update", ref.String(), put.Description, put.Restore, put.Config["user.a"]+put.Config["user.b"])
	return known(ref.Name)
}

func (f *fakeVolumes) Rename(_ context.Context, ref volumes.Ref, to string) error {
	f.add("rename", ref.String(), to)
	return known(ref.Name)
}

func (f *fakeVolumes) Move(_ context.Context, ref volumes.Ref, req api.StorageVolumePost) (ops.Job, error) {
	return f.job(known(ref.Name), "move", ref.String(), req.Pool, req.Name)
}

func (f *fakeVolumes) Delete(_ context.Context, ref volumes.Ref) error {
	f.add("delete", ref.String())
	return known(ref.Name)
}

func (*fakeVolumes) Snapshots(_ context.Context, _, _, name string) ([]api.StorageVolumeSnapshot, error) {
	return []api.StorageVolumeSnapshot{{Name: "s0"}}, known(name)
}

func (*fakeVolumes) Snapshot(_ context.Context, at volumes.Place) (api.StorageVolumeSnapshot, error) {
	return api.StorageVolumeSnapshot{Name: at.Snapshot}, errors.Join(known(at.Volume), known(at.Snapshot))
}

func (f *fakeVolumes) CreateSnapshot(_ context.Context, ref volumes.Ref, req api.StorageVolumeSnapshotsPost) (ops.Job, error) {
	return f.job(known(ref.Name), "snapshot", ref.String(), req.Name)
}

func (f *fakeVolumes) RenameSnapshot(_ context.Context, ref volumes.Ref, snapshot string, req api.StorageVolumeSnapshotPost) (ops.Job, error) {
	return f.job(known(snapshot), "rename snapshot", ref.String(), snapshot, req.Name)
}

func (f *fakeVolumes) UpdateSnapshot(_ context.Context, ref volumes.Ref, snapshot string, put api.StorageVolumeSnapshotPut) error {
	f.add("update snapshot", ref.String(), snapshot, put.Description)
	return known(snapshot)
}

func (f *fakeVolumes) DeleteSnapshot(_ context.Context, ref volumes.Ref, snapshot string) (ops.Job, error) {
	return f.job(known(snapshot), "delete snapshot", ref.String(), snapshot)
}

func TestVolumes(t *testing.T) {
	const in, one = "/1.0/storage-pools/p1/volumes", "/1.0/storage-pools/p1/volumes/custom/c1"
	for name, tt := range map[string]struct {
		method, path, body string
		status             int
		want               string // In the body.
		call               string // The last that the service was asked to do.
	}{
		"all pools":          {"GET", "/1.0/storage-volumes", "", 200, `["/1.0/storage-pools/p1/volumes/custom/c1","/1.0/storage-pools/p1/volumes/custom/c1/snapshots/s0","/1.0/storage-pools/p1/volumes/image/abc"]`, ""},
		"type of all pools":  {"GET", "/1.0/storage-volumes/image?recursion=1", "", 200, `"name":"abc"`, ""},
		"pool":               {"GET", in + "?recursion=1&filter=name+eq+c1", "", 200, `"name":"c1"`, ""},
		"type":               {"GET", in + "/image", "", 200, `"metadata":["/1.0/storage-pools/p1/volumes/image/abc"]`, ""},
		"full":               {"GET", in + "/custom?recursion=2", "", 200, `"snapshots":null`, ""},
		"no pool":            {"GET", "/1.0/storage-pools/x/volumes", "", 404, `not found`, ""},
		"create":             {"POST", in + "/custom", `{"name":"v"}`, 201, `sync`, "create p1 custom v"},
		"create with type":   {"POST", in, `{"name":"v","type":"custom"}`, 201, `sync`, "create p1 custom v"},
		"copy":               {"POST", in + "/custom", `{"name":"v","source":{"name":"c1/s0","pool":"p2","type":"copy"}}`, 202, `async`, "copy p1 v p2 c1/s0"},
		"get":                {"GET", one, "", 200, `"type":"custom"`, ""},
		"get full":           {"GET", one + "?recursion=1", "", 200, `"state":null`, ""},
		"put":                {"PUT", one, `{"description":"d","config":{"user.b":"2"}}`, 200, `sync`, "update p1/c1 d  2"},
		"patch":              {"PATCH", one, `{"config":{"user.b":"2"}}`, 200, `sync`, "update p1/c1   12"},
		"restore":            {"PUT", one, `{"restore":"s0"}`, 200, `sync`, "update p1/c1  s0 "},
		"rename":             {"POST", one, `{"name":"v"}`, 201, `sync`, "rename p1/c1 v"},
		"rename within pool": {"POST", one, `{"name":"v","pool":"p1"}`, 201, `sync`, "rename p1/c1 v"},
		"move":               {"POST", one, `{"name":"v","pool":"p2"}`, 202, `async`, "move p1/c1 p2 v"},
		"delete":             {"DELETE", one, "", 200, `sync`, "delete p1/c1"},
		"delete image":       {"DELETE", in + "/image/abc", "", 400, `goes with its instance or image`, ""},
		"bad type":           {"PUT", in + "/block/abc", "{}", 400, `volume type: got`, ""},
		"state":              {"GET", one + "/state", "", 200, `"used":5`, ""},
		"diff":               {"GET", one + "/diff?from=s0&to=s1", "", 200, `[]`, "diff p1/c1 s0 s1"},
		"snapshots":          {"GET", one + "/snapshots", "", 200, `["/1.0/storage-pools/p1/volumes/custom/c1/snapshots/s0"]`, ""},
		"create snapshot":    {"POST", one + "/snapshots", `{"name":"s1"}`, 202, `async`, "snapshot p1/c1 s1"},
		"get snapshot":       {"GET", one + "/snapshots/s0", "", 200, `"name":"s0"`, ""},
		"no snapshot":        {"GET", one + "/snapshots/s9", "", 404, `not found`, ""},
		"put snapshot":       {"PUT", one + "/snapshots/s0", `{"description":"d"}`, 200, `sync`, "update snapshot p1/c1 s0 d"},
		"patch snapshot":     {"PATCH", one + "/snapshots/s0", `{"description":"d"}`, 200, `sync`, "update snapshot p1/c1 s0 d"},
		"rename snapshot":    {"POST", one + "/snapshots/s0", `{"name":"s1"}`, 202, `async`, "rename snapshot p1/c1 s0 s1"},
		"delete snapshot":    {"DELETE", one + "/snapshots/s0", "", 202, `async`, "delete snapshot p1/c1 s0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			a := s.do(tt.method, tt.path, tt.body)
			if a.status != tt.status || !strings.Contains(a.body, tt.want) {
				t.Errorf("got %d %s, want %d …%s…", a.status, a.body, tt.status, tt.want)
			}
			s.settled(a)
			if got := s.volumes.last(); got != tt.call {
				t.Errorf("the service was asked to %q, want %q", got, tt.call)
			}
		})
	}
}

// settled waits for the operation that an answer is about.
func (s *server) settled(a answer) {
	if a.Operation != "" {
		s.do("GET", a.Operation+"/wait", "")
	}
}

func TestVolumeETag(t *testing.T) {
	s := serve(t)
	const one = "/1.0/storage-pools/p1/volumes/custom/c1"
	tag := s.do("GET", one, "").header.Get("ETag")
	if a := s.do("PUT", one, "{}", "If-Match", tag); a.status != 200 {
		t.Errorf("with its ETag: %s", a.body)
	}
	if a := s.do("PUT", one, "{}", "If-Match", `"other"`); a.status != 412 {
		t.Errorf("with another: %s", a.body)
	}
	if a := s.do("PATCH", one+"/snapshots/s0", "{}", "If-Match", `"other"`); a.status != 412 {
		t.Errorf("snapshot with another: %s", a.body)
	}
}

func TestImportISO(t *testing.T) {
	s := serve(t)
	big := strings.Repeat("x", 2<<20) // More than other requests may have.
	a := s.do("POST", "/1.0/storage-pools/p1/volumes/custom", big, "Content-Type", "application/octet-stream", "X-Incus-Name", "disc", "X-Incus-Type", "iso")
	if a.status != 202 {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	s.settled(a)
	if got := s.volumes.last(); got != "import p1 disc "+big {
		t.Errorf("the service was asked to %.40q", got)
	}
}

func TestVolumeFiles(t *testing.T) {
	s := serve(t)
	if err := os.WriteFile(filepath.Join(s.volumes.root, "f"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	const files = "/1.0/storage-pools/p1/volumes/custom/c1/files?path="
	if a := s.do("GET", files+"/f", ""); a.body != "text" {
		t.Errorf("read: %d %s", a.status, a.body)
	}
	if a := s.do("HEAD", files+"/f", ""); a.header.Get("Content-Length") != "4" {
		t.Errorf("head: %d %v", a.status, a.header)
	}
	if a := s.do("POST", files+"/g", "more", "X-Incus-Type", "file"); a.status != 200 {
		t.Errorf("write: %d %s", a.status, a.body)
	}
	if a := s.do("DELETE", files+"/f", ""); a.status != 200 {
		t.Errorf("delete: %d %s", a.status, a.body)
	}
	if a := s.do("GET", files+"/", ""); !strings.Contains(a.body, `["g"]`) {
		t.Errorf("list: %d %s", a.status, a.body)
	}
	if a := s.do("GET", "/1.0/storage-pools/p1/volumes/image/abc/files?path=/", ""); a.status != 400 {
		t.Errorf("of an image: %d %s", a.status, a.body)
	}
}
