package rest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pkg/sftp"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/shared/ws"
)

func (s *server) open(path string) *ws.Conn {
	s.tb.Helper()
	c, err := ws.Dialer{Dial: s.dial}.Open(s.tb.Context(), path)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(c.Abort)
	return c
}

func TestEvents(t *testing.T) {
	s := serve(t)
	all, some := s.open("/1.0/events"), s.open("/1.0/events?type=lifecycle,logging")
	op := s.do("POST", "/1.0/instances", `{"name":"c2"}`)
	s.Events.Lifecycle("instance-created", "/1.0/instances/c2", nil)
	read := func(c *ws.Conn) api.Event {
		t.Helper()
		text, data, err := c.ReadMessage()
		var e api.Event
		if err != nil || !text || json.Unmarshal(data, &e) != nil {
			t.Fatalf("%t %s %v", text, data, err)
		}
		return e
	}
	if e := read(some); e.Type != "lifecycle" || !strings.Contains(string(e.Metadata), "instance-created") || e.Project != "default" || e.Timestamp.IsZero() {
		t.Errorf("got %+v", e)
	}
	for seen := map[api.StatusCode]bool{}; !seen[api.Success]; {
		e := read(all)
		if e.Type != "operation" {
			continue
		}
		var got api.Operation
		if err := json.Unmarshal(e.Metadata, &got); err != nil || op.Operation != "/1.0/operations/"+got.ID {
			t.Fatalf("%s, %v", e.Metadata, err)
		}
		seen[got.StatusCode] = true
	}
}

// waiting is a job that ends when it is canceled.
func waiting() ops.Job {
	return ops.Job{Description: "Waiting", Cancelable: true, Run: func(ctx context.Context, _ *ops.Op) error {
		<-ctx.Done()
		return ctx.Err()
	}}
}

func TestOperations(t *testing.T) {
	s := serve(t)
	s.instances.exec = waiting()
	url := s.do("POST", "/1.0/instances/c1/exec", `{"command":["x"]}`).Operation
	if a := s.do("GET", "/1.0/operations", ""); !strings.Contains(a.body, `"metadata":{"running":["`+url+`"]}`) {
		t.Errorf("list: %s", a.body)
	}
	if a := s.do("GET", "/1.0/operations?recursion=1", ""); !strings.Contains(a.body, `{"running":[{"id":"`) {
		t.Errorf("objects: %s", a.body)
	}
	if a := s.do("GET", url+"/wait?timeout=0", ""); a.status != 200 || !strings.Contains(a.body, `"status":"Running"`) {
		t.Errorf("wait: %s", a.body)
	}
	if a := s.do("GET", url+"/wait?timeout=soon", ""); a.status != 400 {
		t.Errorf("wait: %s", a.body)
	}
	if a := s.do("GET", url+"/websocket?secret=x", ""); a.status != 400 {
		t.Errorf("websocket without upgrade: %s", a.body)
	}
	if _, err := (ws.Dialer{Dial: s.dial}).Open(t.Context(), url+"/websocket?secret=x"); !errs.Is(err, errs.Invalid) {
		t.Errorf("websocket of a task: %v", err)
	}
	if a := s.do("DELETE", url, ""); a.status != 200 {
		t.Errorf("cancel: %s", a.body)
	}
	if a := s.do("GET", url+"/wait?timeout=-1", ""); !strings.Contains(a.body, `"status":"Cancelled","status_code":401`) {
		t.Errorf("wait: %s", a.body)
	}
}

// echo is a program that sends back what it gets.
func echo() ops.Job {
	ended := make(chan struct{})
	return ops.Job{
		Class: ops.Websocket, Description: "Executing command", Metadata: map[string]any{"fds": map[string]string{"0": "secret"}},
		Connect: func(_ context.Context, secret string, upgrade ops.Upgrade) error {
			if secret != "secret" {
				return errs.Newf(errs.Denied, "no such secret")
			}
			c, err := upgrade()
			if err != nil {
				return err
			}
			defer close(ended)
			defer c.Close()
			pr, pw := io.Pipe()
			go func() { pw.CloseWithError(c.Receive(pw)) }()
			return c.Send(pr)
		},
		Run: func(ctx context.Context, op *ops.Op) error {
			select {
			case <-ended:
				op.SetMetadata("return", 7)
			case <-ctx.Done():
			}
			return nil
		},
	}
}

func TestExecOverWebsocket(t *testing.T) {
	s := serve(t)
	s.instances.exec = echo()
	a := s.do("POST", "/1.0/instances/c1/exec", `{"command":["cat"],"wait-for-websocket":true}`)
	if !strings.Contains(a.body, `"fds":{"0":"secret"}`) || !strings.Contains(a.body, `"class":"websocket"`) {
		t.Fatalf("got %s", a.body)
	}
	if _, err := (ws.Dialer{Dial: s.dial}).Open(t.Context(), a.Operation+"/websocket?secret=guess"); !errs.Is(err, errs.Denied) {
		t.Errorf("a wrong secret: %v", err)
	}
	if _, err := (ws.Dialer{Dial: s.dial}).Open(t.Context(), a.Operation+"/websocket"); !errs.Is(err, errs.Invalid) {
		t.Errorf("no secret: %v", err)
	}
	c := s.open(a.Operation + "/websocket?secret=secret")
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() { _ = c.Send(bytes.NewReader(sent)) }()
	var got bytes.Buffer
	if err := c.Receive(&got); err != nil || !bytes.Equal(got.Bytes(), sent) {
		t.Errorf("%d bytes came back, %v", got.Len(), err)
	}
	if a := s.do("GET", a.Operation+"/wait", ""); !strings.Contains(a.body, `"return":7`) {
		t.Errorf("got %s", a.body)
	}
}

func TestSFTP(t *testing.T) {
	testenv.Kernel(t)
	s := serve(t)
	if a := s.do("GET", "/1.0/instances/c1/sftp", ""); a.status != 400 {
		t.Errorf("without upgrade: %+v", a)
	}
	if a := s.do("GET", "/1.0/instances/c9/sftp", "", "Upgrade", "sftp", "Connection", "Upgrade"); a.status != 404 {
		t.Errorf("no instance: %+v", a)
	}
	conn, err := s.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	// The client may send at once what belongs to the new protocol.
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(conn, "GET /1.0/instances/c1/sftp HTTP/1.1\r\nHost: cuib\r\nConnection: Upgrade\r\nUpgrade: sftp\r\n\r\n")
		_, _ = io.Copy(conn, r)
	}()
	br := bufio.NewReader(conn)
	type result struct {
		c   *sftp.Client
		err error
	}
	ready := make(chan result, 1)
	resp, err := http.ReadResponse(br, nil) //nolint:bodyclose // There is none.
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "sftp" {
		t.Fatalf("%+v, %v", resp, err)
	}
	go func() {
		c, err := sftp.NewClientPipe(br, w)
		ready <- result{c, err}
	}()
	got := <-ready
	if got.err != nil {
		t.Fatal(got.err)
	}
	f, err := got.c.Create("/new")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("data")); err != nil {
		t.Error(err)
	}
	_ = f.Close()
	if a := s.do("GET", "/1.0/instances/c1/files?path=/new", ""); a.body != "data" {
		t.Errorf("got %+v", a)
	}
}
