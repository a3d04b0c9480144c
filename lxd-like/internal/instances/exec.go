package instances

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/ws"
)

// Exec runs a program in a running instance. With WaitForWS the client opens
// a websocket for each stream of it.
func (s *Service) Exec(ctx context.Context, name string, req api.InstanceExecPost) (ops.Job, error) {
	if err := checkExec(req); err != nil {
		return ops.Job{}, err
	}
	in, err := s.live(ctx, name)
	if err != nil {
		return ops.Job{}, err
	}
	job := ops.Job{
		Description: "Executing command", Cancelable: true,
		Resources: map[string][]string{"instances": {in.url()}},
		Metadata: map[string]any{
			"command": req.Command, "environment": req.Environment, "interactive": req.Interactive,
		},
	}
	e := runtime.Exec{
		Args: req.Command, Env: execEnv(in, req), UID: req.User, GID: req.Group, Cwd: req.Cwd,
		Terminal: req.Interactive, Width: req.Width, Height: req.Height,
	}
	if !req.WaitForWS {
		job.Run = func(ctx context.Context, op *ops.Op) error {
			return s.execAlone(ctx, name, e, recording{op, req.RecordOutput})
		}
		return job, nil
	}
	var conns *streams
	if req.Interactive {
		conns, err = newStreams([]string{streamIn, streamControl})
	} else {
		conns, err = newStreams([]string{streamIn, streamOut, streamErr}, streamControl)
	}
	if err != nil {
		return ops.Job{}, err
	}
	job.Class, job.Connect = ops.Websocket, conns.connect
	job.Metadata["fds"] = conns.fds()
	job.Run = func(ctx context.Context, op *ops.Op) error { return s.execStreams(ctx, name, e, op, conns) }
	return job, nil
}

func checkExec(req api.InstanceExecPost) error {
	if len(req.Command) == 0 || req.Command[0] == "" {
		return errs.Invalidf("command is empty: it is the program and its arguments")
	}
	if req.Cwd != "" && !strings.HasPrefix(req.Cwd, "/") {
		return errs.Invalidf("cwd is %q: want an absolute path", req.Cwd)
	}
	for key := range req.Environment {
		if key == "" || strings.ContainsAny(key, "=\x00") {
			return errs.Invalidf("environment has a variable %q: a name is not empty and has no =", key)
		}
	}
	if req.Interactive && req.RecordOutput {
		return errs.Invalidf("record-output is not possible with interactive: a terminal is not recorded")
	}
	if req.WaitForWS && req.RecordOutput {
		return errs.Invalidf("record-output is not possible with wait-for-websocket: the output goes to the client")
	}
	return nil
}

// live reads an instance that runs.
func (s *Service) live(ctx context.Context, name string) (*instance, error) {
	in, err := s.load(ctx, name)
	if err != nil {
		return nil, err
	}
	state, err := s.Runtime.Get(name)
	if errs.Is(err, errs.NotFound) {
		return nil, errs.Conflictf("instance %q is not running", name)
	}
	if err != nil {
		return nil, err
	}
	if state.Frozen {
		return nil, errs.Conflictf("instance %q is frozen", name)
	}
	return in, nil
}

// execEnv is the environment of a program: what a login would set, what the
// instance's configuration has, and what the client wants.
func execEnv(in *instance, req api.InstanceExecPost) map[string]string {
	env := map[string]string{"LANG": "C.UTF-8"}
	if req.User == 0 {
		env["HOME"], env["USER"] = "/root", "root"
	}
	if req.Interactive {
		env["TERM"] = "linux"
	}
	for key, value := range in.expanded.Options {
		if name, ok := strings.CutPrefix(key, "environment."); ok {
			env[name] = value
		}
	}
	maps.Copy(env, req.Environment)
	return env
}

// execStreams runs a program whose streams are websockets.
func (s *Service) execStreams(ctx context.Context, name string, e runtime.Exec, op *ops.Op, conns *streams) error {
	defer conns.end()
	if err := conns.wait(ctx); err != nil {
		return err
	}
	p, err := s.Runtime.Exec(ctx, name, e)
	if err != nil {
		return err
	}
	status, err := attend(ctx, p, stdio{p.Terminal, p.Stdin, p.Stdout, p.Stderr}, conns)
	if err != nil {
		return err
	}
	op.SetMetadata("return", status)
	return nil
}

// stdio are the ends of a program's streams; of a terminal there is one.
type stdio struct{ terminal, in, out, err *os.File }

func (f stdio) close() {
	for _, file := range []*os.File{f.terminal, f.in, f.out, f.err} {
		if file != nil {
			file.Close()
		}
	}
}

// A waiter is a [program] that ends.
type waiter interface {
	program

	Wait(ctx context.Context) (int, error)
}

// attend carries the data between a program and its websockets, and returns
// its status when it has ended and all that it wrote was sent.
func attend(ctx context.Context, p waiter, files stdio, conns *streams) (status int, err error) {
	defer files.close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	kill := func() { _ = p.Signal(unix.SIGKILL) } // It may have ended.
	stop := context.AfterFunc(ctx, kill)
	defer stop()

	ended := make(chan struct{})
	var sent sync.WaitGroup
	outs := map[string]*drain{}
	pumps := map[string]pump{
		streamControl: controlPump(p, ended, func() { cancel(errClientLeft) }),
	}
	if files.terminal != nil {
		outs[streamIn] = &drain{f: files.terminal}
		pumps[streamIn] = terminalPump(files.terminal, sendPump(outs[streamIn], &sent))
	} else {
		outs[streamOut], outs[streamErr] = &drain{f: files.out}, &drain{f: files.err}
		pumps[streamIn] = inputPump(files.in)
		pumps[streamOut] = sendPump(outs[streamOut], &sent)
		pumps[streamErr] = sendPump(outs[streamErr], &sent)
	}
	sent.Add(len(outs))
	conns.start(pumps)

	status, err = p.Wait(context.WithoutCancel(ctx))
	close(ended)
	for _, d := range outs {
		d.stop()
	}
	waitSent(ctx, &sent)
	if err == nil {
		err = context.Cause(ctx) // None if nobody ended it.
	}
	return status, err
}

// errClientLeft is why a program is killed whose client went away.
var errClientLeft = errs.Newf(errs.Canceled, "the client went away")

// waitSent waits until all output was sent, or ctx ends.
func waitSent(ctx context.Context, sent *sync.WaitGroup) {
	all := make(chan struct{})
	go func() {
		sent.Wait()
		close(all)
	}()
	select {
	case <-all:
	case <-ctx.Done():
	}
}

// sendPump sends what a program writes.
func sendPump(from *drain, sent *sync.WaitGroup) pump {
	return func(_ context.Context, conn *ws.Conn) error {
		defer sent.Done()
		err := conn.Send(from)
		if err != nil {
			from.f.Close() // The program learns that nobody reads any more.
		}
		return err
	}
}

// inputPump gives a program what the client sends, and the end of that.
func inputPump(to *os.File) pump {
	return func(_ context.Context, conn *ws.Conn) error {
		err := conn.Receive(to)
		return errors.Join(broken(err), broken(to.Close()))
	}
}

// terminalPump is for both directions. The end of the client's data is none
// for a terminal: it has its own sign for that.
func terminalPump(terminal *os.File, send pump) pump {
	return func(ctx context.Context, conn *ws.Conn) error {
		go func() { _ = conn.Receive(terminal) }() // The control stream tells when the client is gone.
		return send(ctx, conn)
	}
}

// broken returns err unless it says that a program does not read any more.
func broken(err error) error {
	if errors.Is(err, unix.EPIPE) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// A recording says what becomes of the output of a program without client.
type recording struct {
	op   *ops.Op
	keep bool
}

// execAlone runs a program that no client is connected to.
func (s *Service) execAlone(ctx context.Context, name string, e runtime.Exec, rec recording) error {
	var to stdio
	if rec.keep {
		files, urls, err := s.outputs(name, rec.op.ID)
		if err != nil {
			return err
		}
		defer files.close()
		defer rec.op.SetMetadata("output", urls)
		to = files
	}
	p, err := s.Runtime.Exec(ctx, name, e)
	if err != nil {
		return err
	}
	from := stdio{p.Terminal, p.Stdin, p.Stdout, p.Stderr}
	defer from.close()
	stop := context.AfterFunc(ctx, func() { _ = p.Signal(unix.SIGKILL) }) // It may have ended.
	defer stop()
	if p.Stdin != nil {
		p.Stdin.Close()
	}
	status, err := record(ctx, p, from, to)
	if err != nil {
		return err
	}
	rec.op.SetMetadata("return", status)
	return nil
}

// record copies what a program writes until that has ended. Without a file
// for it, it is lost.
func record(ctx context.Context, p waiter, from, to stdio) (status int, err error) {
	var copied sync.WaitGroup
	var drains []*drain
	for _, c := range []struct{ from, to *os.File }{{from.terminal, nil}, {from.out, to.out}, {from.err, to.err}} {
		if c.from == nil {
			continue
		}
		d := &drain{f: c.from}
		drains = append(drains, d)
		copied.Go(func() {
			if c.to != nil {
				_, _ = io.Copy(c.to, io.LimitReader(d, maxRecording))
			}
			_, _ = io.Copy(io.Discard, d) // A full disk does not stop the program.
		})
	}
	status, err = p.Wait(context.WithoutCancel(ctx))
	for _, d := range drains {
		d.stop()
	}
	copied.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	return status, err
}
