package runtime

import (
	"fmt"
	"strconv"
	"time"
)

const (
	fullShareV1 = 1024
	fullShareV2 = 100
	leastShare  = 2 // Of v1.

	defaultPeriod = 100 * time.Millisecond
)

// cpusetV1 says what all is, as a container of v1 has nothing by itself.
func (l Limits) cpusetV1(host Cgroups) ([]Setting, error) {
	cpus, nodes := l.CPUs, l.Nodes
	if cpus == "" {
		cpus = host.AllCPUs
	}
	if nodes == "" {
		nodes = host.AllNodes
	}
	return []Setting{
		{File: "cpuset.cpus", Value: cpus, Default: l.CPUs == ""},
		{File: "cpuset.mems", Value: nodes, Default: l.Nodes == ""},
	}, nil
}

func (l Limits) cpusetV2(Cgroups) ([]Setting, error) {
	return []Setting{
		{File: "cpuset.cpus", Value: l.CPUs, Default: l.CPUs == ""},
		{File: "cpuset.mems", Value: l.Nodes, Default: l.Nodes == ""},
	}, nil
}

func (l Limits) share() int {
	if l.CPUShare == 0 {
		return 100
	}
	return l.CPUShare
}

func (l Limits) period() int64 {
	if l.CPUPeriod == 0 {
		return defaultPeriod.Microseconds()
	}
	return l.CPUPeriod.Microseconds()
}

func (l Limits) cpuV1(Cgroups) ([]Setting, error) {
	quota := noneV1
	if l.CPUQuota > 0 {
		quota = strconv.FormatInt(l.CPUQuota.Microseconds(), 10)
	}
	shares := max(leastShare, fullShareV1*l.share()/100-l.CPUYield)
	return []Setting{
		{File: "cpu.shares", Value: strconv.Itoa(shares), Default: shares == fullShareV1},
		{File: "cpu.cfs_period_us", Value: strconv.FormatInt(l.period(), 10), Default: l.period() == defaultPeriod.Microseconds()},
		{File: "cpu.cfs_quota_us", Value: quota, Default: quota == noneV1},
	}, nil
}

func (l Limits) cpuV2(Cgroups) ([]Setting, error) {
	quota := none
	if l.CPUQuota > 0 {
		quota = strconv.FormatInt(l.CPUQuota.Microseconds(), 10)
	}
	weight := max(1, fullShareV2*l.share()/100-l.CPUYield)
	return []Setting{
		{File: "cpu.weight", Value: strconv.Itoa(weight), Default: weight == fullShareV2},
		{File: "cpu.max", Value: fmt.Sprintf("%s %d", quota, l.period()), Default: quota == none && l.CPUPeriod == 0},
	}, nil
}
