package rest

import (
	"context"
	"net/http"
	"strconv"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/errs"
)

// getConsoleLog sends what an instance wrote to its console. Ours is that it
// can be the last lines only, and go on with what comes.
func (s *Server) getConsoleLog(r *http.Request) (response, error) {
	o, err := logOptions(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(r.Context())
	data, err := s.Instances.ConsoleLog(ctx, r.PathValue("name"), o)
	if err != nil {
		cancel()
		return nil, err
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		defer cancel()
		stop := s.untilDrained(cancel)
		defer stop()
		return raw{data: data, size: -1, live: o.Follow}.response()(w, r)
	}, nil
}

func logOptions(r *http.Request) (runtime.LogOptions, error) {
	q := r.URL.Query()
	var o runtime.LogOptions
	if t := q.Get("type"); t != "" && t != "log" {
		return o, errs.Invalidf("type is %q: want log", t)
	}
	if text := q.Get("lines"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return o, errs.Invalidf("lines is %q: want a number of lines from 1", text)
		}
		o.Last = n
	}
	switch text := q.Get("follow"); text {
	case "", "false", "0":
	case "true", "1":
		o.Follow = true
	default:
		return o, errs.Invalidf("follow is %q: want true or false", text)
	}
	return o, nil
}

func (s *Server) clearConsoleLog(r *http.Request) (response, error) {
	return done(s.Instances.ClearConsoleLog(r.Context(), r.PathValue("name")))
}
