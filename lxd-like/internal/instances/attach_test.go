package instances_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// fakeDisks has the volumes v and w and the disc d in the pool p, and says who
// uses them.
type fakeDisks struct {
	fakeVolumes

	users    sync.Mutex // Guards attached.
	attached map[string]bool
}

func (*fakeDisks) Look(_ context.Context, pool, source string) (api.StorageVolume, error) {
	name, _, _ := strings.Cut(source, "/")
	if pool != "p" || name != "v" && name != "w" && name != "d" {
		return api.StorageVolume{}, errs.NotFoundf("volume %q not found in storage pool %q", name, pool)
	}
	v := api.StorageVolume{Name: name, ContentType: "filesystem"}
	if name == "d" {
		v.ContentType = "iso"
	}
	if name == "w" {
		v.Config = api.ConfigMap{"security.unmapped": "true"}
	}
	return v, nil
}

func (f *fakeDisks) Attach(ctx context.Context, pool, source, instance, device string) (string, error) {
	if err := f.w.Step("Attach"); err != nil {
		return "", err
	}
	if _, err := f.Look(ctx, pool, source); err != nil {
		return "", err
	}
	f.users.Lock()
	defer f.users.Unlock()
	f.attached[source+" "+instance+" "+device] = true
	return "/pools/" + pool + "/" + source, nil
}

func (f *fakeDisks) Detach(_ context.Context, _, source, instance, device string) error {
	f.users.Lock()
	defer f.users.Unlock()
	delete(f.attached, source+" "+instance+" "+device)
	return f.w.Step("Detach") // It stays mounted, and nobody has it.
}

// who says who has what.
func (f *fakeDisks) who() string {
	f.users.Lock()
	defer f.users.Unlock()
	all := []string{}
	for user := range f.attached {
		all = append(all, user)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func volumeDisk(source string, more ...string) api.ConfigMap {
	dev := api.ConfigMap{"type": "disk", "pool": "p", "source": source, "path": "/" + strings.ReplaceAll(source, "/", "-")}
	for i := 0; i < len(more); i += 2 {
		dev[more[i]] = more[i+1]
	}
	return dev
}

// setDevices gives c1 its devices.
func (w *world) setDevices(devices api.DevicesMap) error {
	return w.updateNow(w.tb.Context(), "c1", api.InstancePut{Profiles: []string{"default"}, Devices: devices})
}

func TestVolumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", false)
	must(t, w.setDevices(api.DevicesMap{
		"v": volumeDisk("v"), "old": volumeDisk("v/s0"), "w": volumeDisk("w", "readonly", "true"), "d": volumeDisk("d"), "none": volumeDisk("x", "required", "false"),
	}))
	if got := w.disks.who(); got != "" {
		t.Errorf("used before the start: %s", got)
	}
	w.state("c1", "start", false)
	if got := w.disks.who(); got != "d c1 d, v c1 v, v/s0 c1 old, w c1 w" {
		t.Errorf("used: %s", got)
	}
	var got []string
	for _, m := range w.rt.running["c1"].spec.Mounts {
		got = append(got, fmt.Sprintf("%s %s read-only=%t mapped=%t", m.Source, m.Target, m.ReadOnly, m.Mapped))
	}
	want := []string{
		"/pools/p/d /d read-only=true mapped=false", "/pools/p/v /v read-only=false mapped=true",
		"/pools/p/v/s0 /v-s0 read-only=true mapped=true", "/pools/p/w /w read-only=true mapped=false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("mounts %q, want %q", got, want)
	}

	// Another daemon, which the instance has outlived.
	w.disks.attached = map[string]bool{}
	w.boot()
	if got := w.disks.who(); got != "d c1 d, v c1 v, v/s0 c1 old, w c1 w" {
		t.Errorf("used after a restart of the daemon: %s", got)
	}
	must(t, w.setDevices(api.DevicesMap{"v": volumeDisk("v")}))
	if got := w.disks.who(); got != "v c1 v" {
		t.Errorf("used after a change: %s", got)
	}
	w.state("c1", "stop", true)
	if got := w.disks.who(); got != "" {
		t.Errorf("used after the end: %s", got)
	}
	err := w.setDevices(api.DevicesMap{"x": volumeDisk("x")})
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), `device "x": source: volume "x" not found in storage pool "p"`) {
		t.Errorf("a volume that is not there: %v", err)
	}
}

// TestVolumesOfMissingPool starts an instance when the pool of its volume
// appears.
func TestVolumesOfMissingPool(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", false)
	must(t, w.setDevices(api.DevicesMap{"v": volumeDisk("v")}))
	w.state("c1", "start", false)
	delete(w.rt.running, "c1") // The host goes down.
	w.boot()
	must(t, w.svc.PoolAppeared(t.Context(), "p"))
	if got := w.disks.who(); w.rt.running["c1"] == nil || got != "v c1 v" {
		t.Errorf("used: %q", got)
	}
	must(t, w.svc.PoolAppeared(t.Context(), "p"))
}

func TestFrozen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", true)
	w.create("c2", true)
	w.create("c3", false)
	must(t, w.svc.Frozen(t.Context(), []string{"c1", "c3"}, func() error {
		if !w.rt.running["c1"].frozen || w.rt.running["c2"].frozen {
			t.Error("the wrong ones are frozen")
		}
		return nil
	}))
	if w.rt.running["c1"].frozen {
		t.Error("it is still frozen")
	}
}

// TestFrozenWhenKilled tests that the next daemon lets those go on that one had
// frozen when it was killed, and no others.
func TestFrozenWhenKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", true)
	w.create("c2", true)
	w.state("c2", "freeze", false)
	must(t, w.svc.Frozen(t.Context(), []string{"c1", "c2"}, func() error {
		w.boot()
		if w.rt.running["c1"].frozen || !w.rt.running["c2"].frozen {
			t.Error("the wrong ones are frozen")
		}
		return nil
	}))
}

// volumeChanges are those with volumes; see [changes].
func volumeChanges() map[string]change {
	none := func(w *world, dump string) bool { return !runs(dump, "c1") && w.disks.who() == "" }
	return map[string]change{
		"start with volumes": {
			prepare: func(w *world) {
				w.create("c1", false)
				must(w.tb, w.setDevices(api.DevicesMap{"v": volumeDisk("v"), "w": volumeDisk("w")}))
			},
			act:    setState("start"),
			done:   func(w *world, dump string) bool { return runs(dump, "c1") && w.disks.who() == "v c1 v, w c1 w" },
			onward: none,
		},
		"give volumes to one that runs": {
			prepare: func(w *world) {
				w.create("c1", true)
				must(w.tb, w.setDevices(api.DevicesMap{"v": volumeDisk("v")}))
			},
			act: func(w *world) (ops.Job, error) {
				return job(func() error { return w.setDevices(api.DevicesMap{"v": volumeDisk("w"), "x": volumeDisk("v")}) }), nil
			},
			done: func(w *world, _ string) bool { return w.disks.who() == "v c1 x, w c1 v" },
			onward: func(w *world, dump string) bool {
				return runs(dump, "c1") && strings.Contains(dump, "/v eth0") && w.disks.who() == "v c1 v"
			},
		},
	}
}

func TestVolumesFailAnywhere(t *testing.T) {
	t.Parallel()
	for name, c := range volumeChanges() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				w := newWorld(t)
				c.prepare(w)
				w.Arm(n, false)
				_, err := w.do(c.act(w))
				if !w.Disarm() {
					must(t, err)
					if after := w.dump(); !c.done(w, after) {
						t.Fatalf("it is not done: %s\n%s", w.disks.who(), after)
					}
					return
				}
				w.rt.exits.Wait()
				if after := w.dump(); err == nil && !c.done(w, after) || err != nil && !c.onward(w, after) {
					t.Fatalf("call %d failed (%v), and left something: %s\n%s", n, err, w.disks.who(), after)
				}
			}
		})
	}
}

func TestVolumesCrashAnywhere(t *testing.T) {
	t.Parallel()
	for name, c := range volumeChanges() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				w := newWorld(t)
				c.prepare(w)
				w.Arm(n, true)
				_, err := w.do(c.act(w))
				if !w.Disarm() {
					must(t, err)
					return
				}
				w.disks.attached = map[string]bool{} // Who uses what, the next daemon has to find out.
				w.boot()
				after := w.dump()
				// What was changed in a running container is not taken back.
				if !runs(after, "c1") && w.disks.who() != "" || runs(after, "c1") && w.disks.who() == "" {
					t.Fatalf("after a crash at call %d: %s\n%s", n, w.disks.who(), after)
				}
			}
		})
	}
}
