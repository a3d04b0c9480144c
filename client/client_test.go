package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/ws"
)

// serve runs a daemon of these handlers and returns its client.
func serve(t *testing.T, handlers map[string]http.HandlerFunc) *client.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for pattern, h := range handlers {
		mux.Handle(pattern, h)
	}
	server := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	c := client.New(socket)
	t.Cleanup(c.Close)
	return c
}

func reply(w http.ResponseWriter, typ string, metadata any) {
	_ = json.NewEncoder(w).Encode(map[string]any{"type": typ, "metadata": metadata})
}

func TestSocketPath(t *testing.T) {
	for name, tt := range map[string]struct {
		env  map[string]string
		want string
	}{
		"usual":     {nil, "/var/lib/cuib/unix.socket"},
		"directory": {map[string]string{"CUIB_DIR": "/x"}, "/x/unix.socket"},
		"socket":    {map[string]string{"CUIB_DIR": "/x", "CUIB_SOCKET": "/y"}, "/y"},
		"URL":       {map[string]string{"CUIB_SOCKET": "unix:///y"}, "/y"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := client.SocketPath(func(k string) string { return tt.env[k] }); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestErrorsHaveTheKindsOfTheDaemon(t *testing.T) {
	c := serve(t, map[string]http.HandlerFunc{
		"GET /1.0/instances/{name}": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(w).Encode(api.Response{Type: "error", ErrorCode: 404, Error: "instance " + r.PathValue("name") + " not found"})
		},
		"GET /1.0": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "boom", http.StatusBadGateway) },
		"DELETE /1.0/instances/{name}": func(w http.ResponseWriter, _ *http.Request) {
			reply(w, "async", api.Operation{ID: "a", StatusCode: api.Running})
		},
		"GET /1.0/operations/a/wait": func(w http.ResponseWriter, _ *http.Request) {
			reply(w, "sync", api.Operation{ID: "a", StatusCode: api.Failure, Err: "it is running", ErrCode: 409})
		},
	})
	_, _, err := c.Instance(t.Context(), "a/b")
	if !errs.Is(err, errs.NotFound) || err.Error() != "instance a/b not found" {
		t.Errorf("Instance: %v", err)
	}
	if _, _, err := c.Server(t.Context()); !errs.Is(err, errs.Internal) || !strings.Contains(err.Error(), "boom") {
		t.Errorf("Server: %v", err)
	}
	op, err := c.DeleteInstance(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := op.Wait(t.Context()); !errs.Is(err, errs.Conflict) || err.Error() != "it is running" {
		t.Errorf("Wait: %v", err)
	}
	if _, err := client.New(filepath.Join(t.TempDir(), "none")).Profiles(t.Context()); !errs.Is(err, errs.Unavailable) {
		t.Errorf("no daemon: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Profiles(ctx); !errs.Is(err, errs.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestRequestsThatReturnNothing(t *testing.T) {
	requests := make(chan string, 1)
	c := serve(t, map[string]http.HandlerFunc{
		"/": func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			requests <- strings.TrimSpace(fmt.Sprint(r.Method, " ", r.URL.EscapedPath(), " ", r.Header.Get("If-Match"), " ", string(body)))
			reply(w, "sync", nil)
		},
	})
	for want, call := range map[string]func(context.Context) error{
		"DELETE /1.0/instances/web/console": func(ctx context.Context) error { return c.ClearConsoleLog(ctx, "web") },
		`PUT /1.0/images/aliases/debian%2F12 e {"description":"d","target":"f"}`: func(ctx context.Context) error {
			return c.UpdateImageAlias(ctx, "debian/12", api.ImageAliasesEntryPut{Target: "f", Description: "d"}, "e")
		},
	} {
		if err := call(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := <-requests; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// guest is the daemon's side of an exec: it echoes standard input, and shows
// what control messages came.
type guest struct {
	mu      sync.Mutex // Guards what follows.
	control []api.InstanceExecControl
	request api.InstanceExecPost

	interactive bool
}

func (g *guest) handlers() map[string]http.HandlerFunc {
	in, out := io.Pipe()
	fds := map[string]string{"0": "s0", "1": "s1", "2": "s2", "control": "sc"}
	if g.interactive {
		fds = map[string]string{"0": "s0", "control": "sc"}
	}
	return map[string]http.HandlerFunc{
		"POST /1.0/instances/web/exec": func(w http.ResponseWriter, r *http.Request) {
			g.mu.Lock()
			_ = json.NewDecoder(r.Body).Decode(&g.request)
			g.mu.Unlock()
			reply(w, "async", api.Operation{ID: "x", StatusCode: api.Running, Metadata: map[string]any{"fds": fds}})
		},
		"GET /1.0/operations/x/websocket": func(w http.ResponseWriter, r *http.Request) {
			conn, err := ws.Upgrade(w, r)
			if err != nil {
				return
			}
			defer conn.Close()
			switch secret := r.URL.Query().Get("secret"); {
			case secret == "sc":
				for {
					_, data, err := conn.ReadMessage()
					if err != nil {
						return
					}
					var msg api.InstanceExecControl
					_ = json.Unmarshal(data, &msg)
					g.mu.Lock()
					g.control = append(g.control, msg)
					g.mu.Unlock()
				}
			case secret == "s0" && g.interactive:
				_ = conn.Send(strings.NewReader("a terminal"))
			case secret == "s0":
				_ = out.CloseWithError(conn.Receive(out))
			case secret == "s1":
				_ = conn.Send(in)
			case secret == "s2":
				_ = conn.Send(strings.NewReader("complaints"))
			}
		},
		"GET /1.0/operations/x/wait": func(w http.ResponseWriter, _ *http.Request) {
			reply(w, "sync", api.Operation{ID: "x", StatusCode: api.Success, Metadata: map[string]any{"return": 7}})
		},
	}
}

func TestExecCarriesAllBytes(t *testing.T) {
	g := &guest{}
	c := serve(t, g.handlers())
	const size = 16 << 20
	sent, got := sha256.New(), sha256.New()
	var complaints bytes.Buffer
	code, err := c.Exec(t.Context(), "web", client.Exec{
		InstanceExecPost: api.InstanceExecPost{Command: []string{"cat"}},
		Stdin:            io.TeeReader(io.LimitReader(&counter{}, size), sent), Stdout: got, Stderr: &complaints,
	})
	if err != nil || code != 7 {
		t.Fatalf("Exec ends with %d, %v", code, err)
	}
	if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) || complaints.String() != "complaints" {
		t.Errorf("what came back is not what was sent; stderr %q", &complaints)
	}
	if !g.request.WaitForWS {
		t.Error("the request does not ask for websockets")
	}
}

// A counter is an endless stream that shows lost and reordered bytes.
type counter struct{ n int }

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(c.n*7 + c.n>>8)
		c.n++
	}
	return len(p), nil
}

func TestExecWithATerminal(t *testing.T) {
	g := &guest{interactive: true}
	c := serve(t, g.handlers())
	control := make(chan api.InstanceExecControl, 1)
	control <- api.InstanceExecControl{Command: "signal", Signal: 2}
	var out bytes.Buffer
	waiting, typed := io.Pipe()
	defer func() { _ = typed.Close() }()
	code, err := c.Exec(t.Context(), "web", client.Exec{
		InstanceExecPost: api.InstanceExecPost{Command: []string{"sh"}, Interactive: true, Width: 80, Height: 24},
		Stdin:            waiting, Stdout: &out, Control: control,
	})
	if err != nil || code != 7 || out.String() != "a terminal" {
		t.Errorf("Exec ends with %d, %v and says %q", code, err, &out)
	}
}

func TestExecReportsInput(t *testing.T) {
	g := &guest{}
	c := serve(t, g.handlers())
	broken, w := io.Pipe()
	w.CloseWithError(errors.New("disk on fire"))
	_, err := c.Exec(t.Context(), "web", client.Exec{InstanceExecPost: api.InstanceExecPost{Command: []string{"cat"}}, Stdin: broken})
	if err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("Exec says %v of the input that broke", err)
	}
}

func TestEventsAndProgress(t *testing.T) {
	finish := make(chan struct{})
	c := serve(t, map[string]http.HandlerFunc{
		"POST /1.0/images": func(w http.ResponseWriter, _ *http.Request) {
			reply(w, "async", api.Operation{ID: "b", StatusCode: api.Running})
		},
		"GET /1.0/operations/b": func(w http.ResponseWriter, _ *http.Request) {
			reply(w, "sync", api.Operation{ID: "b", StatusCode: api.Running, Metadata: map[string]any{"build_progress": "10%"}})
		},
		"GET /1.0/operations/b/wait": func(w http.ResponseWriter, _ *http.Request) {
			<-finish
			reply(w, "sync", api.Operation{ID: "b", StatusCode: api.Success})
		},
		"GET /1.0/events": func(w http.ResponseWriter, r *http.Request) {
			conn, err := ws.Upgrade(w, r)
			if err != nil {
				return
			}
			defer conn.Close()
			for _, id := range []string{"other", "b"} {
				data, _ := json.Marshal(api.Operation{ID: id, StatusCode: api.Running, Metadata: map[string]any{"build_progress": "90% of " + id}})
				_ = conn.WriteJSON(api.Event{Type: "operation", Metadata: data})
			}
			<-finish
		},
	})
	op, err := c.MakeImage(t.Context(), api.ImagesPost{})
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	err = op.Watch(t.Context(), func(desc api.Operation) {
		seen = append(seen, client.Progress(desc))
		if len(seen) == 2 {
			close(finish)
		}
	})
	if err != nil || fmt.Sprint(seen) != "[10% 90% of b]" {
		t.Errorf("Watch ends with %v and saw %q", err, seen)
	}
}

func TestSFTPUpgrades(t *testing.T) {
	c := serve(t, map[string]http.HandlerFunc{
		"GET /1.0/instances/web/sftp": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") != "sftp" {
				t.Errorf("Upgrade is %q", r.Header.Get("Upgrade"))
			}
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: sftp\r\n\r\nhello")
			_ = rw.Flush()
		},
		"GET /1.0/instances/gone/sftp": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(w).Encode(api.Response{Type: "error", ErrorCode: 404, Error: "not found"})
		},
	})
	conn, err := c.SFTP(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := c.SFTP(t.Context(), "gone"); !errs.Is(err, errs.NotFound) {
		t.Errorf("no instance: %v", err)
	}
}
