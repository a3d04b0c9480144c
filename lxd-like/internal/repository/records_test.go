package repository_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

func post(name string, config api.ConfigMap) api.BackupRepositoriesPost {
	return api.BackupRepositoriesPost{Name: name, BackupRepositoryPut: api.BackupRepositoryPut{Config: config}}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	location := filepath.Join(w.dir, "new", "repo")
	password, err := w.Create(ctx, post("r", api.ConfigMap{"location": location, "keep.daily": "7"}))
	must(t, err)
	if len(password) < 20 {
		t.Errorf("the password is %q", password)
	}
	got, err := w.Get(ctx, "r")
	must(t, err)
	if got.Config["password"] != "" || got.Config["location"] != location || got.Config["keep.daily"] != "7" || got.Status != "Available" {
		t.Errorf("got %+v", got)
	}
	put := got.BackupRepositoryPut
	put.Description, put.Config["keep.daily"] = "d", ""
	must(t, w.Update(ctx, "r", put))
	all, err := w.List(ctx)
	must(t, err)
	if len(all) != 1 || all[0].Description != "d" || all[0].Config["keep.daily"] != "" || all[0].Config["location"] != location {
		t.Errorf("got %+v", all)
	}
	w.instance("c1")
	w.backUp("instances/c1")

	// It is taken up again with its password, and with no other.
	must(t, w.Delete(ctx, "r"))
	_, err = w.Create(ctx, post("again", api.ConfigMap{"location": location}))
	wantErr(t, err, errs.Conflict, "give its password")
	_, err = w.Create(ctx, post("again", api.ConfigMap{"location": location, "password": "x"}))
	wantErr(t, err, errs.Invalid, "the password is not that of the repository")
	made, err := w.Create(ctx, post("again", api.ConfigMap{"location": location, "password": password}))
	must(t, err)
	if made != "" {
		t.Errorf("a password is made up for a repository that has one")
	}
	if all, err := w.Backups(ctx, "again", ""); err != nil || len(all) != 1 || all[0].Added != -1 {
		t.Errorf("got %+v, %v", all, err)
	}
	wantErr(t, w.Delete(ctx, "r"), errs.NotFound, `"r" not found`)
}

func TestRecordsRefuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.repo()
	ctx := t.Context()
	for want, req := range map[string]api.BackupRepositoriesPost{
		"backup repository name":         post("a/b", api.ConfigMap{"location": "/x"}),
		"exists already":                 post("r", api.ConfigMap{"location": filepath.Join(w.dir, "x"), "password": "x"}),
		`"location": it is missing`:      post("x", nil),
		`"location": got "x:y"`:          post("x", api.ConfigMap{"location": "x:y"}),
		`key "colour" is not known`:      post("x", api.ConfigMap{"location": "/x", "colour": "red"}),
		`"keep.daily": got "0"`:          post("x", api.ConfigMap{"location": "/x", "keep.daily": "0"}),
		`"limits.upload": got "fast"`:    post("x", api.ConfigMap{"location": "/x", "limits.upload": "fast"}),
		`"password": want text of one`:   post("x", api.ConfigMap{"location": "/x", "password": "a\nb"}),
		"would be lost with it":          post("x", api.ConfigMap{"location": filepath.Join(w.Dir, "backup", "..", "b")}),
		"no such file or directory":      {Name: "x", Existing: true, BackupRepositoryPut: api.BackupRepositoryPut{Config: api.ConfigMap{"location": w.dir + "/none", "password": "x"}}},
		"not a directory":                post("x", api.ConfigMap{"location": "/proc/version/x", "password": "x"}),
		`"sftp.key": got "id", want the`: post("x", api.ConfigMap{"location": "sftp:h:/x", "sftp.key": "id"}),
	} {
		if _, err := w.Create(ctx, req); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", req, err, want)
		} else if strings.Contains(err.Error(), "a\nb") {
			t.Errorf("a secret is told: %v", err)
		}
	}
	if all, err := w.List(ctx); err != nil || len(all) != 1 {
		t.Errorf("left: %+v, %v", all, err)
	}
	got, err := w.Get(ctx, "r")
	must(t, err)
	for want, config := range map[string]api.ConfigMap{
		"cannot be changed":              {"location": got.Config["location"], "password": "other"},
		`"location": it is missing`:      {},
		"there is no repository at /nix": {"location": "/nix"},
	} {
		if err := w.Update(ctx, "r", api.BackupRepositoryPut{Config: config}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", config, err, want)
		}
	}
	if again, err := w.Get(ctx, "r"); err != nil || again.Config["location"] != got.Config["location"] {
		t.Errorf("got %+v, %v", again, err)
	}
}

func TestRepositoryMoves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	location := w.repo()
	must(t, os.Rename(location, location+".moved"))
	must(t, w.Update(t.Context(), "r", api.BackupRepositoryPut{Config: api.ConfigMap{"location": location + ".moved"}}))
	w.instance("c1")
	w.backUp("instances/c1")
}

// TestPasswordIsNowhere looks for the password where others could see it.
func TestPasswordIsNowhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	location := filepath.Join(w.dir, "repo")
	_, err := w.Create(t.Context(), post("r", api.ConfigMap{
		"location": location, "password": "horse", "s3.secret_key": "battery", "user.x": "y",
	}))
	must(t, err)
	got, err := w.Get(t.Context(), "r")
	must(t, err)
	for _, secret := range []string{"horse", "battery"} {
		for k, v := range got.Config {
			if strings.Contains(v, secret) {
				t.Errorf("key %s tells %s", k, secret)
			}
		}
	}
	// A PUT of what was read keeps it.
	must(t, w.Update(t.Context(), "r", got.BackupRepositoryPut))
	must(t, w.DB.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		r, err := db.GetRepository(ctx, tx, "r")
		if err == nil && (r.Config["password"] != "horse" || r.Config["s3.secret_key"] != "battery") {
			t.Errorf("the record has %v", r.Config)
		}
		return err
	}))
	write(t, filepath.Join(w.instance("c1"), "rootfs", "f"), noise(20<<20))
	must(t, w.Update(t.Context(), "r", api.BackupRepositoryPut{Config: api.ConfigMap{"location": location, "limits.upload": "2MiB"}}))
	job, err := w.CreateBackups(t.Context(), "r", api.RepositoryBackupsPost{})
	must(t, err)
	op, err := w.ops.Start(t.Context(), job)
	must(t, err)
	pid := resticOf(t, location)
	line, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
	must(t, err)
	if strings.Contains(string(line), "horse") || strings.Contains(string(line), "battery") {
		t.Errorf("the command line is %q", line)
	}
	info, err := os.Stat(filepath.Join("/proc", pid, "environ"))
	must(t, err)
	if info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the environment is for all: %v", info.Mode())
	}
	must(t, op.Cancel())
	op.Wait(t.Context())
}
