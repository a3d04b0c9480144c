package guestapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/guestapi"
	"github.com/cuib/cuib/lxd-like/internal/images"
	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/shared/ws"
)

// world has two instances: "c1" and "c2".
type world struct {
	tb  testing.TB
	dir string
	srv *guestapi.Server

	volumes *slowVolumes // Nil for none.

	mu    sync.Mutex // Guards what follows.
	views map[string]instances.GuestView
	said  []string
	fail  error
}

func newWorld(tb testing.TB) *world { return newWorldWith(tb, nil) }

// newWorldWith is newWorld with guests that keep volumes.
func newWorldWith(tb testing.TB, volumes *slowVolumes) *world {
	tb.Helper()
	w := &world{tb: tb, volumes: volumes, dir: tb.TempDir(), views: map[string]instances.GuestView{
		"c1": {
			CloudInitID: "id-1", Config: map[string]string{"user.a/b c": "x", "cloud-init.user-data": "#cloud-config\n", "user.meta-data": "more: 1\n"},
			Devices: api.DevicesMap{"eth0": {"type": "nic", "hwaddr": "10:66:6a:00:00:01"}},
		},
		"c2": {CloudInitID: "id-2", Images: true, Config: map[string]string{}, Devices: api.DevicesMap{}},
	}}
	w.boot()
	for name := range w.views {
		w.open(instances.Guest{Name: name, Root: uint32(os.Getuid())}) //nolint:gosec // Ids are not negative.
	}
	return w
}

// boot starts a server, as a daemon that has started.
func (w *world) boot() (stop func()) {
	w.tb.Helper()
	var err error
	if w.srv, err = guestapi.New(w.dir); err != nil {
		w.tb.Fatal(err)
	}
	w.srv.Instances, w.srv.Images = w, w
	if w.volumes != nil {
		w.srv.Volumes = w.volumes
	}
	w.srv.Log = slog.New(slog.NewTextHandler(w.tb.Output(), nil))
	ctx, cancel := context.WithCancel(w.tb.Context())
	done := make(chan error, 1)
	go func() { done <- w.srv.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.tb.Error(err)
		}
	})
	w.tb.Cleanup(stop)
	return stop
}

func (w *world) open(g instances.Guest) {
	w.tb.Helper()
	dir, err := w.srv.Open(g)
	if err != nil || dir != filepath.Join(w.dir, g.Name) {
		w.tb.Fatalf("%s, %v", dir, err)
	}
}

func (w *world) GuestView(_ context.Context, name string) (instances.GuestView, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.views[name], w.fail
}

func (w *world) SetReady(_ context.Context, name string, ready instances.Ready) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, fmt.Sprint(name, ready))
	v := w.views[name]
	v.Ready = bool(ready)
	w.views[name] = v
	return w.fail
}

func (w *world) Get(_ context.Context, fingerprint string) (api.Image, error) {
	switch full := "aa" + strings.Repeat("0", 62); fingerprint {
	case full, "aa":
		return api.Image{ImagePut: api.ImagePut{Public: true}, Fingerprint: full}, nil
	case "split":
		return api.Image{Cached: true, Fingerprint: "split"}, nil
	case "p%own":
		return api.Image{Cached: true, Fingerprint: "own", Project: "p"}, nil
	case "private":
		return api.Image{Fingerprint: "private"}, nil
	}
	return api.Image{}, errs.NotFoundf("image %q not found", fingerprint)
}

func (w *world) Export(_ context.Context, fingerprint string) ([]images.File, error) {
	names := []string{"one"}
	if fingerprint == "split" {
		names = []string{"metadata", "rootfs"}
	}
	var out []images.File
	for _, name := range names {
		path := filepath.Join(w.tb.TempDir(), name)
		if err := os.WriteFile(path, []byte("the "+name), 0o600); err != nil {
			return nil, err
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		out = append(out, images.File{Part: name, Name: name, Data: f})
	}
	return out, nil
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name, "sock") }

func (w *world) dial(ctx context.Context, name string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", w.path(name))
}

// connect is dial for a connection that the test ends.
func (w *world) connect(name string) net.Conn { //nolint:unparam // It is clearer where it is called.
	w.tb.Helper()
	c, err := w.dial(w.tb.Context(), name)
	if err != nil {
		w.tb.Fatal(err)
	}
	w.tb.Cleanup(func() { _ = c.Close() })
	return c
}

func (w *world) client(name string) *http.Client {
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return w.dial(ctx, name) }}
	w.tb.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

// ask makes a request and returns the status and the body.
func (w *world) ask(name, method, path, body string) (int, string) {
	w.tb.Helper()
	code, text, err := w.try(w.client(name), method, path, body)
	if err != nil {
		w.tb.Fatal(err)
	}
	return code, text
}

func (w *world) try(c *http.Client, method, path, body string) (int, string, error) {
	req, err := http.NewRequestWithContext(w.tb.Context(), method, "http://lxd"+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	defer c.CloseIdleConnections()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

func TestRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		method, path, body string
		code               int
		want               string
	}{
		"versions":         {"GET", "/", "", 200, `["/1.0"]` + "\n"},
		"itself":           {"GET", "/1.0", "", 200, `{"state":"Started","api_version":"1.0","location":"` + host + `","instance_type":"container"}` + "\n"},
		"keys":             {"GET", "/1.0/config", "", 200, `["/1.0/config/cloud-init.user-data","/1.0/config/user.a/b c","/1.0/config/user.meta-data"]` + "\n"},
		"key":              {"GET", "/1.0/config/cloud-init.user-data", "", 200, "#cloud-config\n"},
		"key with a slash": {"GET", "/1.0/config/user.a/b%20c", "", 200, "x"},
		"escaped slash":    {"GET", "/1.0/config/user.a%2Fb%20c", "", 200, "x"},
		"no such key":      {"GET", "/1.0/config/user.b", "", 404, "not found\n"},
		"secret key":       {"GET", "/1.0/config/security.privileged", "", 403, "not authorized: a guest reads keys that begin with user. or cloud-init.\n"},
		"climbing":         {"GET", "/1.0/config/user.a/../../x", "", 404, "404 page not found\n"},
		"devices":          {"GET", "/1.0/devices", "", 200, `{"eth0":{"hwaddr":"10:66:6a:00:00:01","type":"nic"}}` + "\n"},
		"meta-data":        {"GET", "/1.0/meta-data", "", 200, "#cloud-config\ninstance-id: id-1\nlocal-hostname: c1\nmore: 1\n"},
		"no images":        {"GET", "/1.0/images/aa/export", "", 403, "not authorized: the instance's security.guestapi.images is not true\n"},
		"no such path":     {"GET", "/1.0/instances", "", 404, "404 page not found\n"},
		"wrong method":     {"POST", "/1.0/config", "", 405, "Method Not Allowed\n"},
		"bad state":        {"PATCH", "/1.0", `{"state":"Frozen"}`, 400, "state is \"Frozen\": want Started or Ready\n"},
		"no JSON":          {"PATCH", "/1.0", `x`, 400, "the request is not JSON: invalid character 'x' looking for beginning of value\n"},
		"large":            {"PATCH", "/1.0", `{"state":"` + strings.Repeat("x", 5000), 400, "the request is not JSON: http: request body too large\n"},
		"bad type":         {"GET", "/1.0/events?type=lifecycle", "", 400, "type is \"lifecycle\": want one of config, device\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, got := w.ask("c1", tt.method, tt.path, tt.body)
			if code != tt.code || got != tt.want {
				t.Errorf("got %d %q, want %d %q", code, got, tt.code, tt.want)
			}
		})
	}
}

// TestWho shows that the socket says which instance asks, and that only its
// root may.
func TestWho(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, got := w.ask("c2", "GET", "/1.0/meta-data", ""); !strings.Contains(got, "id-2") {
		t.Errorf("got %q", got)
	}
	st, err := os.Stat(w.path("c1"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	testenv.Kernel(t)
	w.open(instances.Guest{Name: "c1", Root: 1234567})
	if code, got := w.ask("c1", "GET", "/1.0", ""); code != http.StatusUnauthorized {
		t.Errorf("got %d %q", code, got)
	}
	if err := unix.Stat(w.path("c1"), &unix.Stat_t{}); err != nil {
		t.Error(err)
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, state := range []string{"Ready", "Started"} {
		if code, got := w.ask("c1", "PATCH", "/1.0", `{"state":"`+state+`"}`); code != 200 || got != "" {
			t.Errorf("%s: got %d %q", state, code, got)
		}
		var g api.Guest
		_, got := w.ask("c1", "GET", "/1.0", "")
		if err := json.Unmarshal([]byte(got), &g); err != nil || g.State != state {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if got := fmt.Sprint(w.said); got != "[c1true c1false]" {
		t.Error(got)
	}
	// Many at once are refused.
	codes := make(chan int)
	for range 15 {
		go func() {
			code, _, _ := w.try(w.client("c1"), "PATCH", "/1.0", `{"state":"Ready"}`) // 0 for an error.
			codes <- code
		}()
	}
	got := map[int]int{}
	for range 15 {
		got[<-codes]++
	}
	if got[200] < 8 || got[429] == 0 || got[200]+got[429] != 15 {
		t.Errorf("15 changes at once: %v", got)
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	full := "aa" + strings.Repeat("0", 62)
	if code, got := w.ask("c2", "GET", "/1.0/images/"+full+"/export", ""); code != 200 || got != "the one" {
		t.Errorf("got %d %q", code, got)
	}
	for _, name := range []string{"aa", "private", "none", "own", "p%25own"} {
		if code, got := w.ask("c2", "GET", "/1.0/images/"+name+"/export", ""); code != 404 || got != "not found\n" {
			t.Errorf("%s: got %d %q", name, code, got)
		}
	}
	w.mu.Lock()
	v := w.views["c2"]
	v.ImagesOf = "p"
	w.views["c2"] = v
	w.mu.Unlock()
	for name, want := range map[string]int{"own": 200, full: 404, "p%25own": 404} {
		if code, got := w.ask("c2", "GET", "/1.0/images/"+name+"/export", ""); code != want {
			t.Errorf("%s of p: got %d %q", name, code, got)
		}
	}
}

func TestSplitImage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	resp, err := w.client("c2").Get("http://lxd/1.0/images/split/export")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	form, err := multipart.NewReader(resp.Body, params["boundary"]).ReadForm(1 << 20)
	if err != nil || len(form.File["metadata"]) != 1 || len(form.File["rootfs"]) != 1 {
		t.Errorf("%v, %v", form, err)
	}
}

func TestErrorsStayHere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mu.Lock()
	w.fail = errors.New("secret of the host")
	w.mu.Unlock()
	if code, got := w.ask("c1", "GET", "/1.0/config", ""); code != 500 || got != "internal error\n" {
		t.Errorf("got %d %q", code, got)
	}
}

// line reads one line of a stream of events, until it comes.
func line(t *testing.T, r *bufio.Reader) map[string]any {
	t.Helper()
	text, err := r.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var e map[string]any
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.connect("c1")
	fmt.Fprint(c, "GET /1.0/events?type=config HTTP/1.1\r\nHost: lxd\r\n\r\n")
	r := bufio.NewReader(c)
	for { // The headers come when it listens.
		text, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(strings.ToLower(text), "chunked") {
			t.Error("the answer has chunks: peers' clients read lines")
		}
		if text == "\r\n" {
			break
		}
	}
	socket, err := ws.Dialer{Dial: func(ctx context.Context) (net.Conn, error) { return w.dial(ctx, "c1") }}.Open(t.Context(), "/1.0/events")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	w.srv.Tell("c2", "config", api.GuestConfigEvent{Key: "not this one's"})
	w.srv.Tell("c1", "device", api.GuestDeviceEvent{Action: "added", Name: "d"})
	w.srv.Tell("c1", "config", api.GuestConfigEvent{Key: "user.a", OldValue: "1", Value: "2"})
	if got := fmt.Sprint(line(t, r)["metadata"]); got != "map[key:user.a old_value:1 value:2]" {
		t.Error(got)
	}
	for _, want := range []string{"device", "config"} {
		_, data, err := socket.ReadMessage()
		if err != nil || !bytes.Contains(data, []byte(`"type":"`+want+`"`)) {
			t.Errorf("got %s, %v, want %s", data, err, want)
		}
	}
}

// TestToggle closes and opens a door: what is connected is cut off, the
// directory stays the same one.
func TestToggle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := inode(t, filepath.Join(w.dir, "c1"))
	c := w.connect("c1")
	uid := uint32(os.Getuid()) //nolint:gosec // Ids are not negative.
	w.open(instances.Guest{Name: "c1", Root: uid, Off: true})
	if _, err := io.ReadAll(c); err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Error(err)
	}
	if _, err := w.dial(t.Context(), "c1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("off: %v", err)
	}
	w.open(instances.Guest{Name: "c1", Root: uid})
	if code, _ := w.ask("c1", "GET", "/", ""); code != 200 {
		t.Errorf("on: %d", code)
	}
	if inode(t, filepath.Join(w.dir, "c1")) != before {
		t.Error("the directory is another one: a guest that has it mounted would not see the socket")
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// TestNextDaemon shows that the path works again after a restart, whatever
// became of the socket meanwhile, and that nothing is left of who is gone.
func TestNextDaemon(t *testing.T) {
	t.Parallel()
	w := &world{tb: t, dir: t.TempDir(), views: map[string]instances.GuestView{"c1": {}}}
	stop := w.boot()
	uid := uint32(os.Getuid()) //nolint:gosec // Ids are not negative.
	w.open(instances.Guest{Name: "c1", Root: uid})
	w.open(instances.Guest{Name: "gone", Root: uid})
	before := inode(t, filepath.Join(w.dir, "c1"))
	w.connect("c1")
	stop()
	if err := os.Remove(w.path("c1")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", w.path("c1")); err != nil { // As a privileged guest can.
		t.Fatal(err)
	}
	w.boot()
	if err := w.srv.Keep([]string{"c1"}); err != nil {
		t.Fatal(err)
	}
	w.open(instances.Guest{Name: "c1", Root: uid})
	if code, _ := w.ask("c1", "GET", "/", ""); code != 200 || inode(t, filepath.Join(w.dir, "c1")) != before {
		t.Errorf("%d", code)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "gone")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left over: %v", err)
	}
	if err := w.srv.Shut("c1"); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(w.dir); len(entries) > 0 {
		t.Errorf("left over: %v", entries)
	}
}

// TestLongPath listens below a path that no socket can have.
func TestLongPath(t *testing.T) {
	t.Parallel()
	w := &world{tb: t, dir: filepath.Join(t.TempDir(), strings.Repeat("d", 120)), views: map[string]instances.GuestView{"c1": {}}}
	w.boot()
	w.open(instances.Guest{Name: "c1", Root: uint32(os.Getuid())}) //nolint:gosec // Ids are not negative.
	dir, err := os.Open(filepath.Join(w.dir, "c1"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "unix", fmt.Sprintf("/proc/self/fd/%d/sock", dir.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// TestFloods shows that a guest that takes all connections it can get, says
// nothing, and connects again and again, keeps nobody but itself waiting.
func TestFloods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var floods sync.WaitGroup
	for range 8 {
		floods.Go(func() {
			for ctx.Err() == nil {
				c, err := (&net.Dialer{Timeout: 50 * time.Millisecond}).DialContext(ctx, "unix", w.path("c1"))
				if err != nil {
					continue
				}
				fmt.Fprint(c, "GET / HTTP/1.1\r\nX")
				_ = c.Close()
			}
		})
	}
	var held []net.Conn
	for range 64 {
		c, err := (&net.Dialer{Timeout: 50 * time.Millisecond}).DialContext(ctx, "unix", w.path("c1"))
		if err != nil {
			break // All are taken.
		}
		fmt.Fprint(c, "GET / HTTP/1.1\r\n")
		held = append(held, c)
	}
	for range 20 {
		if code, _ := w.ask("c2", "GET", "/1.0/config", ""); code != 200 {
			t.Errorf("the other guest gets %d", code)
		}
	}
	if len(held) == 64 {
		t.Error("one guest has 64 connections")
	}
	cancel()
	for _, c := range held {
		_ = c.Close()
	}
	floods.Wait()
	testenv.Eventually(t, "the flooding guest is let in again", func() bool {
		code, _, err := w.try(w.client("c1"), "GET", "/", "")
		return err == nil && code == 200
	})
}

// TestSlow shows that who does not end a request, or does not read, is cut
// off.
func TestSlow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.connect("c1")
	fmt.Fprint(c, "GET / HTTP/1.1\r\n")
	if data, err := io.ReadAll(c); err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%q, %v", data, err)
	}

	l := w.connect("c1")
	fmt.Fprint(l, "GET /1.0/events HTTP/1.1\r\nHost: lxd\r\n\r\n")
	r := bufio.NewReader(l)
	if _, err := r.ReadString('\n'); err != nil { // It listens.
		t.Fatal(err)
	}
	big := api.GuestConfigEvent{Key: "user.a", Value: strings.Repeat("x", 64<<10)}
	for range 200 {
		w.srv.Tell("c1", "config", big)
	}
	if _, err := io.Copy(io.Discard, r); err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Error(err)
	}
}

// TestManyDoors shows that instances whose guests say nothing cost no
// goroutine.
func TestManyDoors(t *testing.T) { //nolint:paralleltest // It counts.
	w := &world{tb: t, dir: t.TempDir(), views: map[string]instances.GuestView{"c1": {}}}
	w.boot()
	w.open(instances.Guest{Name: "c1", Root: uint32(os.Getuid())}) //nolint:gosec // Ids are not negative.
	testenv.Eventually(t, "it answers", func() bool { code, _ := w.ask("c1", "GET", "/", ""); return code == 200 })
	before := runtime.NumGoroutine()
	for i := range 500 {
		w.open(instances.Guest{Name: fmt.Sprint("c", i), Root: uint32(os.Getuid())}) //nolint:gosec // Ids are not negative.
	}
	if after := runtime.NumGoroutine(); after > before+20 {
		t.Errorf("%d goroutines, %d with 500 instances more", before, after)
	}
	if code, _ := w.ask("c1", "GET", "/", ""); code != 200 {
		t.Errorf("got %d", code)
	}
}

// BenchmarkOpen is what a start of an instance pays, and its end.
func BenchmarkOpen(b *testing.B) {
	s, err := guestapi.New(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	g := instances.Guest{Name: "c1", Root: uint32(os.Getuid())} //nolint:gosec // Ids are not negative.
	for b.Loop() {
		if _, err := s.Open(g); err != nil {
			b.Fatal(err)
		}
		if err := s.Shut("c1"); err != nil {
			b.Fatal(err)
		}
	}
}
