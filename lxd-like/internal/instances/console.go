package instances

import (
	"context"
	"io"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/ws"
)

// Console connects the client to the console of a running instance. It ends
// when the client goes or the instance does.
func (s *Service) Console(ctx context.Context, name string, req api.InstanceConsolePost) (ops.Job, error) {
	if req.Type != "" && req.Type != "console" {
		return ops.Job{}, errs.Invalidf("type is %q: a container has a console, and nothing else", req.Type)
	}
	in, err := s.live(ctx, name)
	if err != nil {
		return ops.Job{}, err
	}
	conns, err := newStreams([]string{streamIn, streamControl})
	if err != nil {
		return ops.Job{}, err
	}
	return ops.Job{
		Class: ops.Websocket, Description: "Showing console",
		Resources: map[string][]string{"instances": {in.url()}},
		Metadata:  map[string]any{"fds": conns.fds()},
		Connect:   conns.connect,
		Run:       func(ctx context.Context, _ *ops.Op) error { return s.console(ctx, name, req, conns) },
	}, nil
}

// ConsoleLog opens what the instance has written to its console. One that is
// followed ends with ctx too.
func (s *Service) ConsoleLog(ctx context.Context, name string, o runtime.LogOptions) (io.ReadCloser, error) {
	if _, err := s.load(ctx, name); err != nil {
		return nil, err
	}
	return s.Runtime.ConsoleLog(ctx, name, o)
}

// ClearConsoleLog empties the log of the console.
func (s *Service) ClearConsoleLog(ctx context.Context, name string) error {
	if _, err := s.load(ctx, name); err != nil {
		return err
	}
	return s.Runtime.ClearConsoleLog(name)
}

// console carries the data between a console and its websockets.
func (s *Service) console(ctx context.Context, name string, req api.InstanceConsolePost, conns *streams) error {
	defer conns.end()
	if err := conns.wait(ctx); err != nil {
		return err
	}
	con, err := s.Runtime.Console(ctx, name)
	if err != nil {
		return err
	}
	defer con.Close() //nolint:errcheck // What was to be said was said.
	if req.Width > 0 && req.Height > 0 {
		_ = con.Resize(req.Width, req.Height) // It works without.
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conns.start(map[string]pump{
		streamControl: controlPump(screen{con}, ctx.Done(), cancel),
		streamIn: func(_ context.Context, conn *ws.Conn) error {
			defer cancel()
			go func() {
				defer cancel()
				_ = conn.Receive(con.Stdin) // Its end is the end of the session.
			}()
			return conn.Send(&drain{f: con.Stdout})
		},
	})
	<-ctx.Done()
	return nil
}

// A screen is a console as control messages see it.
type screen struct{ *runtime.Console }

// Signal implements [program]. A console has no process of its own.
func (screen) Signal(unix.Signal) error { return nil }
