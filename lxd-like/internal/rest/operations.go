package rest

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/ws"
)

// listOperations lists operations by their status.
func (s *Server) listOperations(r *http.Request) (response, error) {
	all, err := selected(r, s.Ops.List())
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(op api.Operation) bool { return !allProjects(r) && op.Project != view(r).Project })
	urls, objects := map[string][]string{}, map[string][]api.Operation{}
	for _, op := range all {
		status := strings.ToLower(op.Status)
		urls[status] = append(urls[status], "/1.0/operations/"+op.ID)
		objects[status] = append(objects[status], op)
	}
	if recursion(r) > 0 {
		return synced(objects), nil
	}
	return synced(urls), nil
}

func (s *Server) getOperation(r *http.Request) (response, error) {
	op, err := s.Ops.Get(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return synced(op.Describe()), nil
}

func (s *Server) cancelOperation(r *http.Request) (response, error) {
	op, err := s.Ops.Get(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return done(op.Cancel())
}

// waitOperation answers when the operation has ended, or the given number of
// seconds.
func (s *Server) waitOperation(r *http.Request) (response, error) {
	op, err := s.Ops.Get(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if text := r.URL.Query().Get("timeout"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil {
			return nil, errs.Invalidf("timeout is %q: want a number of seconds, or -1 for none", text)
		}
		if seconds >= 0 {
			ctx, cancel = context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
			defer cancel()
		}
	}
	stop := s.untilDrained(cancel)
	defer stop()
	return synced(op.Wait(ctx)), nil
}

// untilDrained calls end when the server is drained, unless stop was called.
func (s *Server) untilDrained(end func()) (stop func()) {
	quit := make(chan struct{})
	go func() {
		select {
		case <-s.drained:
			end()
		case <-quit:
		}
	}()
	return func() { close(quit) }
}

// connectOperation opens a websocket of an operation.
func (s *Server) connectOperation(r *http.Request) (response, error) {
	op, err := s.Ops.Get(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	secret := r.URL.Query().Get("secret")
	if secret == "" {
		return nil, errs.Invalidf("secret is missing: it says which stream of the operation is meant")
	}
	if !ws.IsUpgrade(r) {
		return nil, errs.Invalidf("this is a websocket: the request has to ask for one")
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		return s.connect(w, r, op, secret)
	}, nil
}

func (s *Server) connect(w http.ResponseWriter, r *http.Request, op *ops.Op, secret string) error {
	taken := false
	err := op.Connect(r.Context(), secret, func() (*ws.Conn, error) {
		taken = true
		return ws.Upgrade(w, r)
	})
	if err != nil && taken { // The connection can carry no answer any more.
		s.Log.DebugContext(r.Context(), "websocket ended", "operation", op.ID, "err", err)
		return nil
	}
	return err
}

// eventTypes are the types that there are.
var eventTypes = []string{"lifecycle", "logging", "network-acl", "operation"}

// listenEvents sends events until the client or the server goes.
func (s *Server) listenEvents(r *http.Request) (response, error) {
	var types []string
	for typ := range strings.SplitSeq(r.URL.Query().Get("type"), ",") {
		switch {
		case typ == "":
		case slices.Contains(eventTypes, typ):
			types = append(types, typ)
		default:
			return nil, errs.Invalidf("type is %q: want one of %s", typ, strings.Join(eventTypes, ", "))
		}
	}
	if !ws.IsUpgrade(r) {
		return nil, errs.Invalidf("this is a websocket: the request has to ask for one")
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		l := s.Events.Listen(types...)
		defer l.Close()
		conn, err := ws.Upgrade(w, r)
		if err != nil {
			return nil // Upgrade has answered.
		}
		defer conn.Close()
		s.sendEvents(conn.Watch(r.Context()), conn, l.C, func(e *api.Event) bool {
			return e.Type == "logging" || allProjects(r) || e.Project == view(r).Project
		})
		return nil
	}, nil
}

func (s *Server) sendEvents(ctx context.Context, conn *ws.Conn, all <-chan *api.Event, wanted func(*api.Event) bool) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.drained:
			return
		case e, ok := <-all:
			if !ok || wanted(e) && conn.WriteJSON(e) != nil {
				return
			}
		}
	}
}
