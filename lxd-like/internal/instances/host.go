package instances

import (
	"errors"
	"io"
	"os"
	stdruntime "runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/profiles"
)

// kernelVersion is the host's kernel, which is the guest's.
var kernelVersion = sync.OnceValue(func() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "" // It never fails.
	}
	return unix.ByteSliceToString(u.Release[:])
})

// hostArchitecture is the host's architecture, as uname -m has it.
var hostArchitecture = sync.OnceValue(func() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "" // It never fails.
	}
	return unix.ByteSliceToString(u.Machine[:])
})

func hostCPUs() int { return stdruntime.NumCPU() }

// maxGuestFile bounds what the daemon reads of a guest's file.
const maxGuestFile = 64 << 10

// readBelow reads a small regular file below a directory that a guest owns:
// no link in it leads out. It returns "" for what it cannot read.
func readBelow(dir *os.File, name string) string {
	fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{
		// Opening a pipe must not wait for its other end.
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return ""
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()

	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	data, err := io.ReadAll(io.LimitReader(f, maxGuestFile))
	if err != nil {
		return ""
	}
	return string(data)
}

// hostFacts are what limits depend on.
func hostFacts() (profiles.Host, error) {
	memory, err := hostMemory()
	if err != nil {
		return profiles.Host{}, err
	}
	online, err := onlineCPUs()
	if err != nil {
		return profiles.Host{}, err
	}
	cpus, err := profiles.ParseCPUs(online)
	return profiles.Host{Memory: memory, CPUs: cpus}, err
}

// onlineFile is what lists the processors. It stays open: each new instance
// needs it several times.
var onlineFile = sync.OnceValues(func() (*os.File, error) { return os.Open("/sys/devices/system/cpu/online") })

// onlineCPUs are the processors that are in use now, as the kernel lists them.
func onlineCPUs() (string, error) {
	f, err := onlineFile()
	if err != nil {
		return "", err
	}
	page := make([]byte, os.Getpagesize()) // The kernel gives no more.
	n, err := f.ReadAt(page, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return strings.TrimSpace(string(page[:n])), err
}

func hostMemory() (int64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, err
	}
	return int64(info.Totalram) * int64(info.Unit), nil //nolint:gosec // No machine has that much.
}
