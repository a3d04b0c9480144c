package runtime

import (
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

const (
	memLimitV1 = "memory.limit_in_bytes"
	memSwapV1  = "memory.memsw.limit_in_bytes"
	memSoftV1  = "memory.soft_limit_in_bytes"

	swappinessV1 = 60 // What cgroups have from the start.
)

func (l Limits) limitsMemory() bool {
	return l.Memory != 0 || l.MemoryHigh != 0 || l.Swap != 0 || l.NoSwap || l.Swappier != 0
}

func (l Limits) memoryV1(host Cgroups) ([]Setting, error) {
	if err := l.fitsV1(host); err != nil {
		return nil, err
	}
	hard, soft := number(l.Memory, noneV1), noneV1
	both := noneV1 // Of memory and swap together, which v1 limits.
	switch {
	case l.Soft:
		hard, soft = noneV1, hard
	case l.Memory != 0 && l.NoSwap:
		both = hard
	case l.Memory != 0 && l.Swap != 0 && l.Swap < math.MaxInt64-l.Memory:
		both = strconv.FormatInt(l.Memory+l.Swap, 10)
	}
	list := []Setting{{File: memLimitV1, Value: hard, Default: hard == noneV1}}
	if host.SwapV1 {
		list = append(list, Setting{File: memSwapV1, Value: both, Default: both == noneV1})
	}
	swappiness := swappinessV1 + l.Swappier
	if l.NoSwap {
		swappiness = 0
	}
	return append(list,
		Setting{File: memSoftV1, Value: soft, Default: soft == noneV1},
		Setting{File: "memory.swappiness", Value: strconv.Itoa(swappiness), Default: swappiness == swappinessV1},
	), nil
}

// fitsV1 refuses what v1 has not.
func (l Limits) fitsV1(host Cgroups) error {
	switch {
	case l.MemoryHigh != 0:
		return errs.Newf(errs.Unsupported, "limits.memory.high: it needs the memory controller of cgroup v2, and this host has that of v1")
	case l.Swap == 0 || l.NoSwap:
		return nil
	case !host.SwapV1:
		return errs.Newf(errs.Unsupported, "limits.memory.swap: this host's kernel does not count swap by cgroup (boot it with swapaccount=1, or with cgroup v2); true and false are possible")
	case l.Memory == 0 || l.Soft:
		return errs.Invalidf("limits.memory.swap: cgroup v1 limits swap only together with memory, want limits.memory with limits.memory.enforce=hard beside a size")
	}
	return nil
}

func (l Limits) memoryV2(Cgroups) ([]Setting, error) {
	if l.Swappier != 0 && !l.NoSwap {
		return nil, errs.Newf(errs.Unsupported, "limits.memory.swap.priority: cgroup v2 has no such preference, and this host has it; only 10, the default, is possible")
	}
	hard, kept := number(l.Memory, none), "0"
	if l.Soft && l.Memory != 0 {
		// What it has up to the limit is safe; above it, it is the first to lose.
		hard, kept = none, hard
	}
	swap := number(l.Swap, none)
	if l.NoSwap {
		swap = "0"
	}
	high := number(l.MemoryHigh, none)
	return []Setting{
		{File: "memory.max", Value: hard, Default: hard == none},
		{File: "memory.high", Value: high, Default: high == none},
		{File: "memory.low", Value: kept, Default: kept == "0"},
		{File: "memory.swap.max", Value: swap, Default: swap == none},
	}, nil
}

func (l Limits) hugePagesV1(host Cgroups) ([]Setting, error) {
	return l.hugePages(host, []string{"hugetlb.%s.limit_in_bytes", "hugetlb.%s.rsvd.limit_in_bytes"}, noneV1)
}

func (l Limits) hugePagesV2(host Cgroups) ([]Setting, error) {
	return l.hugePages(host, []string{"hugetlb.%s.max", "hugetlb.%s.rsvd.max"}, none)
}

// hugePages limits pages that are reserved too: a program is then refused the
// mapping, and not killed when it uses it.
func (l Limits) hugePages(host Cgroups, files []string, reset string) ([]Setting, error) {
	var list []Setting
	for _, size := range slices.Sorted(maps.Keys(l.HugePages)) {
		page, ok := host.HugePages[size]
		if !ok {
			return nil, errs.Newf(errs.Unsupported, "limits.hugepages.%s: this host has %s", size, host.hugeSizes())
		}
		value := strconv.FormatInt(l.HugePages[size]/page*page, 10) // As the kernel rounds it.
		for _, file := range files {
			list = append(list, Setting{File: fmt.Sprintf(file, size), Value: value, Reset: reset})
		}
	}
	return list, nil
}

func (c Cgroups) hugeSizes() string {
	if len(c.HugePages) == 0 {
		return "no huge pages"
	}
	return "huge pages of " + strings.Join(slices.Sorted(maps.Keys(c.HugePages)), " and ") + " only"
}

// hugePageSizes returns the sizes of the kernel's huge pages in bytes, by the
// names that cgroups have for them.
func hugePageSizes() map[string]int64 {
	entries, err := os.ReadDir("/sys/kernel/mm/hugepages")
	if err != nil {
		return nil // The kernel has none.
	}
	sizes := map[string]int64{}
	for _, e := range entries {
		text := strings.TrimSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB")
		kib, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			continue
		}
		name, n := "", kib
		for _, unit := range []string{"KB", "MB", "GB"} {
			name = strconv.FormatInt(n, 10) + unit
			if n%1024 != 0 {
				break
			}
			n /= 1024
		}
		sizes[name] = kib << 10
	}
	return sizes
}

// onlineNodes are the NUMA nodes of the host, as cpuset.mems has them.
func onlineNodes() string {
	nodes, err := readValue("/sys/devices/system/node", "online")
	if err != nil {
		return "0" // Without NUMA the kernel has this one.
	}
	return nodes
}
