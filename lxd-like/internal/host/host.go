// Package host reads what hardware this host has, from the files in which the
// kernel and udev tell it. It runs no programs and changes nothing.
//
// What a file does not say is left out: a host has no DMI, a disk no serial
// number, a network interface that is down no speed.
package host

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/api"
)

// A Host is where the files of a host are, and what uname says of it.
type Host struct {
	Files   fs.FS  // Its root, which can read links.
	Machine string // x86_64, …
	Release string // Of the kernel: drivers that have no version have this one.
}

// Local returns the host that this program runs on.
func Local() Host {
	h := Host{Files: os.DirFS("/")}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		h.Machine = unix.ByteSliceToString(u.Machine[:])
		h.Release = unix.ByteSliceToString(u.Release[:])
	}
	return h
}

// Resources returns the host's hardware. Its lists are never nil, and in the
// order of their numbers and names.
func (h Host) Resources() (api.Resources, error) {
	memory, err := h.memory()
	if err != nil {
		return api.Resources{}, err
	}
	cpu, err := h.cpu()
	if err != nil {
		return api.Resources{}, err
	}
	names := h.pciNames()
	return api.Resources{
		CPU: cpu, Memory: memory, GPU: h.gpus(names), Network: h.network(names), Storage: h.storage(),
		USB: h.usb(), PCI: h.pci(names), System: h.system(), Load: load(h.text("proc/loadavg")),
	}, nil
}

// load parses /proc/loadavg.
func load(text string) api.ResourcesLoad {
	fields := strings.Fields(text)
	if len(fields) < 4 {
		return api.ResourcesLoad{}
	}
	average := func(i int) float64 {
		f, _ := strconv.ParseFloat(fields[i], 64) // 0 for what the kernel does not write.
		return f
	}
	_, all, _ := strings.Cut(fields[3], "/")
	processes, _ := strconv.Atoi(all) // As above.
	return api.ResourcesLoad{
		Average1Min: average(0), Average5Min: average(1), Average10Min: average(2), Processes: processes,
	}
}

// text returns what a file has, without space around it, or nothing if it
// cannot be read.
func (h Host) text(elem ...string) string {
	data, err := fs.ReadFile(h.Files, path.Join(elem...))
	if err != nil {
		return ""
	}
	return strings.Trim(string(data), " \t\n\x00")
}

// number returns the number that a file has, or 0 if there is none. A number
// below 0 is how the kernel says that there is none.
func (h Host) number(elem ...string) uint64 {
	n, _ := strconv.ParseUint(h.text(elem...), 10, 64)
	return n
}

func (h Host) exists(elem ...string) bool {
	_, err := fs.Stat(h.Files, path.Join(elem...))
	return err == nil
}

// names returns what a directory has, with numbers in names in their order.
func (h Host) names(dir string) []string {
	entries, err := fs.ReadDir(h.Files, dir)
	if err != nil {
		return nil
	}
	out := make([]string, 0, len(entries))
	for _, e := range entries {
		out = append(out, e.Name())
	}
	slices.SortStableFunc(out, byNumber)
	return out
}

var digits = regexp.MustCompile(`[0-9]+`)

// byNumber orders names as if their numbers had all the same length.
func byNumber(a, b string) int {
	pad := func(s string) string {
		return digits.ReplaceAllStringFunc(s, func(n string) string { return strings.Repeat("0", max(0, 20-len(n))) + n })
	}
	return strings.Compare(pad(a), pad(b))
}

// numbered returns the numbers of the names in a directory that are a prefix
// and a number.
func (h Host) numbered(dir, prefix string) []uint64 {
	var out []uint64
	for _, name := range h.names(dir) {
		rest, ok := strings.CutPrefix(name, prefix)
		if n, err := strconv.ParseUint(rest, 10, 64); ok && err == nil {
			out = append(out, n)
		}
	}
	return out
}

// follow returns where a link leads to, or nothing if there is none.
func (h Host) follow(elem ...string) string {
	p := path.Join(elem...)
	to, err := fs.ReadLink(h.Files, p)
	if err != nil {
		return ""
	}
	return path.Join(path.Dir(p), to)
}

// driver returns the driver of a device, and its version.
func (h Host) driver(dev string) (name, version string) {
	to := h.follow(dev, "driver")
	if to == "" {
		return "", ""
	}
	if v := h.text(to, "module/version"); v != "" {
		return path.Base(to), v
	}
	return path.Base(to), h.Release
}

// isVirtual says whether a device is made by the kernel alone.
func isVirtual(dev string) bool { return strings.HasPrefix(dev, "sys/devices/virtual/") }
