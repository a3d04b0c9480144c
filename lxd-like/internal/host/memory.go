package host

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/api"
)

// memory returns the host's memory.
func (h Host) memory() (api.ResourcesMemory, error) {
	text, err := fs.ReadFile(h.Files, "proc/meminfo")
	if err != nil {
		return api.ResourcesMemory{}, fmt.Errorf("read the memory: %w", err)
	}
	info := memInfo(string(text))
	page := info["Hugepagesize"]
	out := api.ResourcesMemory{
		HugepagesTotal: info["HugePages_Total"] * page, HugepagesUsed: usedPages(info) * page, HugepagesSize: page,
		Used: usedMemory(info), Total: info["MemTotal"],
	}
	const dir = "sys/devices/system/node"
	for _, n := range h.numbered(dir, "node") {
		node := memInfo(h.text(dir, "node"+strconv.FormatUint(n, 10), "meminfo"))
		out.Nodes = append(out.Nodes, api.ResourcesMemoryNode{
			NUMANode: n, HugepagesUsed: usedPages(node) * page, HugepagesTotal: node["HugePages_Total"] * page,
			Used: usedMemory(node), Total: node["MemTotal"],
		})
	}
	return out, nil
}

// usedMemory is what is neither free nor could be freed at once: caches of
// files. Shared memory is among these, but has no file to be read from again.
func usedMemory(info map[string]uint64) uint64 {
	caches := info["Buffers"] + info["Cached"] // Of the whole host.
	caches += info["FilePages"]                // Of a node.
	caches += info["SReclaimable"]
	return less(info["MemTotal"], info["MemFree"]+less(caches, info["Shmem"]))
}

func usedPages(info map[string]uint64) uint64 {
	return less(info["HugePages_Total"], info["HugePages_Free"])
}

// less returns a-b, or 0: the kernel does not count at one moment.
func less(a, b uint64) uint64 { return a - min(a, b) }

// memInfo parses /proc/meminfo, or that of a node, into bytes and numbers.
func memInfo(text string) map[string]uint64 {
	out := map[string]uint64{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		number, unit, _ := strings.Cut(strings.TrimSpace(value), " ")
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			continue
		}
		if unit == "kB" {
			n *= 1024
		}
		out[path.Base(strings.ReplaceAll(key, " ", "/"))] = n // "Node 0 MemTotal" is MemTotal.
	}
	return out
}
