package tests

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLab runs the scripts of the directory lab, each in a small machine of
// its own, for what the host's kernel may lack: cgroup v2 with all
// controllers, project quotas, AppArmor, ZFS. CUIB_LAB names the directory with the
// programs mklab and boot that make and run one; where there is none, this
// lane is left out. There are as many machines at a time as the host has
// processors, if no other test runs.
func TestLab(t *testing.T) {
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
	free := freeProcessors(t)
	for _, script := range scripts {
		name := filepath.Base(script)
		t.Run(strings.TrimSuffix(name, ".sh"), func(t *testing.T) {
			t.Parallel()
			if strings.HasSuffix(name, "-long.sh") && os.Getenv("CUIB_LAB_LONG") == "" {
				t.Skip("set CUIB_LAB_LONG=1 to run it, which takes minutes")
			}
			disk := filepath.Join(t.TempDir(), "disk")
			if out, err := run("truncate", "-s", "2G", disk); err != nil {
				t.Fatal(err, out)
			}
			// The test's own time runs out before.
			command := []string{"env", "LAB_SECONDS=3000"}
			if st, err := os.Stat(labMemory); err == nil && st.IsDir() {
				command = append(command, "TMPDIR="+labMemory)
			}
			cpus := "2"
			if !slices.Contains(withProcessors, name) {
				cpus = "1"
				on := <-free
				defer func() { free <- on }()
				// Who waits for whom is on the same processor, and need not be woken on another.
				command = append(command, "LD_PRELOAD="+kit+"/oneprocessor.so", "taskset", "-c", on)
			}
			command = append(command, filepath.Join(lab, "boot"), "-m", "2G", "-c", cpus, "-d", disk, root, kit, name)
			for _, step := range boots(t, script) {
				out, err := run(slices.Concat(command, step)...)
				if err != nil {
					t.Error(err)
					return
				}
				t.Log(out)
			}
		})
	}
}

// boots returns the arguments that a script has in each of the machines that
// it is run in, one after the other, with the same disk: "# boots: ONE TWO", or
// nothing once.
func boots(t *testing.T, script string) [][]string {
	t.Helper()
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "\n# boots: ")
	if !found {
		return [][]string{nil}
	}
	line, _, _ := strings.Cut(after, "\n")
	var steps [][]string
	for step := range strings.FieldsSeq(line) {
		steps = append(steps, []string{step})
	}
	return steps
}

// withProcessors are the scripts for which it makes a difference how many
// processors there are. The rest is faster with one.
var withProcessors = []string{"cgroup2.sh", "debian.sh", "nesting-long.sh", "runtime.sh"}

// labMemory is where the memory of machines is not written to a disk.
const labMemory = "/dev/shm"

// freeProcessors returns the processors of the host, each to be taken by one
// machine at a time.
func freeProcessors(t *testing.T) chan string {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	free := make(chan string, set.Count())
	for n := 0; len(free) < cap(free); n++ {
		if set.IsSet(n) {
			free <- strconv.Itoa(n)
		}
	}
	return free
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
	kinds := []string{"tiny", "debian"}
	if os.Getenv("CUIB_LAB_LONG") != "" {
		kinds = append(append(kinds, "nesting"), guestKinds...)
	}
	for _, kind := range kinds {
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
		{"go", "test", "-c", "-o", kit + "/nic.test", "../networks/nic"},
		{"go", "test", "-c", "-o", kit + "/overlay.test", "../storage/overlay"},
		{"go", "test", "-c", "-o", kit + "/dir.test", "../storage/dir"},
		{"go", "test", "-c", "-o", kit + "/zfs.test", "../storage/zfs"},
		{"go", "test", "-c", "-o", kit + "/vxlan.test", "../networks/vxlan"},
		{"go", "test", "-c", "-o", kit + "/tests.test", "."},
		{"go", "build", "-tags", "crashtest", "-o", kit + "/crash/cuibd", "../lxd-like/cuibd"},
		{"cp", filepath.Join(binDir, "cuib-shim"), kit + "/crash"},
		{"gcc", "-O2", "-shared", "-fPIC", "-o", kit + "/oneprocessor.so", "lab/oneprocessor.c"},
		{"gcc", "-O2", "-shared", "-fPIC", "-nostdlib", "-Wl,--version-script=lab/unused.map", "-o", kit + "/unused.so", "lab/unused.c"},
	}
	for _, name := range []string{"init", "calls", "asks"} { // Of the runtime's tests.
		commands = append(commands, []string{"gcc", "-O2", "-static", "-o", filepath.Join(kit, name), runtime + "/testdata/" + name + ".c"})
	}
	for _, args := range commands {
		if _, err := run(args...); err != nil {
			t.Fatal(err)
		}
	}
	return kit
}
