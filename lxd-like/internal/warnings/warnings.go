// Package warnings keeps what administrators ought to know: what is wrong with
// the host or with an object, since when, and whether it still is. One that is
// no more so is resolved by those who raised it, and forgotten after a day.
package warnings

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/uuid"
)

// keep is how long a warning that is resolved can still be read.
const keep = 24 * time.Hour

// A Kind is something that can be wrong.
type Kind struct {
	Name     string
	Severity string
}

// What can be wrong.
var (
	PoolAway        = Kind{"Storage pool unavailable", api.SeverityHigh}
	PoolFull        = Kind{"Storage pool filling up", api.SeverityHigh}
	NetworkDown     = Kind{"Network unavailable", api.SeverityHigh}
	NetworkOverlaps = Kind{"Network overlaps another of the host", api.SeverityModerate}
	NetworkSplit    = Kind{"Network hosts not in touch", api.SeverityModerate}
	NetworkPortless = Kind{"Network external interface missing", api.SeverityModerate}
	NetworkBlocked  = Kind{"Network traffic dropped by the host's firewall", api.SeverityHigh}
	FirewallUnread  = Kind{"Host's firewall not read in full", api.SeverityModerate}
	DNSDown         = Kind{"DNS of network zones unavailable", api.SeverityModerate}
	NetworkFull     = Kind{"Network without free addresses", api.SeverityModerate}
	NoAddress       = Kind{"Instance without address", api.SeverityLow}
	NotStarted      = Kind{"Instance autostart failure", api.SeverityHigh}
	Dying           = Kind{"Instance dies again and again", api.SeverityHigh}
	ProxyDown       = Kind{"Proxy unavailable", api.SeverityModerate}
	LXCFSDown       = Kind{"LXCFS unavailable", api.SeverityModerate}
	HooksNotRun     = Kind{"Hooks of a device not run", api.SeverityLow}
	ScheduleFailed  = Kind{"Scheduled work failed", api.SeverityModerate}
)

// Service keeps the warnings. It is safe for concurrent use. A nil one keeps
// none.
type Service struct {
	DB     *db.DB
	Events *events.Hub
	Log    *slog.Logger

	mu    sync.Mutex
	known map[string]*entity // What there are warnings about, by its URL; nil when it is to be read. Guarded by mu.
}

// An entity is an object that there are warnings about.
type entity struct {
	path string
	open map[string]bool // By kind: whether it is not resolved.
}

// Raise says that something is wrong with the object that has the path in the
// API, or with the server if that is empty. It may be said again and again; a
// warning that somebody has acknowledged stays so until it was resolved. What
// fails is logged: nobody's work fails for a warning.
func (s *Service) Raise(ctx context.Context, kind Kind, entity, message string) {
	if s == nil {
		return
	}
	err := s.change(context.WithoutCancel(ctx), func() { s.learn(entity, kind.Name, true) }, func(ctx context.Context, tx *db.Tx) error {
		w, err := db.FindWarning(ctx, tx, kind.Name, entity)
		if err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
		if err != nil {
			w = db.Warning{UUID: uuid.New(), Type: kind.Name, Entity: entity}
		}
		if w.Status != api.WarningAcknowledged {
			w.Status = api.WarningNew
		}
		w.Severity, w.Message = kind.Severity, message
		w.Count++
		return db.PutWarning(ctx, tx, w)
	})
	if err != nil {
		s.Log.ErrorContext(ctx, "cannot keep a warning", "type", kind.Name, "entity", entity, "message", message, "err", err)
	}
}

// Resolve says that something is not wrong, or no more. That costs nothing if
// it was never in doubt.
func (s *Service) Resolve(ctx context.Context, kind Kind, entity string) {
	if s == nil {
		return
	}
	doubt := false
	about, err := s.about(ctx, project.URL(entity))
	if about != nil {
		doubt = about.open[kind.Name]
	}
	if err == nil && doubt {
		err = s.change(context.WithoutCancel(ctx), func() { s.learn(entity, kind.Name, false) }, func(ctx context.Context, tx *db.Tx) error {
			w, err := db.FindWarning(ctx, tx, kind.Name, entity)
			if err != nil {
				return err
			}
			return db.SetWarningStatus(ctx, tx, w.UUID, api.WarningResolved)
		})
	}
	if err != nil && !errs.Is(err, errs.NotFound) {
		s.Log.ErrorContext(ctx, "cannot resolve a warning", "type", kind.Name, "entity", entity, "err", err)
	}
}

// about returns what is known of a URL; nil if there are no warnings about it. It
// is not changed.
func (s *Service) about(ctx context.Context, url string) (*entity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		all, err := s.rows(context.WithoutCancel(ctx))
		if err != nil {
			return nil, err
		}
		s.known = map[string]*entity{}
		for _, w := range all {
			s.learn(w.Entity, w.Type, w.Status != api.WarningResolved)
		}
	}
	return s.known[url], nil
}

// learn notes whether a warning is open. The caller holds mu.
func (s *Service) learn(path, kind string, open bool) {
	if s.known == nil {
		return // It is read when somebody asks.
	}
	now := &entity{path, map[string]bool{}}
	if before := s.known[project.URL(path)]; before != nil {
		maps.Copy(now.open, before.open)
	}
	now.open[kind] = open
	s.known[project.URL(path)] = now
}

// change changes warnings in the database, and then what is known of them by learn,
// which has mu; nil if it is to be read again.
func (s *Service) change(ctx context.Context, learn func(), fn func(context.Context, *db.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.DB.Do(ctx, fn)
	if err != nil || learn == nil {
		s.known = nil
	} else {
		learn()
	}
	return err
}

func (s *Service) rows(ctx context.Context) (rows []db.Warning, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		rows, err = db.Warnings(ctx, tx)
		return err
	})
	return rows, err
}

// List returns all warnings, the first that was seen first.
func (s *Service) List(ctx context.Context) ([]api.Warning, error) {
	rows, err := s.rows(ctx)
	out := make([]api.Warning, len(rows))
	for i, w := range rows {
		out[i] = shown(w)
	}
	return out, err
}

// Get returns one warning.
func (s *Service) Get(ctx context.Context, id string) (api.Warning, error) {
	var w db.Warning
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		w, err = db.GetWarning(ctx, tx, id)
		return err
	})
	return shown(w), err
}

// Update says that somebody has seen a warning, or takes that back.
func (s *Service) Update(ctx context.Context, id string, put api.WarningPut) error {
	action := "warning-acknowledged"
	switch put.Status {
	case api.WarningAcknowledged:
	case api.WarningNew:
		action = "warning-reset"
	default:
		return errs.Invalidf("status: got %q, want %q or %q", put.Status, api.WarningNew, api.WarningAcknowledged)
	}
	err := s.change(ctx, nil, func(ctx context.Context, tx *db.Tx) error { return db.SetWarningStatus(ctx, tx, id, put.Status) })
	if err == nil {
		s.Events.Lifecycle(action, URL(id), nil)
	}
	return err
}

// Delete forgets a warning. One that is still so comes again.
func (s *Service) Delete(ctx context.Context, id string) error {
	err := s.change(ctx, nil, func(ctx context.Context, tx *db.Tx) error { return db.DeleteWarning(ctx, tx, id) })
	if err == nil {
		s.Events.Lifecycle("warning-deleted", URL(id), nil)
	}
	return err
}

// Tick forgets what was resolved a day ago.
func (s *Service) Tick(ctx context.Context, now time.Time) error {
	all, err := s.rows(ctx)
	old := slices.ContainsFunc(all, func(w db.Warning) bool { return w.Status == api.WarningResolved && w.Last.Before(now.Add(-keep)) })
	if err != nil || !old {
		return err
	}
	return s.change(ctx, nil, func(ctx context.Context, tx *db.Tx) error {
		return db.DeleteWarnings(ctx, tx, api.WarningResolved, now.Add(-keep))
	})
}

// Run forgets the warnings about objects that go, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	heard := s.Events.Listen("lifecycle")
	defer func() { heard.Close() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-heard.C:
			if !ok { // Too many at once.
				heard = s.Events.Listen("lifecycle")
				continue
			}
			if err := s.follow(ctx, e); err != nil && ctx.Err() == nil {
				s.Log.ErrorContext(ctx, "cannot forget warnings about what is gone", "err", err)
			}
		}
	}
}

// follow forgets the warnings about an object that an event says is gone, or
// has another name: what is still wrong with it comes again.
func (s *Service) follow(ctx context.Context, e *api.Event) error {
	var is api.EventLifecycle
	if err := json.Unmarshal(e.Metadata, &is); err != nil {
		return err
	}
	gone := is.Source
	if old, ok := is.Context["old_name"].(string); ok && strings.HasSuffix(is.Action, "-renamed") {
		source, query, ok := strings.Cut(is.Source, "?")
		gone = path.Join(path.Dir(source), old)
		if ok {
			gone += "?" + query
		}
	} else if !strings.HasSuffix(is.Action, "-deleted") {
		return nil
	}
	about, err := s.about(ctx, gone)
	if err != nil || about == nil {
		return err
	}
	forget := func() { delete(s.known, gone) }
	return s.change(ctx, forget, func(ctx context.Context, tx *db.Tx) error { return db.DeleteWarningsOf(ctx, tx, about.path) })
}

// URL is the path of a warning in the API.
func URL(id string) string { return "/1.0/warnings/" + id }

func shown(w db.Warning) api.Warning {
	out := api.Warning{
		WarningPut: api.WarningPut{Status: w.Status},
		UUID:       w.UUID, Location: "none", Type: w.Type, Count: w.Count, FirstSeenAt: w.First, LastSeenAt: w.Last,
		LastMessage: w.Message, Severity: w.Severity, EntityURL: w.Entity,
	}
	if strings.HasPrefix(w.Entity, "/1.0/instances/") || strings.HasPrefix(w.Entity, "/1.0/networks/") {
		out.Project = "default"
	}
	return out
}
