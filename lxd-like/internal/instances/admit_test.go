package instances_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/projects"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// limited is a world in which p limits and restricts what is in it.
func limited(t *testing.T, config map[string]string) (*world, *projects.Service) {
	t.Helper()
	w := newWorld(t)
	s := &projects.Service{DB: w.db, Events: &events.Hub{}, Log: slog.New(slog.DiscardHandler)}
	must(t, s.Open(t.Context()))
	w.db.Admitter, w.svc.Rules = s, s
	must(t, s.Create(t.Context(), api.ProjectsPost{Name: "p", ProjectPut: api.ProjectPut{Config: config}}))
	must(t, w.svc.UpdateProfile(t.Context(), "p%default", api.ProfilePut{Devices: api.DevicesMap{
		"root": {"type": "disk", "path": "/", "pool": "p"},
		"eth0": {"type": "nic", "network": "n", "name": "eth0"},
	}}))
	return w, s
}

// refused wants an error that comes before anything is changed.
func (w *world) refused(what string, job func() error, words ...string) {
	w.tb.Helper()
	before := w.dump()
	err := job()
	if !errs.Is(err, errs.Denied) {
		w.tb.Errorf("%s: got %v, want it refused", what, err)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			w.tb.Errorf("%s: %q does not say %q", what, err, word)
		}
	}
	if after := w.dump(); after != before {
		w.tb.Errorf("%s has left\n%s\nof\n%s", what, after, before)
	}
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	w, s := limited(t, map[string]string{"limits.instances": "2", "restricted": "true", "restricted.snapshots": "allow", "network.hwaddr_pattern": "02:00:5e:xx:xx:xx"})
	create := func(req api.InstancesPost) func() error {
		return func() error {
			_, err := w.do(w.svc.Create(t.Context(), req))
			return err
		}
	}
	w.create("p_c1", true)
	in, err := w.svc.Get(t.Context(), "p_c1")
	must(t, err)
	if mac := in.Config["volatile.eth0.hwaddr"]; !strings.HasPrefix(mac, "02:00:5e:") {
		t.Errorf("the address is %q", mac)
	}

	nested := post("p_c2", false)
	nested.Config = api.ConfigMap{"security.nesting": "true"}
	w.refused("create", create(nested), `instance "c2"`, "restricted.containers.nesting=block")
	named := post("p_c2", false)
	named.Config = api.ConfigMap{"volatile.eth0.hwaddr": "02:00:5e:00:00:01"}
	w.refused("create with an address", create(named), "volatile.eth0.hwaddr", "restricted.containers.lowlevel=block")

	put := api.InstancePut{Config: in.Config, Devices: in.Devices, Profiles: in.Profiles, Architecture: in.Architecture}
	must(t, w.updateNow(t.Context(), "p_c1", put)) // What was read can be sent back.
	put.Config = api.ConfigMap{"security.privileged": "true"}
	w.refused("update", func() error { return w.updateNow(t.Context(), "p_c1", put) }, "restricted.containers.privilege")
	put.Config = api.ConfigMap{"volatile.eth0.hwaddr": "02:00:5e:00:00:01"}
	w.refused("update of an address", func() error { return w.updateNow(t.Context(), "p_c1", put) }, "restricted.containers.lowlevel")
	put.Config, put.Devices = nil, api.DevicesMap{"h": {"type": "disk", "path": "/h", "source": t.TempDir()}}
	w.refused("a disk of the host", func() error { return w.updateNow(t.Context(), "p_c1", put) }, `device "h"`, "restricted.devices.disk=managed")
	w.refused("a profile", func() error {
		return w.svc.UpdateProfile(t.Context(), "p%default", api.ProfilePut{Config: api.ConfigMap{"security.nesting": "true"}, Devices: api.DevicesMap{"root": {"type": "disk", "path": "/", "pool": "p"}}})
	}, `profile "default"`, "restricted.containers.nesting")

	w.create("p_c2", false)
	w.refused("one too many", create(post("p_c3", false)), "limits.instances=2", "3 would be in use")
	w.refused("a copy", create(api.InstancesPost{Name: "p_c3", Source: api.InstanceSource{Type: "copy", Source: "p_c2"}}), "limits.instances=2")
	w.create("c3", false) // Of the default project.

	// What a snapshot remembers can be forbidden by now.
	must(t, s.Update(t.Context(), "p", api.ProjectPut{Config: map[string]string{"restricted": "false"}}))
	put.Config, put.Devices = api.ConfigMap{"security.nesting": "true"}, nil
	w.state("p_c1", "stop", true)
	must(t, w.updateNow(t.Context(), "p_c1", put))
	w.ok(w.svc.CreateSnapshot(t.Context(), "p_c1", api.InstanceSnapshotsPost{Name: "s"}))
	put.Config = nil
	must(t, w.updateNow(t.Context(), "p_c1", put))
	must(t, s.Update(t.Context(), "p", api.ProjectPut{Config: map[string]string{"restricted": "true"}}))
	w.refused("restore", func() error {
		_, err := w.do(w.update(t.Context(), "p_c1", api.InstancePut{Restore: "s"}))
		return err
	}, "restricted.containers.nesting")
	w.refused("a snapshot", func() error {
		_, err := w.do(w.svc.CreateSnapshot(t.Context(), "p_c1", api.InstanceSnapshotsPost{Name: "t"}))
		return err
	}, "restricted.snapshots=block")
}

// TestAdmissionAtOnce makes many instances at once, of which few can be.
func TestAdmissionAtOnce(t *testing.T) {
	t.Parallel()
	w, _ := limited(t, map[string]string{"limits.instances": "3"})
	var wg sync.WaitGroup
	var made atomic.Int64
	for i := range 12 {
		wg.Go(func() {
			job, err := w.svc.Create(t.Context(), post(fmt.Sprintf("p_c%d", i), false))
			if err == nil {
				err = job.Run(t.Context(), nil)
			}
			switch {
			case err == nil:
				made.Add(1)
			case !errs.Is(err, errs.Denied):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var rows []db.Instance
	must(t, w.db.View(t.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		rows, err = db.InstancesOf(ctx, tx, "p")
		return err
	}))
	if len(rows) != 3 || made.Load() != 3 {
		t.Errorf("%d were made and %d are there, want 3", made.Load(), len(rows))
	}
}
