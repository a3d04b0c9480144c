package host

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
)

const cpuDir = "sys/devices/system/cpu"

// cpu returns the processors. A thread that is offline and of which the kernel
// does not know the core any more is left out.
func (h Host) cpu() (api.ResourcesCPU, error) {
	text, err := fs.ReadFile(h.Files, "proc/cpuinfo")
	if err != nil {
		return api.ResourcesCPU{}, fmt.Errorf("read the processors: %w", err)
	}
	info := cpuInfo(string(text))
	isolated, _ := profiles.ParseCPUs(h.text(cpuDir, "isolated")) // An empty list is none.
	out := api.ResourcesCPU{Architecture: h.Machine, Sockets: []api.ResourcesCPUSocket{}}
	for _, id := range h.numbered(cpuDir, "cpu") {
		dir := path.Join(cpuDir, "cpu"+strconv.FormatUint(id, 10))
		if !h.exists(dir, "topology/core_id") {
			continue
		}
		socket := h.socket(&out, dir, info[id])
		core := h.core(socket, dir, info[id])
		core.Threads = append(core.Threads, api.ResourcesCPUThread{
			ID: int64(id), NUMANode: first(h.numbered(dir, "node")), Thread: uint64(len(core.Threads)),
			Online:   h.text(dir, "online") != "0", // The first has no such file: it cannot be taken off.
			Isolated: slices.Contains(isolated, int(id)),
		})
		out.Total++
	}
	for i := range out.Sockets {
		s := &out.Sockets[i]
		s.Frequency = meanFrequency(s.Cores)
	}
	slices.SortFunc(out.Sockets, func(a, b api.ResourcesCPUSocket) int { return cmp.Compare(a.Socket, b.Socket) })
	return out, nil
}

func first(all []uint64) uint64 {
	if len(all) == 0 {
		return 0
	}
	return all[0]
}

// socket returns the socket of the CPU that has dir, which it adds if it is
// the first of it.
func (h Host) socket(out *api.ResourcesCPU, dir string, info map[string]string) *api.ResourcesCPUSocket {
	id := h.number(dir, "topology/physical_package_id")
	i := slices.IndexFunc(out.Sockets, func(s api.ResourcesCPUSocket) bool { return s.Socket == id })
	if i >= 0 {
		return &out.Sockets[i]
	}
	out.Sockets = append(out.Sockets, api.ResourcesCPUSocket{
		Name: info["model name"], Vendor: info["vendor_id"], Socket: id, Cache: h.caches(dir), Cores: []api.ResourcesCPUCore{},
		FrequencyMinimum: h.number(dir, "cpufreq/cpuinfo_min_freq") / 1000,
		FrequencyTurbo:   h.number(dir, "cpufreq/cpuinfo_max_freq") / 1000,
	})
	return &out.Sockets[len(out.Sockets)-1]
}

// core returns the core of the CPU that has dir, which it adds if it is the
// first of it.
func (h Host) core(s *api.ResourcesCPUSocket, dir string, info map[string]string) *api.ResourcesCPUCore {
	id, die := h.number(dir, "topology/core_id"), h.number(dir, "topology/die_id")
	i := slices.IndexFunc(s.Cores, func(c api.ResourcesCPUCore) bool { return c.Core == id && c.Die == die })
	if i >= 0 {
		return &s.Cores[i]
	}
	frequency := h.number(dir, "cpufreq/scaling_cur_freq") / 1000
	if mhz, err := strconv.ParseFloat(info["cpu MHz"], 64); err == nil && frequency == 0 {
		frequency = uint64(mhz)
	}
	s.Cores = append(s.Cores, api.ResourcesCPUCore{Core: id, Die: die, Frequency: frequency})
	return &s.Cores[len(s.Cores)-1]
}

func (h Host) caches(dir string) []api.ResourcesCPUCache {
	var out []api.ResourcesCPUCache
	for _, n := range h.numbered(path.Join(dir, "cache"), "index") {
		index := path.Join(dir, "cache", "index"+strconv.FormatUint(n, 10))
		kib, _ := strings.CutSuffix(h.text(index, "size"), "K")
		size, err := strconv.ParseUint(kib, 10, 64)
		if err != nil {
			continue // Of a size that the processor does not tell.
		}
		out = append(out, api.ResourcesCPUCache{
			Level: h.number(index, "level"), Type: h.text(index, "type"), Size: size * 1024,
		})
	}
	return out
}

func meanFrequency(cores []api.ResourcesCPUCore) uint64 {
	var sum uint64
	for _, c := range cores {
		sum += c.Frequency
	}
	return sum / uint64(max(1, len(cores)))
}

// cpuInfo parses /proc/cpuinfo into what it says of each CPU.
func cpuInfo(text string) map[uint64]map[string]string {
	out := map[uint64]map[string]string{}
	var current map[string]string
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(line, ":")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok {
			continue
		}
		if id, err := strconv.ParseUint(value, 10, 64); key == "processor" && err == nil {
			current = map[string]string{}
			out[id] = current
		}
		if current != nil {
			current[key] = value
		}
	}
	return out
}
