package runtime

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func readNumber(dir, file string) (int64, error) {
	text, err := readValue(dir, file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}

// readStat reads a file of lines "key number".
func readStat(dir, file string) (map[string]int64, error) {
	data, err := readFile(filepath.Join(dir, file))
	if err != nil {
		return nil, err
	}
	stat := map[string]int64{}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			stat[key] = n
		}
	}
	return stat, nil
}

// optional is readNumber for files that not all kernels have, or that say
// "max".
func optional(dir, file string) int64 {
	n, err := readNumber(dir, file)
	if err != nil {
		return 0
	}
	return n
}

// Usage returns what a running container uses.
func (r *Runtime) Usage(name string) (Usage, error) {
	c, in, err := r.findInit(name)
	if err != nil {
		return Usage{}, err
	}
	var u Usage
	for _, part := range []func(map[string]string, *Usage) error{cpuUsage, memoryUsage, processUsage, pressure, ioUsage} {
		if err := part(in.dirs, &u); err != nil {
			return u, c.during(in, err)
		}
	}
	total, err := hostMemory()
	if u.MemoryMax <= 0 || u.MemoryMax > total {
		u.MemoryMax = total
	}
	return u, err
}

func cpuUsage(dirs map[string]string, u *Usage) error {
	if dir := dirs["cpuacct"]; dir != "" {
		n, err := readNumber(dir, "cpuacct.usage")
		u.CPU = time.Duration(n)
		return err
	}
	if dir := dirs[""]; dir != "" {
		stat, err := readStat(dir, "cpu.stat")
		u.CPU = time.Duration(stat["usage_usec"]) * time.Microsecond
		return err
	}
	return nil
}

func memoryUsage(dirs map[string]string, u *Usage) error {
	if dir := dirs["memory"]; dir != "" {
		return memoryUsageV1(dir, u)
	}
	dir := dirs[""]
	if dir == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, "memory.current")); err != nil {
		return nil //nolint:nilerr // The host does not count memory.
	}
	stat, err := readStat(dir, "memory.stat")
	if err != nil {
		return err
	}
	used, err := readNumber(dir, "memory.current")
	u.Memory = max(0, used-stat["inactive_file"])
	u.MemoryPeak, u.MemoryMax = optional(dir, "memory.peak"), optional(dir, "memory.max")
	u.Swap, u.SwapPeak = optional(dir, "memory.swap.current"), optional(dir, "memory.swap.peak")
	return err
}

func memoryUsageV1(dir string, u *Usage) error {
	stat, err := readStat(dir, "memory.stat")
	if err != nil {
		return err
	}
	used, err := readNumber(dir, "memory.usage_in_bytes")
	u.Memory = max(0, used-stat["total_inactive_file"])
	u.MemoryPeak, u.MemoryMax = optional(dir, "memory.max_usage_in_bytes"), optional(dir, memLimitV1)
	if both := optional(dir, "memory.memsw.usage_in_bytes"); both > used {
		u.Swap = stat["total_swap"]
	}
	if both := optional(dir, "memory.memsw.max_usage_in_bytes"); both > u.MemoryPeak {
		u.SwapPeak = both - u.MemoryPeak
	}
	return err
}

func processUsage(dirs map[string]string, u *Usage) error {
	dir := dirs["pids"]
	if dir == "" {
		dir = dirs[""]
	}
	if dir != "" {
		u.Processes = optional(dir, "pids.current")
	}
	return nil
}

// ioUsage adds up what was read from and written to block devices. Hosts that
// do not count it have none.
func ioUsage(dirs map[string]string, u *Usage) error {
	dir, file := dirs["blkio"], "blkio.throttle.io_service_bytes_recursive"
	if dir == "" {
		dir, file = dirs[""], "io.stat"
	}
	if dir == "" {
		return nil
	}
	data, err := readFile(filepath.Join(dir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	u.BytesRead, u.BytesWritten = ParseIO(string(data))
	return nil
}

// ParseIO adds up what a cgroup's io.stat or blkio.throttle.io_service_bytes
// has of each device.
func ParseIO(stat string) (read, written int64) {
	for line := range strings.Lines(stat) {
		words := strings.Fields(line)
		for i, word := range words {
			key, value, v2 := strings.Cut(word, "=")
			if !v2 && i == 1 && len(words) == 3 { // DEVICE Read 4096
				value = words[2]
			}
			n, err := strconv.ParseInt(value, 10, 64)
			switch {
			case err != nil:
			case key == "rbytes" || key == "Read":
				read += n
			case key == "wbytes" || key == "Write":
				written += n
			}
		}
	}
	return read, written
}

func hostMemory() (int64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, err
	}
	return int64(info.Totalram) * int64(info.Unit), nil //nolint:gosec // No machine has that much.
}
