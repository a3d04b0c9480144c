package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cuib/cuib/client/cmd/cuib/internal/cli"
)

// The scripts in testdata run commands against a daemon that gives prepared
// answers and keeps what it was asked. "serve FILE" starts it; the requests
// are in the file "requests" afterwards. FILE has stanzas
//
//	METHOD PATH [STATUS]
//	METADATA AS JSON
//
// with empty lines between them. Status 202 makes an operation of it, which
// ends at once with the JSON as its metadata; 400 and more an error with the
// line as its text. What asks for a stream gets the line as it is. Of several answers to a request each is given once, and
// the last one for ever.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("CUIB_UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("CUIB_SOCKET", filepath.Join(env.WorkDir, "s"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TERM", "dumb")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"cuib": cuib, "serve": serve, "status": status},
	})
}

func TestMain(m *testing.M) {
	time.Local = time.UTC // Tables have local times.
	os.Exit(m.Run())
}

// cuib runs a command in process. A last argument <FILE is its standard input.
func cuib(ts *testscript.TestScript, neg bool, args []string) { //nolint:revive // Scripts say by it what is to fail.
	in := os.DevNull
	if n := len(args) - 1; n >= 0 && strings.HasPrefix(args[n], "<") {
		in, args = ts.MkAbs(args[n][1:]), args[:n]
	}
	dir := ts.MkAbs(".streams")
	ts.Check(os.MkdirAll(dir, 0o700))
	open := func(name string) *os.File {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		ts.Check(err)
		return f
	}
	env := cli.Env{
		In: open(in), Out: open(filepath.Join(dir, "out")), Err: open(filepath.Join(dir, "err")), Getenv: ts.Getenv, Build: "test",
	}
	status := cli.Main(context.Background(), env, args)
	for f, w := range map[*os.File]io.Writer{env.Out: ts.Stdout(), env.Err: ts.Stderr()} {
		data, err := os.ReadFile(f.Name())
		ts.Check(err)
		_, err = w.Write(data)
		ts.Check(err)
	}
	_, _, _ = env.In.Close(), env.Out.Close(), env.Err.Close()
	ts.Check(os.RemoveAll(dir))
	ts.Check(os.WriteFile(ts.MkAbs(".status"), []byte(strconv.Itoa(status)), 0o600))
	if failed := status != 0; failed != neg {
		ts.Fatalf("cuib %q ends with %d", args, status)
	}
}

// status compares the exit status of the last cuib.
func status(ts *testscript.TestScript, _ bool, args []string) {
	if got := ts.ReadFile(".status"); got != args[0] {
		ts.Fatalf("the status is %s", got)
	}
}

type stanza struct {
	status int
	body   string
}

// A fake is the daemon of a script.
type fake struct {
	requests string // File.

	mu      sync.Mutex // Guards what follows.
	answers map[string][]stanza
	ops     map[string]string // Metadata by id.
}

func serve(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: serve FILE")
	}
	f := &fake{requests: ts.MkAbs("requests"), answers: map[string][]stanza{}, ops: map[string]string{}}
	ts.Check(os.WriteFile(f.requests, nil, 0o600))
	for part := range strings.SplitSeq(strings.TrimSpace(ts.ReadFile(args[0])), "\n\n") {
		head, body, _ := strings.Cut(part, "\n")
		words := strings.Fields(head)
		s := stanza{status: http.StatusOK, body: strings.TrimSpace(body)}
		if len(words) == 3 {
			status, err := strconv.Atoi(words[2])
			ts.Check(err)
			s.status = status
		}
		key := words[0] + " " + words[1]
		f.answers[key] = append(f.answers[key], s)
	}
	l, err := net.Listen("unix", ts.Getenv("CUIB_SOCKET"))
	ts.Check(err)
	server := &http.Server{Handler: f}
	go func() { _ = server.Serve(l) }()
	ts.Defer(func() { _ = server.Close() })
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := r.Method + " " + r.URL.RequestURI()
	if id, ok := strings.CutPrefix(key, "GET /1.0/operations/op"); ok {
		id, _, _ = strings.Cut(id, "/")
		answer(w, http.StatusOK, f.operation("op"+id, "Success", 200))
		return
	}
	f.note(r)
	some := f.answers[key]
	if len(some) == 0 {
		fail(w, http.StatusNotFound, "no answer to "+key)
		return
	}
	s := some[0]
	if len(some) > 1 {
		f.answers[key] = some[1:]
	}
	switch {
	case s.status >= http.StatusBadRequest:
		fail(w, s.status, s.body)
	case r.Header.Get("Accept") == "application/octet-stream" || strings.HasSuffix(r.URL.Path, "/export"):
		_, _ = io.WriteString(w, s.body)
	case s.status == http.StatusAccepted:
		id := "op" + strconv.Itoa(len(f.ops))
		f.ops[id] = s.body
		answer(w, s.status, f.operation(id, "Running", 103))
	default:
		w.Header().Set("ETag", "tag")
		answer(w, s.status, s.body)
	}
}

// note keeps a request that changes something.
func (f *fake) note(r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	line := r.Method + " " + r.URL.RequestURI()
	if m := r.Header.Get("If-Match"); m != "" {
		line += " if " + m
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") || r.Header.Get("Content-Type") == "application/octet-stream" {
		line += fmt.Sprintf(" %s %s %s", r.Header.Get("X-Incus-Aliases"), r.Header.Get("X-Incus-Properties"), partsOf(r, body))
		for _, name := range []string{"Name", "Pool", "Type", "Config", "Devices"} {
			if v := r.Header.Get("X-Incus-"+name) + r.Header.Get("X-Cuib-"+name); v != "" {
				line += " " + strings.ToLower(name) + ":" + v
			}
		}
	} else if len(body) > 0 {
		line += " " + string(body)
	}
	out, err := os.OpenFile(f.requests, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		fmt.Fprintln(out, line)
		out.Close()
	}
}

// partsOf returns the content of an upload.
func partsOf(r *http.Request, body []byte) string {
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, err := r.MultipartReader()
	if err != nil {
		return string(body)
	}
	var out []string
	for {
		p, err := form.NextPart()
		if err != nil {
			return strings.Join(out, " ")
		}
		data, _ := io.ReadAll(p)
		out = append(out, p.FormName()+"="+p.FileName()+":"+string(data))
	}
}

func (f *fake) operation(id, status string, code int) string {
	metadata := f.ops[id]
	if metadata == "" {
		metadata = "{}"
	}
	return fmt.Sprintf(`{"id": %q, "class": "task", "status": %q, "status_code": %d, "metadata": %s, "resources": {"instances": ["/1.0/instances/made"], "backups": ["/1.0/instances/web/backups/b0"]}}`,
		id, status, code, metadata)
}

func answer(w http.ResponseWriter, status int, metadata string) {
	typ := "sync"
	if status == http.StatusAccepted {
		typ = "async"
	}
	if metadata == "" {
		metadata = "{}"
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type": %q, "status_code": %d, "metadata": %s}`, typ, status, metadata)
}

func fail(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "error", "error_code": status, "error": text})
}
