package mounts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Holder is a process that keeps a mount from going away.
type Holder struct {
	PID     int
	Command string // Its name, as ps has it.
	Path    string // What it has mounted or open.
}

// String returns a text such as "process 17 (sleep), which has /mnt".
func (h Holder) String() string {
	return fmt.Sprintf("process %d (%s), which has %s", h.PID, h.Command, h.Path)
}

// Names returns the holders for an error, the first few of many.
func Names(holders []Holder) string {
	const most = 3
	var names []string
	for _, h := range holders[:min(most, len(holders))] {
		names = append(names, h.String())
	}
	if more := len(holders) - most; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, "; ")
}

// Holders returns one process of each foreign mount namespace that has a mount
// for which match holds. What ends meanwhile is left out.
func Holders(match func(Info) bool) ([]Holder, error) {
	seen := map[string]bool{}
	if own, err := os.Readlink("/proc/self/ns/mnt"); err == nil {
		seen[own] = true
	}
	var found []Holder
	err := processes(func(pid int, dir string) {
		ns, err := os.Readlink(filepath.Join(dir, "ns/mnt"))
		if err != nil || seen[ns] {
			return
		}
		seen[ns] = true
		_ = infos(filepath.Join(dir, "mountinfo"), func(i Info) bool { // It may have ended.
			if match(i) {
				found = append(found, Holder{PID: pid, Command: command(dir), Path: i.Point})
				return false
			}
			return true
		})
	})
	return found, err
}

// Users returns the processes that work in the directory, which is the root
// of a mount, or have a file open in it.
func Users(dir string) ([]Holder, error) {
	var found []Holder
	err := processes(func(pid int, proc string) {
		if path := uses(proc, dir); path != "" && pid != os.Getpid() {
			found = append(found, Holder{PID: pid, Command: command(proc), Path: path})
		}
	})
	return found, err
}

// uses returns a file below dir that a process uses, or an empty string.
func uses(proc, dir string) string {
	links := []string{filepath.Join(proc, "cwd"), filepath.Join(proc, "root")}
	fds, _ := os.ReadDir(filepath.Join(proc, "fd")) // It may have ended.
	for _, fd := range fds {
		links = append(links, filepath.Join(proc, "fd", fd.Name()))
	}
	for _, link := range links {
		path, err := os.Readlink(link)
		if err == nil && (path == dir || strings.HasPrefix(path, dir+"/")) {
			return path
		}
	}
	return ""
}

// processes calls fn with each process and its directory in /proc.
func processes(fn func(pid int, dir string)) error {
	f, err := os.Open("/proc")
	if err != nil {
		return err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			fn(pid, filepath.Join("/proc", name))
		}
	}
	return nil
}

func command(proc string) string {
	name, err := os.ReadFile(filepath.Join(proc, "comm"))
	if err != nil {
		return "ended"
	}
	return strings.TrimSpace(string(name))
}

// DeviceOf returns the device number of what is at path, as [Info.Device] has
// it.
func DeviceOf(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	dev := st.Dev
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		dev = st.Rdev
	}
	return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)), nil
}

// HasLoop reports whether a file is the whole of a loop device, to which a file
// system may still be written.
func HasLoop(path string) (bool, error) {
	back, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer back.Close()
	dev, err := findLoop(back)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, dev.Close()
}

// findLoop opens the loop device that has the whole of a file for writing, if
// there is one.
func findLoop(back *os.File) (*os.File, error) {
	st, err := back.Stat()
	if err != nil {
		return nil, err
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	for _, loop := range loops {
		text, err := os.ReadFile(loop)
		if err != nil || strings.TrimSuffix(string(text), "\n") != back.Name() {
			continue
		}
		dev, err := os.OpenFile("/dev/"+filepath.Base(filepath.Dir(filepath.Dir(loop))), os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) { // It goes away.
			continue
		}
		if err != nil {
			return nil, err
		}
		if isLoopOf(dev, st) {
			return dev, nil
		}
		if err := dev.Close(); err != nil {
			return nil, err
		}
	}
	return nil, fs.ErrNotExist
}

func isLoopOf(dev *os.File, back fs.FileInfo) bool {
	info, err := unix.IoctlLoopGetStatus64(int(dev.Fd()))
	st, ok := back.Sys().(*syscall.Stat_t)
	return err == nil && ok && info.Device == st.Dev && info.Inode == st.Ino &&
		info.Offset == 0 && info.Sizelimit == 0 && info.Flags&unix.LO_FLAGS_READ_ONLY == 0
}
