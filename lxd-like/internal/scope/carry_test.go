package scope_test

import (
	"slices"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// TestRekey has names be found in another project.
func TestRekey(t *testing.T) {
	t.Parallel()
	put := api.InstancePut{Profiles: []string{"p%web"}, Config: api.ConfigMap{"boot.depends_on": "p_db"}, Devices: api.DevicesMap{
		"v": {"type": "disk", "pool": "x", "source": "p%v/s_0"},
	}}
	for to, want := range map[string][]string{"p": {"p%web", "p_db", "p%v/s_0"}, "default": {"web", "db", "v/s_0"}, "shared": {"web", "shared_db", "v/s_0"}} {
		got := put
		if err := scope.Rekey(t.Context(), views{}, to, &got); err != nil {
			t.Fatal(err)
		}
		if has := []string{got.Profiles[0], got.Config["boot.depends_on"], got.Devices["v"]["source"]}; !slices.Equal(has, want) {
			t.Errorf("in %s: got %v, want %v", to, has, want)
		}
	}
}

// TestBring has a document of one project be of another, and none of a third.
func TestBring(t *testing.T) {
	t.Parallel()
	doc := func() api.Document {
		return api.Document{
			Instance:  &api.Instance{Name: "c1", Project: "old", InstancePut: api.InstancePut{Profiles: []string{"web"}}},
			Snapshots: []api.InstanceSnapshot{{Name: "c1/s_0", Profiles: []string{"web"}}},
			Profiles:  []api.Profile{{Name: "web", Project: "old"}},
			Volume:    &api.StorageVolume{Name: "c1", Type: "container", Project: "old"},
		}
	}
	for to, want := range map[string][]string{"": {"c1", "web", "web", "web", "c1"}, "p": {"p_c1", "p%web", "p%web", "p%web", "p_c1"}} {
		d := doc()
		if err := scope.Bring(t.Context(), views{}, to, &d); err != nil {
			t.Fatal(err)
		}
		got := []string{d.Instance.Name, d.Instance.Profiles[0], d.Snapshots[0].Profiles[0], d.Profiles[0].Name, d.Volume.Name}
		if !slices.Equal(got, want) || d.Snapshots[0].Name != "s_0" {
			t.Errorf("into %q: got %v with %s, want %v", to, got, d.Snapshots[0].Name, want)
		}
	}
	d := doc()
	d.Instance.Name = "p_c1"
	if err := scope.Bring(t.Context(), views{}, "default", &d); !errs.Is(err, errs.Invalid) {
		t.Errorf("a stranger's key is taken: %v", err)
	}
}
