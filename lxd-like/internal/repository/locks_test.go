package repository_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
)

// resticOf waits for the restic that works on a repository and returns its
// process id.
func resticOf(t *testing.T, location string) string {
	t.Helper()
	var pid string
	testenv.Eventually(t, "restic", func() bool {
		all, err := filepath.Glob("/proc/[0-9]*/environ")
		must(t, err)
		for _, path := range all {
			env, err := os.ReadFile(path)
			comm, cerr := os.ReadFile(filepath.Join(filepath.Dir(path), "comm"))
			if err != nil || cerr != nil || strings.TrimSpace(string(comm)) != "restic" {
				continue
			}
			if bytes.Contains(env, []byte("RESTIC_REPOSITORY="+location+"\x00")) && locksOf(t, location) > 0 {
				pid = filepath.Base(filepath.Dir(path))
				return true
			}
		}
		return false
	})
	return pid
}

func locksOf(t *testing.T, location string) int {
	t.Helper()
	all, err := os.ReadDir(filepath.Join(location, "locks"))
	must(t, err)
	return len(all)
}

// slow makes a repository, and a backup in it that takes long.
func slow(t *testing.T) (*world, string, *ops.Op) {
	t.Helper()
	w := newWorld(t)
	location := w.repo()
	must(t, w.Update(t.Context(), "r", api.BackupRepositoryPut{Config: api.ConfigMap{"location": location, "limits.upload": "1MiB"}}))
	write(t, filepath.Join(w.instance("c1"), "rootfs", "f"), noise(40<<20))
	job, err := w.CreateBackups(t.Context(), "r", api.RepositoryBackupsPost{})
	must(t, err)
	op, err := w.ops.Start(t.Context(), job)
	must(t, err)
	return w, location, op
}

func TestCancel(t *testing.T) {
	t.Parallel()
	w, location, op := slow(t)
	testenv.Eventually(t, "progress", func() bool {
		text, _ := op.Describe().Metadata["backup_progress"].(string)
		return strings.Contains(text, "%")
	})
	must(t, op.Cancel())
	if desc := op.Wait(t.Context()); desc.StatusCode != api.Canceled {
		t.Errorf("the operation ended with %+v", desc)
	}
	if n := locksOf(t, location); n != 0 {
		t.Errorf("%d locks are left", n)
	}
	if all, err := w.Backups(t.Context(), "r", ""); err != nil || len(all) != 0 {
		t.Errorf("got %v, %v", all, err)
	}
}

func TestCancelRestore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	location := w.repo()
	write(t, filepath.Join(w.instance("c1"), "rootfs", "f"), noise(40<<20))
	w.backUp("instances/c1")
	must(t, w.Update(t.Context(), "r", api.BackupRepositoryPut{Config: api.ConfigMap{"location": location, "limits.download": "1MiB"}}))
	job, err := w.Restore(t.Context(), "r", api.RepositoryRestorePost{From: "instances/c1", Name: "c2"})
	must(t, err)
	op, err := w.ops.Start(t.Context(), job)
	must(t, err)
	resticOf(t, location)
	must(t, op.Cancel())
	if desc := op.Wait(t.Context()); desc.StatusCode != api.Canceled {
		t.Errorf("the operation ended with %+v", desc)
	}
	if all, err := w.pool.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("the pool has %v, %v", all, err)
	}
}

// TestKilledLeavesLock kills restic: its lock does not keep the next one from
// the repository.
func TestKilledLeavesLock(t *testing.T) {
	t.Parallel()
	w, location, op := slow(t)
	pid, err := strconv.Atoi(resticOf(t, location))
	must(t, err)
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	if desc := op.Wait(t.Context()); desc.StatusCode != api.Failure || !strings.Contains(desc.Err, "killed") {
		t.Errorf("the operation ended with %+v", desc)
	}
	if n := locksOf(t, location); n == 0 {
		t.Fatal("there is no lock to be found")
	}
	must(t, w.Update(t.Context(), "r", api.BackupRepositoryPut{Config: api.ConfigMap{"location": location}}))
	must(t, w.run(w.Prune(t.Context(), "r")))
	must(t, w.run(w.Verify(t.Context(), "r", api.RepositoryVerifyPost{})))
	if n := locksOf(t, location); n != 0 {
		t.Errorf("%d locks are left", n)
	}
	w.backUp("instances/c1")
	must(t, w.restore(api.RepositoryRestorePost{From: "instances/c1", Name: "c2"}))
	wantSame(t, w.restored(storage.Instance, "c2"), w.dirOf("instances/c1"))
}

// TestOthersLockStays has another host use the repository, and its name is
// this host's: it is left alone.
func TestOthersLockStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	location := w.repo()
	w.instance("c1")
	w.backUp("instances/c1")
	other := exec.CommandContext(t.Context(), "restic", "backup", "--no-cache", "--stdin", "--quiet")
	other.Env = append(os.Environ(), "RESTIC_REPOSITORY="+location, "RESTIC_PASSWORD=secret")
	in, err := other.StdinPipe()
	must(t, err)
	must(t, other.Start())
	testenv.Eventually(t, "a lock", func() bool { return locksOf(t, location) > 0 })
	wantErr(t, w.run(w.Prune(t.Context(), "r")), errs.Conflict, "is in use")
	if n := locksOf(t, location); n != 1 {
		t.Errorf("%d locks are there", n)
	}
	w.backUp("instances/c1") // They do not exclude each other.
	_, err = in.Write([]byte("x"))
	must(t, err)
	must(t, in.Close())
	must(t, other.Wait())
	must(t, w.run(w.Prune(t.Context(), "r")))
	if all, err := w.Backups(t.Context(), "r", ""); err != nil || len(all) != 2 {
		t.Errorf("another's backup is listed among ours: %v, %v", all, err)
	}
}
