package runtime

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
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
	h.LXCFS = r.served()
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
