package rest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/backups"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/volumes"
	"github.com/cuib/cuib/shared/errs"
)

// fakeBackups has one backup, b0, of everything.
type fakeBackups struct {
	calls

	fail error // Of what is streamed, after its first half if that is not empty.
	half string
}

func backupNamed(o backups.Owner, name string) (db.Backup, error) {
	if name != "b0" {
		return db.Backup{}, errs.NotFoundf("backup %q not found", name)
	}
	return db.Backup{Owner: o, Name: name}, nil
}

func (f *fakeBackups) List(_ context.Context, o backups.Owner) ([]db.Backup, error) {
	b, err := backupNamed(o, "b0")
	return []db.Backup{b}, err
}

func (f *fakeBackups) Get(_ context.Context, o backups.Owner, name string) (db.Backup, error) {
	return backupNamed(o, name)
}

func (f *fakeBackups) job(words ...string) ops.Job {
	return ops.Job{Run: func(context.Context, *ops.Op) error { f.add(words...); return nil }}
}

func (f *fakeBackups) Create(_ context.Context, o backups.Owner, req backups.Request) (ops.Job, error) {
	return f.job("create", o.String(), req.Name, req.Compression, fmt.Sprintf("only=%t optimized=%t", req.Only, req.Optimized)), nil
}

func (f *fakeBackups) Rename(_ context.Context, o backups.Owner, name, to string) (ops.Job, error) {
	return f.job("rename", o.String(), name, to), nil
}

func (f *fakeBackups) Delete(_ context.Context, o backups.Owner, name string) (ops.Job, error) {
	return f.job("delete", o.String(), name), nil
}

func (f *fakeBackups) stream() backups.Stream {
	return backups.Stream{
		Name: "x.tar", Close: func() { f.add("closed") },
		Write: func(_ context.Context, w io.Writer) error {
			if f.half != "" {
				_, _ = io.WriteString(w, f.half)
			}
			if f.fail != nil {
				return f.fail
			}
			_, err := io.WriteString(w, "rest")
			return err
		},
	}
}

func (f *fakeBackups) Export(_ context.Context, o backups.Owner, name string) (backups.Stream, error) {
	_, err := backupNamed(o, name)
	return f.stream(), err
}

func (f *fakeBackups) Direct(_ context.Context, o backups.Owner, _ backups.Request) (backups.Stream, error) {
	f.add("direct", o.String())
	return f.stream(), nil
}

func (f *fakeInstances) Import(_ context.Context, up instances.Upload) (ops.Job, error) {
	data, err := io.ReadAll(up.Data)
	f.add("import", string(data), up.Name, up.Pool, fmt.Sprint(up.Config, up.Devices))
	return ops.Job{Run: func(context.Context, *ops.Op) error { return nil }}, err
}

func (f *fakeVolumes) Import(_ context.Context, up volumes.Upload) (ops.Job, error) {
	text, err := io.ReadAll(up.Data)
	f.add("import", string(text), up.Pool, up.Name)
	return ops.Job{Run: func(context.Context, *ops.Op) error { return nil }}, err
}

func serveBackups(t *testing.T) (*server, *fakeBackups) {
	t.Helper()
	s, f := serve(t), &fakeBackups{}
	s.Backups = f
	return s, f
}

func TestBackups(t *testing.T) {
	s, f := serveBackups(t)
	const volume = "/1.0/storage-pools/p1/volumes/custom/v1"
	for _, tt := range []struct{ method, path, body, want string }{
		{"POST", "/1.0/instances/c1/backups", `{"name":"b","compression_algorithm":"xz","container_only":true}`, "create c1 b xz only=true optimized=false"},
		{"POST", volume + "/backups", `{"optimized_storage":true,"volume_only":true}`, "create p1/v1   only=true optimized=true"},
		{"POST", "/1.0/instances/c1/backups/b0", `{"name":"b1"}`, "rename c1 b0 b1"},
		{"DELETE", volume + "/backups/b0", "", "delete p1/v1 b0"},
		{"DELETE", "/1.0/instances/c1/backups/%2F1.0%2Finstances%2Fc1%2Fbackups%2Fb0", "", "delete c1 b0"},
	} {
		s.settled(s.do(tt.method, tt.path, tt.body))
		if got := f.last(); got != tt.want {
			t.Errorf("%s %s did %q, want %q", tt.method, tt.path, got, tt.want)
		}
	}
	for path, want := range map[string]string{
		"/1.0/instances/c1/backups":             `["/1.0/instances/c1/backups/b0"]`,
		"/1.0/instances/c1/backups?recursion=1": `"container_only":false`,
		volume + "/backups":                     `["` + volume + `/backups/b0"]`,
		volume + "/backups/b0":                  `"volume_only":false`,
	} {
		if a := s.do("GET", path, ""); a.status != http.StatusOK || !strings.Contains(a.body, want) {
			t.Errorf("%s: %d %s, want %s", path, a.status, a.body, want)
		}
	}
	for path, want := range map[string]int{
		"/1.0/instances/c1/backups/no":                        http.StatusNotFound,
		"/1.0/storage-pools/p1/volumes/container/c1/backups":  http.StatusBadRequest,
		"/1.0/storage-pools/p1/volumes/nonsense/c1/backups/x": http.StatusBadRequest,
	} {
		if a := s.do("GET", path, ""); a.status != want {
			t.Errorf("%s: %d %s, want %d", path, a.status, a.body, want)
		}
	}
}

func TestBackupStreams(t *testing.T) {
	s, f := serveBackups(t)
	f.half = "half "
	a := s.do("GET", "/1.0/instances/c1/backups/b0/export", "")
	if a.status != http.StatusOK || a.body != "half rest" || !strings.Contains(a.header.Get("Content-Disposition"), `"x.tar"`) || f.last() != "closed" {
		t.Errorf("%d %s %v %s", a.status, a.body, a.header, f.last())
	}
	a = s.do("POST", "/1.0/instances/c1/backups", "{}", "Accept", "application/octet-stream")
	if a.status != http.StatusOK || a.body != "half rest" {
		t.Errorf("%d %s", a.status, a.body)
	}
	f.half, f.fail = "", errs.Conflictf("not now")
	if a := s.do("GET", "/1.0/instances/c1/backups/b0/export", ""); a.status != http.StatusConflict || !strings.Contains(a.body, "not now") {
		t.Errorf("%d %s", a.status, a.body)
	}
	f.half = "half "
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://cuib/1.0/instances/c1/backups/b0/export", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		return // The connection was cut off before anything came.
	}
	defer resp.Body.Close()
	if data, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("a stream that failed came to a good end: %s", data)
	}
}

func TestImports(t *testing.T) {
	s := serve(t)
	const stream = "application/octet-stream"
	s.settled(s.do("POST", "/1.0/instances", "DATA", "Content-Type", stream, "X-Incus-name", "c5", "X-LXD-pool", "p2",
		"X-Incus-config", `user.a=b "user.c=d e"`, "X-Incus-devices", `root,size=1GiB root,pool=p`))
	if got, want := s.instances.last(), "import DATA c5 p2 map[user.a:b user.c:d e] map[root:map[pool:p size:1GiB]]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s.settled(s.do("POST", "/1.0/instances", "DATA", "Content-Type", stream, "X-Cuib-config", "a=b%0A+c", "X-LXD-devices", "root=size%3D1GiB"))
	if got, want := s.instances.last(), "import DATA   map[a:b\n c] map[root:map[size:1GiB]]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s.settled(s.do("POST", "/1.0/storage-pools/p1/volumes/custom", "DATA", "Content-Type", stream, "X-LXD-name", "v5"))
	if got, want := s.volumes.last(), "import DATA p1 v5"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for want, headers := range map[string][]string{
		"Content-Type":       {"Content-Type", "text/plain"},
		`project \"q\"`:      {"Content-Type", stream, "X-Incus-project", "q"},
		"KEY=VALUE":          {"Content-Type", stream, "X-Incus-config", "a"},
		"DEVICE,KEY=VALUE":   {"Content-Type", stream, "X-Incus-devices", "a=b"},
		"ends within quotes": {"Content-Type", stream, "X-Incus-config", `"a=b`},
	} {
		a := s.do("POST", "/1.0/instances", "DATA", headers...)
		if a.status < 400 || a.status >= 500 || !strings.Contains(a.body, want) {
			t.Errorf("%q: %d %s, want %s", headers, a.status, a.body, want)
		}
	}
	if a := s.do("PATCH", "/1.0", `{"config":{"backups.compression_algorithm":"zip"}}`); a.status != http.StatusBadRequest {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := s.do("PATCH", "/1.0", `{"config":{"backups.compression_algorithm":"zstd -9"}}`); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}
