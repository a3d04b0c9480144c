package tests

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A matrixOp is a change of many steps. Everything it works on is made by
// matrix.base, and what it makes has the names in makes.
type matrixOp struct {
	name  string
	args  []string // Of cuib; POOL and OTHER stand for the pools.
	makes []string // Instances and volumes (POOL/NAME) that there are after it and were not before.
	loses []string // Those that there are no more.
	setup []string // Of cuib, before: what base does not have.

	drivers []string // On which it is made; nil for all.
	points  string   // The points at which the daemon is killed, each once: a regular expression. All, each time, if it is empty.
	keeps   bool     // What base made is as it was after it, and is used again.
	empties bool     // What is there after it may lack the file that base made.
	fails   bool     // It ends in an error.
	loose   []string // What has not what base made.

	ready func(t *testing.T, m *matrix)            // Before it, what setup cannot do.
	after func(t *testing.T, m *matrix, at string) // Looks at what check does not, and takes away what clean does not.
}

var matrixOps = []matrixOp{
	{name: "create", args: []string{"create", "tiny", "new", "-s", "POOL"}, makes: []string{"new"}},
	{name: "launch", args: []string{"launch", "tiny", "new", "-s", "POOL"}, makes: []string{"new"}},
	{name: "copy", args: []string{"copy", "src", "new"}, makes: []string{"new"}},
	{name: "copy of a snapshot", args: []string{"copy", "src/s0", "new"}, makes: []string{"new"}},
	{name: "copy to another pool", args: []string{"copy", "src", "new", "-s", "OTHER"}, makes: []string{"new"}},
	{name: "move to another pool", args: []string{"move", "src", "-s", "OTHER"}},
	{name: "rename", args: []string{"move", "src", "new"}, makes: []string{"new"}, loses: []string{"src"}},
	{name: "snapshot", args: []string{"snapshot", "create", "src", "s2"}},
	{name: "restore", args: []string{"snapshot", "restore", "src", "s0"}},
	{name: "delete a snapshot", args: []string{"snapshot", "delete", "src", "s0"}},
	{name: "rename a snapshot", args: []string{"snapshot", "rename", "src", "s0", "s2"}},
	{name: "delete", args: []string{"delete", "src"}, loses: []string{"src"}},
	{name: "refresh", setup: []string{"copy", "src", "old", "-s", "OTHER"}, args: []string{"copy", "src", "old", "--refresh"}},
	{name: "create a volume", args: []string{"storage", "volume", "create", "POOL", "newvol"}, makes: []string{"POOL/newvol"}},
	{name: "copy a volume", args: []string{"storage", "volume", "copy", "POOL/vol", "POOL/newvol"}, makes: []string{"POOL/newvol"}},
	{name: "copy a volume to another pool", args: []string{"storage", "volume", "copy", "POOL/vol", "OTHER/newvol"}, makes: []string{"OTHER/newvol"}},
	{name: "move a volume", args: []string{"storage", "volume", "move", "POOL/vol", "OTHER/vol"}, makes: []string{"OTHER/vol"}, loses: []string{"POOL/vol"}},
	{name: "rename a volume", args: []string{"storage", "volume", "rename", "POOL", "vol", "newvol"}, makes: []string{"POOL/newvol"}, loses: []string{"POOL/vol"}},
	{name: "snapshot a volume", args: []string{"storage", "volume", "snapshot", "create", "POOL", "vol", "s2"}},
	{name: "restore a volume", args: []string{"storage", "volume", "snapshot", "restore", "POOL", "vol", "s0"}},
	{name: "delete a volume", args: []string{"storage", "volume", "delete", "POOL", "vol"}, loses: []string{"POOL/vol"}},
	{name: "import", args: []string{"import", "ARCHIVE", "new", "-s", "POOL"}, makes: []string{"new"}},
	{name: "import a volume", args: []string{"storage", "volume", "import", "POOL", "VOLUMEARCHIVE", "newvol"}, makes: []string{"POOL/newvol"}},
}

// TestCrashMatrix kills the daemon at each step of each change on each driver,
// and starts it again: what there was is whole, what was made is there as a
// whole or not at all, and can be made or removed then.
func TestCrashMatrix(t *testing.T) {
	t.Parallel()
	requireKernel(t)
	bin := crashBinary(t)
	for _, driver := range matrixDrivers {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			m := newMatrix(t, bin, driver)
			m.all(t)
			if !t.Failed() {
				m.changes(t, matrixMore)
			}
		})
	}
}

var matrixDrivers = []string{"overlay", "btrfs", "dir"}

// crashBinary returns a daemon that can be killed at its points.
func crashBinary(t *testing.T) string {
	t.Helper()
	if bin := filepath.Join(binDir, "crash", "cuibd"); os.Getenv("CUIB_TEST_BUILT") != "" {
		return bin
	}
	bin := filepath.Join(t.TempDir(), "cuibd")
	if out, err := command("go", "build", "-tags", "crashtest", "-o", bin, "../lxd-like/cuibd").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := run("cp", filepath.Join(binDir, "cuib-shim"), filepath.Dir(bin)); err != nil {
		t.Fatal(err)
	}
	return bin
}

// all makes each change that all drivers make alike.
func (m *matrix) all(t *testing.T) { m.changes(t, matrixOps) }

func (m *matrix) changes(t *testing.T, ops []matrixOp) {
	for _, op := range ops {
		if op.drivers != nil && !slices.Contains(op.drivers, m.driver) {
			continue
		}
		if ok := t.Run(op.name, func(t *testing.T) { m.each(t, op) }); !ok {
			return // What follows would fail of that.
		}
	}
}

// A matrix is a daemon with two pools of one driver.
type matrix struct {
	*host

	driver   string
	crash    string // The file that arms the daemon.
	baseline string // What is in the pools when nothing but images is.
	slow     bool   // Whether what base made is used again if a change only reads it.
	based    bool   // Whether there is what base made.
}

func newMatrix(t *testing.T, bin, driver string, options ...string) *matrix {
	t.Helper()
	h, err := newHost(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := &matrix{host: h, driver: driver, crash: filepath.Join(h.work, "crash")}
	h.bin, h.extra = bin, []string{"CUIB_CRASH_FILE=" + m.crash}
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(h.start(), h.image("tiny", "tiny")); err != nil {
		t.Fatal(err)
	}
	for _, pool := range []string{"POOL", "OTHER"} {
		m.must(t, append([]string{"storage", "create", pool, driver}, options...)...)
	}
	m.unpack(t)
	m.base(t)
	m.must(t, "export", "src", "ARCHIVE", "--compression", "none")
	m.must(t, "storage", "volume", "export", "POOL", "vol", "VOLUMEARCHIVE", "--compression", "none")
	m.clean(t, nil)
	m.baseline = m.settled(t)
	return m
}

// unpack has the image in the pools, where it is not taken for a leftover then.
func (m *matrix) unpack(t *testing.T) {
	t.Helper()
	for _, pool := range []string{"POOL", "OTHER"} {
		m.must(t, "create", "tiny", "first", "-s", pool)
		m.must(t, "delete", "first")
	}
}

// settled returns what remains when what is done in the background is: the
// trash is emptied, records are written, and what was mounted for a moment is
// unmounted.
func (m *matrix) settled(t *testing.T) string {
	t.Helper()
	var left string
	busy := regexp.MustCompile("/staging/|/trash/|/deleted/|left over")
	quiet := func() bool {
		left = m.remains(t)
		return !busy.MatchString(left) || m.based && !busy.MatchString(lasting(left))
	}
	if !soon(quiet) {
		t.Fatalf("this does not go: %s", left)
	}
	return left
}

// cuib runs the client, which the daemon's end must not keep waiting.
func (m *matrix) cuib(args ...string) (string, error) {
	args = slices.Clone(args)
	for i, a := range args {
		args[i] = strings.NewReplacer(
			"VOLUMEARCHIVE", filepath.Join(m.work, "volume.tar"), "ARCHIVE", filepath.Join(m.work, "instance.tar"),
			"WORK", m.work, "DRIVER", m.driver,
		).Replace(a)
	}
	return m.user(append([]string{"timeout", "600", filepath.Join(binDir, "cuib")}, args...)...)
}

func (m *matrix) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := m.cuib(args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, m.logs())
	}
	return out
}

// base makes what the changes work on: an instance and a volume, each with
// contents that differ from those of their two snapshots.
func (m *matrix) base(t *testing.T) {
	t.Helper()
	m.based = true
	m.must(t, "create", "tiny", "src", "-s", "POOL")
	api, instance, volume := newAPI(m.socket()), urlOf("src"), urlOf("POOL/vol")
	err := api.call("POST", path.Dir(volume), map[string]string{"name": "vol"}, nil)
	for _, text := range []string{"s0", "s1", "now"} {
		data := []byte(strings.Repeat(text, 10000))
		err = errors.Join(err, os.WriteFile(filepath.Join(m.work, text), data, 0o600),
			api.push(instance+"/files?path=/root/file", data), api.push(volume+"/files?path=/file", data))
		if text != "now" {
			err = errors.Join(err, api.call("POST", instance+"/snapshots", map[string]string{"name": text}, nil),
				api.call("POST", volume+"/snapshots", map[string]string{"name": text}, nil))
		}
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, m.logs())
	}
}

// urlOf is where the API has an instance or, with its pool, a volume. It is
// asked by most of what follows: to start the client each time takes longer.
func urlOf(name string) string {
	if pool, volume, is := strings.Cut(name, "/"); is {
		return "/1.0/storage-pools/" + pool + "/volumes/custom/" + volume
	}
	return "/1.0/instances/" + name
}

// clean deletes all that base or an op made, but what is to be kept.
func (m *matrix) clean(t *testing.T, keep []string) {
	t.Helper()
	m.based = keep != nil
	all := m.objects(t)
	slices.SortFunc(all, func(a, b string) int { return strings.Count(a, "/") - strings.Count(b, "/") }) // Volumes last: instances use them.
	for _, name := range all {
		if slices.Contains(keep, name) {
			continue
		}
		err := newAPI(m.socket()).call("DELETE", urlOf(name), nil, nil)
		if err != nil && !strings.Contains(name, "/") {
			_, err = m.cuib("delete", "--force", name) // It runs.
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, m.logs())
		}
	}
}

// each makes the change again and again, and kills the daemon a step later
// each time, until the change comes to its end.
func (m *matrix) each(t *testing.T, op matrixOp) {
	var keep []string
	baseline := m.baseline
	first, stride := m.steps(op)
	for n := first; ; n += stride {
		if !m.based {
			m.base(t)
		}
		if op.setup != nil && keep == nil {
			m.must(t, op.setup...)
		}
		if n == first && (op.keeps || m.slow && op.makes != nil && op.loses == nil) {
			keep, baseline = m.objects(t), m.settled(t)
		}
		if op.ready != nil {
			op.ready(t, m)
		}
		before := m.objects(t)
		if err := m.arm(strconv.Itoa(n) + "\n" + op.points); err != nil {
			t.Fatal(err)
		}
		_, err := m.cuib(op.args...)
		at, crashed := m.crashed(t)
		at = fmt.Sprintf("step %d (%s)", n, at)
		if !crashed {
			if at = "no crash"; (err != nil) != op.fails {
				t.Fatalf("without a crash: %v\n%s", err, m.logs())
			}
		}
		m.check(t, op, before, at)
		if op.after != nil {
			op.after(t, m, at)
		}
		if !crashed && op.keeps { // What use of it left behind is to be seen too.
			keep, baseline = nil, m.baseline
		}
		m.clean(t, keep)
		m.pristine(t, baseline, at)
		if t.Failed() {
			return
		}
		if !crashed {
			if n < 4 && !m.slow && op.points == "" {
				t.Errorf("only %d steps", n-1)
			}
			t.Logf("no more than %d steps", n-1)
			return
		}
	}
}

// arm has the daemon die. It reads the file at any time, and must not find a
// part of it.
func (m *matrix) arm(text string) error {
	fresh := m.crash + ".new"
	return errors.Join(os.WriteFile(fresh, []byte(text), 0o600), os.Rename(fresh, m.crash))
}

// steps returns the first step at which the daemon is killed, and how many it
// is from one to the next. Of the changes that take long each driver has a part
// of the steps: all drivers together have as many as each has if there is time.
func (m *matrix) steps(op matrixOp) (first, stride int) {
	const part = 3
	first = 1 + len(op.name)%part
	switch time := os.Getenv("CUIB_TEST_MATRIX"); {
	case op.points == "" || time == "all":
		return 1, 1
	case time != "":
		return first, part
	}
	drivers := op.drivers
	if drivers == nil {
		drivers = matrixDrivers
	}
	return first + part*slices.Index(drivers, m.driver), part * len(drivers)
}

// crashed reports whether the daemon has died, and where; it runs then again.
func (m *matrix) crashed(t *testing.T) (string, bool) {
	t.Helper()
	_ = os.Remove(m.crash)
	at, err := os.ReadFile(m.crash + ".at")
	if err != nil {
		// What is done after the answer can still come to the step.
		if err := m.disarm(); err != nil {
			t.Fatal(err)
		}
		at, err = os.ReadFile(m.crash + ".at")
		_ = os.Remove(m.crash + ".at")
		return string(at), err == nil
	}
	_ = os.Remove(m.crash + ".at")
	if err := m.wait(); err == nil {
		t.Fatal("the daemon ended by itself")
	}
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	return string(at), true
}

// disarm restarts the daemon, unless it has died.
func (m *matrix) disarm() error {
	if err := m.stop(syscall.SIGTERM); err != nil {
		m.daemon = nil
	}
	return m.start()
}

// objects are the names of what there is.
func (m *matrix) objects(t *testing.T) []string {
	t.Helper()
	all := m.names(t, "/1.0/instances")
	for _, pool := range []string{"POOL", "OTHER"} {
		for _, v := range m.names(t, path.Dir(urlOf(pool+"/v"))) {
			all = append(all, pool+"/"+v)
		}
	}
	slices.Sort(all)
	return all
}

// names are the last parts of the URLs in a list, but not those of snapshots
// among volumes.
func (m *matrix) names(t *testing.T, list string) (names []string) {
	t.Helper()
	var urls []string
	err := newAPI(m.socket()).call("GET", list, nil, &urls)
	if err != nil && !strings.Contains(err.Error(), "storage pool") { // Which can be lost.
		t.Fatalf("%v\n%s", err, m.logs())
	}
	for _, url := range urls {
		if path.Dir(url) == list {
			names = append(names, path.Base(url))
		}
	}
	return names
}

// check looks at what there is after a change that may have been cut short.
func (m *matrix) check(t *testing.T, op matrixOp, before []string, at string) {
	t.Helper()
	after := m.objects(t)
	for _, name := range after {
		if !slices.Contains(before, name) && !slices.Contains(op.makes, name) {
			t.Errorf("%s: there is %s", at, name)
		}
		m.whole(t, op, name, at)
	}
	for _, name := range before {
		if slices.Contains(after, name) {
			continue
		}
		i := slices.Index(op.loses, name)
		if i < 0 || i < len(op.makes) && !slices.Contains(after, op.makes[i]) {
			t.Errorf("%s: %s is lost", at, name)
		}
	}
}

// whole checks that each state of an instance or a volume is one that it had.
func (m *matrix) whole(t *testing.T, op matrixOp, name, at string) {
	t.Helper()
	file := urlOf(name) + "/files?path=/root/file"
	if strings.Contains(name, "/") {
		file = urlOf(name) + "/files?path=/file"
	}
	got, err := newAPI(m.socket()).pull(file)
	if slices.Contains(op.loose, name) || op.empties && err != nil && strings.Contains(err.Error(), "404") {
		return
	}
	fresh := op.makes != nil && strings.HasPrefix(op.name, "create") || op.name == "launch"
	if fresh && slices.Contains(op.makes, name) {
		return
	}
	if err != nil {
		t.Errorf("%s: %s: %v", at, name, err)
		return
	}
	if len(got) < 2 || got != strings.Repeat(got[:len(got)/10000], 10000) {
		t.Errorf("%s: %s has a file of %d bytes, beginning with %.10q", at, name, len(got), got)
	}
	have := m.names(t, urlOf(name)+"/snapshots")
	if slices.Contains(op.makes, name) && op.name == "copy of a snapshot" {
		return
	}
	if touched := strings.Contains(op.name, "a snapshot"); !slices.Contains(have, "s1") || !touched && !slices.Contains(have, "s0") {
		t.Errorf("%s: %s has the snapshots %v", at, name, have)
	}
}

// pristine checks that after what was made was deleted nothing is left in the
// pools, nor mounted.
func (m *matrix) pristine(t *testing.T, baseline, at string) {
	t.Helper()
	var left string
	back := func() bool {
		left = m.remains(t)
		return left == baseline || m.based && lasting(left) == lasting(baseline)
	}
	if !soon(back) {
		t.Errorf("%s: left is %s, and it was %s", at, left, baseline)
	}
}

// passing is what goes when what base made does: the layers, of which a volume
// has more after each snapshot, and the mounts of those whose files were looked
// at, for two seconds.
var passing = regexp.MustCompile(`\S+/data/layers/\S+|left over without instances:|mount \S+/mnt/(instance|custom)/\S+`)

func lasting(remains string) string {
	return strings.Join(strings.Fields(passing.ReplaceAllString(remains, "")), " ")
}

// remains are the files or datasets of volumes in the pools, and what is
// mounted of them.
func (m *matrix) remains(t *testing.T) string {
	t.Helper()
	var left []string
	if err := m.leftovers(); err != nil {
		left = append(left, err.Error())
	}
	left = append(left, m.loops()...)
	find := []string{"zfs", "list", "-H", "-r", "-t", "all", "-o", "name"}
	if m.driver != "zfs" {
		dirs := filepath.Join(m.dir, "pools", "{POOL,OTHER}", "data", "{staging,trash,{volumes/{instance,custom}{,/*/snapshots},layers}}", "*")
		find = m.inside("bash", "-c", "shopt -s nullglob dotglob; echo "+dirs+" "+filepath.Join(m.dir, "{images,pools}", "*"))
	}
	names, err := run(find...)
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(names) {
		// Three of ZFS are there always.
		if !strings.HasSuffix(name, "/deleted/containers") && !strings.HasSuffix(name, "/deleted/images") && !strings.HasSuffix(name, "/deleted/custom") {
			left = append(left, layerName.ReplaceAllString(name, "/data/layers/X"))
		}
	}
	left = append(left, m.staleQuotas(t)...)
	slices.Sort(left)
	return strings.Join(left, " ")
}

// layerName is at random, and another one for the same image if it is unpacked
// again.
var layerName = regexp.MustCompile("/data/layers/[0-9a-f]+$")

// loops are the loop devices of files of this host.
func (m *matrix) loops() (all []string) {
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range files {
		file, _ := os.ReadFile(f) // It may go meanwhile.
		if strings.HasPrefix(string(file), m.dir) || strings.HasPrefix(string(file), m.work) {
			all = append(all, "loop:"+strings.TrimSpace(string(file)))
		}
	}
	return all
}

// staleQuotas are the quota groups of a btrfs whose subvolumes are gone.
func (m *matrix) staleQuotas(t *testing.T) (all []string) {
	t.Helper()
	if m.driver != "btrfs" {
		return nil
	}
	for _, pool := range []string{"POOL", "OTHER"} {
		dir := filepath.Join(m.dir, "pools", pool, "data")
		// Those of subvolumes that are gone are removed after the next commit.
		_, err := run(m.inside("btrfs", "filesystem", "sync", dir)...)
		if err != nil {
			t.Fatal(err)
		}
		groups, err := run(m.inside("btrfs", "qgroup", "show", dir)...)
		if err != nil {
			continue // There are no quotas.
		}
		subvolumes, err := run(m.inside("btrfs", "subvolume", "list", dir)...)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range regexp.MustCompile(`(?m)^0/(\d+)`).FindAllStringSubmatch(groups, -1) {
			if g[1] != "5" && !strings.Contains(subvolumes, "ID "+g[1]+" ") {
				all = append(all, pool+":quota:"+g[1])
			}
		}
	}
	return all
}
