package rest_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/rest"
	"github.com/cuib/cuib/shared/errs"
)

func TestShutdown(t *testing.T) {
	for name, tt := range map[string]struct {
		query  string
		err    error
		force  bool
		status int
		exits  int
	}{
		"plain":  {query: "", status: http.StatusOK, exits: 1},
		"clean":  {query: "?force=false", status: http.StatusOK, exits: 1},
		"forced": {query: "?force=true", force: true, status: http.StatusOK, exits: 1},
		"fails":  {query: "?force=1", force: true, err: errs.Newf(errs.Internal, "c1 stays"), status: http.StatusInternalServerError, exits: 1},
		"bad":    {query: "?force=maybe", status: http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			exits := make(chan bool, 2)
			var got rest.ShutdownRequest
			s.Shutdown = func(_ context.Context, req rest.ShutdownRequest) error { got = req; return tt.err }
			s.Exit = func() { exits <- true }
			a := s.do(http.MethodPut, "/internal/shutdown"+tt.query, "")
			if a.status != tt.status || got.Force != tt.force {
				t.Errorf("force is %t, answer %d %s", got.Force, a.status, a.body)
			}
			if tt.exits > 0 {
				<-exits
			}
			if len(exits) > 0 {
				t.Error("the daemon ends")
			}
		})
	}
}

// TestShutdownGoesOn has a client that does not wait for the end of a
// shutdown.
func TestShutdownGoesOn(t *testing.T) {
	s := serve(t)
	asked, proceed, exited := make(chan bool), make(chan bool), make(chan bool)
	s.Shutdown = func(ctx context.Context, _ rest.ShutdownRequest) error {
		close(asked)
		<-proceed
		return ctx.Err()
	}
	s.Exit = func() { close(exited) }
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://cuib/internal/shutdown", nil)
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan bool)
	go func() {
		defer close(gone)
		if resp, err := s.client.Do(r); err == nil {
			resp.Body.Close()
			t.Error("it has an answer")
		}
	}()
	<-asked
	cancel()
	<-gone
	close(proceed)
	<-exited
}

func TestReady(t *testing.T) {
	s := serve(t)
	if a := s.do(http.MethodGet, "/internal/ready", ""); a.status != http.StatusOK {
		t.Errorf("answer %d %s", a.status, a.body)
	}
	s.Drain()
	if a := s.do(http.MethodGet, "/internal/ready", ""); a.status != http.StatusServiceUnavailable {
		t.Errorf("at the end: answer %d %s", a.status, a.body)
	}
}
