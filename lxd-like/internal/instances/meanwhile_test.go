package instances_test

import (
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// unless is a change to put of what has the given description, and of nothing else.
func unless(description string, put api.InstancePut) instances.Change[api.InstancePut] {
	return func(now api.InstancePut) (api.InstancePut, error) {
		if now.Description != description {
			return put, errs.Newf(errs.Stale, "it is %q", now.Description)
		}
		return put, nil
	}
}

// TestChangedMeanwhile has somebody else change an instance between a request and
// its operation: what was written for the instance as it was is not done.
func TestChangedMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.create("c1", true)
	w.ok(w.svc.CreateSnapshot(ctx, "c1", api.InstanceSnapshotsPost{Name: "s"}))
	put := api.InstancePut{Profiles: []string{"default"}, Description: "mine"}
	restore := api.InstancePut{Restore: "s"}
	jobs := map[string]ops.Job{}
	for what, change := range map[string]instances.Change[api.InstancePut]{"update": unless("", put), "restore": unless("", restore)} {
		job, err := w.svc.Update(ctx, "c1", change)
		must(t, err)
		jobs[what] = job
		_, err = w.svc.Update(ctx, "c1", unless("other", put))
		if !errs.Is(err, errs.Stale) {
			t.Errorf("%s of what was changed before: %v", what, err)
		}
	}
	put.Description = "theirs"
	must(t, w.updateNow(ctx, "c1", put))
	before := w.dump()
	for what, job := range jobs {
		if _, err := w.do(job, nil); !errs.Is(err, errs.Stale) {
			t.Errorf("%s: %v", what, err)
		}
		if after := w.dump(); after != before {
			t.Errorf("%s: there was\n%sand is\n%s", what, before, after)
		}
	}
	in, err := w.svc.Get(ctx, "c1")
	must(t, err)
	if in.Description != "theirs" || in.StatusCode != api.Running {
		t.Errorf("it is %q, %s", in.Description, in.Status)
	}
}

// TestSnapshotChangedMeanwhile is the same for a snapshot.
func TestSnapshotChangedMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.create("c1", false)
	w.ok(w.svc.CreateSnapshot(ctx, "c1", api.InstanceSnapshotsPost{Name: "s"}))
	update := func(was, is string) (ops.Job, error) {
		return w.svc.UpdateSnapshot(ctx, "c1", "s", func(now api.InstanceSnapshotPut) (api.InstanceSnapshotPut, error) {
			if now.Description != was {
				return now, errs.Newf(errs.Stale, "it is %q", now.Description)
			}
			now.Description = is
			return now, nil
		})
	}
	mine, err := update("", "mine")
	must(t, err)
	w.ok(update("", "theirs"))
	if _, err := w.do(mine, nil); !errs.Is(err, errs.Stale) {
		t.Errorf("got %v", err)
	}
	if _, err := update("", "mine"); !errs.Is(err, errs.Stale) {
		t.Errorf("got %v", err)
	}
	snap, err := w.svc.Snapshot(ctx, "c1", "s")
	must(t, err)
	if snap.Description != "theirs" {
		t.Errorf("it is %q", snap.Description)
	}
}

// TestChangedTogether has several change a part of one instance at once: nothing is
// lost.
func TestChangedTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", false)
	const many = 8
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			err := w.svc.UpdateNow(t.Context(), "c1", func(now api.InstancePut) (api.InstancePut, error) {
				now.Config = maps.Clone(now.Config)
				now.Config[fmt.Sprintf("user.%d", i)] = "x"
				return now, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	in, err := w.svc.Get(t.Context(), "c1")
	must(t, err)
	for i := range many {
		if in.Config[fmt.Sprintf("user.%d", i)] != "x" {
			t.Errorf("the instance has %v", in.Config)
		}
	}
}
