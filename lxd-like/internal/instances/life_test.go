package instances_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("up", true)
	w.create("down", false)
	w.create("kept", false)
	must(t, w.updateNow(t.Context(), "kept", api.InstancePut{
		Profiles: []string{"default"}, Config: api.ConfigMap{"security.protection.delete": "true", "security.protection.start": "true"},
	}))
	with := func(name string, change func(*api.InstancesPost)) func() error {
		return func() error {
			req := post(name, false)
			change(&req)
			_, err := w.svc.Create(t.Context(), req)
			return err
		}
	}
	state := func(name, action string) func() error {
		return func() error {
			_, err := w.svc.SetState(t.Context(), name, api.InstanceStatePut{Action: action})
			return err
		}
	}
	for name, c := range map[string]struct {
		call func() error
		kind errs.Kind
		want string
	}{
		"bad name":        {with("a.b", func(*api.InstancesPost) {}), errs.Invalid, `"a.b"`},
		"name taken":      {with("up", func(*api.InstancesPost) {}), errs.Conflict, "up"},
		"unknown profile": {with("x", func(r *api.InstancesPost) { r.Profiles = []string{"no"} }), errs.Invalid, `"no"`},
		"profile twice":   {with("x", func(r *api.InstancesPost) { r.Profiles = []string{"default", "default"} }), errs.Invalid, "twice"},
		"unknown key":     {with("x", func(r *api.InstancesPost) { r.Config = api.ConfigMap{"limits.cpus": "1"} }), errs.Invalid, "limits.cpu"},
		"bad value":       {with("x", func(r *api.InstancesPost) { r.Config = api.ConfigMap{"limits.memory": "much"} }), errs.Invalid, "limits.memory"},
		"bad device":      {with("x", func(r *api.InstancesPost) { r.Devices = api.DevicesMap{"d": {"type": "gpu"}} }), errs.Invalid, `"d"`},
		"source is missing": {with("x", func(r *api.InstancesPost) {
			r.Devices = api.DevicesMap{"d": {"type": "disk", "path": "/d", "source": "/no/such"}}
		}), errs.Invalid, "/no/such"},
		"no such network": {with("x", func(r *api.InstancesPost) { r.Devices = api.DevicesMap{"e": {"type": "nic", "network": "no"}} }), errs.Invalid, `"no"`},
		"address elsewhere": {with("x", func(r *api.InstancesPost) {
			r.Devices = api.DevicesMap{"eth0": {"type": "nic", "network": "n", "ipv4.address": "192.0.2.1"}}
		}), errs.Invalid, "192.0.2.1"},
		"no such pool": {with("x", func(r *api.InstancesPost) {
			r.Devices = api.DevicesMap{"root": {"type": "disk", "path": "/", "pool": "no"}}
		}), errs.Invalid, `"no"`},
		"no such image":      {with("x", func(r *api.InstancesPost) { r.Source.Alias = "no" }), errs.NotFound, `"no"`},
		"a virtual machine":  {with("x", func(r *api.InstancesPost) { r.Type = "virtual-machine" }), errs.Invalid, "virtual-machine"},
		"no source":          {with("x", func(r *api.InstancesPost) { r.Source = api.InstanceSource{} }), errs.Invalid, "source.type"},
		"copy of nothing":    {with("x", func(r *api.InstancesPost) { r.Source = api.InstanceSource{Type: "copy", Source: "no"} }), errs.NotFound, `"no"`},
		"other architecture": {with("x", func(r *api.InstancesPost) { r.Architecture = "s390x" }), errs.Invalid, "s390x"},
		"start a running":    {state("up", "start"), errs.Conflict, "running"},
		"stop a stopped":     {state("down", "stop"), errs.Conflict, "not running"},
		"unfreeze":           {state("up", "unfreeze"), errs.Conflict, "not frozen"},
		"start a protected":  {state("kept", "start"), errs.Conflict, "security.protection.start"},
		"unknown action":     {state("up", "explode"), errs.Invalid, "explode"},
		"no instance":        {state("no", "start"), errs.NotFound, `"no"`},
		"delete a running":   {func() error { _, err := w.svc.Delete(t.Context(), "up"); return err }, errs.Conflict, "running"},
		"delete a protected": {func() error { _, err := w.svc.Delete(t.Context(), "kept"); return err }, errs.Conflict, "security.protection.delete"},
		"rename a running": {func() error {
			_, err := w.svc.Rename(t.Context(), "up", api.InstancePost{Name: "x"})
			return err
		}, errs.Conflict, "running"},
		"rename to a taken": {func() error {
			_, err := w.svc.Rename(t.Context(), "down", api.InstancePost{Name: "up"})
			return err
		}, errs.Conflict, "up"},
		"move the root": {func() error {
			return w.updateNow(t.Context(), "down", api.InstancePut{Devices: api.DevicesMap{"root": {"type": "disk", "path": "/", "pool": "no"}}})
		}, errs.Invalid, `"no"`},
		"no root": {func() error {
			return w.updateNow(t.Context(), "down", api.InstancePut{Profiles: []string{}})
		}, errs.Invalid, "root disk"},
		"snapshot name": {func() error {
			_, err := w.svc.CreateSnapshot(t.Context(), "up", api.InstanceSnapshotsPost{Name: "a/b"})
			return err
		}, errs.Invalid, "a/b"},
		"restore nothing": {func() error {
			_, err := w.update(t.Context(), "up", api.InstancePut{Restore: "no"})
			return err
		}, errs.NotFound, "no"},
		"delete the default profile": {func() error { return w.svc.DeleteProfile(t.Context(), "default") }, errs.Denied, "default"},
		"profile of an instance's key": {func() error {
			return w.svc.CreateProfile(t.Context(), api.ProfilesPost{Name: "x", ProfilePut: api.ProfilePut{Config: api.ConfigMap{"volatile.uuid": "x"}}})
		}, errs.Invalid, "volatile.uuid"},
		"profile without root": {func() error { return w.svc.UpdateProfile(t.Context(), "default", api.ProfilePut{}) }, errs.Invalid, "root disk"},
	} {
		before := w.dump()
		err := c.call()
		if !errs.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want one of kind %d with %q", name, err, c.kind, c.want)
		}
		if after := w.dump(); after != before {
			t.Errorf("%s: it left something:\n%s", name, after)
		}
	}
}

func TestFirstUseMakesWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pools.names, w.nets.names = nil, nil
	must(t, w.svc.UpdateProfile(t.Context(), "default", api.ProfilePut{}))
	w.create("c1", true)
	in, err := w.svc.Get(t.Context(), "c1")
	must(t, err)
	if root := in.ExpandedDevices["root"]; root["pool"] != "default" {
		t.Errorf("root disk is %v", root)
	}
	if eth0 := in.ExpandedDevices["eth0"]; eth0["network"] != "cuibbr0" {
		t.Errorf("NIC is %v", eth0)
	}
	if len(in.Devices) != 0 {
		t.Errorf("its own devices are %v, want none", in.Devices)
	}
}

// TestFirstUseFailsAndGoesOn cannot make the network at first.
func TestFirstUseFailsAndGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pools.names, w.nets.names = nil, nil
	w.nets.others = []string{"cuibbr0"} // An interface of the host.
	must(t, w.svc.UpdateProfile(t.Context(), "default", api.ProfilePut{}))
	_, err := w.do(w.svc.Create(t.Context(), post("c1", false)))
	if !errs.Is(err, errs.Conflict) || len(w.pools.names) > 0 {
		t.Errorf("got %v, and the pools %v", err, w.pools.names)
	}
	w.nets.others = nil
	w.create("c1", false)
	in, err := w.svc.Get(t.Context(), "c1")
	must(t, err)
	if in.ExpandedDevices["root"] == nil || in.ExpandedDevices["eth0"] == nil {
		t.Errorf("devices are %v", in.ExpandedDevices)
	}
}

func TestNameIsMadeUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	job, err := w.svc.Create(t.Context(), post("", false))
	w.ok(job, err)
	names, err := w.svc.Names(t.Context(), "")
	must(t, err)
	if len(names) != 1 || job.Resources["instances"][0] != "/1.0/instances/"+names[0] {
		t.Errorf("names are %v, resources %v", names, job.Resources)
	}
}

func TestRestartsAndEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	status := func(name string) string {
		t.Helper()
		in, err := w.svc.Get(t.Context(), name)
		if errs.Is(err, errs.NotFound) {
			return "gone"
		}
		must(t, err)
		return in.Status
	}
	w.create("c1", true)
	expect := func(what, want string) {
		t.Helper()
		w.rt.exits.Wait()
		if got := status("c1"); got != want {
			t.Errorf("%s: it is %s, want %s", what, got, want)
		}
	}
	w.state("c1", "freeze", false)
	expect("freeze", "Frozen")
	w.state("c1", "start", false)
	expect("start of a frozen one", "Running")
	w.state("c1", "restart", true)
	expect("restart", "Running")
	w.rt.exit("c1", runtime.Exit{Reboot: true})
	expect("reboot of the guest", "Running")
	w.state("c1", "freeze", false)
	w.state("c1", "stop", false)
	expect("stop", "Stopped")
	w.state("c1", "start", false)
	w.rt.exit("c1", runtime.Exit{Status: 130})
	expect("shutdown of the guest", "Stopped")

	must(t, w.updateNow(t.Context(), "c1", api.InstancePut{Profiles: []string{"default"}, Config: api.ConfigMap{"boot.autorestart": "true"}}))
	w.state("c1", "start", false)
	w.rt.exit("c1", runtime.Exit{Status: 130})
	expect("shutdown of one that restarts", "Stopped")
	w.state("c1", "start", false)
	for n := 1; n < 10; n++ {
		w.rt.exit("c1", runtime.Exit{Status: 139})
		expect("death", "Running")
	}
	w.rt.exit("c1", runtime.Exit{Status: 139})
	expect("death again and again", "Stopped")

	must(t, w.updateNow(t.Context(), "c1", api.InstancePut{Profiles: []string{"default"}, Ephemeral: true}))
	w.state("c1", "start", false)
	w.state("c1", "restart", false)
	expect("restart of an ephemeral one", "Running")
	w.rt.exit("c1", runtime.Exit{Status: 130})
	expect("end of an ephemeral one", "gone")
}

func TestStopThatTheGuestDoesNotHear(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", true)
	w.rt.deaf = true
	_, err := w.do(w.svc.SetState(t.Context(), "c1", api.InstanceStatePut{Action: "restart", Timeout: 1}))
	if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("got %v, want a word on --force", err)
	}
	w.rt.exit("c1", runtime.Exit{Status: 130})
	w.rt.exits.Wait()
	if dump := w.dump(); runs(dump, "c1") || !strings.Contains(dump, "power STOPPED") {
		t.Errorf("it runs again, or says so:\n%s", dump)
	}
}

func TestAutostart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, value := range map[string]string{"never": "false", "always": "true", "before": "", "not": ""} {
		w.create(name, name == "never" || name == "before")
		must(t, w.updateNow(t.Context(), name, api.InstancePut{Profiles: []string{"default"}, Config: api.ConfigMap{"boot.autostart": value}}))
	}
	w.rt.mu.Lock()
	clear(w.rt.running) // The host lost its power.
	w.rt.mu.Unlock()
	for _, v := range w.pool.Mounted() {
		must(t, w.pool.Unmount(t.Context(), v))
	}
	w.boot()
	w.autostart()
	dump := w.dump()
	for name, want := range map[string]bool{"never": false, "always": true, "before": true, "not": false} {
		if runs(dump, name) != want {
			t.Errorf("%s runs: %t, want %t", name, !want, want)
		}
	}
}

func TestAutostartIsDecidedBeforeRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	autostart := func(value string) api.InstancePut {
		return api.InstancePut{Profiles: []string{"default"}, Config: api.ConfigMap{"boot.autostart": value}}
	}
	for _, name := range []string{"later", "gone", "first"} {
		w.create(name, false)
	}
	must(t, w.updateNow(t.Context(), "gone", autostart("true")))
	must(t, w.updateNow(t.Context(), "first", autostart("true")))
	w.boot()
	names, err := w.svc.ToStart(t.Context())
	must(t, err)
	must(t, w.updateNow(t.Context(), "later", autostart("true")))
	w.ok(w.svc.Delete(t.Context(), "gone"))
	must(t, w.svc.Autostart(t.Context(), names))
	if dump := w.dump(); runs(dump, "later") || !runs(dump, "first") {
		t.Errorf("what was decided is not what runs:\n%s", dump)
	}
}

// TestStartOfWhatHasJustEnded starts an instance that has ended, before what
// follows that is done.
func TestStartOfWhatHasJustEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", true)
	w.rt.mu.Lock()
	c := w.rt.running["c1"]
	delete(w.rt.running, "c1")
	w.rt.mu.Unlock()
	w.rt.exits.Go(func() {
		time.Sleep(50 * time.Millisecond) // Or else the start might come too late to fail.
		c.onExit(runtime.Exit{Status: 137})
	})
	w.state("c1", "start", false)
	w.rt.exits.Wait()
	if dump := w.dump(); !runs(dump, "c1") {
		t.Errorf("it does not run:\n%s", dump)
	}
}

// TestWhatWasFoundIsNotAutostarted has an instance end that ran when the daemon
// came, and asks what to start before that end is on record.
func TestWhatWasFoundIsNotAutostarted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", true)
	w.boot()
	var asked []string
	w.pool.Fail = func(method string) error {
		names, err := w.svc.ToStart(t.Context())
		if err != nil || len(names) > 0 {
			t.Errorf("to start in the middle of its end: %q, %v", names, err)
		}
		asked = append(asked, method)
		return nil
	}
	w.rt.exit("c1", runtime.Exit{Status: 137})
	w.rt.exits.Wait()
	if len(asked) == 0 {
		t.Error("its end is not noticed")
	}
}

func TestRunningInstancesAreFoundAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", true)
	before := w.dump()
	w.boot()
	if after := w.dump(); after != before {
		t.Fatalf("it is not as before:\n%s", after)
	}
	w.state("c1", "stop", true)
	w.state("c1", "start", false)
	w.create("c2", true)
	if w.rt.running["c1"].spec.IDs.Overlaps(w.rt.running["c2"].spec.IDs) {
		t.Error("two instances have the same ids")
	}
}

func TestBulkState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", true)
	w.create("c2", true)
	w.create("c3", false)
	w.ok(w.svc.SetStates(t.Context(), "default", api.InstanceStatePut{Action: "stop", Force: true}))
	if dump := w.dump(); strings.Contains(dump, "running ") {
		t.Errorf("some run:\n%s", dump)
	}
	w.ok(w.svc.SetStates(t.Context(), "default", api.InstanceStatePut{Action: "start"}))
	if dump := w.dump(); strings.Count(dump, "running ") != 3 {
		t.Errorf("not all run:\n%s", dump)
	}
}

func TestUpdateKeepsWhatIsTheDaemons(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", true)
	before, err := w.svc.Get(t.Context(), "c1")
	must(t, err)
	must(t, w.updateNow(t.Context(), "c1", api.InstancePut{
		Profiles: []string{"default"}, Config: api.ConfigMap{"user.x": "1", "volatile.uuid": "mine", "volatile.idmap.base": "0"},
	}))
	after, err := w.svc.Get(t.Context(), "c1")
	must(t, err)
	for k, v := range before.Config {
		if strings.HasPrefix(k, "volatile.") && after.Config[k] != v {
			t.Errorf("%s is %q, was %q", k, after.Config[k], v)
		}
	}
	if after.Config["user.x"] != "1" || after.Config["image.os"] != "" {
		t.Errorf("configuration is %v", after.Config)
	}
}

func TestUpdateTakesNoNICOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", false)
	w.create("c2", false)
	set := func(name string, config api.ConfigMap) api.ConfigMap {
		t.Helper()
		must(t, w.updateNow(t.Context(), name, api.InstancePut{Profiles: []string{"default"}, Config: config}))
		in, err := w.svc.Get(t.Context(), name)
		must(t, err)
		return in.Config
	}
	const mac, host, name = "volatile.eth7.hwaddr", "volatile.eth7.host_name", "volatile.eth7.name"
	set("c1", api.ConfigMap{mac: "10:66:6a:00:00:01", host: "veth1", name: "eth7"})
	set("c2", api.ConfigMap{mac: "10:66:6a:00:00:02"})
	got := set("c2", api.ConfigMap{mac: "10:66:6a:00:00:01", host: "veth1", name: "eth7"})
	if got[mac] != "10:66:6a:00:00:02" || got[host] != "" || got[name] != "eth7" {
		t.Errorf("c2 has %v", got)
	}
	if got := set("c2", api.ConfigMap{mac: "10:66:6a:00:00:03"}); got[mac] != "10:66:6a:00:00:03" {
		t.Errorf("a free address: c2 has %v", got)
	}
}

func TestSnapshotsByPatternAndExpiry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", false)
	must(t, w.updateNow(t.Context(), "c1", api.InstancePut{
		Profiles: []string{"default"}, Config: api.ConfigMap{"snapshots.pattern": "s-%d", "snapshots.expiry": "1H"},
	}))
	w.ok(w.svc.CreateSnapshot(t.Context(), "c1", api.InstanceSnapshotsPost{}))
	w.ok(w.svc.CreateSnapshot(t.Context(), "c1", api.InstanceSnapshotsPost{ExpiresAt: &time.Time{}}))
	snaps, err := w.svc.Snapshots(t.Context(), "c1")
	must(t, err)
	if len(snaps) != 2 || snaps[0].Name != "s-0" || snaps[1].Name != "s-1" || snaps[0].ExpiresAt.IsZero() || !snaps[1].ExpiresAt.IsZero() {
		t.Fatalf("snapshots are %+v", snaps)
	}
	must(t, w.svc.Expire(t.Context(), time.Now()))
	must(t, w.svc.Expire(t.Context(), time.Now().Add(2*time.Hour)))
	if dump := w.dump(); strings.Contains(dump, "s-0") || !strings.Contains(dump, "@s-1") {
		t.Errorf("the wrong ones expired:\n%s", dump)
	}
}

func TestProfilesReachNobodyIfOneCannot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	must(t, w.svc.CreateProfile(t.Context(), api.ProfilesPost{Name: "extra"}))
	for _, name := range []string{"c1", "c2"} {
		req := post(name, true)
		req.Profiles = []string{"default", "extra"}
		if name == "c2" {
			req.Devices = api.DevicesMap{"mine": {"type": "disk", "path": "/data", "source": "/etc"}}
		}
		w.ok(w.svc.Create(t.Context(), req))
	}
	before := w.dump()
	err := w.svc.UpdateProfile(t.Context(), "extra", api.ProfilePut{
		Config:  api.ConfigMap{"limits.memory": "1GiB"},
		Devices: api.DevicesMap{"data": {"type": "disk", "path": "/data", "source": "/tmp"}},
	})
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), `instance "c2"`) {
		t.Errorf("got %v, want one that names c2", err)
	}
	if after := w.dump(); after != before {
		t.Errorf("it left something:\n%s\nbefore:\n%s", after, before)
	}
	if err := w.svc.DeleteProfile(t.Context(), "extra"); !errs.Is(err, errs.Conflict) {
		t.Errorf("deleting a used profile: got %v, want a conflict", err)
	}
	must(t, w.svc.RenameProfile(t.Context(), "extra", "more"))
	in, err := w.svc.Get(t.Context(), "c1")
	must(t, err)
	if in.Profiles[1] != "more" {
		t.Errorf("profiles are %v", in.Profiles)
	}
}

func TestCopyOfASnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", false)
	w.write("c1", "old")
	w.snapshot("s1")
	w.write("c1", "new")
	w.ok(w.svc.Create(t.Context(), api.InstancesPost{Name: "c2", Source: api.InstanceSource{Type: "copy", Source: "c1/s1"}}))
	if got := w.read(vol("c2")); got != "old" {
		t.Errorf("the copy holds %q, want %q", got, "old")
	}
	a, err := w.svc.Get(t.Context(), "c1")
	must(t, err)
	b, err := w.svc.Get(t.Context(), "c2")
	must(t, err)
	for _, k := range []string{"volatile.uuid", "volatile.eth0.hwaddr", "volatile.idmap.base"} {
		if a.Config[k] == b.Config[k] {
			t.Errorf("both have %s=%s", k, a.Config[k])
		}
	}
	if b.Config["image.os"] != "Debian" || b.Config["volatile.base_image"] != a.Config["volatile.base_image"] {
		t.Errorf("the copy does not know its image: %v", b.Config)
	}
	snaps, err := w.svc.Snapshots(t.Context(), "c2")
	must(t, err)
	if len(snaps) != 0 {
		t.Errorf("the copy of a snapshot has snapshots: %v", snaps)
	}
	w.state("c2", "start", false)
	w.state("c2", "stop", true)
	w.write("c2", "mine")
	if got := w.read(vol("c1")); got != "new" {
		t.Errorf("the source holds %q, want %q", got, "new")
	}
}

func TestOneThatEndsWhileItIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", true)
	w.create("c2", true)
	w.rt.dying = "c1"
	w.boot()
	w.rt.exits.Wait()
	if dump := w.dump(); !strings.Contains(dump, "power STOPPED") || !runs(dump, "c2") {
		t.Errorf("it is not as it should be:\n%s", dump)
	}
	w.ok(w.svc.Delete(t.Context(), "c1"))
}

// TestStopOfOneOnItsWayUp is of who wants to delete what the daemon starts just
// now: nothing runs yet, and it cannot be deleted, but stopped.
func TestStopOfOneOnItsWayUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", false)
	w.rt.slow = make(chan struct{})
	started := make(chan error, 1)
	go func() {
		_, err := w.do(w.svc.SetState(t.Context(), "c1", api.InstanceStatePut{Action: "start"}))
		started <- err
	}()
	<-w.rt.slow
	if _, err := w.svc.Delete(t.Context(), "c1"); !errs.Is(err, errs.Conflict) {
		t.Errorf("it can be deleted: %v", err)
	}
	stop, err := w.svc.SetState(t.Context(), "c1", api.InstanceStatePut{Action: "stop", Force: true})
	must(t, err)
	w.rt.slow <- struct{}{}
	must(t, <-started)
	w.ok(stop, nil)
	w.ok(w.svc.Delete(t.Context(), "c1"))
}
