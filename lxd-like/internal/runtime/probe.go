package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/mounts"
)

func procDir(pid int) string { return fmt.Sprintf("/proc/%d", pid) }

// containsLine reports whether a line of text is the one wanted.
func containsLine(text, want string) bool {
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == want {
			return true
		}
	}
	return false
}

const lxcfsDir = "/var/lib/lxcfs"

// lxcfsFiles are what a container gets of lxcfs, where it serves them.
var lxcfsFiles = []string{
	"proc/cpuinfo", "proc/diskstats", "proc/loadavg", "proc/meminfo", "proc/slabinfo", "proc/stat", "proc/swaps",
	"proc/uptime", "sys/devices/system/cpu",
}

// probe finds out what the configuration of containers depends on and what
// can change while we run.
func (r *Runtime) probe() (Host, error) {
	var h Host
	var err error
	if h.Cgroups, err = r.cgroups(); err != nil {
		return h, err
	}
	if h.AppArmor = hasAppArmor(); h.AppArmor {
		h.AppArmorParser = findProgram(appArmorParser)
	}
	served, err := mounts.Mounted(lxcfsDir)
	if err != nil || !served {
		return h, nil //nolint:nilerr // An lxcfs that has crashed serves nothing.
	}
	for _, name := range lxcfsFiles {
		if _, err := os.Stat(lxcfsDir + "/" + name); err == nil {
			h.LXCFS = append(h.LXCFS, name)
		}
	}
	return h, nil
}

const appArmorParser = "apparmor_parser"

// findProgram is for programs of root, whatever our own PATH has. It returns
// an empty string if there is none.
func findProgram(name string) string {
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		if unix.Access(filepath.Join(dir, name), unix.X_OK) == nil {
			return filepath.Join(dir, name)
		}
	}
	return ""
}

func hasAppArmor() bool {
	enabled, err := readValue("/sys/module/apparmor/parameters", "enabled")
	return err == nil && enabled == "Y"
}
