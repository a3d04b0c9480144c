package ops_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/ws"
)

func quiet(string, string, any) {}

func start(t *testing.T, m *ops.Manager, job ops.Job) *ops.Op {
	t.Helper()
	op, err := m.Start(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	return op
}

// hold is a job that runs until release is called.
func hold(objects ...string) (job ops.Job, release func()) {
	gate := make(chan struct{})
	return ops.Job{Description: "Holding", Objects: objects, Cancelable: true, Run: func(ctx context.Context, _ *ops.Op) error {
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}, func() { close(gate) }
}

func TestEnds(t *testing.T) {
	tests := map[string]struct {
		err    error
		status api.StatusCode
		code   int64
		text   string
		logged bool
	}{
		"success":  {nil, api.Success, 0, "", false},
		"failure":  {errors.New("boom"), api.Failure, 500, "boom", true},
		"refused":  {errs.Conflictf("it runs"), api.Failure, 409, "it runs", false},
		"canceled": {errs.Newf(errs.Canceled, "gone"), api.Canceled, 499, "gone", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := ops.NewManager(t.Context(), quiet)
			var log bytes.Buffer
			m.Log = slog.New(slog.NewTextHandler(&log, nil))
			op := start(t, m, ops.Job{Run: func(context.Context, *ops.Op) error { return tt.err }})
			got := op.Wait(t.Context())
			if got.StatusCode != tt.status || got.Status != tt.status.String() || got.Err != tt.text || got.ErrCode != tt.code || got.Class != ops.Task || got.MayCancel {
				t.Errorf("got %+v", got)
			}
			m.Wait()
			if logged := log.Len() > 0; logged != tt.logged {
				t.Errorf("log: %s", &log)
			}
		})
	}
}

func TestPanicIsAFailure(t *testing.T) {
	m := ops.NewManager(t.Context(), quiet)
	var log bytes.Buffer
	m.Log = slog.New(slog.NewTextHandler(&log, nil))
	got := start(t, m, ops.Job{Run: func(context.Context, *ops.Op) error { panic("a bug") }}).Wait(t.Context())
	if got.StatusCode != api.Failure || got.Err != "panic: a bug" {
		t.Errorf("got %+v", got)
	}
	m.Wait()
	if !strings.Contains(log.String(), "ops_test.go") {
		t.Errorf("no stack in the log: %s", &log)
	}
}

func TestObjectsAreOneOperations(t *testing.T) {
	m := ops.NewManager(t.Context(), quiet)
	first, release := hold("instance/c1", "image/x")
	op := start(t, m, first)
	second, _ := hold("instance/c2", "instance/c1")
	if _, err := m.Start(t.Context(), second); !errs.Is(err, errs.Conflict) || err.Error() != "instance c1 is busy: Holding" {
		t.Errorf("got %v", err)
	}
	other, releaseOther := hold("instance/c2")
	start(t, m, other) // What was refused holds nothing.
	release()
	op.Wait(t.Context())
	third, releaseThird := hold("instance/c1")
	start(t, m, third)
	releaseOther()
	releaseThird()
	m.Wait()
}

func TestCancel(t *testing.T) {
	m := ops.NewManager(t.Context(), quiet)
	job, _ := hold()
	op := start(t, m, job)
	if err := op.Cancel(); err != nil {
		t.Fatal(err)
	}
	if got := op.Wait(t.Context()); got.StatusCode != api.Canceled || got.Err != "operation was cancelled" {
		t.Errorf("got %+v", got)
	}
	job, release := hold()
	job.Cancelable = false
	op = start(t, m, job)
	if err := op.Cancel(); !errs.Is(err, errs.Invalid) {
		t.Errorf("got %v", err)
	}
	release()
	m.Wait()
}

func TestToken(t *testing.T) {
	m := ops.NewManager(t.Context(), quiet)
	op := start(t, m, ops.Job{Class: ops.Token, Metadata: map[string]any{"secret": "x"}})
	if got := op.Describe(); !got.MayCancel || got.Metadata["secret"] != "x" || got.StatusCode != api.Running {
		t.Errorf("got %+v", got)
	}
	for range 2 { // The second changes nothing.
		if err := op.Cancel(); err != nil {
			t.Error(err)
		}
	}
	if got := op.Wait(t.Context()); got.StatusCode != api.Canceled {
		t.Errorf("got %+v", got)
	}
}

func TestShutdownEndsAll(t *testing.T) {
	ctx, shutDown := context.WithCancelCause(t.Context())
	m := ops.NewManager(ctx, quiet)
	job, _ := hold()
	job.Cancelable = false
	op := start(t, m, job)
	shutDown(errs.Newf(errs.Canceled, "the daemon is shutting down"))
	m.Wait()
	if got := op.Describe(); got.StatusCode != api.Canceled || !strings.Contains(got.Err, "shutting down") {
		t.Errorf("got %+v", got)
	}
	if _, err := m.Start(t.Context(), job); !errs.Is(err, errs.Unavailable) {
		t.Errorf("got %v", err)
	}
}

func TestOperationOutlivesItsRequest(t *testing.T) {
	m := ops.NewManager(t.Context(), quiet)
	request, end := context.WithCancel(t.Context())
	job, release := hold()
	op, err := m.Start(request, job)
	if err != nil {
		t.Fatal(err)
	}
	end()
	release()
	if got := op.Wait(t.Context()); got.StatusCode != api.Success {
		t.Errorf("got %+v", got)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	m := ops.NewManager(t.Context(), quiet)
	job, release := hold()
	op := start(t, m, job)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := op.Wait(ctx); got.StatusCode != api.Running {
		t.Errorf("got %+v", got)
	}
	release()
	m.Wait()
}

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := ops.NewManager(t.Context(), quiet)
		op := start(t, m, ops.Job{Run: func(context.Context, *ops.Op) error { return nil }})
		m.Wait()
		time.Sleep(ops.Retention - time.Millisecond)
		if _, err := m.Get(op.ID); err != nil || len(m.List()) != 1 {
			t.Errorf("before: %v", err)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if _, err := m.Get(op.ID); !errs.Is(err, errs.NotFound) || len(m.List()) != 0 {
			t.Errorf("after: %v", err)
		}
	})
}

func TestPublishedInOrder(t *testing.T) {
	var mu sync.Mutex
	var got []string
	m := ops.NewManager(t.Context(), func(_, typ string, v any) {
		mu.Lock()
		defer mu.Unlock()
		op, ok := v.(api.Operation)
		if !ok || typ != "operation" {
			t.Errorf("published %s %v", typ, v)
		}
		progress, _ := op.Metadata["progress"].(string)
		got = append(got, op.Status+progress)
	})
	start(t, m, ops.Job{Run: func(_ context.Context, op *ops.Op) error {
		op.SetMetadata("progress", " 50%")
		return nil
	}})
	m.Wait()
	if s := strings.Join(got, ", "); s != "Running, Running 50%, Success 50%" {
		t.Errorf("got %s", s)
	}
}

func TestOneProgressAtATime(t *testing.T) {
	m := ops.NewManager(t.Context(), quiet)
	o := start(t, m, ops.Job{Run: func(_ context.Context, op *ops.Op) error {
		op.SetMetadata("fingerprint", "f")
		op.SetMetadata("build_image_progress", "building")
		op.SetMetadata("unpack_progress", "1%")
		op.SetMetadata("unpack_progress", "2%")
		return nil
	}})
	m.Wait()
	got := o.Describe().Metadata
	if len(got) != 2 || got["unpack_progress"] != "2%" || got["fingerprint"] != "f" {
		t.Errorf("got %v", got)
	}
}

func TestConnect(t *testing.T) {
	m := ops.NewManager(t.Context(), quiet)
	job, release := hold()
	upgrade := func() (*ws.Conn, error) { return nil, errors.New("upgraded") }
	if err := start(t, m, job).Connect(t.Context(), "s", upgrade); !errs.Is(err, errs.Invalid) {
		t.Errorf("a task: %v", err)
	}
	job.Class = ops.Websocket
	job.Connect = func(_ context.Context, secret string, upgrade ops.Upgrade) error {
		_, err := upgrade()
		return errors.Join(err, errors.New(secret))
	}
	if err := start(t, m, job).Connect(t.Context(), "s", upgrade); err == nil || err.Error() != "upgraded\ns" {
		t.Errorf("got %v", err)
	}
	release()
	m.Wait()
}
