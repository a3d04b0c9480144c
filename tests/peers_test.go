package tests

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cuib/cuib/tests/internal/surroundings"
)

// TestPeers exchanges archives of instances and volumes with the daemons of
// Incus and LXD themselves, each way. What was made by one side, imported by
// the other and exported by that again has to be what it was.
func TestPeers(t *testing.T) {
	t.Parallel()
	requireKernel(t)
	programs := filepath.Join(cacheDir(), "peers")
	err := locked("peers", func() error {
		if _, err := os.Stat(programs); err == nil {
			return nil
		}
		_, err := run("../scripts/peers", programs)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for client, daemon := range map[string]string{"incus": "usr/libexec/incus/incusd", "lxc": "usr/bin/lxd"} {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			ours, theirs := ourSide(t, client), theirSide(t, client, programs, daemon)
			image := probeImage(t)
			ours.fill(t, image, map[string]string{"dir": "dir", "bt": "btrfs", "ov": "overlay"})
			theirs.fill(t, image, map[string]string{"dir": "dir", "bt": "btrfs"})
			exchange(t, ours, theirs)
			exchange(t, theirs, ours)
			// The guest of theirs is one of ours now.
			for _, args := range [][]string{{"start", "i-dir-0"}, {"exec", "i-dir-0", "--", "cat", "/root/new"}} {
				if out := ours.do(t, args...); args[0] == "exec" && out != "three\n" {
					t.Errorf("%v: got %q", args, out)
				}
			}
		})
	}
}

// A side is a daemon, with the client that drives it.
type side struct {
	name   string
	client string
	env    []string
	pools  []string
	// trees has the digests of what the side has made, by name.
	trees map[string]map[string]string
	// put writes the file "file" into a volume.
	put func(pool, volume string) error
}

func (s *side) try(args ...string) (string, error) {
	cmd := command(append([]string{s.client}, args...)...)
	cmd.Env = append(os.Environ(), s.env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: %s %v: %w: %s", s.name, s.client, args, err, &stderr)
	}
	return string(out), nil
}

func (s *side) do(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.try(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// snapshot makes one of an instance, or with "storage", "volume" of a volume.
func (s *side) snapshot(t *testing.T, of []string, args ...string) {
	t.Helper()
	verb := []string{"snapshot"}
	if s.client == "incus" {
		verb = append(verb, "create")
	}
	s.do(t, slices.Concat(of, verb, args)...)
}

func ourSide(t *testing.T, client string) *side {
	t.Helper()
	h := startHost(t)
	s := &side{name: "ours", client: client}
	for k, v := range h.env() {
		s.env = append(s.env, k+"="+v)
	}
	s.put = func(pool, volume string) error {
		file := filepath.Join(h.work, "file")
		if err := os.WriteFile(file, []byte("data\n"), 0o640); err != nil {
			return err
		}
		_, err := h.user(filepath.Join(binDir, "cuib"), "storage", "volume", "file", "push", file, pool, volume+"/file")
		return err
	}
	return s
}

// theirSide starts the daemon of a peer in namespaces of its own.
func theirSide(t *testing.T, client, programs, daemon string) *side {
	t.Helper()
	work := t.TempDir()
	dir, err := newDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(noLoops(dir), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	ctx := context.Background()
	spaces, err := surroundings.New(ctx, fmt.Sprintf("cuibt%d-%s", os.Getpid(), client))
	if err != nil {
		t.Fatal(err)
	}
	s := &side{name: filepath.Base(daemon), client: client}
	for _, name := range []string{"INCUS", "LXD"} {
		s.env = append(s.env, name+"_DIR="+dir, name+"_CONF="+filepath.Join(work, "conf"), name+"_SOCKET=")
	}
	cmd := command(spaces.Inside("sh", "-ec", withIDs, dir, filepath.Join(programs, daemon), "--group", "root")...)
	cmd.Env = slices.Concat(os.Environ(), s.env, []string{"LD_LIBRARY_PATH=" + filepath.Join(programs, "usr/lib/x86_64-linux-gnu")})
	log, err := os.Create(filepath.Join(work, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		killed := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // However it ends.
		killed.Stop()
		if data, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("log of %s:\n%s", s.name, data)
		}
		// What it has mounted goes with the namespace, and loop devices with that.
		if err := errors.Join(log.Close(), spaces.Kill(ctx), spaces.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
	s.put = func(pool, volume string) error {
		file := filepath.Join(dir, "storage-pools", pool, "custom", "default_"+volume, "file")
		_, err := run(spaces.Inside("sh", "-c", `echo data >"$0" && chmod 640 "$0"`, file)...)
		return err
	}
	s.await(t, filepath.Join(dir, "unix.socket"))
	return s
}

// noLoops waits until no loop device is on a file below a directory.
func noLoops(dir string) error {
	var out string
	var err error
	gone := func() bool {
		out, err = run("losetup", "--noheadings", "--output", "NAME,BACK-FILE")
		return err != nil || !strings.Contains(out, dir+"/")
	}
	if !soon(gone) {
		return fmt.Errorf("loop devices are left:\n%s", out)
	}
	return err
}

// withIDs gives a peer ids whatever the machine's files say, and executes it.
const withIDs = `echo root:1000000:1000000000 >"$0/ids"
for file in /etc/subuid /etc/subgid; do
	[ ! -e $file ] || mount --bind "$0/ids" $file
done
exec "$@"`

func (s *side) await(t *testing.T, socket string) {
	t.Helper()
	eventually(t, s.name+" answers", func() bool {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return false
		}
		_ = conn.Close()
		_, err = s.try("storage", "list") // It answers before it is ready.
		return err == nil
	})
}

// probeImage returns an image of files that are easily lost.
func probeImage(t *testing.T) string {
	t.Helper()
	tiny, err := imageFiles("tiny")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "probe.tar.gz")
	if _, err := run("sh", "-exc", probe, t.TempDir(), tiny[0], path); err != nil {
		t.Fatal(err)
	}
	return path
}

const probe = `cd "$0"
tar -xzf "$1"
find rootfs/bin -type l ! -name sh ! -name cat ! -name sleep ! -name reboot ! -name ip -delete
cd rootfs/root
echo hello >f
chown 1000:1001 f
ln f ../etc/hard
ln -s ../etc/hard soft
mkfifo fifo
echo x >x
setfattr -n user.foo -v bar x
setcap cap_net_raw+ep x
setfacl -m u:1000:r x
setfacl -d -m u:1000:rx .
truncate -s 1M sparse
echo end >>sparse
mkdir -m 1777 empty
touch "$(printf 'no\377utf')" "new
line"
chmod 4755 "new
line"
cd ../..
tar --numeric-owner --mtime=@1700000000 --xattrs '--xattrs-include=*' --acls -czf "$2" metadata.yaml rootfs`

// digest prints all that a tree has. Of times it has those of files that are
// as the image has them: the peers' archives round them to seconds.
const digest = `cd "$0"
find . \( -type d -printf '%P %y %m %U %G\n' -o -printf '%P %y %m %U %G %n %l\n' \) | sort
find . -type f -printf '%P %s\n' | sort
find . -type f ! -newermt @1700000000 -printf '%P %s %Ts\n' | sort
find . -type f -print0 | sort -z | xargs -0r sha256sum
find . -print0 | sort -z | xargs -0r getfattr -h -d -m '^(user|security|system)\.' -e hex`

// fill makes in each pool an instance with two snapshots, and a volume with
// one.
func (s *side) fill(t *testing.T, image string, pools map[string]string) {
	t.Helper()
	work := t.TempDir()
	two, three := filepath.Join(work, "two"), filepath.Join(work, "three")
	for _, file := range []string{two, three} {
		if err := os.WriteFile(file, []byte(filepath.Base(file)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.do(t, "image", "import", image, "--alias", "probe")
	s.trees = map[string]map[string]string{}
	s.pools = slices.Sorted(maps.Keys(pools))
	for _, pool := range s.pools {
		args := []string{"storage", "create", pool, pools[pool]}
		if pools[pool] == "btrfs" {
			args = append(args, "size=512MiB")
		}
		s.do(t, args...)
		s.do(t, "init", "probe", "c-"+pool, "-s", pool, "-c", "user.key=a value", "-c", "limits.memory=512MiB")
		s.snapshot(t, nil, "c-"+pool, "snap0")
		s.do(t, "file", "push", two, "c-"+pool+"/root/f")
		s.snapshot(t, nil, "c-"+pool, "snap1")
		s.do(t, "file", "push", three, "c-"+pool+"/root/new")

		s.do(t, "storage", "volume", "create", pool, "v-"+pool, "user.key=a value")
		if err := s.put(pool, "v-"+pool); err != nil {
			t.Fatal(err)
		}
		s.snapshot(t, []string{"storage", "volume"}, pool, "v-"+pool, "vs0")
		s.trees["c-"+pool], s.trees["v-"+pool] = s.instance(t, "c-"+pool), s.volume(t, pool, "v-"+pool)
	}
}

// ways are flags of exports, by pool.
var ways = map[string][][]string{
	"dir": {{"--compression", "zstd"}},
	"bt":  {nil, {"--optimized-storage", "--compression", "none"}},
	"ov":  {{"--compression", "zstd"}},
}

// exchange has the one side import what the other exports.
func exchange(t *testing.T, from, to *side) {
	t.Helper()
	for _, pool := range from.pools {
		into := pool
		if !slices.Contains(to.pools, into) {
			into = "dir"
		}
		for n, flags := range ways[pool] {
			what := fmt.Sprintf("%s from %s, pool %s, %v", to.name, from.name, pool, flags)
			name := fmt.Sprintf("%s-%d", pool, n)
			exchangeInstance(t, from, to, transfer{what, "c-" + pool, pool, "i-" + name, into, flags})
			exchangeVolume(t, from, to, transfer{what, "v-" + pool, pool, "v-" + name, into, flags})
		}
	}
}

type transfer struct {
	what          string
	name, pool    string
	newName, into string
	flags         []string
}

func exchangeInstance(t *testing.T, from, to *side, x transfer) {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "archive")
	from.do(t, slices.Concat([]string{"export", x.name, archive}, x.flags)...)
	to.do(t, "import", archive, x.newName, "-s", x.into)
	if got, want := to.do(t, "list", "^"+x.newName+"$", "--format", "csv", "--columns", "nSb"), x.newName+",2,"+x.into+"\n"; got != want {
		t.Errorf("%s: got %q, want %q", x.what, got, want)
	}
	for key, want := range map[string]string{"user.key": "a value", "limits.memory": "512MiB"} {
		if got := to.do(t, "config", "get", x.newName, key); got != want+"\n" {
			t.Errorf("%s: %s is %q", x.what, key, got)
		}
	}
	same(t, x.what, from.trees[x.name], to.instance(t, x.newName))
}

func exchangeVolume(t *testing.T, from, to *side, x transfer) {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "archive")
	from.do(t, slices.Concat([]string{"storage", "volume", "export", x.pool, x.name, archive}, x.flags)...)
	to.do(t, "storage", "volume", "import", x.into, archive, x.newName)
	if got := to.do(t, "storage", "volume", "get", x.into, x.newName, "user.key"); got != "a value\n" {
		t.Errorf("%s: the volume's user.key is %q", x.what, got)
	}
	same(t, x.what, from.trees[x.name], to.volume(t, x.into, x.newName))
}

// same compares trees, line by line.
func same(t *testing.T, what string, want, got map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if lost := missing(want[name], got[name]); len(lost) > 0 {
			t.Errorf("%s: %s has lost\n%s", what, name, strings.Join(lost, ""))
		}
		if more := missing(got[name], want[name]); len(more) > 0 {
			t.Errorf("%s: %s has instead\n%s", what, name, strings.Join(more, ""))
		}
	}
}

// missing returns the lines that one text has and the other lacks.
func missing(one, other string) []string {
	has := map[string]bool{}
	for line := range strings.Lines(other) {
		has[line] = true
	}
	return slices.DeleteFunc(slices.Collect(strings.Lines(one)), func(line string) bool { return has[line] })
}

// instance returns the digests of an instance's trees, as the side exports
// them.
func (s *side) instance(t *testing.T, name string) map[string]string {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "archive")
	s.do(t, "export", name, archive, "--compression", "none")
	trees := digests(t, archive, map[string]string{
		"now": "container/rootfs", "snap0": "snapshots/snap0/rootfs", "snap1": "snapshots/snap1/rootfs",
	})
	for tree, want := range map[string]string{
		"now": "root/new f ", "snap1": "root/f 4\n", "snap0": "root/x 2 1700000000\n",
	} {
		if !strings.Contains(trees[tree], want) {
			t.Errorf("%s: %s of %s has no line with %q", s.name, tree, name, want)
		}
	}
	return trees
}

func (s *side) volume(t *testing.T, pool, name string) map[string]string {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "archive")
	s.do(t, "storage", "volume", "export", pool, name, archive, "--compression", "none")
	return digests(t, archive, map[string]string{"now": "volume", "vs0": "volume-snapshots/vs0"})
}

func digests(t *testing.T, archive string, dirs map[string]string) map[string]string {
	t.Helper()
	into := t.TempDir()
	if _, err := run("tar", "-C", into, "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls", "-xpf", archive); err != nil {
		t.Fatal(err)
	}
	trees := map[string]string{}
	for name, dir := range dirs {
		out, err := run("sh", "-ec", digest, filepath.Join(into, "backup", dir))
		if err != nil {
			t.Fatal(err)
		}
		trees[name] = out
	}
	return trees
}
