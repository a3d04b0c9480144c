package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
)

// Limits are what the kernel's cgroups enforce. The zero value limits nothing.
type Limits struct {
	CPUs      string        // Processors to run on, as "0-1,3"; empty for all.
	Nodes     string        // NUMA nodes to have memory of, likewise.
	CPUShare  int           // Percent of a full share when processors are busy, 1 to 100; 0 for 100.
	CPUYield  int           // By how much the share is less than that of others with the same one, 0 to 10.
	CPUQuota  time.Duration // Run time in each CPUPeriod; 0 for no limit.
	CPUPeriod time.Duration

	Memory     int64            // Bytes; 0 for no limit.
	MemoryHigh int64            // Bytes above which it is slowed down and reclaimed; 0 for no limit.
	Soft       bool             // Memory is enforced only when the host runs short.
	NoSwap     bool             // No swap space, whatever Swap is.
	Swap       int64            // Bytes of swap; 0 for as the kernel has it.
	Swappier   int              // How much sooner than others it is swapped out, 0 to 10.
	HugePages  map[string]int64 // Bytes of huge pages, by their size as the kernel has it ("2MB").

	Processes int64  // 0 for no limit.
	IOWeight  int    // Its share of busy disks, 1 to 10000, where others have 100; 0 for 100.
	Disks     []Disk // In order, each device once.
}

// Disk limits what a container reads from a block device of the host and
// writes to it. 0 is for no limit.
type Disk struct {
	Device               string // Of a whole disk, as "8:0".
	ReadBytes, ReadOps   int64  // In each second.
	WriteBytes, WriteOps int64
	Latency              time.Duration // That its requests are kept to, at the cost of others.
}

// Equal reports whether two limits are the same.
func (l Limits) Equal(o Limits) bool { return reflect.DeepEqual(l.canonical(), o.canonical()) }

func (l Limits) canonical() Limits {
	if len(l.HugePages) == 0 {
		l.HugePages = nil
	}
	if len(l.Disks) == 0 {
		l.Disks = nil
	}
	return l
}

const (
	noneV1 = "-1"
	none   = "max"
)

// A Setting is a value of a cgroup's file, or of what Key names in it.
type Setting struct {
	Controller  string
	File, Value string
	Key         string // Of a file that has a line for each device.
	Reset       string // What takes a value with a key back, or one that Settings has only where there is a limit.
	V2          bool
	Default     bool // The value is what the file has from the start.
}

// text is what is written to the file.
func (s Setting) text() string {
	if s.Key != "" {
		return s.Key + " " + s.Value
	}
	return s.Value
}

// A part of the limits is what one controller enforces.
type part struct {
	v1Name, v2Name string
	wanted         bool
	what           string // Names what is wanted of it, for errors.
	v1, v2         func(Cgroups) ([]Setting, error)
}

func (l Limits) parts() []part {
	return []part{
		{"cpuset", "cpuset", l.CPUs != "" || l.Nodes != "", "limits.cpu or limits.cpu.nodes", l.cpusetV1, l.cpusetV2},
		{"cpu", "cpu", l.CPUShare != 0 || l.CPUYield != 0 || l.CPUQuota != 0, "limits.cpu.allowance or limits.cpu.priority", l.cpuV1, l.cpuV2},
		{"memory", "memory", l.limitsMemory(), "a limit of memory or swap", l.memoryV1, l.memoryV2},
		{"hugetlb", "hugetlb", len(l.HugePages) > 0, "limits.hugepages.*", l.hugePagesV1, l.hugePagesV2},
		{"pids", "pids", l.Processes != 0, "limits.processes", l.pids, l.pids},
		{"blkio", "io", l.limitsDisks(), "limits of disks", l.diskV1, l.diskV2},
	}
}

// Settings returns what makes the kernel enforce the limits on a host, in an
// order in which they can be set on a new container.
func (l Limits) Settings(host Cgroups) ([]Setting, error) {
	if err := l.validate(); err != nil {
		return nil, err
	}
	var list []Setting
	for _, p := range l.parts() {
		name, settingsOf, v2 := p.v1Name, p.v1, false
		switch {
		case host.V1[p.v1Name] != "":
		case host.V2Has[p.v2Name]:
			name, settingsOf, v2 = p.v2Name, p.v2, true
		case p.wanted:
			return nil, errs.Newf(errs.Unsupported, "%s: the host has no cgroup controller %q", p.what, p.v1Name)
		default:
			continue
		}
		settings, err := settingsOf(host)
		if err != nil {
			return nil, err
		}
		for _, s := range settings {
			s.Controller, s.V2 = name, v2
			list = append(list, s)
		}
	}
	return list, nil
}

func (l Limits) validate() error {
	if l.CPUShare < 0 || l.CPUShare > 100 {
		return errs.Invalidf("processor share %d: 1 to 100 percent, or 0 for all, is allowed", l.CPUShare)
	}
	if l.CPUQuota < 0 || l.CPUPeriod < 0 || l.CPUQuota > 0 && l.CPUQuota < time.Millisecond {
		return errs.Invalidf("processor time %s in each %s: at least 1ms is allowed", l.CPUQuota, l.CPUPeriod)
	}
	for name, n := range map[string]int64{"memory": l.Memory, "memory (high)": l.MemoryHigh, "swap": l.Swap, "processes": l.Processes} {
		if n < 0 {
			return errs.Invalidf("limit %d of %s is negative", n, name)
		}
	}
	for name, n := range map[string]int{"processor yield": l.CPUYield, "swap preference": l.Swappier} {
		if n < 0 || n > 10 {
			return errs.Invalidf("%s %d: 0 to 10 is allowed", name, n)
		}
	}
	if strings.Trim(l.CPUs+l.Nodes, "0123456789,-") != "" {
		return errs.Invalidf("processors %q or nodes %q: numbers and ranges such as \"0-1,3\" are allowed", l.CPUs, l.Nodes)
	}
	return nil
}

// mostProcesses are as many as a kernel can have. It refuses a higher limit.
const mostProcesses = 1 << 22

func (l Limits) pids(Cgroups) ([]Setting, error) {
	return []Setting{{File: "pids.max", Value: number(min(l.Processes, mostProcesses), none), Default: l.Processes == 0}}, nil
}

// number formats a limit, with absent for none.
func number(n int64, absent string) string {
	if n == 0 {
		return absent
	}
	return strconv.FormatInt(n, 10)
}

// CheckLimits reports what the host cannot enforce, or why it cannot.
func (r *Runtime) CheckLimits(l Limits) error {
	_, err := r.settings(l)
	return err
}

// settings is Limits.Settings for the host as it is.
func (r *Runtime) settings(l Limits) ([]Setting, error) {
	host, err := r.hostOf(l)
	if err != nil {
		return nil, err
	}
	return l.Settings(host)
}

// hostOf returns what is to know of the host for limits.
func (r *Runtime) hostOf(l Limits) (Cgroups, error) {
	host, err := r.cgroups()
	if err == nil && l.limitsDisks() {
		host.DiskFiles = r.diskFiles()
	}
	return host, err
}

// provide makes the controllers for settings available to containers: liblxc
// does not where v1 has the most of them.
func (c Cgroups) provide(settings []Setting) error {
	for _, s := range settings {
		if !s.V2 || s.Default {
			continue
		}
		if err := c.enable(s.Controller); err != nil {
			return err
		}
	}
	return nil
}

// provideFor is provide for a container that is to start.
func (r *Runtime) provideFor(l Limits) error {
	host, err := r.hostOf(l)
	if err != nil {
		return err
	}
	settings, err := l.Settings(host)
	if err != nil {
		return err
	}
	return host.provide(settings)
}

// enable makes a controller of v2 available to the cgroups below the first.
func (c Cgroups) enable(controller string) error {
	const file = "cgroup.subtree_control"
	has, err := readValue(c.V2, file)
	if err != nil || slices.Contains(strings.Fields(has), controller) {
		return err
	}
	if err := writeValue(c.V2, file, "+"+controller); err != nil {
		return errs.Newf(errs.Unsupported, "the host does not let cgroups have the controller %q: %w", controller, err)
	}
	return nil
}

// SetLimits changes the limits of a running container, all of them or none.
// They stay for when the guest reboots.
func (r *Runtime) SetLimits(ctx context.Context, name string, l Limits) (err error) {
	host, err := r.hostOf(l)
	if err != nil {
		return err
	}
	settings, err := l.Settings(host)
	if err != nil {
		return err
	}
	if err := host.provide(settings); err != nil {
		return err
	}
	c, in, err := r.changing(name)
	if err != nil {
		return err
	}
	defer c.change.Unlock()
	before, err := r.settings(c.spec.Limits)
	if err != nil {
		before = nil // The host has lost what it had when the container started.
	}
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	for _, s := range inOrder(append(resets(before, settings), settings...), in.dirs) {
		old, err := s.apply(in.dirs)
		if err != nil {
			return c.during(in, err)
		}
		u.Push("restore "+s.File, func(context.Context) error {
			s.Value = old
			return s.write(s.dir(in.dirs))
		})
	}
	return r.respec(c, func(s *Spec) { s.Limits = l })
}

// resets are what takes back what was set before and is not set now.
func resets(before, now []Setting) []Setting {
	type spot struct{ file, key string }
	stays := map[spot]bool{}
	for _, s := range now {
		stays[spot{s.File, s.Key}] = true
	}
	var list []Setting
	for _, s := range before {
		if s.Reset != "" && !stays[spot{s.File, s.Key}] {
			s.Value = s.Reset
			list = append(list, s)
		}
	}
	return list
}

func (s Setting) dir(dirs map[string]string) string {
	if s.V2 {
		return dirs[""]
	}
	return dirs[s.Controller]
}

// read returns the value that the file has.
func (s Setting) read(dir string) (string, error) {
	text, err := readValue(dir, s.File)
	if err != nil || s.Key == "" {
		return text, err
	}
	for line := range strings.Lines(text) {
		if key, value, _ := strings.Cut(strings.TrimSpace(line), " "); key == s.Key {
			return value, nil
		}
	}
	return s.Reset, nil
}

// apply writes the setting and returns the value before.
func (s Setting) apply(dirs map[string]string) (old string, err error) {
	dir := s.dir(dirs)
	if dir == "" {
		return "", errs.Newf(errs.Unsupported, "the instance has no cgroup of controller %q", s.Controller)
	}
	old, err = s.read(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errs.Newf(errs.Unsupported, "the kernel has no %s for the instance", s.File)
	}
	if err != nil || old == s.Value {
		return old, err
	}
	if err := s.fits(dir); err != nil {
		return "", err
	}
	if err := s.write(dir); err != nil {
		return "", s.explain(dir, err)
	}
	return old, nil
}

func (s Setting) write(dir string) error {
	value := s.text()
	if value == "" {
		value = "\n" // No byte at all would be no write.
	}
	return writeValue(dir, s.File, value)
}

// fits refuses a memory limit below what is used on v2, where the kernel would
// kill processes until it fits. On v1 the kernel refuses it.
func (s Setting) fits(dir string) error {
	if s.File != "memory.max" || s.Value == none {
		return nil
	}
	used, err := readNumber(dir, "memory.current")
	if err != nil {
		return err
	}
	stat, err := readStat(dir, "memory.stat")
	if err != nil {
		return err
	}
	limit, err := strconv.ParseInt(s.Value, 10, 64)
	if err != nil {
		return err
	}
	if used -= stat["inactive_file"] + stat["active_file"]; used > limit {
		return errs.Conflictf("memory limit %d: the instance uses %d bytes", limit, used)
	}
	return nil
}

func (s Setting) explain(dir string, err error) error {
	if s.File == memLimitV1 || s.File == memSwapV1 {
		if used, uerr := readNumber(dir, "memory.usage_in_bytes"); uerr == nil {
			return errs.Conflictf("memory limit %s cannot be reached: the instance uses %d bytes: %w", s.Value, used, err)
		}
	}
	if _, gone := os.Stat(dir); gone == nil && errors.Is(err, unix.ENODEV) {
		return errs.Newf(errs.Unsupported, "the kernel does not limit the device %s: it is no whole disk", s.Key)
	}
	return fmt.Errorf("set %s of %s to %q: %w", s.File, filepath.Base(dir), s.text(), err)
}

// inOrder puts v1's two memory limits into an order that keeps the one of
// memory below the one of memory and swap at all times.
func inOrder(settings []Setting, dirs map[string]string) []Setting {
	list := slices.Clone(settings)
	i := slices.IndexFunc(list, func(s Setting) bool { return s.File == memLimitV1 })
	j := slices.IndexFunc(list, func(s Setting) bool { return s.File == memSwapV1 })
	if i < 0 || j < 0 {
		return list
	}
	now, err := readNumber(dirs["memory"], memLimitV1)
	if want := list[i].Value; err == nil && (want == noneV1 || atLeast(want, now)) { // Raised.
		list[i], list[j] = list[j], list[i]
	}
	return list
}

func atLeast(value string, n int64) bool {
	v, err := strconv.ParseInt(value, 10, 64)
	return err == nil && v >= n
}
