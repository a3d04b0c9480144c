package repository_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// TestHostComesBack restores all of a host on another, twice.
func TestHostComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	location := w.repo()
	w.host = hostState{
		config: map[string]string{"user.a": "1"},
		pools: []api.StoragePool{
			{Name: "p", Driver: "dir"},
			{Name: "loop", Driver: "btrfs", StoragePoolPut: api.StoragePoolPut{Config: api.ConfigMap{
				"source": w.Dir + "/pools/loop.img", "size": "1GiB", "volatile.x": "y",
			}}},
			{Name: "disk", Driver: "btrfs", StoragePoolPut: api.StoragePoolPut{Config: api.ConfigMap{"source": "/dev/sdz"}}},
			{Name: "odd", Driver: "bad"},
		},
		networks: []api.Network{{Name: "br0", Type: "bridge", Managed: true}},
		profiles: []api.Profile{
			{Name: "default", ProfilePut: api.ProfilePut{Devices: api.DevicesMap{"root": {"path": "/"}}}},
			{Name: "small", ProfilePut: api.ProfilePut{Config: api.ConfigMap{"limits.processes": "5"}}},
		},
		aliases: []api.ImageAliasesEntry{
			{Name: "here", ImageAliasesEntryPut: api.ImageAliasesEntryPut{Target: "abc"}},
			{Name: "here", Project: "p", ImageAliasesEntryPut: api.ImageAliasesEntryPut{Target: "abc"}},
			{Name: "lost", ImageAliasesEntryPut: api.ImageAliasesEntryPut{Target: "gone"}},
		},
	}
	for _, p := range []api.Project{
		{Name: "lab", ProjectPut: api.ProjectPut{Config: map[string]string{"user.a": "b"}}},
		{Name: "default", ProjectPut: api.ProjectPut{Config: map[string]string{
			"features.networks": "true", "features.networks.zones": "true", "limits.instances": "7",
		}}},
	} {
		_, err := w.Projects.Reinstate(t.Context(), p)
		must(t, err)
	}
	one, two, vol, labs := w.instance("c1"), w.instance("c2"), w.volume("v"), w.instance("lab_c1")
	write(t, filepath.Join(labs, "rootfs", "f"), noise(15))
	write(t, filepath.Join(one, "rootfs", "f"), noise(10))
	write(t, filepath.Join(two, "rootfs", "g"), noise(20))
	write(t, filepath.Join(vol, "h"), noise(30))
	w.backUp()

	n := newWorld(t)
	n.host.profiles = []api.Profile{{Name: "default"}}
	n.host.pools = []api.StoragePool{{Name: "p", Driver: "dir"}}
	n.Host = "h2"
	_, err := n.Create(t.Context(), api.BackupRepositoriesPost{Name: "r", Existing: true, BackupRepositoryPut: api.BackupRepositoryPut{
		Config: api.ConfigMap{"location": location, "password": "secret"},
	}})
	must(t, err)
	_, err = n.Restore(t.Context(), "r", api.RepositoryRestorePost{All: true})
	wantErr(t, err, errs.NotFound, `no backups of host "h2": there are some of host h1`)
	_, err = n.Restore(t.Context(), "r", api.RepositoryRestorePost{All: true, Name: "x"})
	wantErr(t, err, errs.Invalid, "too many")
	_, err = n.Restore(t.Context(), "r", api.RepositoryRestorePost{From: "instances/c1"})
	wantErr(t, err, errs.NotFound, "there are some of host h1")

	desc, err := restoreAll(n)
	wantErr(t, err, errs.Invalid, "restore storage pool odd: no such driver")
	wantSame(t, n.restored(storage.Instance, "c1"), one)
	wantSame(t, n.restored(storage.Instance, "c2"), two)
	wantSame(t, n.restored(storage.Custom, "v"), vol)
	wantSame(t, n.restored(storage.Instance, "lab_c1"), labs)
	if all, err := n.Projects.List(t.Context()); err != nil || len(all) != 2 || all[1].Name != "lab" || all[1].Config["user.a"] != "b" || all[0].Config["limits.instances"] != "7" {
		t.Errorf("projects: %v, %v", all, err)
	}
	const log = `config map[user.a:1]
pool loop map[size:1GiB]
pool disk map[source:/dev/sdz]
network br0
change profile default
profile small
alias here
alias p%here`
	if got := strings.Join(n.host.log, "\n"); got != log {
		t.Errorf("made:\n%s", got)
	}
	if got, ok := desc.Metadata["restored"].([]string); !ok || !slices.Contains(got, "volumes/p/v") {
		t.Errorf("restored %v", got)
	}

	n.host.config = w.host.config
	n.host.pools = append(n.host.pools, api.StoragePool{Name: "odd"})
	n.host.aliases = []api.ImageAliasesEntry{{Name: "here", Project: "p"}}
	n.host.log = nil
	desc, err = restoreAll(n)
	must(t, err)
	if got, ok := desc.Metadata["present"].([]string); !ok || !slices.Equal(got, []string{"volumes/p/v", "instances/c1", "instances/c2", "instances/lab_c1"}) {
		t.Errorf("present %v", got)
	}
	if got := strings.Join(n.host.log, "\n"); got != "alias here" {
		t.Errorf("made again: %s", got)
	}
}

func restoreAll(w *world) (api.Operation, error) {
	w.t.Helper()
	job, err := w.Restore(w.t.Context(), "r", api.RepositoryRestorePost{All: true, Host: "h1"})
	must(w.t, err)
	return w.finish(job)
}

// TestOneOfManyIsDamaged restores what can be, and says what cannot.
func TestOneOfManyIsDamaged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	location := w.repo()
	write(t, filepath.Join(w.instance("c1"), "rootfs", "f"), noise(1<<20))
	write(t, filepath.Join(w.instance("c2"), "rootfs", "f"), []byte("whole"))
	w.backUp("instances/c1")
	pack := largest(t, filepath.Join(location, "data"))
	w.backUp("instances/c2")
	flip(t, pack)
	w.forget("c1")
	w.forget("c2")
	_, err := restoreAll(w)
	wantErr(t, err, errs.Unavailable, "restore instances/c1: some files of backup")
	if got, err := os.ReadFile(filepath.Join(w.restored(storage.Instance, "c2"), "rootfs", "f")); err != nil || string(got) != "whole" {
		t.Errorf("got %q, %v", got, err)
	}
}
