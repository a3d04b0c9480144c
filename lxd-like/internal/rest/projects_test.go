package rest_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/lxd-like/projectkeys"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// fakeProjects has the default project, p, which has all of its own, and
// shared, which has only its instances.
type fakeProjects struct {
	forced bool
	config map[string]string // Of p.
}

func (*fakeProjects) View(ctx context.Context, name string) (scope.View, error) {
	if err := ctx.Err(); err != nil {
		return scope.View{}, err
	}
	switch name {
	case "default", "p":
		return scope.Whole(name), nil
	case "shared":
		v := scope.Whole("default")
		v.Project = name
		return v, nil
	}
	return scope.View{}, db.NoProject(name)
}

func (*fakeProjects) List(context.Context) ([]api.Project, error) {
	return []api.Project{{Name: "default", UsedBy: []string{}}, {Name: "p", UsedBy: []string{"/1.0/instances/p_c1", "/1.0/profiles/p%25web"}}}, nil
}

func (f *fakeProjects) Get(ctx context.Context, name string) (api.Project, error) {
	all, err := f.List(ctx)
	for _, p := range all {
		if p.Name == name {
			return p, err
		}
	}
	return api.Project{}, db.NoProject(name)
}

func (*fakeProjects) State(context.Context, string) (api.ProjectState, error) {
	return api.ProjectState{Resources: map[string]api.ProjectStateResource{"cpu": {Limit: -1, Usage: 2}}}, nil
}

func (f *fakeProjects) Rules(name string) *projectkeys.Rules {
	if name != "p" {
		return nil
	}
	return projectkeys.NewRules(f.config)
}

func (*fakeProjects) Create(context.Context, api.ProjectsPost) error       { return nil }
func (*fakeProjects) Update(context.Context, string, api.ProjectPut) error { return nil }
func (*fakeProjects) Rename(_ context.Context, _, _ string) error          { return nil }
func (f *fakeProjects) Delete(_ context.Context, _ string, force bool) error {
	f.forced = force
	return nil
}

// twoProjects has an instance c1 in the default project, and one in p.
type twoProjects struct{ *fakeInstances }

func (f twoProjects) Names(ctx context.Context, in string) ([]string, error) {
	var out []string
	all, err := f.List(ctx, in)
	for _, one := range all {
		out = append(out, one.Name)
	}
	return out, err
}

func (f twoProjects) List(_ context.Context, in string) ([]api.Instance, error) {
	one, other := f.instance(), f.instance()
	other.Name, other.Profiles = "p_c1", []string{"p%web"}
	other.Devices = api.DevicesMap{"eth0": {"type": "nic", "network": "p%lan"}}
	return slices.DeleteFunc([]api.Instance{one, other}, func(i api.Instance) bool { return in != "" && project.OfInstance(i.Name) != in }), nil
}

func (f twoProjects) Heads(ctx context.Context, in string) ([]api.InstanceBrief, error) {
	var out []api.InstanceBrief
	all, err := f.List(ctx, in)
	for _, one := range all {
		out = append(out, api.InstanceBrief{Name: one.Name})
	}
	return out, err
}

func (f twoProjects) Get(ctx context.Context, name string) (api.Instance, error) {
	all, err := f.List(ctx, "")
	for _, in := range all {
		if in.Name == name {
			return in, err
		}
	}
	return api.Instance{}, errs.NotFoundf("instance %q not found", name)
}

// TestProjects has clients know names and projects, and the services keys.
func TestProjects(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		method, path, body string
		status             int
		want               string // In the body.
		call               string // The last that an instance was asked to do.
	}{
		"names":            {"GET", "/1.0/instances?project=p", "", 200, `"metadata":["/1.0/instances/c1?project=p"]`, ""},
		"default names":    {"GET", "/1.0/instances", "", 200, `"metadata":["/1.0/instances/c1"]`, ""},
		"all names":        {"GET", "/1.0/instances?all-projects=true", "", 200, `["/1.0/instances/c1","/1.0/instances/c1?project=p"]`, ""},
		"no names":         {"GET", "/1.0/instances?project=shared", "", 200, `"metadata":[]`, ""},
		"objects":          {"GET", "/1.0/instances?project=p&recursion=1", "", 200, `"name":"c1"`, ""},
		"their project":    {"GET", "/1.0/instances?project=p&recursion=1", "", 200, `"project":"p"`, ""},
		"their networks":   {"GET", "/1.0/instances?all-projects=true&recursion=1", "", 200, `{"eth0":{"network":"lan","type":"nic"}}`, ""},
		"filter by name":   {"GET", "/1.0/instances?project=p&filter=name+eq+c1", "", 200, `"metadata":["/1.0/instances/c1?project=p"]`, ""},
		"brief":            {"GET", "/1.0/instances?project=p&recursion=1&brief=true", "", 200, `"metadata":[{"name":"c1"`, ""},
		"one":              {"GET", "/1.0/instances/c1?project=p", "", 200, `"profiles":["web"]`, ""},
		"by its key":       {"GET", "/1.0/instances/p_c1", "", 404, `instance \"p_c1\" not found`, ""},
		"not there":        {"GET", "/1.0/instances/c2?project=p", "", 404, `instance \"c2\" not found`, ""},
		"create":           {"POST", "/1.0/instances?project=p", `{"name":"c2","source":{"type":"image","alias":"deb"}}`, 202, `"instances":["/1.0/instances/c2?project=p"]`, "create p_c2 deb"},
		"create by key":    {"POST", "/1.0/instances", `{"name":"p_c2"}`, 400, `got \"p_c2\"`, ""},
		"create nowhere":   {"POST", "/1.0/instances?project=q", `{"name":"c2"}`, 404, `project \"q\" not found`, ""},
		"delete":           {"DELETE", "/1.0/instances/c1?project=shared", "", 404, `\"c1\" not found`, "delete shared_c1"},
		"profile by key":   {"GET", "/1.0/profiles/p%25web", "", 404, `profile \"p%web\" not found`, ""},
		"projects":         {"GET", "/1.0/projects", "", 200, `["/1.0/projects/default","/1.0/projects/p"]`, ""},
		"project":          {"GET", "/1.0/projects/p", "", 200, `["/1.0/instances/c1?project=p","/1.0/profiles/web?project=p"]`, ""},
		"no project":       {"GET", "/1.0/projects/q", "", 404, `project \"q\" not found`, ""},
		"delete project":   {"DELETE", "/1.0/projects/p?force=maybe", "", 400, `force is \"maybe\"`, ""},
		"server":           {"GET", "/1.0?project=p", "", 200, `"project":"p"`, ""},
		"addresses":        {"GET", "/1.0/network-allocations", "", 200, `"metadata":[{"addresses":"10.0.0.1/24","used_by":"/1.0/networks/n1","type":"network","nat":false,"hwaddr":"","network":"n1"}]`, ""},
		"own addresses":    {"GET", "/1.0/network-allocations?project=p", "", 200, `"metadata":[{"addresses":"10.0.1.1/24","used_by":"/1.0/networks/lan?project=p","type":"network","nat":false,"hwaddr":"","network":"lan"}]`, ""},
		"shared addresses": {"GET", "/1.0/network-allocations?project=shared", "", 200, `"used_by":"/1.0/instances/c1?project=shared"`, ""},
		"exec":             {"POST", "/1.0/instances/c1/exec?project=shared", `{"command":["true"]}`, 404, `\"c1\" not found`, "exec shared_c1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t)
			s.Instances = twoProjects{s.instances}
			a := s.do(tt.method, tt.path, tt.body)
			if a.status != tt.status || !strings.Contains(a.body, tt.want) {
				t.Errorf("got %d %s, want %d …%s…", a.status, a.body, tt.status, tt.want)
			}
			if strings.Contains(a.body, "p%25") || a.status < 400 && strings.Contains(a.body, `"p_c`) {
				t.Errorf("a key is in %s", a.body)
			}
			if got := s.instances.last(); !strings.HasPrefix(got, tt.call) {
				t.Errorf("the service was asked to %q, want %q", got, tt.call)
			}
		})
	}
}

// TestProjectForced has force reach the service.
func TestProjectForced(t *testing.T) {
	t.Parallel()
	s := serve(t)
	projects := &fakeProjects{}
	s.Projects = projects
	if a := s.do("DELETE", "/1.0/projects/p?force=1", ""); a.status != 200 || !projects.forced {
		t.Errorf("%d %s, forced %v", a.status, a.body, projects.forced)
	}
}

// TestImagesOfProjects has clients know images and aliases by names and a
// project, and the service by keys.
func TestImagesOfProjects(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		method, path, body string
		status             int
		want               string // In the body.
		call               string // The last that the service was asked to do.
	}{
		"list":          {"GET", "/1.0/images?project=p", "", 200, `"metadata":["/1.0/images/abc?project=p"]`, ""},
		"list shared":   {"GET", "/1.0/images?project=shared", "", 200, `"metadata":["/1.0/images/abc"]`, ""},
		"list all":      {"GET", "/1.0/images?all-projects=true", "", 200, `["/1.0/images/abc","/1.0/images/abc?project=p"]`, ""},
		"objects":       {"GET", "/1.0/images?project=p&recursion=1", "", 200, `"fingerprint":"abc"`, ""},
		"get":           {"GET", "/1.0/images/abc", "", 200, `"project":"default"`, ""},
		"not there":     {"GET", "/1.0/images/abc?project=p", "", 404, `\"abc\" not found`, ""},
		"by key":        {"GET", "/1.0/images/p%25abc", "", 404, `\"p%abc\" not found`, ""},
		"update":        {"PUT", "/1.0/images/abc?project=p", `{"properties":{"os":"x"}}`, 404, "not found", "update image p%abc x"},
		"export":        {"GET", "/1.0/images/abc/export?project=p", "", 404, "not found", ""},
		"build":         {"POST", "/1.0/images?project=p", `{"source":{"type":"build","name":"debian:sid/cloud"}}`, 202, "", "make build debian:sid/cloud p"},
		"publish":       {"POST", "/1.0/images?project=p", `{"source":{"type":"instance","name":"c1"}}`, 202, "", "make instance p_c1 p"},
		"publish there": {"POST", "/1.0/images?project=p", `{"source":{"type":"instance","name":"c1","project":"shared"}}`, 202, "", "make instance shared_c1 p shared"},
		"publish here":  {"POST", "/1.0/images?project=shared", `{"source":{"type":"instance","name":"c1"}}`, 202, "", "make instance shared_c1 default"},
		"copy":          {"POST", "/1.0/images?project=p", `{"source":{"type":"image","fingerprint":"abc","project":"shared"}}`, 202, "", "make image p default"},
		"copy own":      {"POST", "/1.0/images?project=p", `{"source":{"type":"image","fingerprint":"abc"}}`, 202, "", "make image p p"},
		"copy of none":  {"POST", "/1.0/images?project=p", `{"source":{"type":"image","fingerprint":"abc","project":"q"}}`, 404, `project \"q\" not found`, ""},
		"aliases":       {"GET", "/1.0/images/aliases?project=p", "", 200, `"metadata":["/1.0/images/aliases/mine?project=p"]`, ""},
		"aliases all":   {"GET", "/1.0/images/aliases?all-projects=true", "", 200, `["/1.0/images/aliases/deb/12","/1.0/images/aliases/mine?project=p"]`, ""},
		"alias shared":  {"GET", "/1.0/images/aliases/deb/12?project=shared", "", 200, `"name":"deb/12"`, ""},
		"alias":         {"GET", "/1.0/images/aliases/deb/12?project=p", "", 404, `\"deb/12\" not found`, ""},
		"create alias":  {"POST", "/1.0/images/aliases?project=p", `{"name":"a/b","target":"abc"}`, 201, "", "create alias p%a/b abc"},
		"alias by key":  {"POST", "/1.0/images/aliases", `{"name":"p%a","target":"abc"}`, 400, `got \"p%a\"`, ""},
		"rename alias":  {"POST", "/1.0/images/aliases/deb/12?project=p", `{"name":"x"}`, 404, "not found", "rename alias p%deb/12 p%x"},
		"delete alias":  {"DELETE", "/1.0/images/aliases/deb/12?project=p", "", 404, "not found", "delete alias p%deb/12"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t)
			a := s.do(tt.method, tt.path, tt.body)
			if a.status != tt.status || !strings.Contains(a.body, tt.want) {
				t.Errorf("got %d %s, want %d …%s…", a.status, a.body, tt.status, tt.want)
			}
			if strings.Contains(a.body, "p%25") {
				t.Errorf("a key is in %s", a.body)
			}
			if got := s.images.last(); got != tt.call {
				t.Errorf("the service was asked to %q, want %q", got, tt.call)
			}
		})
	}
}

// TestHidden has what a project does not see not be there for its clients.
func TestHidden(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.Projects = &fakeProjects{config: map[string]string{
		"restricted": "true", "restricted.storage-pools.access": "nonesuch", "restricted.networks.access": "nonesuch", "restricted.images.servers": "images.example",
	}}
	for _, tt := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/1.0/storage-pools/p1", "", 200},
		{"GET", "/1.0/storage-pools/p1?project=p", "", 404},
		{"GET", "/1.0/storage-pools/p1/resources?project=p", "", 404},
		{"GET", "/1.0/storage-pools/p1/volumes?project=p", "", 404},
		{"DELETE", "/1.0/storage-pools/p1?project=p", "", 404},
		{"GET", "/1.0/networks/n1", "", 200},
		{"GET", "/1.0/networks/n1?project=p", "", 404},
		{"GET", "/1.0/networks/n1/state?project=p", "", 404},
		{"GET", "/1.0/projects/p/state", "", 200},
		{"POST", "/1.0/instances?project=p", `{"name":"c2","source":{"type":"image","server":"https://other.example:8443","alias":"a"}}`, 403},
		{"POST", "/1.0/instances?project=p", `{"name":"c2","source":{"type":"image","server":"https://images.example:8443","alias":"a"}}`, 202},
		{"POST", "/1.0/images?project=p", `{"source":{"type":"image","server":"https://other.example","alias":"a"}}`, 403},
	} {
		if a := s.do(tt.method, tt.path, tt.body); a.status != tt.status {
			t.Errorf("%s %s: got %d %s, want %d", tt.method, tt.path, a.status, a.body, tt.status)
		}
	}
	if a := s.do("GET", "/1.0/storage-pools?project=p", ""); strings.Contains(a.body, "p1") {
		t.Errorf("a hidden pool is listed: %s", a.body)
	}
	if a := s.do("GET", "/1.0/storage-pools", ""); !strings.Contains(a.body, "p1") {
		t.Errorf("a pool is not listed: %s", a.body)
	}
}
