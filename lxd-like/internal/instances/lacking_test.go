package instances_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// TestRestoreLacking puts back a snapshot of a time when the host had a directory
// and a device node that it lacks by now.
func TestRestoreLacking(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{false, true} {
		w := newWorld(t)
		ctx := t.Context()
		dir, node := filepath.Join(w.dir, "data"), filepath.Join(w.dir, "node")
		must(t, os.Mkdir(dir, 0o700))
		must(t, os.WriteFile(node, nil, 0o600))
		req := post("c1", false)
		req.Devices = api.DevicesMap{
			"data": {"type": "disk", "source": dir, "path": "/data"},
			"node": {"type": "disk", "source": node, "path": "/node"},
		}
		w.ok(w.svc.Create(ctx, req))
		w.write("c1", "then")
		w.snapshot("s1")
		must(t, w.updateNow(ctx, "c1", api.InstancePut{Profiles: []string{"default"}}))
		w.write("c1", "now")
		if running {
			w.state("c1", "start", true)
		}
		must(t, os.Remove(dir))
		must(t, os.Remove(node))

		job, err := w.update(ctx, "c1", api.InstancePut{Restore: "s1"})
		must(t, err)
		op, err := ops.NewManager(ctx, func(string, string, any) {}).Start(ctx, job)
		must(t, err)
		got := op.Wait(context.WithoutCancel(ctx))
		warning, _ := got.Metadata[api.OperationWarning].(string)
		for _, what := range []string{`device "data": source: there is no ` + dir, `device "node": source: there is no ` + node} {
			if !strings.Contains(warning, what) {
				t.Errorf("it warns of %q, and not that %s", warning, what)
			}
		}
		if got.Err != "" != running || running && !strings.Contains(got.Err, `start again: device "data"`) {
			t.Errorf("ran %t: got error %q", running, got.Err)
		}
		in, err := w.svc.Get(ctx, "c1")
		must(t, err)
		if in.Devices["data"]["source"] != dir || in.Status != "Stopped" || !strings.Contains(w.dump(), "volume instance/c1 says then") {
			t.Errorf("it is %+v:\n%s", in, w.dump())
		}
		_, err = w.do(w.svc.SetState(ctx, "c1", api.InstanceStatePut{Action: "start"}))
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), `device "data"`) {
			t.Errorf("it starts: %v", err)
		}
		must(t, os.Mkdir(dir, 0o700))
		must(t, os.WriteFile(node, nil, 0o600))
		w.state("c1", "start", true)
	}
}
