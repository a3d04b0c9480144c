package runtime

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Cgroups say how the host's control groups are set up.
type Cgroups struct {
	V1      map[string]string // Mount points by controller, or "name=systemd".
	V2      string            // Mount point of cgroup2; empty for none.
	V2Has   map[string]bool   // Controllers there.
	SwapV1  bool              // v1 memory limits cover swap too.
	AllCPUs string            // As cpuset.cpus has them.

	AllNodes  string           // As cpuset.mems has them.
	HugePages map[string]int64 // Sizes of huge pages in bytes, by their names.
	DiskFiles map[string]bool  // Files of disks that cgroups have; nil if that is not known.
}

type hostFacts struct {
	once    sync.Once
	cgroups Cgroups
	err     error

	disks     sync.Once
	diskFiles map[string]bool
}

func (r *Runtime) cgroups() (Cgroups, error) {
	r.host.once.Do(func() { r.host.cgroups, r.host.err = probeCgroups() })
	return r.host.cgroups, r.host.err
}

func probeCgroups() (Cgroups, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return Cgroups{}, err
	}
	defer f.Close()
	c, err := ParseCgroups(f)
	if err != nil {
		return Cgroups{}, err
	}
	if c.V2 != "" {
		list, err := readValue(c.V2, "cgroup.controllers")
		if err != nil {
			return Cgroups{}, err
		}
		for name := range strings.FieldsSeq(list) {
			c.V2Has[name] = true
		}
	}
	if dir := c.V1["memory"]; dir != "" {
		_, err := os.Stat(filepath.Join(dir, memSwapV1))
		c.SwapV1 = err == nil
	}
	c.AllNodes, c.HugePages = onlineNodes(), hugePageSizes()
	c.AllCPUs, err = readValue("/sys/devices/system/cpu", "online")
	return c, err
}

// ParseCgroups finds where control groups are mounted in a mountinfo file.
func ParseCgroups(mountinfo io.Reader) (Cgroups, error) {
	c := Cgroups{V1: map[string]string{}, V2Has: map[string]bool{}}
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		// 36 35 98:0 ROOT POINT OPTIONS OPTIONAL... - TYPE SOURCE SUPEROPTIONS
		before, after, ok := strings.Cut(lines.Text(), " - ")
		at, fstype := strings.Fields(before), strings.Fields(after)
		if !ok || len(at) < 5 || len(fstype) < 3 || at[3] != "/" && !strings.HasPrefix(at[3], "/..") {
			continue
		}
		switch fstype[0] {
		case "cgroup2":
			if c.V2 == "" {
				c.V2 = at[4]
			}
		case "cgroup":
			for option := range strings.SplitSeq(fstype[2], ",") {
				if _, ok := c.V1[option]; !ok {
					c.V1[option] = at[4]
				}
			}
		}
	}
	return c, lines.Err()
}

// payload is the first part of the names that liblxc gives to the cgroups of
// containers' processes, below which the guest makes its own.
const payload = "/lxc.payload."

// Dirs returns the directories of the named container's cgroups, by v1
// controller and "" for v2, from the file /proc/PID/cgroup of its init,
// wherever below init has moved itself.
func (c Cgroups) Dirs(name, file string) map[string]string {
	dirs := map[string]string{}
	for line := range strings.Lines(file) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 {
			continue
		}
		path := containerOnly(name, parts[2])
		if parts[0] == "0" && parts[1] == "" {
			if c.V2 != "" {
				dirs[""] = filepath.Join(c.V2, path)
			}
			continue
		}
		for name := range strings.SplitSeq(parts[1], ",") {
			if at := c.V1[name]; at != "" {
				dirs[name] = filepath.Join(at, path)
			}
		}
	}
	return dirs
}

// monitor is the same for the cgroups of shims.
const monitor = "/lxc.monitor."

// containerOnly cuts off what the guest made of a cgroup's path. It may have
// made one with a name as liblxc's, so the container's is the first.
func containerOnly(name, path string) string {
	for i := 0; ; {
		j := strings.Index(path[i:], payload+name)
		if j < 0 {
			return path
		}
		i += j + len(payload+name)
		rest, below, _ := strings.Cut(path[i:], "/")
		if isNumber(rest) {
			return strings.TrimSuffix(strings.TrimSuffix(path, below), "/")
		}
	}
}

func (r *Runtime) cgroupDirs(name string, pid int) (map[string]string, error) {
	host, err := r.cgroups()
	if err != nil {
		return nil, err
	}
	file, err := readFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, err
	}
	return host.Dirs(name, string(file)), nil
}

// The last processes of a container leave their cgroups a moment after its
// end.
const (
	cgroupWait  = 5 * time.Second
	cgroupPause = 2 * time.Millisecond
)

// A group is a cgroup. Its inode tells it from one that another daemon on this
// host, who has a container of the same name, makes in its place later.
type group struct {
	dir   string
	inode uint64 // 0 if nobody knows.
}

func (s state) groups() []group {
	out := make([]group, len(s.Cgroups))
	for i, dir := range s.Cgroups {
		out[i].dir = dir
		if i < len(s.Inodes) {
			out[i].inode = s.Inodes[i]
		}
	}
	return out
}

func inodeOf(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil { // It may be gone.
		return 0
	}
	return st.Ino
}

// write writes to a file of the cgroup, as writeValue does, and to no other's.
// If it is gone the error is that a file does not exist.
func (g group) write(file, value string) error {
	dir, err := os.OpenFile(g.dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	inside := fmt.Sprintf("/proc/self/fd/%d", dir.Fd())
	if inodeOf(inside) != g.inode {
		return &os.PathError{Op: "open", Path: g.dir, Err: fs.ErrNotExist}
	}
	return writeValue(inside, file, value)
}

// remove removes the cgroup and those below, if it is still there.
func (g group) remove() error {
	if g.inode != 0 && inodeOf(g.dir) != g.inode {
		return nil
	}
	return removeTree(g.dir)
}

// removeCgroups removes cgroups that liblxc left.
func removeCgroups(groups []group) error {
	deadline := time.Now().Add(cgroupWait)
	var errList []error
	for _, g := range groups {
		err := g.remove()
		for errors.Is(err, unix.EBUSY) && time.Now().Before(deadline) {
			<-time.After(cgroupPause)
			err = g.remove()
		}
		errList = append(errList, err)
	}
	return errors.Join(errList...)
}

// removeUnentered removes the cgroups that a shim of the named container made
// and was killed before it entered them. Those in use stay, whosever they are.
func (c Cgroups) removeUnentered(name string) error {
	mounted := slices.Collect(maps.Values(c.V1))
	if c.V2 != "" {
		mounted = append(mounted, c.V2)
	}
	var errList []error
	for _, at := range mounted {
		for _, prefix := range []string{payload + name, monitor + name} {
			dirs, err := filepath.Glob(filepath.Join(at, prefix+"*"))
			errList = append(errList, err)
			for _, dir := range dirs {
				if number := strings.TrimPrefix(dir, filepath.Join(at, prefix)); isNumber(number) {
					errList = append(errList, removeUnused(dir))
				}
			}
		}
	}
	return errors.Join(errList...)
}

// isNumber reports whether liblxc puts that behind the name of a cgroup when
// there is one already.
func isNumber(s string) bool {
	number, ok := strings.CutPrefix(s, "-")
	return s == "" || ok && strings.Trim(number, "0123456789") == ""
}

func removeUnused(dir string) error {
	switch err := unix.Rmdir(dir); {
	case err == nil, errors.Is(err, unix.EBUSY), errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTEMPTY):
		return nil
	default:
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
}

// removeTree removes a cgroup and those below.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	err = unix.Rmdir(dir)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}
