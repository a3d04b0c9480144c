package tests

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestLab runs the scripts of the directory lab, each in a small machine of
// its own, for what the host's kernel may lack: cgroup v2 with all
// controllers, project quotas, AppArmor, ZFS. CUIB_LAB names the directory with the
// programs mklab and boot that make and run one; where there is none, this
// lane is left out.
func TestLab(t *testing.T) { //nolint:tparallel // One machine at a time: it takes a core.
	t.Parallel()
	requireKernel(t)
	lab := cmp.Or(os.Getenv("CUIB_LAB"), filepath.Join("..", "..", "shared", "lab"))
	if _, err := os.Stat(filepath.Join(lab, "boot")); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("no lab at %s: cgroup v2, project quotas and ZFS are not tested here (CUIB_LAB=DIR names another)", lab)
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
	kit := labKit(t)
	scripts, err := filepath.Glob("lab/*.sh")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts (%v)", err)
	}
	for _, script := range scripts {
		name := filepath.Base(script)
		t.Run(strings.TrimSuffix(name, ".sh"), func(t *testing.T) {
			if strings.HasSuffix(name, "-long.sh") && os.Getenv("CUIB_LAB_LONG") == "" {
				t.Skip("set CUIB_LAB_LONG=1 to run it, which takes minutes")
			}
			disk := filepath.Join(t.TempDir(), "disk")
			if out, err := run("truncate", "-s", "2G", disk); err != nil {
				t.Fatal(err, out)
			}
			cpus := "2"
			if strings.HasPrefix(name, "zfs") { // Its many threads wait for each other: two make it slower by much.
				cpus = "1"
			}
			// The test's own time runs out before.
			out, err := run("env", "LAB_SECONDS=3000", filepath.Join(lab, "boot"), "-m", "2G", "-c", cpus, "-d", disk, root, kit, name)
			if err != nil {
				t.Error(err)
				return
			}
			t.Log(out)
		})
	}
}

// labKit returns a directory with all that the scripts need: themselves, the
// programs, images, and packages' tests.
func labKit(t *testing.T) string {
	t.Helper()
	kit := t.TempDir()
	files, err := filepath.Glob("lab/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"tiny", "debian"} {
		image, err := imageFiles(kind)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, image...)
	}
	for _, program := range []string{"cuib", "cuib-shim", "guestask"} {
		files = append(files, filepath.Join(binDir, program))
	}
	files = append(files, "/bin/busybox")
	const runtime = "../lxd-like/internal/runtime"
	commands := [][]string{
		slices.Concat([]string{"cp"}, files, []string{kit}),
		// Without the race detector: it needs more address space than the machine has.
		{"go", "build", "-o", kit + "/cuibd", "../lxd-like/cuibd"},
		{"go", "test", "-c", "-o", kit + "/runtime.test", runtime},
		{"go", "test", "-c", "-o", kit + "/overlay.test", "../storage/overlay"},
		{"go", "test", "-c", "-o", kit + "/dir.test", "../storage/dir"},
		{"go", "test", "-c", "-o", kit + "/zfs.test", "../storage/zfs"},
		{"go", "test", "-c", "-o", kit + "/tests.test", "."},
		{"go", "build", "-tags", "crashtest", "-o", kit + "/crash/cuibd", "../lxd-like/cuibd"},
		{"cp", filepath.Join(binDir, "cuib-shim"), kit + "/crash"},
	}
	for _, name := range []string{"init", "calls"} { // Of the runtime's tests.
		commands = append(commands, []string{"gcc", "-O2", "-static", "-o", filepath.Join(kit, name), runtime + "/testdata/" + name + ".c"})
	}
	for _, args := range commands {
		if _, err := run(args...); err != nil {
			t.Fatal(err)
		}
	}
	return kit
}
