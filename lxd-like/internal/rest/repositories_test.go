package rest_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/repository"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// fakeRepositories has one repository, r0, with one backup of the host, a1, one
// of an instance of the project p, b2, and one of a volume of it, c3.
type fakeRepositories struct{ last string }

func (f *fakeRepositories) say(format string, args ...any) { f.last = fmt.Sprintf(format, args...) }

func noRepository(name string) error { return errs.NotFoundf("backup repository %q not found", name) }

func (f *fakeRepositories) job(name, format string, args ...any) (ops.Job, error) {
	if name != "r0" {
		return ops.Job{}, noRepository(name)
	}
	f.say(format, args...)
	return ops.Job{Description: "Working", Run: func(context.Context, *ops.Op) error { return nil }}, nil
}

func (f *fakeRepositories) List(ctx context.Context) ([]api.BackupRepository, error) {
	r, err := f.Get(ctx, "r0")
	return []api.BackupRepository{r}, err
}

func (*fakeRepositories) Get(_ context.Context, name string) (api.BackupRepository, error) {
	if name != "r0" {
		return api.BackupRepository{}, noRepository(name)
	}
	return api.BackupRepository{Name: name, BackupRepositoryPut: api.BackupRepositoryPut{Config: api.ConfigMap{"location": "/x"}}}, nil
}

func (f *fakeRepositories) Create(_ context.Context, req api.BackupRepositoriesPost) (string, error) {
	f.say("create %s %v %v", req.Name, req.Config, req.Existing)
	return "horse", nil
}

func (f *fakeRepositories) Update(_ context.Context, name string, put api.BackupRepositoryPut) error {
	f.say("update %s %v %s", name, put.Config, put.Description)
	return nil
}

func (f *fakeRepositories) Delete(_ context.Context, name string) error {
	f.say("delete %s", name)
	return nil
}

func (f *fakeRepositories) Backups(_ context.Context, name, source string) ([]api.RepositoryBackup, error) {
	f.say("backups %s %s", name, source)
	return []api.RepositoryBackup{{ID: "a1", Source: "host", Size: -1}, {ID: "b2", Source: "instances/p_c1"}, {ID: "c3", Source: "volumes/pool/p%data"}}, nil
}

func (f *fakeRepositories) Backup(_ context.Context, name, id string) (api.RepositoryBackup, error) {
	f.say("backup %s %s", name, id)
	return api.RepositoryBackup{ID: id, Source: map[string]string{"a1": "host", "b2": "instances/p_c1", "c3": "volumes/pool/p%data"}[id]}, nil
}

func (f *fakeRepositories) CreateBackups(_ context.Context, name string, req api.RepositoryBackupsPost) (ops.Job, error) {
	return f.job(name, "create backups %s %v", name, req.Sources)
}

func (f *fakeRepositories) DeleteBackup(_ context.Context, name, id string) (ops.Job, error) {
	return f.job(name, "delete backup %s %s", name, id)
}

func (f *fakeRepositories) Open(_ context.Context, _, _, path string) (*repository.File, []api.RepositoryFile, error) {
	switch path {
	case "/f":
		return &repository.File{Name: "f", Size: 5, Data: io.NopCloser(strings.NewReader("hello"))}, nil, nil
	case "/":
		return nil, []api.RepositoryFile{{Name: "f", Type: "file"}}, nil
	}
	return nil, nil, errs.NotFoundf("no file %q", path)
}

func (f *fakeRepositories) Restore(_ context.Context, name string, req api.RepositoryRestorePost) (ops.Job, error) {
	return f.job(name, "restore %s %+v", name, req)
}

func (f *fakeRepositories) Verify(_ context.Context, name string, req api.RepositoryVerifyPost) (ops.Job, error) {
	return f.job(name, "verify %s %+v", name, req)
}

func (f *fakeRepositories) Prune(_ context.Context, name string) (ops.Job, error) {
	return f.job(name, "prune %s", name)
}

func TestRepositories(t *testing.T) {
	t.Parallel()
	const all = "/1.0/backup-repositories"
	const one = all + "/r0"
	for name, test := range map[string]struct {
		method, path, body string
		status             int
		want               string // In the body.
		call               string
	}{
		"names":         {"GET", all, "", 200, `["/1.0/backup-repositories/r0"]`, ""},
		"objects":       {"GET", all + "?recursion=1", "", 200, `"location":"/x"`, ""},
		"create":        {"POST", all, `{"name":"r1","existing":true,"config":{"a":"b"}}`, 201, `"password":"horse"`, "create r1 map[a:b] true"},
		"get":           {"GET", one, "", 200, `"name":"r0"`, ""},
		"none":          {"GET", all + "/x", "", 404, `\"x\" not found`, ""},
		"put":           {"PUT", one, `{"description":"d"}`, 200, ``, "update r0 map[] d"},
		"patch":         {"PATCH", one, `{"config":{"a":"b"}}`, 200, ``, "update r0 map[a:b location:/x] "},
		"delete":        {"DELETE", one, "", 200, ``, "delete r0"},
		"backups":       {"GET", one + "/backups?source=host", "", 200, `["/1.0/backup-repositories/r0/backups/a1"]`, "backups r0 host"},
		"whole backups": {"GET", one + "/backups?recursion=1", "", 200, `"size":-1`, "backups r0 "},
		"of a project": {
			"GET", one + "/backups?recursion=1&project=p&source=instances/c1", "", 200,
			`{"id":"b2","source":"instances/c1","project":"p",`, "backups r0 instances/p_c1",
		},
		"of no other":     {"GET", one + "/backups?project=p", "", 200, `["/1.0/backup-repositories/r0/backups/a1","/1.0/backup-repositories/r0/backups/b2","/1.0/backup-repositories/r0/backups/c3"]`, "backups r0 "},
		"of all projects": {"GET", one + "/backups?all-projects=true", "", 200, `backups/b2","/1.0/backup-repositories/r0/backups/c3"`, "backups r0 "},
		"backup":          {"GET", one + "/backups/a1", "", 200, `"id":"a1"`, "backup r0 a1"},
		"create backups":  {"POST", one + "/backups", `{"sources":["host"]}`, 202, `Working`, "create backups r0 [host]"},
		"delete backup":   {"DELETE", one + "/backups/a1", "", 202, `Working`, "delete backup r0 a1"},
		"file":            {"GET", one + "/backups/a1/files?path=/f", "", 200, `hello`, ""},
		"directory":       {"GET", one + "/backups/a1/files?path=/", "", 200, `"type":"file"`, ""},
		"no file":         {"GET", one + "/backups/a1/files?path=/g", "", 404, `no file`, ""},
		"restore": {
			"POST", one + "/restore", `{"from":"host","name":"n","pool":"p"}`, 202, `Working`,
			"restore r0 {ID: From:host Name:n Pool:p Host: All:false}",
		},
		"restore in a project":         {"POST", one + "/restore?project=p", `{"id":"b2","name":"n"}`, 202, `Working`, "restore r0 {ID:b2 From: Name:p_n Pool: Host: All:false}"},
		"restore a volume in one":      {"POST", one + "/restore?project=p", `{"id":"c3","name":"n"}`, 202, `Working`, "restore r0 {ID:c3 From: Name:p%n Pool: Host: All:false}"},
		"restore from a project's":     {"POST", one + "/restore?project=p", `{"from":"instances/c1","name":"n"}`, 202, `Working`, "restore r0 {ID: From:instances/p_c1 Name:p_n Pool: Host: All:false}"},
		"restore by a name in another": {"POST", one + "/restore?project=p", `{"id":"b2","name":"p_n"}`, 400, `instance name`, "backup r0 b2"},
		"restore by another's key":     {"POST", one + "/restore", `{"from":"instances/c1","name":"p_n"}`, 400, `instance name`, ""},
		"restore a volume by such":     {"POST", one + "/restore", `{"from":"volumes/p/v","name":"p%n"}`, 400, `volume name`, ""},
		"restore a volume by a name":   {"POST", one + "/restore", `{"from":"volumes/p/v","name":"p_n"}`, 202, `Working`, "restore r0 {ID: From:volumes/p/v Name:p_n Pool: Host: All:false}"},
		"restore nothing":              {"POST", all + "/x/restore", `{}`, 404, `not found`, ""},
		"restore badly":                {"POST", one + "/restore", `{"all":1}`, 400, `all`, ""},
		"verify":                       {"POST", one + "/verify", `{"read_data":"5%"}`, 202, `Working`, "verify r0 {ReadData:5%}"},
		"prune":                        {"POST", one + "/prune", `{}`, 202, `Working`, "prune r0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, fake := serve(t), &fakeRepositories{}
			s.Repositories = fake
			a := s.do(test.method, test.path, test.body)
			if a.status != test.status || !strings.Contains(a.body, test.want) || fake.last != test.call {
				t.Errorf("got %d %s, asked %q; want %d, %s, %q", a.status, a.body, fake.last, test.status, test.want, test.call)
			}
		})
	}
}
