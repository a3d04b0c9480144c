package mounts

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// Loop makes a file a block device, which goes away with its last use: a
// mount, or the file that is returned. One that the file has is used again:
// a file system must not be seen twice. On a file system that is read-only the
// device is, too.
func Loop(path string) (*os.File, error) {
	back, err := os.OpenFile(path, os.O_RDWR, 0)
	readOnly := errors.Is(err, unix.EROFS)
	if readOnly {
		back, err = os.Open(path)
	}
	if err != nil {
		return nil, err
	}
	defer back.Close()
	if dev, err := findLoop(back); !errors.Is(err, fs.ErrNotExist) {
		return dev, err
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Newf(errs.Unsupported, "the kernel has no loop devices (/dev/loop-control is missing)")
	}
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for range 100 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, os.NewSyscallError("find a free loop device", err)
		}
		dev, err := configure(fmt.Sprintf("/dev/loop%d", n), back, loopFlags[readOnly])
		if errors.Is(err, unix.EBUSY) {
			continue // Another was quicker.
		}
		return dev, err
	}
	return nil, errs.Newf(errs.Unavailable, "no free loop device for %s", path)
}

// loopFlags are the flags of a device that is read-only, or not.
var loopFlags = map[bool]uint32{false: unix.LO_FLAGS_AUTOCLEAR, true: unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_READ_ONLY}

func configure(name string, back *os.File, flags uint32) (*os.File, error) {
	dev, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	cfg := &unix.LoopConfig{Fd: uint32(back.Fd())}
	cfg.Info.Flags = flags
	copy(cfg.Info.File_name[:len(cfg.Info.File_name)-1], back.Name())
	if err := unix.IoctlLoopConfigure(int(dev.Fd()), cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), dev.Close())
	}
	return dev, nil
}

// GrowLoop tells a loop device that its file has become larger.
func GrowLoop(device string) error {
	dev, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer dev.Close()
	if err := unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return &os.PathError{Op: "resize", Path: device, Err: err}
	}
	return nil
}

// An Info is what the kernel tells of a mount.
type Info struct {
	Point   string
	Device  string // Its number, such as "8:1".
	Type    string // Such as "ext4".
	Source  string // Such as a device.
	Options []string
}

// Find returns the topmost mount at path.
func Find(path string) (Info, error) {
	var found Info
	err := infos("/proc/self/mountinfo", func(i Info) bool {
		if i.Point == path {
			found = i
		}
		return true
	})
	if err != nil {
		return Info{}, err
	}
	if found.Point == "" {
		return Info{}, errs.NotFoundf("nothing is mounted on %s", path)
	}
	return found, nil
}

// List returns the mounts for which match holds, in the order in which they
// were made.
func List(match func(Info) bool) ([]Info, error) {
	return ListOf(os.Getpid(), match)
}

// ListOf is [List] for the mounts that a process has.
func ListOf(pid int, match func(Info) bool) ([]Info, error) {
	var found []Info
	err := infos(fmt.Sprintf("/proc/%d/mountinfo", pid), func(i Info) bool {
		if match(i) {
			found = append(found, i)
		}
		return true
	})
	return found, err
}

// infos calls fn with each mount in a file of proc, until it returns false.
func infos(file string, fn func(Info) bool) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20) // Overlays have long options.
	for lines.Scan() {
		if i, ok := parseInfo(lines.Text()); ok && !fn(i) {
			return nil
		}
	}
	return lines.Err()
}

// parseInfo parses a line of mountinfo, see proc_pid_mountinfo(5).
func parseInfo(line string) (_ Info, ok bool) {
	mount, super, ok := strings.Cut(line, " - ")
	m, s := strings.Fields(mount), strings.Fields(super)
	if !ok || len(m) < 6 || len(s) < 3 {
		return Info{}, false
	}
	options := append(strings.Split(m[5], ","), strings.Split(s[2], ",")...)
	return Info{Point: unescape(m[4]), Device: m[2], Type: s[0], Source: unescape(s[1]), Options: options}, true
}

// unescape undoes mountinfo's octal escapes.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
