package scope_test

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// views has the projects default, p with all of its own, and shared, whose
// instances alone are its own.
type views struct{}

func (views) View(_ context.Context, name string) (scope.View, error) {
	switch name {
	case "default", "p":
		return scope.Whole(name), nil
	case "shared":
		v := scope.Whole("default")
		v.Project = name
		return v, nil
	}
	return scope.View{}, errs.NotFoundf("project %q not found", name)
}

func devices() api.DevicesMap {
	return api.DevicesMap{
		"eth0": {"type": "nic", "network": "lan", "security.acls": "web, ssh"},
		"eth1": {"type": "nic", "nictype": "bridged", "parent": "br0"},
		"root": {"type": "disk", "path": "/", "pool": "default"},
		"data": {"type": "disk", "path": "/data", "pool": "default", "source": "vol/s_1"},
		"host": {"type": "disk", "path": "/srv", "source": "/srv"},
	}
}

// TestInAndOut has what a client sends come back to it as it was.
func TestInAndOut(t *testing.T) {
	t.Parallel()
	post := api.InstancesPost{Name: "c1", InstancePut: api.InstancePut{
		Config:   api.ConfigMap{"boot.depends_on": "db, cache", "boot.wait_for": "pool:tank, network:lan, path:/a,b", "user.x": "db"},
		Devices:  devices(),
		Profiles: []string{"default", "my_web"},
	}}
	for name, want := range map[string]struct {
		instance, network, source, depends, acls, wait string
		profiles                                       []string
	}{
		"default": {"c1", "lan", "vol/s_1", "db, cache", "web, ssh", "pool:tank, network:lan, path:/a,b", []string{"default", "my_web"}},
		"p":       {"p_c1", "p%lan", "p%vol/s_1", "p_db, p_cache", "p%web, p%ssh", "pool:tank, network:p%lan, path:/a,b", []string{"p%default", "p%my_web"}},
		"shared":  {"shared_c1", "lan", "vol/s_1", "shared_db, shared_cache", "web, ssh", "pool:tank, network:lan, path:/a,b", []string{"default", "my_web"}},
	} {
		in := post
		if err := scope.In(t.Context(), views{}, name, &in); err != nil {
			t.Fatal(err)
		}
		got := want
		got.instance, got.network, got.source = in.Name, in.Devices["eth0"]["network"], in.Devices["data"]["source"]
		got.depends, got.acls, got.wait = in.Config["boot.depends_on"], in.Devices["eth0"]["security.acls"], in.Config["boot.wait_for"]
		got.profiles = in.Profiles
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
		if in.Devices["eth1"]["parent"] != "br0" || in.Devices["host"]["source"] != "/srv" || in.Config["user.x"] != "db" {
			t.Errorf("%s: what names nothing was changed: %v", name, in)
		}

		out := api.Instance{InstancePut: in.InstancePut, Name: in.Name, ExpandedDevices: in.Devices}
		scope.Out(&out)
		if out.Name != "c1" || out.Project != name || !reflect.DeepEqual(out.InstancePut, post.InstancePut) || !reflect.DeepEqual(out.ExpandedDevices, post.Devices) {
			t.Errorf("%s: came back as %+v", name, out)
		}
		if !reflect.DeepEqual(post.Devices, devices()) {
			t.Fatalf("%s: the client's own was changed", name)
		}
	}
}

// TestOutKeeps has Out change no map that the daemon may go on with.
func TestOutKeeps(t *testing.T) {
	t.Parallel()
	kept := api.DevicesMap{"eth0": {"type": "nic", "network": "p%lan"}}
	profiles := []string{"p%web"}
	out := api.Instance{Name: "p_c1", InstancePut: api.InstancePut{Devices: kept, Profiles: profiles}}
	scope.Out(&out)
	if out.Devices["eth0"]["network"] != "lan" || out.Profiles[0] != "web" {
		t.Errorf("got %v", out)
	}
	if kept["eth0"]["network"] != "p%lan" || profiles[0] != "p%web" {
		t.Errorf("the daemon's own was changed: %v, %v", kept, profiles)
	}
}

// TestOtherProject has names be of the project that stands beside them.
func TestOtherProject(t *testing.T) {
	t.Parallel()
	post := api.InstancesPost{Name: "c2", Source: api.InstanceSource{Type: "copy", Source: "c1/s_1", Project: "p"}}
	volume := api.StorageVolumesPost{Name: "v", Source: api.StorageVolumeSource{Name: "v", Project: "p"}}
	move := api.InstancePost{Name: "c1", Project: "p", Profiles: []string{"web"}}
	for _, v := range []any{&post, &volume, &move} {
		if err := scope.In(t.Context(), views{}, "default", v); err != nil {
			t.Fatal(err)
		}
	}
	if post.Name != "c2" || post.Source.Source != "p_c1/s_1" || volume.Name != "v" || volume.Source.Name != "p%v" || move.Name != "p_c1" || move.Profiles[0] != "p%web" {
		t.Errorf("got %+v, %+v, %+v", post, volume, move)
	}
	missing := api.InstancePost{Name: "c1", Project: "q"}
	if err := scope.In(t.Context(), views{}, "default", &missing); !errs.Is(err, errs.NotFound) {
		t.Errorf("a project that is not there: %v", err)
	}
}

// TestNoKeys has clients name nothing of another project by its key.
func TestNoKeys(t *testing.T) {
	t.Parallel()
	for want, v := range map[string]any{
		"instance name: got \"p_c1\"":                           &api.InstancesPost{Name: "p_c1"},
		"instance name: got \"p_c1/s\"":                         &api.InstancesPost{Source: api.InstanceSource{Source: "p_c1/s"}},
		"profile name: got \"p%web\"":                           &api.InstancePut{Profiles: []string{"p%web"}},
		"device \"eth0\": network: network name: got \"p%lan\"": &api.InstancePut{Devices: api.DevicesMap{"eth0": {"type": "nic", "network": "p%lan"}}},
		"device \"d\": source: volume name: got \"p%v\"":        &api.ProfilePut{Devices: api.DevicesMap{"d": {"type": "disk", "pool": "x", "source": "p%v"}}},
		"boot.depends_on: instance name: got \"p_b\"":           &api.InstancePut{Config: api.ConfigMap{"boot.depends_on": "a, p_b"}},
		"security.acls: network name: got \"p%a\"":              &api.NetworkPut{Config: api.ConfigMap{"security.acls": "p%a"}},
		"zone name: got \"p%a.example\"":                        &api.NetworkZonesPost{Name: "p%a.example"},
	} {
		if err := scope.In(t.Context(), views{}, "default", v); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestInventedName(t *testing.T) {
	t.Parallel()
	post := api.InstancesPost{}
	if err := scope.In(t.Context(), views{}, "p", &post); err != nil || post.Name != "p_" {
		t.Errorf("got %q, %v", post.Name, err)
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	for want, v := range map[string]any{
		"p instance":       &api.InstanceFull{Instance: api.Instance{Name: "p_c1"}},
		"default instance": &api.InstanceBrief{Name: "c1"},
		"p profile":        &api.Profile{Name: "p%web"},
		"p volume":         &api.StorageVolumeFull{StorageVolume: api.StorageVolume{Name: "p%v", Type: "custom"}},
		"q instance":       &api.StorageVolume{Name: "q_c1", Type: "container"},
		"default image":    &api.StorageVolume{Name: "0123", Type: "image"},
		"default ":         &api.StoragePool{Name: "pool"},
		"r instance":       &api.RepositoryBackup{Source: "instances/r_c1"},
		"r volume":         &api.RepositoryBackup{Source: "volumes/pool/r%v"},
	} {
		if in, kind := scope.Of(v); in+" "+kind != want {
			t.Errorf("got %s %s, want %s", in, kind, want)
		}
	}
}

func BenchmarkOut(b *testing.B) {
	all := make([]api.InstanceFull, 1000)
	for i := range all {
		all[i] = api.InstanceFull{Instance: api.Instance{Name: "c1", InstancePut: api.InstancePut{Devices: devices(), Profiles: []string{"default"}}, ExpandedDevices: devices()}}
	}
	for b.Loop() {
		for i := range all {
			scope.Out(&all[i])
		}
	}
}
