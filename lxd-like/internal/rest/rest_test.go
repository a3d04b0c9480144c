package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/images"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/rest"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/shared/ws"
)

// A server is the API with fake services behind it, on a socket.
type server struct {
	*rest.Server

	tb        testing.TB
	socket    string
	log       *bytes.Buffer
	instances *fakeInstances
	images    *fakeImages
	pools     *fakePools
	volumes   *fakeVolumes
	nets      *fakeNets
	config    *fakeConfig
	client    *http.Client
}

func serve(tb testing.TB) *server {
	tb.Helper()
	hub := &events.Hub{}
	s := &server{
		tb: tb, socket: filepath.Join(tb.TempDir(), "s"), log: &bytes.Buffer{},
		instances: &fakeInstances{root: tb.TempDir()}, images: &fakeImages{}, pools: &fakePools{}, nets: &fakeNets{},
		volumes: &fakeVolumes{root: tb.TempDir()},
		config:  &fakeConfig{values: map[string]string{"user.a": "1"}},
	}
	manager := ops.NewManager(tb.Context(), hub.Publish)
	s.Server = &rest.Server{
		Projects: &fakeProjects{}, Instances: s.instances, Images: s.images, Pools: s.pools, Volumes: s.volumes, Nets: s.nets, Config: s.config, Ops: manager, Events: hub,
		Backups: &fakeBackups{}, Repositories: &fakeRepositories{}, Recovery: fakeRecovery{}, Warnings: &fakeWarnings{},
		ACLs: &fakeACLs{}, AddressSets: &fakeAddressSets{}, Zones: &fakeZones{}, Peering: &fakePeering{}, Publish: &fakePublish{},
		Environment: func(context.Context) (api.ServerEnvironment, error) {
			return api.ServerEnvironment{Server: "cuib"}, nil
		},
		Resources: func() (api.Resources, error) {
			return api.Resources{CPU: api.ResourcesCPU{Total: 3}}, nil
		},
		Shutdown: func(context.Context, rest.ShutdownRequest) error { return nil },
		Exit:     func() {},
		Log:      slog.New(slog.NewTextHandler(s.log, nil)),
	}
	l, err := net.Listen("unix", s.socket)
	if err != nil {
		tb.Fatal(err)
	}
	srv := &http.Server{Handler: s.Handler(), ConnContext: rest.ConnContext, ReadHeaderTimeout: time.Minute}
	done := make(chan bool)
	go func() { defer close(done); _ = srv.Serve(l) }()
	s.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx) }}}
	tb.Cleanup(func() {
		s.client.CloseIdleConnections()
		_ = srv.Close()
		<-done
	})
	return s
}

func (s *server) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", s.socket)
}

// An answer is what the server said.
type answer struct {
	status int
	header http.Header
	body   string
	api.Response
}

func (s *server) do(method, path, body string, headers ...string) answer {
	s.tb.Helper()
	r, err := http.NewRequestWithContext(s.tb.Context(), method, "http://cuib"+path, strings.NewReader(body))
	if err != nil {
		s.tb.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.client.Do(r)
	if err != nil {
		s.tb.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.tb.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(data)}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(data, &a.Response); err != nil && method != http.MethodHead {
			s.tb.Errorf("%s %s: %v in %s", method, path, err, data)
		}
	}
	return a
}

func TestRoutes(t *testing.T) {
	const in = "/1.0/instances/c1"
	tests := map[string]struct {
		method, path, body string
		status             int
		want               string // In the body.
		call               string // The last that an instance was asked to do.
	}{
		"versions":          {"GET", "/", "", 200, `"/1.0"`, ""},
		"server":            {"GET", "/1.0", "", 200, `"auth":"trusted"`, ""},
		"resources":         {"GET", "/1.0/resources", "", 200, `"total":3`, ""},
		"names":             {"GET", "/1.0/instances", "", 200, `"metadata":["/1.0/instances/c1"]`, ""},
		"objects":           {"GET", "/1.0/instances?recursion=1", "", 200, `"name":"c1"`, ""},
		"brief objects":     {"GET", "/1.0/instances?recursion=1&brief=true", "", 200, `"type":"container"`, ""},
		"with addresses":    {"GET", "/1.0/instances?recursion=2&brief=true", "", 200, `"state":{"network":null}`, ""},
		"summary":           {"GET", "/1.0/instances/c1?recursion=1&brief=true", "", 200, `"snapshots":[{"name":"snap0","description":""`, ""},
		"brief snapshots":   {"GET", "/1.0/instances/c1/snapshots?recursion=1&brief=true", "", 200, `[{"name":"snap0","description":""`, ""},
		"summary of none":   {"GET", "/1.0/instances/gone?recursion=1&brief=true", "", 404, `not found`, ""},
		"full objects":      {"GET", "/1.0/instances?recursion=2", "", 200, `"state":{"status":"Stopped"`, ""},
		"project":           {"GET", "/1.0/instances?project=default&all-projects=true", "", 200, `c1`, ""},
		"filter":            {"GET", "/1.0/instances?filter=status+eq+Running", "", 200, `"metadata":[]`, ""},
		"bad filter":        {"GET", "/1.0/instances?filter=status", "", 400, `want eq or ne`, ""},
		"other project":     {"GET", "/1.0/instances?project=q", "", 404, `project \"q\" not found`, ""},
		"cluster target":    {"GET", "/1.0/instances?target=n2", "", 400, `in no cluster`, ""},
		"bad recursion":     {"GET", "/1.0/instances?recursion=3", "", 400, `recursion is \"3\"`, ""},
		"create":            {"POST", "/1.0/instances", `{"name":"c2","source":{"type":"image","alias":"deb"},"colour":1}`, 202, `"containers":["/1.0/instances/c2"]`, "create c2 deb"},
		"create unnamed":    {"POST", "/1.0/instances", `{}`, 202, `"instances":["/1.0/instances/calm-otter"]`, "create calm-otter "},
		"create machine":    {"POST", "/1.0/instances", `{"type":"virtual-machine"}`, 501, `runs containers only`, ""},
		"wrong type":        {"POST", "/1.0/instances", `{"name":7}`, 400, `field \"name\" in the request body is a JSON number: want a string`, ""},
		"wrong inner type":  {"POST", "/1.0/instances", `{"source":{"alias":[]}}`, 400, `field \"source.alias\" in the request body is a JSON array`, ""},
		"wrong embedded":    {"POST", "/1.0/instances", `{"ephemeral":"x"}`, 400, `field \"ephemeral\" in the request body is a JSON string: want a boolean`, ""},
		"wrong config":      {"POST", "/1.0/instances", `{"config":{"a":[]}}`, 400, `\"a\"`, ""},
		"no JSON":           {"POST", "/1.0/instances", `{"name":`, 400, `not JSON`, ""},
		"array":             {"POST", "/1.0/instances", `[]`, 400, `JSON array: want an object`, ""},
		"no body":           {"POST", "/1.0/instances", ``, 400, `request body is empty`, ""},
		"large body":        {"POST", "/1.0/instances", `{"name":"` + strings.Repeat("x", 1<<20) + `"}`, 400, `larger than 1048576 bytes`, ""},
		"bulk":              {"PUT", "/1.0/instances", `{"state":{"action":"stop"}}`, 202, `async`, "states all stop"},
		"bulk nothing":      {"PUT", "/1.0/instances", `{}`, 400, `\"state\"`, ""},
		"instance":          {"GET", in, "", 200, `"name":"c1"`, ""},
		"full instance":     {"GET", in + "?recursion=1", "", 200, `"snapshots":[]`, ""},
		"no instance":       {"GET", "/1.0/instances/c9", "", 404, `not found`, ""},
		"failure":           {"GET", "/1.0/instances/boom", "", 500, `boom`, ""},
		"panic":             {"GET", "/1.0/instances/panic", "", 500, `internal error: a bug`, ""},
		"update":            {"PUT", in, `{"config":{"user.b":true}}`, 202, `async`, "update c1"},
		"patch":             {"PATCH", in, `{"description":"d"}`, 200, `sync`, "update now c1"},
		"rename":            {"POST", in, `{"name":"c3"}`, 202, `async`, "rename c1 c3"},
		"delete":            {"DELETE", in, "", 202, `async`, "delete c1"},
		"state":             {"GET", in + "/state", "", 200, `Stopped`, ""},
		"start":             {"PUT", in + "/state", `{"action":"start","timeout":-1}`, 202, `async`, "state c1 start"},
		"rebuild":           {"POST", in + "/rebuild", `{"source":{"alias":"deb"}}`, 202, `async`, "rebuild c1 deb"},
		"exec":              {"POST", in + "/exec", `{"command":["true"]}`, 202, `async`, "exec c1 true"},
		"console":           {"POST", in + "/console", `{}`, 202, `async`, "console c1"},
		"console log":       {"GET", in + "/console", "", 200, `booting 0 false`, ""},
		"console's end":     {"GET", in + "/console?lines=7&follow=true", "", 200, `booting 7 true`, ""},
		"console lines":     {"GET", in + "/console?lines=some", "", 400, `lines is \"some\": want a number`, ""},
		"console follow":    {"GET", in + "/console?follow=maybe", "", 400, `follow is \"maybe\": want true or false`, ""},
		"console clear":     {"DELETE", in + "/console", "", 200, `sync`, "clear console c1"},
		"logs":              {"GET", in + "/logs", "", 200, `["/1.0/instances/c1/logs/lxc.log"]`, ""},
		"outputs":           {"GET", in + "/logs/exec-output", "", 200, `["/1.0/instances/c1/logs/exec-output/exec_1.stdout"]`, ""},
		"log":               {"GET", in + "/logs/lxc.log", "", 200, ``, ""},
		"no log":            {"GET", in + "/logs/none", "", 404, `no log`, ""},
		"delete output":     {"DELETE", in + "/logs/exec-output/exec_1.stdout", "", 200, `sync`, "delete log c1 exec-output/exec_1.stdout"},
		"metadata":          {"GET", in + "/metadata", "", 200, `x86_64`, ""},
		"put metadata":      {"PUT", in + "/metadata", `{"architecture":"i686"}`, 200, `sync`, "metadata c1 i686  "},
		"patch metadata":    {"PATCH", in + "/metadata", `{"properties":{"release":"12"}}`, 200, `sync`, "metadata c1 x86_64 debian 12"},
		"templates":         {"GET", in + "/metadata/templates", "", 200, `["hosts.tpl"]`, ""},
		"template":          {"GET", in + "/metadata/templates?path=a.tpl", "", 200, `the text of a.tpl`, ""},
		"post template":     {"POST", in + "/metadata/templates?path=a.tpl", "text", 200, `sync`, "template c1 a.tpl text"},
		"post no template":  {"POST", in + "/metadata/templates", "text", 400, `path is missing`, ""},
		"delete template":   {"DELETE", in + "/metadata/templates?path=a.tpl", "", 200, `sync`, "delete template c1 a.tpl"},
		"snapshots":         {"GET", in + "/snapshots", "", 200, `["/1.0/instances/c1/snapshots/s0"]`, ""},
		"snapshot":          {"GET", in + "/snapshots/s0", "", 200, `first`, ""},
		"create snapshot":   {"POST", in + "/snapshots", `{"name":"s1","expires_at":null}`, 202, `async`, "snapshot c1 s1"},
		"put snapshot":      {"PUT", in + "/snapshots/s0", `{"description":"d"}`, 202, `async`, "update snapshot c1 s0 d"},
		"patch no field":    {"PATCH", in + "/snapshots/s0", `{"config":[]}`, 202, `async`, "update snapshot c1 s0 first"},
		"patch snapshot":    {"PATCH", in + "/snapshots/s0", `{}`, 202, `async`, "update snapshot c1 s0 first"},
		"rename snapshot":   {"POST", in + "/snapshots/s0", `{"name":"s2"}`, 202, `async`, "rename snapshot c1 s0 s2"},
		"delete snapshot":   {"DELETE", in + "/snapshots/s0", "", 202, `async`, "delete snapshot c1 s0"},
		"delete snapshots":  {"DELETE", in + "/snapshots", `{"names":["s0","s1"]}`, 202, `async`, "delete snapshots c1 s0,s1"},
		"profiles":          {"GET", "/1.0/profiles", "", 200, `["/1.0/profiles/default","/1.0/profiles/p1"]`, ""},
		"create profile":    {"POST", "/1.0/profiles", `{"name":"p2"}`, 201, `sync`, "create profile p2"},
		"patch profile":     {"PATCH", "/1.0/profiles/p1", `{"description":"d"}`, 200, `sync`, "update profile p1 d 1"},
		"put profile":       {"PUT", "/1.0/profiles/p1", `{"description":"d"}`, 200, `sync`, "update profile p1 d "},
		"dry patch profile": {"PATCH", "/1.0/profiles/p1?dry-run=true", `{"description":"d"}`, 200, `[{"instance":"c1"`, "preview profile p1 d 1"},
		"dry put profile":   {"PUT", "/1.0/profiles/p1?dry-run=true", `{"description":"d"}`, 200, `[{"instance":"c1"`, "preview profile p1 d "},
		"dry patch":         {"PATCH", in + "?dry-run=true", `{}`, 200, `[{"instance":"c1"`, "preview c1"},
		"dry put":           {"PUT", in + "?dry-run=true", `{}`, 200, `[{"instance":"c1"`, "preview c1"},
		"rename profile":    {"POST", "/1.0/profiles/p1", `{"name":"p3"}`, 201, `sync`, "rename profile p1 p3"},
		"operations":        {"GET", "/1.0/operations", "", 200, `sync`, ""},
		"no operation":      {"GET", "/1.0/operations/x/wait", "", 404, `not found`, ""},
		"projects":          {"GET", "/1.0/projects?recursion=1", "", 200, `"name":"default"`, ""},
		"configuration":     {"GET", "/1.0/metadata/configuration", "", 200, `"boot.autostart"`, ""},
		"cluster":           {"GET", "/1.0/cluster", "", 200, `"enabled":false`, ""},
		"allocations":       {"GET", "/1.0/network-allocations?all-projects=true", "", 200, `"addresses":"10.0.0.1/24"`, ""},
		"leases":            {"GET", "/1.0/networks/n1/leases", "", 200, `"metadata":[]`, ""},
		"volumes":           {"GET", "/1.0/storage-pools/p1/volumes", "", 200, `["/1.0/storage-pools/p1/volumes/custom/c1","/1.0/storage-pools/p1/volumes/custom/c1/snapshots/s0","/1.0/storage-pools/p1/volumes/image/abc"]`, ""},
		"volumes of a type": {"GET", "/1.0/storage-pools/p1/volumes/image", "", 200, `["/1.0/storage-pools/p1/volumes/image/abc"]`, ""},
		"image":             {"GET", "/1.0/images/abc", "", 200, `"fingerprint":"abc"`, ""},
		"alias":             {"GET", "/1.0/images/aliases/deb/12", "", 200, `"name":"deb/12"`, ""},
		"escaped alias":     {"GET", "/1.0/images/aliases/deb%2F12", "", 200, `"name":"deb/12"`, ""},
		"alias export":      {"GET", "/1.0/images/aliases/export", "", 404, `\"export\" not found`, ""},
		"image part":        {"GET", "/1.0/images/abc/else", "", 404, `there is no`, ""},
		"unknown path":      {"GET", "/1.0/none", "", 404, `there is no /1.0/none`, ""},
		"wrong method":      {"DELETE", "/1.0/instances", "", 405, `use GET, POST, PUT`, ""},
		"event no upgrade":  {"GET", "/1.0/events", "", 400, `websocket`, ""},
		"event bad type":    {"GET", "/1.0/events?type=x", "", 400, `want one of`, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			a := s.do(tt.method, tt.path, tt.body)
			if a.status != tt.status || !strings.Contains(a.body, tt.want) {
				t.Errorf("got %d %s, want %d …%s…", a.status, a.body, tt.status, tt.want)
			}
			if got := s.instances.last(); got != tt.call {
				t.Errorf("the service was asked to %q, want %q", got, tt.call)
			}
			if a.status >= 400 && (a.Type != "error" || a.ErrorCode != a.status || a.Error == "") {
				t.Errorf("not an error envelope: %s", a.body)
			}
			if loc := a.header.Get("Location"); (a.status == 201 || a.status == 202) != (loc != "") || a.status == 202 && loc != a.Operation {
				t.Errorf("location %q", loc)
			}
		})
	}
}

// TestEveryRouteAnswersJSON also finds patterns that cannot live together.
func TestEveryRouteAnswersJSON(t *testing.T) {
	s := serve(t)
	fill := strings.NewReplacer("{name...}", "deb/12", "{file...}", "none", "{what...}", "none", "{id}", "x", "{fingerprint}", "abc",
		"{snapshot}", "s0", "{type}", "container", "{volume}", "c1", "{$}", "")
	for _, rt := range rest.Routes() {
		p := fill.Replace(rt[1])
		for prefix, name := range map[string]string{"/1.0/profiles/": "p1", "/1.0/networks/": "n1", "/1.0/storage-pools/": "p1", "/1.0/projects/": "default", "/1.0/backup-repositories/": "r0", "/1.0/warnings/": "w1"} {
			if strings.HasPrefix(p, prefix) {
				p = strings.Replace(p, "{name}", name, 1)
			}
		}
		p = strings.Replace(p, "{name}", "c1", 1)
		for _, body := range []string{"", "{}", "[]"} {
			a := s.do(rt[0], p, body)
			if a.status == http.StatusMethodNotAllowed || a.status >= 500 || a.status == http.StatusNotFound && strings.Contains(a.body, "there is no") && !strings.HasSuffix(p, "/none") {
				t.Errorf("%s %s with %q: %d %s", rt[0], p, body, a.status, a.body)
			}
			if a.Type == "" && !strings.HasSuffix(p, "/console") && rt[0] != http.MethodHead {
				t.Errorf("%s %s with %q is no envelope: %s", rt[0], p, body, a.body)
			}
		}
	}
}

func TestFailuresAreLoggedOnce(t *testing.T) {
	s := serve(t)
	s.do("GET", "/1.0/instances/boom", "")
	s.do("GET", "/1.0/instances/c9", "")
	if got := strings.Count(s.log.String(), "\n"); got != 1 || !strings.Contains(s.log.String(), "err=boom") {
		t.Errorf("log: %s", s.log)
	}
	s.do("GET", "/1.0/instances/panic", "")
	if !strings.Contains(s.log.String(), "a bug") || !strings.Contains(s.log.String(), "fakes_test.go") {
		t.Errorf("log: %s", s.log)
	}
}

func TestServer(t *testing.T) {
	s := serve(t)
	a := s.do("GET", "/1.0", "")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"auth_user_name":"` + me.Username + `"`, `"auth_user_method":"unix"`, `"config":{"user.a":"1"}`, `"instances"`, `"server":"cuib"`} {
		if !strings.Contains(a.body, want) {
			t.Errorf("%s is not in %s", want, a.body)
		}
	}
	if a := s.do("PUT", "/1.0", `{"config":{"core.https_address":":8443"}}`); a.status != 400 || !strings.Contains(a.Error, "core.https_address") {
		t.Errorf("unknown key: %+v", a)
	}
	if a := s.do("GET", "/1.0/metadata/configuration", ""); !strings.Contains(a.body, `"core.dns_address":{`) {
		t.Errorf("keys of the server are not in %s", a.body)
	}
	if a := s.do("PATCH", "/1.0", `{"config":{"user.b":"2"}}`); a.status != 200 {
		t.Errorf("patch: %+v", a)
	}
	if a := s.do("PUT", "/1.0", `{"config":{"user.c":"3"}}`, "If-Match", a.header.Get("ETag")); a.status != 412 {
		t.Errorf("put with an old ETag: %+v", a)
	}
	if a := s.do("PUT", "/1.0", `{"config":{"user.c":"3"}}`); a.status != 200 {
		t.Errorf("put: %+v", a)
	}
	if got := s.config.values; len(got) != 1 || got["user.c"] != "3" {
		t.Errorf("config is %v", got)
	}
}

func TestETag(t *testing.T) {
	s := serve(t)
	for _, path := range []string{"/1.0/instances/c1", "/1.0/profiles/p1", "/1.0/storage-pools/p1", "/1.0/networks/n1", "/1.0/images/abc", "/1.0/images/aliases/deb/12", "/1.0/instances/c1/snapshots/s0", "/1.0/instances/c1/metadata"} {
		tag := s.do("GET", path, "").header.Get("ETag")
		if len(tag) != 66 || tag[0] != '"' {
			t.Errorf("%s has the ETag %s", path, tag)
		}
		for _, method := range []string{"PUT", "PATCH"} {
			for match, want := range map[string]bool{tag: true, strings.Trim(tag, `"`): true, `"old", ` + tag: true, "*": true, `"old"`: false} {
				if a := s.do(method, path, "{}", "If-Match", match); (a.status < 300) != want || !want && a.status != 412 {
					t.Errorf("%s %s with %s: %d %s", method, path, match, a.status, a.body)
				}
			}
		}
	}
}

func TestStrangersAreRefused(t *testing.T) {
	s := serve(t)
	for _, site := range []string{"cross-site", "same-site"} {
		if a := s.do("GET", "/1.0", "", "Sec-Fetch-Site", site); a.status != 403 {
			t.Errorf("%s: %+v", site, a)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: s.Handler(), ConnContext: rest.ConnContext, ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(l) }()
	defer func() { _ = srv.Close() }()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+"/1.0", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("over TCP: %s", resp.Status)
	}
}

func TestDrain(t *testing.T) {
	s := serve(t)
	d := ws.Dialer{Dial: s.dial}
	c, err := d.Open(t.Context(), "/1.0/events")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.Drain()
	if _, _, err := c.ReadMessage(); err == nil {
		t.Error("the events go on")
	}
	if a := s.do("GET", "/1.0", ""); a.status != 503 || !strings.Contains(a.Error, "shutting down") {
		t.Errorf("got %+v", a)
	}
}

func TestImageUpload(t *testing.T) {
	s := serve(t)
	headers := []string{
		"Content-Type", "application/octet-stream", "X-LXD-filename", "debian.tar.gz", "X-Incus-public", "true", "X-LXD-fingerprint", "abc",
		"X-Incus-properties", "os=Debian+12", "X-Incus-aliases", "alias=deb&alias=deb%2F12", "X-LXD-profiles", "profile=default&profile=p1",
	}
	if a := s.do("POST", "/1.0/images", strings.Repeat("x", 2<<20), headers...); a.status != 202 {
		t.Errorf("unified: %+v", a.Response)
	}
	want := "import debian.tar.gz abc " + strings.Repeat("x", 2<<20) + " alias=deb alias=deb/12 public os=Debian 12 default,p1"
	if got := s.images.last(); got != want {
		t.Errorf("got %.200s", got)
	}
	for names, want := range map[[2]string]string{
		{"metadata", "rootfs"}:     "import meta.tar.xz  m root.squashfs r os= ",
		{"metadata", "rootfs.img"}: "import meta.tar.xz  m root.squashfs r os= ",
		{"metadata", "else"}:       `upload: a part has the name "else": want rootfs or rootfs.img`,
		{"rootfs", "metadata"}:     `upload: a part has the name "rootfs": want metadata`,
		{"metadata", ""}:           `upload: part rootfs or rootfs.img is missing: EOF`,
	} {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		for i, name := range names {
			if name == "" {
				continue
			}
			part, _ := w.CreateFormFile(name, []string{"meta.tar.xz", "root.squashfs"}[i])
			_, _ = io.WriteString(part, []string{"m", "r"}[i])
		}
		_ = w.Close()
		a := s.do("POST", "/1.0/images", b.String(), "Content-Type", w.FormDataContentType())
		if a.status == 202 {
			a.Error = s.images.last()
		}
		if a.Error != want {
			t.Errorf("%v: %d %q", names, a.status, a.Error)
		}
	}
	if a := s.do("POST", "/1.0/images", "x", "Content-Type", "text/plain"); a.status != 400 {
		t.Errorf("text: %+v", a)
	}
	if a := s.do("POST", "/1.0/images", `{"source":{"type":"build","name":"debian:bookworm"}}`); a.status != 202 || s.images.last() != "make build debian:bookworm default" {
		t.Errorf("make: %+v", a)
	}
}

func imageFile(t *testing.T, name, part string) images.File {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, []byte("data of "+name), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	return images.File{Name: name, Part: part, Data: f}
}

func TestImageExport(t *testing.T) {
	s := serve(t)
	s.images.files = []images.File{imageFile(t, "u.tar.gz", "")}
	a := s.do("GET", "/1.0/images/abc/export", "")
	if _, p, err := mime.ParseMediaType(a.header.Get("Content-Disposition")); err != nil || p["filename"] != "u.tar.gz" || a.body != "data of u.tar.gz" || a.header.Get("Content-Length") != "16" {
		t.Errorf("unified: %+v %v", a, err)
	}
	s.images.files = []images.File{imageFile(t, "m.tar.xz", "metadata"), imageFile(t, "r.squashfs", "rootfs")}
	a = s.do("GET", "/1.0/images/abc/export", "")
	_, p, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	r := multipart.NewReader(strings.NewReader(a.body), p["boundary"])
	for _, want := range []string{"metadata m.tar.xz data of m.tar.xz", "rootfs r.squashfs data of r.squashfs"} {
		part, err := r.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(part)
		if got := part.FormName() + " " + part.FileName() + " " + string(data); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if a := s.do("GET", "/1.0/images/none/export", ""); a.status != 404 {
		t.Errorf("none: %+v", a)
	}
}

func TestFiles(t *testing.T) {
	testenv.Kernel(t)
	s := serve(t)
	const url = "/1.0/instances/c1/files?path="
	for _, step := range []struct {
		method, path, body string
		headers            []string
		status             int
		want               string
	}{
		{"POST", "/f", "hello", []string{"X-LXD-uid", "33", "X-LXD-gid", "44", "X-LXD-mode", "0640", "X-LXD-type", "file"}, 200, ""},
		{"POST", "/f", " world", []string{"X-Incus-write", "append"}, 200, ""},
		{"GET", "/f", "", nil, 200, "hello world"},
		{"HEAD", "/f", "", nil, 200, ""},
		{"POST", "/big", strings.Repeat("x", 3<<20), nil, 200, ""},
		{"POST", "/d", "", []string{"X-Incus-type", "directory", "X-Incus-mode", "700"}, 200, ""},
		{"POST", "/d/l", "../f", []string{"X-Incus-type", "symlink"}, 200, ""},
		{"GET", "/d/l", "", nil, 200, "../f"},
		{"GET", "/", "", nil, 200, `["big","d","f"]`},
		{"GET", "/none", "", nil, 404, `"/none": it does not exist`},
		{"GET", "d/../f", "", nil, 200, "hello world"},
		{"GET", "", "", nil, 400, "path is missing"},
		{"POST", "/f", "", []string{"X-Incus-type", "pipe"}, 400, "X-Incus-type"},
		{"POST", "/f", "", []string{"X-Incus-mode", "99"}, 400, "X-Incus-mode"},
		{"POST", "/f", "", []string{"X-Incus-uid", "root"}, 400, "X-Incus-uid"},
		{"POST", "/f", "", []string{"X-Incus-write", "maybe"}, 400, "overwrite or append"},
		{"DELETE", "/d", "", nil, 409, "not empty"},
		{"DELETE", "/d/l", "", nil, 200, ""},
		{"DELETE", "/d", "", nil, 200, ""},
	} {
		a := s.do(step.method, url+step.path, step.body, step.headers...)
		if a.status != step.status || !strings.Contains(strings.ReplaceAll(a.body, `\"`, `"`), step.want) {
			t.Errorf("%s %s: %d %s", step.method, step.path, a.status, a.body)
		}
		if step.path == "/f" && (step.method == "GET" || step.method == "HEAD") {
			for _, prefix := range []string{"X-Lxd-", "X-Incus-"} {
				if a.header.Get(prefix+"Uid") != "33" || a.header.Get(prefix+"Gid") != "44" || a.header.Get(prefix+"Mode") != "0640" || a.header.Get(prefix+"Type") != "file" {
					t.Errorf("headers %v", a.header)
				}
			}
		}
	}
}
