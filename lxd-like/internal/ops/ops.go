// Package ops runs the operations that outlive their HTTP request.
//
// A service checks a request and answers with a [Job]; the [Manager] runs it
// as an [Op], which clients wait for, watch by events and cancel.
package ops

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/uuid"
	"github.com/cuib/cuib/shared/ws"
)

// Retention is how long an operation can be read after its end. Clients
// fetch it once more after they have begun to listen for its end.
const Retention = 5 * time.Second

// errCanceled is why a canceled operation's context ended.
var errCanceled = errs.Newf(errs.Canceled, "operation was cancelled")

// The classes of operation.
const (
	Task      = "task"
	Websocket = "websocket"
	Token     = "token"
)

// A Job is work that was checked and can begin.
type Job struct {
	Class       string // Task if empty.
	Description string

	// Objects are what the work changes, such as "instance/c1". No two
	// operations that have one in common run at the same time: the second
	// is refused.
	Objects []string

	Resources  map[string][]string // URLs by kind, for clients: {"instances": {"/1.0/instances/c1"}}
	Metadata   map[string]any
	Cancelable bool

	// Run does the work, on a goroutine of the manager. It ends early if ctx
	// does. It is nil for class Token, which only holds Metadata until it is
	// canceled.
	Run func(ctx context.Context, op *Op) error

	// Connect serves one connection of class Websocket, on the goroutine of
	// the connection's request. The secret, which is not checked yet, says
	// which stream it is; upgrade opens the connection, which Connect closes.
	Connect func(ctx context.Context, secret string, upgrade Upgrade) error
}

// An Upgrade makes a websocket of a request.
type Upgrade func() (*ws.Conn, error)

// A Manager owns the daemon's operations. Its goroutines are the only ones
// that the services' work runs on outside of requests.
type Manager struct {
	Log *slog.Logger // What failed inside is logged here; set before the first Start.

	base    context.Context //nolint:containedctx // It is the life of all operations.
	publish func(project, typ string, metadata any)
	wg      sync.WaitGroup

	mu     sync.Mutex // Guards what follows.
	closed bool
	ops    map[string]*Op
	busy   map[string]*Op // By the object that the operation works on.
}

// An Op is an operation. Its methods are safe for concurrent use.
type Op struct {
	ID string

	job    Job
	m      *Manager
	done   chan struct{} // Closed at the end.
	cancel context.CancelCauseFunc
	ended  bool // Guarded by the manager's mu.

	mu   sync.Mutex // Guards what follows.
	desc api.Operation
}

// NewManager returns a manager whose operations end with ctx. It calls
// publish with each operation that begins, changes or ends.
func NewManager(ctx context.Context, publish func(project, typ string, metadata any)) *Manager {
	return &Manager{Log: slog.New(slog.DiscardHandler), base: ctx, publish: publish, ops: map[string]*Op{}, busy: map[string]*Op{}}
}

// Start runs a job in the background. The operation has the values of ctx,
// but does not end with it. Start returns an error of kind [errs.Conflict] if
// another operation works on one of the same objects.
func (m *Manager) Start(ctx context.Context, job Job) (*Op, error) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	op := m.newOp(project.From(ctx), job, cancel)
	if err := m.add(op); err != nil {
		cancel(err)
		return nil, err
	}
	op.changed()
	if job.Run == nil {
		return op, nil
	}
	stop := context.AfterFunc(m.base, func() { cancel(context.Cause(m.base)) }) //nolint:contextcheck // It ends with the daemon.
	go func() {
		defer m.wg.Done()
		defer stop()
		defer cancel(nil)
		m.finish(op, m.run(ctx, op))
	}()
	return op, nil
}

// run does the work of an operation.
func (m *Manager) run(ctx context.Context, op *Op) error {
	err := protect(ctx, op, op.job.Run)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if errs.Is(err, errs.Internal) {
		m.Log.ErrorContext(ctx, "operation failed", "operation", op.ID, "description", op.job.Description, "err", err)
	}
	return err
}

func (m *Manager) newOp(in string, job Job, cancel context.CancelCauseFunc) *Op {
	now := time.Now()
	if job.Class == "" {
		job.Class = Task
	}
	op := &Op{ID: uuid.New(), job: job, m: m, done: make(chan struct{}), cancel: cancel}
	op.desc = api.Operation{
		ID: op.ID, Class: job.Class, Description: project.Text(in, job.Description), CreatedAt: now, UpdatedAt: now,
		Status: api.Running.String(), StatusCode: api.Running,
		Resources: urls(job.Resources), Metadata: job.Metadata, MayCancel: job.Cancelable || job.Run == nil, Location: "none",
		Project: in,
	}
	return op
}

// urls are the paths of objects as clients know them.
func urls(resources map[string][]string) map[string][]string {
	out := maps.Clone(resources)
	for kind, paths := range out {
		out[kind] = make([]string, 0, len(paths))
		for _, path := range paths {
			out[kind] = append(out[kind], project.URL(path))
		}
	}
	return out
}

func (m *Manager) add(op *Op) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.base.Err() != nil {
		return errs.Newf(errs.Unavailable, "the daemon is shutting down")
	}
	for _, object := range op.job.Objects {
		if other, ok := m.busy[object]; ok {
			return errs.Conflictf("%s is busy: %s", strings.Replace(object, "/", " ", 1), other.job.Description)
		}
	}
	m.ops[op.ID] = op
	for _, object := range op.job.Objects {
		m.busy[object] = op
	}
	if op.job.Run != nil {
		m.wg.Add(1)
	}
	return nil
}

// finish ends an operation, and reports whether it had not ended before.
func (m *Manager) finish(op *Op, err error) bool {
	m.mu.Lock()
	if op.ended {
		m.mu.Unlock()
		return false
	}
	op.ended = true
	for _, object := range op.job.Objects {
		delete(m.busy, object)
	}
	m.mu.Unlock()
	op.end(err)
	time.AfterFunc(Retention, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.ops, op.ID)
	})
	return true
}

// protect makes an error of a panic, which would end the daemon.
func protect(ctx context.Context, op *Op, fn func(context.Context, *Op) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			op.m.Log.ErrorContext(ctx, "panic", "operation", op.ID, "reason", p, "stack", string(debug.Stack()))
			err = errs.Newf(errs.Internal, "panic: %v", p)
		}
	}()
	return fn(ctx, op)
}

// Get returns the operation with the given ID.
func (m *Manager) Get(id string) (*Op, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	op, ok := m.ops[id]
	if !ok {
		return nil, errs.NotFoundf("operation %q not found", id)
	}
	return op, nil
}

// List returns all operations, oldest first.
func (m *Manager) List() []api.Operation {
	m.mu.Lock()
	all := slices.Collect(maps.Values(m.ops))
	m.mu.Unlock()
	out := make([]api.Operation, 0, len(all))
	for _, op := range all {
		out = append(out, op.Describe())
	}
	slices.SortFunc(out, func(a, b api.Operation) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return out
}

// Close makes the manager refuse further operations, with an error of kind
// [errs.Unavailable]. Those under way go on.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
}

// Wait waits until all operations have ended. It is called after Close, or
// when the context of the manager has ended.
func (m *Manager) Wait() { m.wg.Wait() }

// Cancel asks the operation to stop. It returns an error of kind
// [errs.Invalid] if the operation cannot be canceled.
func (o *Op) Cancel() error {
	if o.job.Run == nil {
		o.Spend()
		return nil
	}
	if !o.job.Cancelable {
		return errs.Invalidf("operation %q (%s) can't be cancelled", o.ID, o.job.Description)
	}
	o.cancel(errCanceled)
	return nil
}

// Spend ends an operation of class Token, and reports whether it had not ended
// before: of several callers at once it does so to one.
func (o *Op) Spend() bool {
	o.cancel(errCanceled)
	return o.m.finish(o, errCanceled)
}

// Connect hands a connection to an operation of class Websocket.
func (o *Op) Connect(ctx context.Context, secret string, upgrade Upgrade) error {
	if o.job.Connect == nil {
		return errs.Invalidf("operation %q is not a websocket operation", o.ID)
	}
	return o.job.Connect(ctx, secret, upgrade)
}

// Wait waits until the operation or ctx has ended and describes the former.
func (o *Op) Wait(ctx context.Context) api.Operation {
	select {
	case <-o.done:
	case <-ctx.Done():
	}
	return o.Describe()
}

// Done is closed when the operation has ended.
func (o *Op) Done() <-chan struct{} { return o.done }

// Describe returns the operation as it is now.
func (o *Op) Describe() api.Operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	d := o.desc
	d.Metadata = maps.Clone(d.Metadata)
	return d
}

// progress ends the keys of metadata that clients show.
const progress = "_progress"

// SetMetadata changes one key of the operation's metadata, and tells those
// who listen. Clients show the key that ends in "_progress": there is one at a
// time.
func (o *Op) SetMetadata(key string, value any) {
	o.mu.Lock()
	m := maps.Clone(o.desc.Metadata)
	if m == nil {
		m = map[string]any{}
	}
	if strings.HasSuffix(key, progress) {
		maps.DeleteFunc(m, func(k string, _ any) bool { return strings.HasSuffix(k, progress) })
	}
	m[key] = value
	o.desc.Metadata = m
	o.desc.UpdatedAt = time.Now()
	o.mu.Unlock()
	o.changed()
}

// Warn tells clients what they should know of an operation that went well.
// What was said before stays.
func (o *Op) Warn(text string) {
	o.mu.Lock()
	if before, ok := o.desc.Metadata[api.OperationWarning].(string); ok {
		text = before + "; " + text
	}
	o.mu.Unlock()
	o.SetMetadata(api.OperationWarning, text)
}

func (o *Op) end(err error) {
	o.mu.Lock()
	code := api.Success
	switch {
	case err == nil:
	case errs.Is(err, errs.Canceled):
		code = api.Canceled
	default:
		code = api.Failure
	}
	o.desc.Status, o.desc.StatusCode, o.desc.UpdatedAt, o.desc.MayCancel = code.String(), code, time.Now(), false
	if err != nil {
		o.desc.Err, o.desc.ErrCode = project.Text(o.desc.Project, err.Error()), int64(errs.Status(err))
	}
	o.mu.Unlock()
	close(o.done)
	o.changed()
}

func (o *Op) changed() {
	desc := o.Describe()
	o.m.publish(desc.Project, "operation", desc)
}
