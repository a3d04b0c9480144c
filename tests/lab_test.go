package tests

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLab runs the scripts of the directory lab in a small machine of their
// own, for what the host's kernel may lack: cgroup v2 with all controllers,
// project quotas. CUIB_LAB names the directory with the programs mklab and
// boot that make and run one; where there is none, this lane is left out.
func TestLab(t *testing.T) {
	requireKernel(t)
	lab := cmp.Or(os.Getenv("CUIB_LAB"), filepath.Join("..", "..", "shared", "lab"))
	if _, err := os.Stat(filepath.Join(lab, "boot")); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("no lab at %s: cgroup v2 and project quotas are not tested here (CUIB_LAB=DIR names another)", lab)
	}
	root := filepath.Join(cacheDir(), "labroot")
	err := locked("labroot", func() error {
		if _, err := os.Stat(filepath.Join(root, "usr/local/sbin/lab-init")); err == nil {
			return nil
		}
		_, err := run(filepath.Join(lab, "mklab"), root)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	tiny := filepath.Join(cacheDir(), "e2e-tiny.tar.gz")
	err = locked("e2e-tiny", func() error {
		if _, err := os.Stat(tiny); err == nil {
			return nil
		}
		return makeTiny(tiny)
	})
	if err != nil {
		t.Fatal(err)
	}
	scripts, err := filepath.Glob("lab/*.sh")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts (%v)", err)
	}
	for _, script := range scripts {
		name := filepath.Base(script)
		t.Run(strings.TrimSuffix(name, ".sh"), func(t *testing.T) {
			job := t.TempDir()
			files := []string{script, "lab/lib", tiny, filepath.Join(binDir, "cuib"), filepath.Join(binDir, "cuib-shim")}
			if out, err := run(append(append([]string{"cp"}, files...), job)...); err != nil {
				t.Fatal(err, out)
			}
			// Without the race detector: it needs more address space than the machine has.
			if out, err := run("go", "build", "-o", filepath.Join(job, "cuibd"), "../lxd-like/cuibd"); err != nil {
				t.Fatal(err, out)
			}
			disk := filepath.Join(job, "disk")
			if out, err := run("truncate", "-s", "1G", disk); err != nil {
				t.Fatal(err, out)
			}
			out, err := run(filepath.Join(lab, "boot"), "-d", disk, root, job, name)
			t.Log(out)
			if err != nil {
				t.Error(err)
			}
		})
	}
}
