package repository

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The names of what a backup holds.
const (
	dataName     = "data"          // The volume.
	documentName = "document.yaml" // What it is of.
	sparseName   = "sparse"        // Paths of files with large holes, each ended by a NUL.
)

// stageRoom is how large the small files of a backup can be.
const stageRoom = "256M"

// A stage is the directory that restic saves or fills, as only restic sees
// it: it is mounted in a namespace that ends with the program, so that there
// is nothing to clean up, whatever happens. Its path is the same for each
// backup of a source, by which restic finds the one before.
type stage struct {
	state  string // The daemon's state directory.
	point  string // A directory, on which the stage is mounted.
	name   string // The source's directory on it.
	volume string // The directory of the volume; empty for none.
	write  bool   // The volume is filled.
	files  map[string][]byte
}

func (st *stage) dir() string { return filepath.Join(st.point, st.name) }

// mount makes the stage for the calling thread.
func (st *stage) mount() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	// What the host unmounts meanwhile is to go here too.
	if err := mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	if err := mount("cuib", st.point, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=700,size="+stageRoom); err != nil {
		return err
	}
	if err := os.Mkdir(st.dir(), 0o700); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(st.files)) {
		if err := os.WriteFile(filepath.Join(st.dir(), name), st.files[name], 0o600); err != nil {
			return err
		}
	}
	if st.volume == "" {
		return st.alone()
	}
	data := filepath.Join(st.dir(), dataName)
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	if err := mount(st.volume, data, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if !st.write {
		if err := mount("", data, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return err
		}
	}
	return st.alone()
}

// alone lets go of all that is mounted in the state directory but the stage:
// the namespace has it since it was made, and who unmounts it elsewhere would
// find it busy for as long as a backup takes.
func (st *stage) alone() error {
	points, err := mountPoints()
	if err != nil {
		return err
	}
	for _, p := range slices.Backward(points) {
		if !within(p, st.state) || within(p, st.point) || within(st.point, p) {
			continue
		}
		err := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return &os.PathError{Op: "unmount", Path: p, Err: err}
		}
	}
	return nil
}

// mountPoints returns what is mounted for the calling thread, in the order in
// which it was.
func mountPoints() ([]string, error) {
	f, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		// proc_pid_mountinfo(5): the fifth field, with blanks as octal.
		if fields := strings.Fields(lines.Text()); len(fields) > 4 {
			out = append(out, strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4]))
		}
	}
	return out, lines.Err()
}

// within reports whether path is dir or below it.
func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %q on %s: %w", source, target, err)
	}
	return nil
}
