package tests

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// once kills the daemon at every point, but in loops only once.
const once = "."

// matrixMore are changes that need more than matrixOps: things of which there
// are none in base, or other drivers' streams, and programs.
var matrixMore = slices.Concat(matrixInstances, matrixVolumes, matrixImages, matrixArchives, matrixPools, matrixRepositories)

var matrixInstances = []matrixOp{
	{
		name: "rebuild", args: []string{"rebuild", "tiny", "src"}, empties: true, points: once,
		after: func(t *testing.T, m *matrix, at string) { m.works(t, at, "src") },
	},
	{
		name: "rebuild without snapshots", setup: []string{"create", "tiny", "solo", "-s", "POOL"}, args: []string{"rebuild", "tiny", "solo"},
		points: once, loose: []string{"solo"},
		after: func(t *testing.T, m *matrix, at string) { m.works(t, at, "solo") },
	},
	{
		name: "move to another pool and rename", args: []string{"move", "src", "new", "-s", "OTHER"},
		makes: []string{"new"}, loses: []string{"src"}, points: "database",
	},
	{
		name: "delete some of the snapshots", points: once, args: []string{"snapshot", "delete", "src", "s2", "s3"},
		ready: func(t *testing.T, m *matrix) {
			t.Helper()
			m.must(t, "snapshot", "create", "src", "s2")
			m.must(t, "snapshot", "create", "src", "s3")
		},
	},
	{
		name: "snapshot with volumes", setup: []string{"storage", "volume", "attach", "POOL", "vol", "src", "/data"},
		args: []string{"snapshot", "create", "src", "s2", "--volumes"}, points: once,
	},
	{
		name: "restore with volumes", args: []string{"snapshot", "restore", "src", "s2", "--volumes"}, points: once,
		ready: func(t *testing.T, m *matrix) {
			t.Helper()
			m.must(t, "storage", "volume", "attach", "POOL", "vol", "src", "/data")
			m.must(t, "snapshot", "create", "src", "s2", "--volumes")
			m.must(t, "storage", "volume", "file", "push", "WORK/s0", "POOL", "vol/file")
			m.must(t, "file", "push", "WORK/s0", "src/root/file")
		},
	},
	{
		name: "start with a volume", setup: []string{"storage", "volume", "attach", "POOL", "vol", "src", "/data"},
		args: []string{"start", "src"}, points: once,
		after: func(t *testing.T, m *matrix, at string) { m.works(t, at, "src") },
	},
	{name: "snapshot while it runs", setup: []string{"start", "src"}, args: []string{"snapshot", "create", "src", "s2"}, points: once, after: thawed},
	{
		name: "copy while it runs", setup: []string{"start", "src"}, args: []string{"copy", "src", "new", "-s", "OTHER"},
		makes: []string{"new"}, points: once, after: thawed,
	},
	{
		name: "set a size", drivers: []string{"btrfs"}, args: []string{"config", "device", "set", "src", "root", "size=64MiB"}, points: once,
	},
}

var matrixVolumes = []matrixOp{
	{
		name: "refresh a volume", args: []string{"storage", "volume", "copy", "POOL/vol", "OTHER/old", "--refresh"}, points: once,
		ready: func(t *testing.T, m *matrix) {
			t.Helper()
			m.must(t, "storage", "volume", "copy", "POOL/vol", "OTHER/old")
			m.must(t, "storage", "volume", "snapshot", "create", "POOL", "vol", "s2")
			m.must(t, "storage", "volume", "file", "push", "WORK/s0", "POOL", "vol/file")
		},
	},
	{name: "delete a snapshot of a volume", args: []string{"storage", "volume", "snapshot", "delete", "POOL", "vol", "s0"}, points: once},
	{name: "rename a snapshot of a volume", args: []string{"storage", "volume", "snapshot", "rename", "POOL", "vol", "s0", "s2"}, points: once},
	{
		name: "copy a snapshot of a volume", args: []string{"storage", "volume", "copy", "POOL/vol/s0", "POOL/newvol"},
		makes: []string{"POOL/newvol"}, loose: []string{"POOL/newvol"}, points: once, keeps: true,
	},
	{name: "resize a volume", drivers: []string{"btrfs"}, args: []string{"storage", "volume", "set", "POOL", "vol", "size=64MiB"}, points: once},
	{
		name: "create a volume with a size", drivers: []string{"btrfs"}, args: []string{"storage", "volume", "create", "POOL", "newvol", "size=64MiB"},
		makes: []string{"POOL/newvol"}, points: once, keeps: true,
	},
	{
		name: "import an ISO image", args: []string{"storage", "volume", "import", "POOL", "WORK/s0", "newvol", "--type", "iso"},
		makes: []string{"POOL/newvol"}, loose: []string{"POOL/newvol"}, points: once, keeps: true,
	},
}

// works checks that an instance starts, and runs programs.
func (m *matrix) works(t *testing.T, at, name string) {
	t.Helper()
	if _, err := m.cuib("start", name); err != nil && !strings.Contains(err.Error(), "running") {
		t.Errorf("%s: %v", at, err)
	}
	m.runs(t, at, name)
}

func (m *matrix) runs(t *testing.T, at, name string) {
	t.Helper()
	if _, err := m.cuib("exec", name, "--", "true"); err != nil {
		t.Errorf("%s: %v", at, err)
	}
}

// thawed checks that an instance that was frozen for a moment is not any more.
func thawed(t *testing.T, m *matrix, at string) {
	t.Helper()
	m.runs(t, at, "src")
}

var matrixImages = []matrixOp{
	{name: "publish", args: []string{"publish", "src", "--alias", "pub"}, points: once, keeps: true, after: dropImage},
	{name: "import an image", args: []string{"image", "import", "WORK/pub.tar", "--alias", "pub"}, points: once, keeps: true, ready: saveImage, after: dropImage},
	{name: "delete an image", args: []string{"image", "delete", "pub"}, points: once, keeps: true, ready: unpackImage, after: dropImage},
	{name: "delete an image that is shared", args: []string{"image", "delete", "pub"}, points: once, keeps: true, ready: shareImage, after: dropShared},
	{name: "delete the last of a shared image", args: []string{"image", "delete", "pub", "--project", "own"}, points: once, keeps: true, ready: leaveImage, after: dropShared},
	{name: "copy an image", args: []string{"image", "copy", "pub", "--target-project", "own", "--copy-aliases"}, points: once, keeps: true, ready: copyImage, after: dropShared},
	{
		name: "create from an image that was not used", args: []string{"create", "pub", "new", "-s", "POOL"}, makes: []string{"new"},
		points: once, keeps: true, ready: addImage, after: dropImage,
	},
	{
		name: "build an image", drivers: []string{"dir"}, args: []string{"image", "build", "debian:bookworm", "--alias", "pub"},
		points: "during the program unshare", keeps: true, fails: true, after: noBuild,
	},
}

// saveImage makes the file of another image than tiny.
func saveImage(t *testing.T, m *matrix) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(m.work, "pub.tar")); err == nil {
		return
	}
	m.must(t, "publish", "src", "--alias", "pub", "--compression", "none")
	m.must(t, "image", "export", "pub", "WORK/pub")
	m.must(t, "image", "delete", "pub")
}

func addImage(t *testing.T, m *matrix) {
	t.Helper()
	saveImage(t, m)
	m.must(t, "image", "import", "WORK/pub.tar", "--alias", "pub")
}

func unpackImage(t *testing.T, m *matrix) {
	t.Helper()
	addImage(t, m)
	m.must(t, "create", "pub", "once", "-s", "POOL")
	m.must(t, "delete", "once")
}

// ownProject makes a project with images of its own.
func ownProject(t *testing.T, m *matrix) {
	t.Helper()
	if _, err := m.cuib("project", "show", "own"); err != nil {
		m.must(t, "project", "create", "own")
	}
}

// copyImage has an image that can be copied.
func copyImage(t *testing.T, m *matrix) {
	t.Helper()
	ownProject(t, m)
	unpackImage(t, m)
}

// shareImage has the image in the project "own" too.
func shareImage(t *testing.T, m *matrix) {
	t.Helper()
	copyImage(t, m)
	m.must(t, "image", "copy", "pub", "--target-project", "own", "--copy-aliases")
}

// leaveImage has it there alone.
func leaveImage(t *testing.T, m *matrix) {
	t.Helper()
	shareImage(t, m)
	m.must(t, "image", "delete", "pub")
}

// dropShared checks in each project that the image is there as a whole or not at
// all, and removes it.
func dropShared(t *testing.T, m *matrix, at string) {
	t.Helper()
	dropImage(t, m, at)
	if m.must(t, "image", "list", "--format", "csv", "--columns", "l", "--project", "own") == "" {
		return
	}
	m.must(t, "create", "pub", "of", "-s", "POOL", "--project", "own")
	if _, err := m.cuib("file", "pull", "of/root/file", "-", "--project", "own"); err != nil {
		t.Errorf("%s: %v", at, err)
	}
	m.must(t, "delete", "of", "--project", "own")
	m.must(t, "image", "delete", "pub", "--project", "own")
}

// dropImage checks that the image is as a whole or not at all, and removes it.
func dropImage(t *testing.T, m *matrix, at string) {
	t.Helper()
	out := strings.Fields(m.must(t, "image", "list", "--format", "csv", "--columns", "l"))
	if !slices.Contains(out, "pub") {
		if len(out) != 1 {
			t.Errorf("%s: there are the images %q", at, out)
		}
		return
	}
	m.must(t, "create", "pub", "of", "-s", "POOL")
	if _, err := m.cuib("file", "pull", "of/root/file", "-"); err != nil {
		t.Errorf("%s: %v", at, err)
	}
	m.must(t, "delete", "of")
	m.must(t, "image", "delete", "pub")
}

// noBuild checks that nobody builds an image any more.
func noBuild(t *testing.T, m *matrix, at string) {
	t.Helper()
	var left string
	gone := func() bool {
		out, err := run("ps", "-eo", "args")
		if err != nil {
			t.Fatal(err)
		}
		left = ""
		for line := range strings.Lines(out) {
			if strings.Contains(line, filepath.Join(m.dir, "images")) {
				left = line
			}
		}
		return left == ""
	}
	if !soon(gone) {
		t.Errorf("%s: there is still %s", at, left)
	}
}

var matrixArchives = []matrixOp{
	{name: "export", args: []string{"export", "src", "WORK/out"}, points: once, keeps: true, after: wholeArchive},
	{
		name: "export a stream", drivers: []string{"overlay", "btrfs"}, args: []string{"export", "src", "WORK/out", "--optimized-storage", "--compression", "gzip"},
		points: once, keeps: true, after: wholeArchive,
	},
	{name: "export while it runs", setup: []string{"start", "src"}, args: []string{"export", "src", "WORK/out"}, points: once, keeps: true, after: exportedRunning},
	{name: "export a volume", args: []string{"storage", "volume", "export", "POOL", "vol", "WORK/out"}, points: once, keeps: true, after: wholeArchive},
	{
		name: "export a volume's stream", drivers: []string{"btrfs"},
		args: []string{"storage", "volume", "export", "POOL", "vol", "WORK/out", "--optimized-storage"}, points: once, keeps: true, after: wholeArchive,
	},
	{
		name: "import a stream", drivers: []string{"overlay", "btrfs"}, args: []string{"import", "WORK/stream", "new", "-s", "POOL"},
		makes: []string{"new"}, points: once, keeps: true,
		ready: func(t *testing.T, m *matrix) {
			t.Helper()
			if _, err := os.Stat(filepath.Join(m.work, "stream")); err != nil {
				m.must(t, "export", "src", "WORK/stream", "--optimized-storage")
			}
		},
	},
	{
		name: "keep a backup", args: []string{"query", "--wait", "-X", "POST", "-d", `{"name":"b0"}`, "/1.0/instances/src/backups"},
		points: once, keeps: true, after: dropBackups("/1.0/instances/src/backups"),
	},
	{
		name: "keep a backup of a volume", args: []string{"query", "--wait", "-X", "POST", "-d", `{"name":"b0"}`, "/1.0/storage-pools/POOL/volumes/custom/vol/backups"},
		points: once, keeps: true, after: dropBackups("/1.0/storage-pools/POOL/volumes/custom/vol/backups"),
	},
	{
		name: "delete a backup", args: []string{"query", "--wait", "-X", "DELETE", "/1.0/instances/src/backups/b0"},
		points: once, keeps: true, after: dropBackups("/1.0/instances/src/backups"),
		ready: func(t *testing.T, m *matrix) {
			t.Helper()
			m.must(t, "query", "--wait", "-X", "POST", "-d", `{"name":"b0"}`, "/1.0/instances/src/backups")
		},
	},
}

// wholeArchive checks that what a client has written is whole, or not there.
func wholeArchive(t *testing.T, m *matrix, at string) {
	t.Helper()
	file := filepath.Join(m.work, "out")
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return
	}
	if out, err := run("tar", "-tf", file); err != nil {
		t.Errorf("%s: a client is left with a part of an archive: %v\n%s", at, err, out)
	}
	if err := os.Remove(file); err != nil {
		t.Error(err)
	}
}

func exportedRunning(t *testing.T, m *matrix, at string) {
	t.Helper()
	wholeArchive(t, m, at)
	thawed(t, m, at)
}

// dropBackups checks that the backups that there are can be read, and deletes
// them.
func dropBackups(path string) func(t *testing.T, m *matrix, at string) {
	return func(t *testing.T, m *matrix, at string) {
		t.Helper()
		var all []string
		if err := newAPI(m.socket()).call("GET", path, nil, &all); err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		for _, b := range all {
			if _, err := run("curl", "-sf", "--unix-socket", m.socket(), "-o", filepath.Join(m.work, "out"), "http://cuib"+b+"/export"); err != nil {
				t.Errorf("%s: %v", at, err)
			}
			wholeArchive(t, m, at)
			m.must(t, "query", "--wait", "-X", "DELETE", b)
		}
	}
}

var matrixPools = []matrixOp{
	{name: "create a pool", args: []string{"storage", "create", "NEW", "DRIVER"}, points: once, keeps: true, after: dropPool()},
	{
		name: "create a pool in a directory", drivers: []string{"overlay", "dir"}, args: []string{"storage", "create", "NEW", "DRIVER", "source=WORK/empty"},
		points: once, keeps: true, after: dropPool("source=WORK/empty"),
		ready: func(t *testing.T, m *matrix) {
			t.Helper()
			if err := os.MkdirAll(filepath.Join(m.work, "empty"), 0o755); err != nil {
				t.Fatal(err)
			}
		},
	},
	{
		name: "create a pool in a new directory", drivers: []string{"overlay", "dir"}, args: []string{"storage", "create", "NEW", "DRIVER", "source=WORK/none"},
		points: once, keeps: true, after: func(t *testing.T, m *matrix, at string) {
			t.Helper()
			dropPool("source=WORK/none")(t, m, at)
			if _, err := os.Lstat(filepath.Join(m.work, "none")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: the directory that was made for the pool is there: %v", at, err)
			}
		},
	},
	{
		name: "create a pool where there is data", drivers: []string{"overlay", "dir"}, args: []string{"storage", "create", "NEW", "DRIVER", "source=WORK/full"},
		points: once, keeps: true, fails: true, ready: fillSource("full/file"), after: sourceIntact("full/file"),
	},
	{
		name: "create a pool on a file with data", drivers: []string{"btrfs"}, args: []string{"storage", "create", "NEW", "DRIVER", "source=WORK/full.img"},
		points: once, keeps: true, fails: true, ready: fillSource("full.img"), after: sourceIntact("full.img"),
	},
	{
		name: "create a pool on a file", drivers: []string{"btrfs"}, args: []string{"storage", "create", "NEW", "DRIVER", "source=WORK/empty.img"},
		points: once, keeps: true, after: dropPool("source=WORK/empty.img"),
		ready: func(t *testing.T, m *matrix) {
			t.Helper()
			if _, err := run("truncate", "-s", "300M", filepath.Join(m.work, "empty.img")); err != nil {
				t.Fatal(err)
			}
		},
	},
	{
		name: "delete a pool", args: []string{"storage", "delete", "NEW"}, points: once, keeps: true, after: dropPool(),
		ready: func(t *testing.T, m *matrix) {
			t.Helper()
			m.must(t, "storage", "create", "NEW", "DRIVER")
			m.must(t, "create", "tiny", "first", "-s", "NEW") // With the volume of an image.
			m.must(t, "delete", "first")
		},
	},
	{
		name: "grow a pool", drivers: []string{"btrfs"}, args: []string{"storage", "set", "NEW", "size=400MiB"}, points: once, keeps: true,
		ready: func(t *testing.T, m *matrix) {
			t.Helper()
			m.must(t, "storage", "create", "NEW", "DRIVER", "size=300MiB")
		},
		after: func(t *testing.T, m *matrix, _ string) {
			t.Helper()
			m.must(t, "storage", "set", "NEW", "size=410MiB")
			m.must(t, "storage", "delete", "NEW")
		},
	},
	{name: "recover", args: []string{"admin", "recover"}, points: once, makes: []string{"src", "POOL/vol"}, ready: loseDatabase, after: findDatabase},
}

// dropPool checks that there is a pool that works, or none and that it can be
// made; in the end there is none.
func dropPool(config ...string) func(t *testing.T, m *matrix, at string) {
	return func(t *testing.T, m *matrix, at string) {
		t.Helper()
		if !slices.Contains(strings.Fields(m.must(t, "storage", "list", "--format", "csv", "--columns", "n")), "NEW") {
			m.must(t, append([]string{"storage", "create", "NEW", "DRIVER"}, config...)...)
		}
		if _, err := m.cuib("storage", "volume", "create", "NEW", "v"); err != nil {
			t.Errorf("%s: %v", at, err)
		}
		m.must(t, "storage", "volume", "delete", "NEW", "v")
		m.must(t, "storage", "delete", "NEW")
	}
}

// fillSource makes a file that nobody may touch.
func fillSource(name string) func(t *testing.T, m *matrix) {
	return func(t *testing.T, m *matrix) {
		t.Helper()
		file := filepath.Join(m.work, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("data"), 0o600), os.Truncate(file, 300<<20)); err != nil {
			t.Fatal(err)
		}
	}
}

// sourceIntact checks that it is there as it was, and there is no pool.
func sourceIntact(name string) func(t *testing.T, m *matrix, at string) {
	return func(t *testing.T, m *matrix, at string) {
		t.Helper()
		file := filepath.Join(m.work, name)
		data := make([]byte, 5)
		f, err := os.Open(file)
		if err == nil {
			_, err = f.Read(data)
			f.Close()
		}
		if err != nil || string(data) != "data\x00" {
			t.Errorf("%s: the source's file has %q, %v", at, data, err)
		}
		if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || name != filepath.Base(name) && len(entries) != 1 {
			t.Errorf("%s: beside the source's file there are %v, %v", at, entries, err)
		}
		if out := strings.Fields(m.must(t, "storage", "list", "--format", "csv", "--columns", "n")); slices.Contains(out, "NEW") {
			t.Errorf("%s: there are the pools %v", at, out)
		}
	}
}

// loseDatabase has the daemon know of nothing.
func loseDatabase(t *testing.T, m *matrix) {
	t.Helper()
	if err := errors.Join(m.stop(syscall.SIGTERM), os.RemoveAll(filepath.Join(m.dir, "database")), m.start()); err != nil {
		t.Fatal(err)
	}
}

// findDatabase checks that what was registered is as it was, and that the rest
// can be. Images are to be had again.
func findDatabase(t *testing.T, m *matrix, at string) {
	t.Helper()
	m.must(t, "admin", "recover")
	after := m.objects(t)
	for _, name := range []string{"src", "POOL/vol"} {
		if !slices.Contains(after, name) {
			t.Errorf("%s: what is registered then is %v", at, after)
			continue
		}
		m.whole(t, matrixOp{name: "recover"}, name, fmt.Sprint(at, ", and registered again"))
	}
	if err := m.image("tiny", "tiny"); err != nil {
		t.Fatal(err)
	}
	m.unpack(t)
}

// resticOnce are the points of what takes its time: restic takes a second for
// whatever it does.
const resticOnce = "during the program restic|database"

// Repositories know nothing of drivers.
var matrixRepositories = []matrixOp{
	{
		name: "back up", drivers: []string{"dir"}, args: []string{"backup", "create", "nas", "src", "POOL/vol"},
		points: resticOnce, keeps: true, ready: addRepository, after: repositoryWorks,
	},
	{
		name: "restore a backup", drivers: []string{"dir"}, args: []string{"backup", "restore", "nas", "src", "new", "--pool", "OTHER"},
		makes: []string{"new"}, loose: []string{"new"}, points: resticOnce, keeps: true, ready: addRepository,
		after: func(t *testing.T, m *matrix, at string) {
			t.Helper()
			if got, err := newAPI(m.socket()).pull(urlOf("new") + "/files?path=/root/file"); err == nil && got != strings.Repeat("now", 10000) {
				t.Errorf("%s: what was restored has a file of %d bytes", at, len(got))
			}
		},
	},
	{
		name: "prune", drivers: []string{"dir"}, args: []string{"backup", "prune", "nas"}, points: resticOnce, keeps: true, after: repositoryWorks,
		ready: func(t *testing.T, m *matrix) {
			t.Helper()
			addRepository(t, m)
			m.must(t, "backup", "create", "nas", "POOL/vol")
		},
	},
}

// addRepository makes a repository, with a backup of each.
func addRepository(t *testing.T, m *matrix) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(m.work, "password")); err == nil {
		return
	}
	if err := os.WriteFile(filepath.Join(m.work, "password"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.must(t, "backup", "repository", "add", "nas", "location=WORK/repository", "keep.last=1", "--password-file", "WORK/password")
	m.must(t, "backup", "create", "nas", "src", "POOL/vol")
}

// repositoryWorks checks that a repository is whole, and that nobody who is
// gone has it locked.
func repositoryWorks(t *testing.T, m *matrix, at string) {
	t.Helper()
	for _, args := range [][]string{{"backup", "verify", "nas"}, {"backup", "create", "nas", "POOL/vol"}} {
		if _, err := m.cuib(args...); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
}
