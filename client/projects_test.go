package client_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/shared/api"
)

// asked runs a request and returns the query that the daemon got with it.
func asked(t *testing.T, ask func(ctx context.Context, c *client.Client)) string {
	t.Helper()
	got := "nothing"
	c := serve(t, map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
		got = r.Method + " " + r.URL.RequestURI()
		reply(w, "sync", nil)
	}})
	ask(t.Context(), c)
	return got
}

func TestRequestsSayTheirProject(t *testing.T) {
	for name, tt := range map[string]struct {
		ask  func(ctx context.Context, c *client.Client)
		want string
	}{
		"none": {func(ctx context.Context, c *client.Client) { _, _ = c.Profiles(ctx) }, "GET /1.0/profiles?recursion=1"},
		"default": {func(ctx context.Context, c *client.Client) {
			_, _ = c.In("default").Profiles(ctx)
		}, "GET /1.0/profiles?recursion=1"},
		"one": {func(ctx context.Context, c *client.Client) {
			_, _ = c.In("p").ProfileNames(ctx)
		}, "GET /1.0/profiles?project=p"},
		"another query": {func(ctx context.Context, c *client.Client) {
			_, _ = c.In("p").Profiles(ctx)
		}, "GET /1.0/profiles?recursion=1&project=p"},
		"a change": {func(ctx context.Context, c *client.Client) {
			_, _ = c.In("p").DeleteInstance(ctx, "c1")
		}, "DELETE /1.0/instances/c1?project=p"},
		"all": {func(ctx context.Context, c *client.Client) {
			_, _ = c.In("p").Everywhere().Profiles(ctx)
		}, "GET /1.0/profiles?recursion=1&all-projects=true"},
		"one after all": {func(ctx context.Context, c *client.Client) {
			_, _ = c.Everywhere().In("p").Profiles(ctx)
		}, "GET /1.0/profiles?recursion=1&project=p"},
		"used": {func(ctx context.Context, c *client.Client) {
			c.Use("p")
			_, _ = c.Images(ctx)
		}, "GET /1.0/images?recursion=1&project=p"},
		"operations": {func(ctx context.Context, c *client.Client) {
			_, _ = c.In("p").Operations(ctx)
		}, "GET /1.0/operations?recursion=1&project=p"},
		"websocket":       {func(ctx context.Context, c *client.Client) { _, _ = c.In("p").Events(ctx) }, "GET /1.0/events?project=p"},
		"SFTP":            {func(ctx context.Context, c *client.Client) { _, _ = c.In("p").SFTP(ctx, "c1") }, "GET /1.0/instances/c1/sftp?project=p"},
		"what is in none": {func(ctx context.Context, c *client.Client) { _, _ = c.In("p").Resources(ctx) }, "GET /1.0/resources"},
		"a project":       {func(ctx context.Context, c *client.Client) { _, _, _ = c.In("p").Project(ctx, "q") }, "GET /1.0/projects/q"},
		"an operation":    {func(ctx context.Context, c *client.Client) { _, _ = c.In("p").Operation(ctx, "1") }, "GET /1.0/operations/1"},
		"the daemon":      {func(ctx context.Context, c *client.Client) { _, _, _ = c.In("p").Server(ctx) }, "GET /1.0"},
		"what says one itself": {func(ctx context.Context, c *client.Client) {
			_, _ = c.In("p").Query(ctx, client.Query{Method: "GET", Path: "/1.0/instances?project=q"})
		}, "GET /1.0/instances?project=q"},
		"what asks for all itself": {func(ctx context.Context, c *client.Client) {
			_, _ = c.In("p").Query(ctx, client.Query{Method: "GET", Path: "/1.0/instances?all-projects=true"})
		}, "GET /1.0/instances?all-projects=true"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := asked(t, tt.ask); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestProjects(t *testing.T) {
	var got []string
	c := serve(t, map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, 100)
		n, _ := r.Body.Read(body)
		got = append(got, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body[:n])))
		var metadata any
		if r.Method == http.MethodGet {
			metadata = map[string]any{"name": "p", "resources": map[string]any{"memory": map[string]int64{"Limit": -1, "Usage": 5}}}
		}
		reply(w, "sync", metadata)
	}})
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	must(c.CreateProject(ctx, api.ProjectsPost{Name: "p"}))
	must(c.UpdateProject(ctx, "p", api.ProjectPut{Description: "d"}, ""))
	must(c.RenameProject(ctx, "p", "q"))
	must(c.DeleteProject(ctx, "q"))
	must(c.ForceDeleteProject(ctx, "q"))
	p, _, err := c.Project(ctx, "p")
	must(err)
	s, err := c.ProjectState(ctx, "p")
	must(err)
	if want := (api.ProjectStateResource{Limit: -1, Usage: 5}); p.Name != "p" || s.Resources["memory"] != want {
		t.Errorf("got %v and %v", p, s)
	}
	want := []string{
		`POST /1.0/projects {"config":null,"description":"","name":"p"}`,
		`PUT /1.0/projects/p {"config":null,"description":"d"}`,
		`POST /1.0/projects/p {"name":"q"}`,
		"DELETE /1.0/projects/q",
		"DELETE /1.0/projects/q?force=true",
		"GET /1.0/projects/p",
		"GET /1.0/projects/p/state",
	}
	if !slices.Equal(got, want) {
		t.Errorf("asked\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWhatWasMadeInAProjectHasItsName(t *testing.T) {
	op := client.Operation{}
	op.Resources = map[string][]string{"instances": {"/1.0/instances/c1?project=p"}}
	if got := op.Made("instances"); got != "c1" {
		t.Errorf("got %q, want c1", got)
	}
}
