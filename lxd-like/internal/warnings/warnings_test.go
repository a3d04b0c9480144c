package warnings_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

const web = "/1.0/instances/web"

func TestLife(t *testing.T) {
	hub := &events.Hub{}
	s := &warnings.Service{DB: dbtest.New(t), Events: hub, Log: slog.New(slog.DiscardHandler)}
	ctx := t.Context()
	only := func() api.Warning {
		t.Helper()
		all, err := s.List(ctx)
		if err != nil || len(all) != 1 {
			t.Fatalf("got %v, %v; want one warning", all, err)
		}
		return all[0]
	}
	s.Resolve(ctx, warnings.NotStarted, web)
	s.Raise(ctx, warnings.NotStarted, web, "no room")
	w := only()
	if w.Status != api.WarningNew || w.LastMessage != "no room" || w.Count != 1 || w.EntityURL != web || w.Project != "default" || w.Severity != api.SeverityHigh {
		t.Errorf("raised: %+v", w)
	}

	if err := s.Update(ctx, w.UUID, api.WarningPut{Status: api.WarningAcknowledged}); err != nil {
		t.Fatal(err)
	}
	s.Raise(ctx, warnings.NotStarted, web, "still no room")
	if got := only(); got.Status != api.WarningAcknowledged || got.Count != 2 || got.UUID != w.UUID || got.LastMessage != "still no room" {
		t.Errorf("raised again after it was acknowledged: %+v", got)
	}

	s.Resolve(ctx, warnings.NotStarted, web)
	if got := only(); got.Status != api.WarningResolved {
		t.Errorf("resolved: %+v", got)
	}
	s.Raise(ctx, warnings.NotStarted, web, "no room once more")
	if got := only(); got.Status != api.WarningNew || got.Count != 3 {
		t.Errorf("raised after it was resolved: %+v", got)
	}

	for _, status := range []string{"", api.WarningResolved, "nonsense"} {
		if err := s.Update(ctx, w.UUID, api.WarningPut{Status: status}); !errs.Is(err, errs.Invalid) {
			t.Errorf("status %q: %v", status, err)
		}
	}
	if err := s.Update(ctx, "none", api.WarningPut{Status: api.WarningNew}); !errs.Is(err, errs.NotFound) {
		t.Errorf("status of none: %v", err)
	}

	s.Resolve(ctx, warnings.NotStarted, web)
	if err := s.Tick(ctx, time.Now()); err != nil {
		t.Fatal(err)
	}
	only() // It can be read for a day.
	if err := s.Tick(ctx, time.Now().Add(25*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if all, err := s.List(ctx); err != nil || len(all) != 0 {
		t.Errorf("after a day: %v, %v", all, err)
	}
}

func TestObjectsThatGo(t *testing.T) {
	hub := &events.Hub{}
	s := &warnings.Service{DB: dbtest.New(t), Events: hub, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	s.Raise(ctx, warnings.Dying, web, "it died")
	s.Raise(ctx, warnings.Dying, "/1.0/instances/other", "it died")
	s.Raise(ctx, warnings.LXCFSDown, "", "it ended")
	for left := 3; left != 2; {
		hub.Lifecycle("instance-deleted", web, nil) // Again, as Run may not have listened yet.
		all, err := s.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		left = len(all)
	}
	all, err := s.List(ctx)
	if err != nil || len(all) != 2 || all[0].EntityURL == web || all[1].EntityURL == web {
		t.Errorf("left %v, %v", all, err)
	}
	for left := 2; left != 1; {
		hub.Lifecycle("instance-renamed", "/1.0/instances/new", map[string]any{"old_name": "other"})
		all, err := s.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		left = len(all)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// TestObjectsOfProjects has warnings about instances of one name in two
// projects, of which one goes.
func TestObjectsOfProjects(t *testing.T) {
	hub := &events.Hub{}
	s := &warnings.Service{DB: dbtest.New(t), Events: hub, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	for _, at := range []string{"/1.0/instances/c1", "/1.0/instances/p_c1", "/1.0/instances/p_c2"} {
		s.Raise(ctx, warnings.NoAddress, at, "no address")
	}
	for left := 3; left != 1; {
		hub.Lifecycle("instance-deleted", "/1.0/instances/p_c1", nil)
		hub.Lifecycle("instance-renamed", "/1.0/instances/p_c3", map[string]any{"old_name": "p_c2"})
		all, err := s.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		left = len(all)
	}
	if all, err := s.List(ctx); err != nil || len(all) != 1 || all[0].EntityURL != "/1.0/instances/c1" {
		t.Errorf("left %v, %v", all, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestNone(t *testing.T) {
	var s *warnings.Service
	s.Raise(t.Context(), warnings.Dying, web, "it died")
	s.Resolve(t.Context(), warnings.Dying, web)
}

func TestForm(t *testing.T) {
	data, err := json.Marshal(api.Warning{WarningPut: api.WarningPut{Status: api.WarningNew}, UUID: "u"})
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil || m["status"] != "new" || m["uuid"] != "u" {
		t.Errorf("got %s, %v; want the status beside all else", data, err)
	}
}
