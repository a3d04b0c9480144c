// Package rest serves the REST API. A handler decodes a request, calls one
// method of a service and says what became of it; it decides nothing else.
package rest

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"sync"

	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/locks"
)

// A Server is the API's HTTP handler. Its fields are set before it serves.
type Server struct {
	Projects     projectService
	Instances    instanceService
	Images       imageService
	Pools        poolService
	Volumes      volumeService
	Backups      backupService
	Nets         netService
	Zones        zoneService
	ACLs         aclService
	AddressSets  addressSetService
	Publish      publishService
	Peering      peeringService
	Repositories repositoryService
	Warnings     warningService
	Recovery     recoveryService
	Config       serverConfig

	// Follow is told of new values of keys of the server, by name, before they
	// are kept, and may refuse them. An empty value is none.
	Follow map[string]func(ctx context.Context, value string) error

	follow sync.Mutex // Held by what changes the configuration.

	// Environment describes host and daemon.
	Environment func(ctx context.Context) (api.ServerEnvironment, error)

	// Resources describes the host's hardware.
	Resources func() (api.Resources, error)

	// Shutdown ends the instances, as the host shuts down. Exit then ends the
	// daemon: it is called when the client has its answer.
	Shutdown func(ctx context.Context, req ShutdownRequest) error
	Exit     func()

	Ops    *ops.Manager
	Events *events.Hub
	Log    *slog.Logger

	objects locks.Keyed // Held by who changes one; see [Server.alone].
	drain   sync.Once
	drained chan struct{} // Closed by Drain; made by Handler.
}

// Handler returns the whole API.
func (s *Server) Handler() http.Handler {
	s.drained = make(chan struct{})
	mux := http.NewServeMux()
	for pattern, methods := range byPattern(s.routes()) {
		mux.Handle(pattern, s.dispatch(methods))
	}
	mux.Handle("/", s.handler(func(r *http.Request) (response, error) {
		return nil, errs.NotFoundf("there is no %s", r.URL.Path)
	}))
	return mux
}

// Drain makes the server refuse all further requests, and ends those that
// only listen. The daemon calls it when it begins to shut down.
func (s *Server) Drain() { s.drain.Do(func() { close(s.drained) }) }

// byPattern groups routes. The multiplexer is told no methods: one that a
// path does not have would fall through to the path that matches all.
func byPattern(routes []route) map[string]map[string]handle {
	out := map[string]map[string]handle{}
	for _, rt := range routes {
		if out[rt.pattern] == nil {
			out[rt.pattern] = map[string]handle{}
		}
		out[rt.pattern][rt.method] = rt.handle
	}
	return out
}

// dispatch chooses among the methods of a path.
func (s *Server) dispatch(methods map[string]handle) http.Handler {
	return s.handler(func(r *http.Request) (response, error) {
		if methods[patch] != nil && (r.Method == patch || r.Method == put) {
			done, err := s.alone(r)
			if err != nil {
				return nil, err
			}
			defer done()
		}
		if h, ok := methods[r.Method]; ok {
			return h(r)
		}
		if h, ok := methods[http.MethodGet]; ok && r.Method == http.MethodHead {
			return h(r)
		}
		return notAllowed(r.Method, methods), nil
	})
}

// handler makes an http.Handler of a handle. It is the one place that checks
// access, turns errors into statuses and logs failures.
func (s *Server) handler(h handle) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.recover(w, r)
		r.Body = limitBody(w, r)
		in, resp, err := s.answer(h, r)
		if err == nil {
			err = resp(w, in)
		}
		if err == nil {
			return
		}
		if errs.Is(err, errs.Internal) {
			s.Log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		}
		_ = errorResponse(err)(w, in) // It fails only if the client is gone.
	})
}

// answer also returns the request as it is within its project.
func (s *Server) answer(h handle, r *http.Request) (*http.Request, response, error) {
	select {
	case <-s.drained:
		return r, nil, errs.Newf(errs.Unavailable, "the daemon is shutting down")
	default:
	}
	if err := allowed(r); err != nil {
		return r, nil, err
	}
	if err := checkQuery(r); err != nil {
		return r, nil, err
	}
	in, err := s.viewed(r)
	if err != nil {
		return r, nil, err
	}
	if err := s.checkSeen(in); err != nil {
		return in, nil, err
	}
	resp, err := h(in)
	return in, resp, err
}

// recover answers a request whose handler panicked.
func (s *Server) recover(w http.ResponseWriter, r *http.Request) {
	p := recover() //nolint:revive // It is what is deferred.
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // It is what is panicked with, not what it is about.
		panic(p) // An answer that is under way is cut off.
	}
	s.Log.ErrorContext(r.Context(), "panic", "method", r.Method, "path", r.URL.Path, "reason", p, "stack", string(debug.Stack()))
	_ = errorResponse(errs.Newf(errs.Internal, "internal error: %v", p))(w, r) // The client may be gone.
}

// start answers with an operation that does a job.
func (s *Server) start(r *http.Request, job ops.Job, err error) (response, error) {
	if err != nil {
		return nil, err
	}
	if urls := job.Resources["instances"]; urls != nil {
		job.Resources = maps.Clone(job.Resources)
		job.Resources["containers"] = urls // What older clients look for.
	}
	op, err := s.Ops.Start(r.Context(), job)
	if err != nil {
		return nil, err
	}
	return asyncResponse(op), nil
}
