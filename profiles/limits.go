package profiles

import (
	"errors"
	"strings"
	"time"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/units"
)

// Limits are the limits of resources. The zero value limits nothing.
type Limits struct {
	CPUCount  int           // How many processors to choose (see [ChooseCPUs]); 0 for CPUSet.
	CPUSet    []int         // Processors to run on, in order; nil for all.
	Nodes     []int         // NUMA nodes to be on, in order; nil for all.
	Balanced  bool          // One NUMA node, on which there is the least.
	CPUShare  int           // Percent, from 1 to 100; 0 where nothing is said.
	CPUYield  int           // How far below the highest limits.cpu.priority is, 0 to 10.
	CPUQuota  time.Duration // Run time in each CPUPeriod; 0 for no limit.
	CPUPeriod time.Duration

	Memory     int64 // Bytes; 0 for no limit.
	MemoryHigh int64 // Bytes above which it is slowed down; 0 for no limit.
	Soft       bool  // Memory is limited only while the host is short of it.
	NoSwap     bool
	Swap       int64            // Bytes; 0 where nothing is said.
	Swappier   int              // How far below the highest limits.memory.swap.priority is, 0 to 10.
	HugePages  map[string]int64 // Bytes, by the size of the pages as in "2MB"; nil for no limits.

	Processes int64 // 0 for no limit.
	IOWeight  int   // Of 1 to 10000, where others have 100; 0 where nothing is said.
}

const (
	mostPriority = 10
	defaultDisks = 5 // limits.disk.priority of those that say nothing.
	usualWeight  = 100
	leastWeight  = 10
)

func (o options) limits(host Host) (Limits, error) {
	l := Limits{
		Soft:      o["limits.memory.enforce"] == "soft",
		Processes: o.int("limits.processes", 0),
		CPUYield:  int(mostPriority - o.int("limits.cpu.priority", mostPriority)),
		Swappier:  int(mostPriority - o.int("limits.memory.swap.priority", mostPriority)),
		HugePages: o.hugePages(),
		IOWeight:  o.weight(),
	}
	if err := o.cpus(host, &l); err != nil {
		return Limits{}, err
	}
	return l, o.memory(host, &l)
}

func (o options) cpus(host Host, l *Limits) error {
	var err error
	if v := o["limits.cpu"]; v != "" {
		if l.CPUCount, l.CPUSet, err = parseCPULimit(v); err != nil {
			return wrap("limits.cpu", err)
		}
		if err := onHost(l.CPUSet, host.CPUs); err != nil {
			return wrap("limits.cpu", err)
		}
	}
	if v := o["limits.cpu.nodes"]; v != "" {
		if l.Nodes, l.Balanced, err = parseNodes(v); err != nil {
			return wrap("limits.cpu.nodes", err)
		}
	}
	if v := o["limits.cpu.allowance"]; v != "" {
		a, err := parseAllowance(v)
		if err != nil {
			return wrap("limits.cpu.allowance", err)
		}
		l.CPUShare, l.CPUQuota, l.CPUPeriod = a.share, a.quota, a.period
	}
	return nil
}

func (o options) memory(host Host, l *Limits) error {
	for key, to := range map[string]*int64{"limits.memory": &l.Memory, "limits.memory.high": &l.MemoryHigh} {
		v := o[key]
		if v == "" {
			continue
		}
		n, err := parseMemory(v, host.Memory)
		if err != nil {
			return wrap(key, err)
		}
		*to = n
	}
	if v := o["limits.memory.swap"]; v != "" {
		allow, size, err := parseSwap(v)
		if err != nil {
			return wrap("limits.memory.swap", err)
		}
		l.NoSwap, l.Swap = !allow, size
		// A size of nothing is not the zero value, which limits nothing.
		if _, asBool := ParseBool(v); asBool != nil && size == 0 {
			l.NoSwap = true
		}
	}
	return nil
}

func (o options) hugePages() map[string]int64 {
	var all map[string]int64
	for size, v := range o.below(prefixHugePages) {
		if all == nil {
			all = map[string]int64{}
		}
		all[size], _ = units.ParseBytes(v) // It is valid.
	}
	return all
}

// weight is of limits.io.weight or, without that, of limits.disk.priority.
func (o options) weight() int {
	if n := o.int("limits.io.weight", 0); n != 0 {
		return int(n)
	}
	p := o.int("limits.disk.priority", -1)
	if p < 0 {
		return 0
	}
	return max(leastWeight, int(p)*usualWeight/defaultDisks)
}

// parseNodes reads a set of NUMA nodes, or "balanced".
func parseNodes(v string) (set []int, balanced bool, err error) {
	if v == "balanced" {
		return nil, true, nil
	}
	set, err = ParseCPUs(v)
	return set, false, err
}

func checkNodes(v string) error {
	if _, _, err := parseNodes(v); err != nil {
		return errNo
	}
	return nil
}

// parseLatency reads a time such as "20ms".
func parseLatency(v string) (time.Duration, error) {
	const least, most = time.Microsecond, 10 * time.Second
	d, err := time.ParseDuration(v)
	if err != nil || d < least || d > most {
		return 0, errors.Join(err, errNo)
	}
	return d, nil
}

// ParseLatency returns what limits.io.latency, which is valid, says.
func ParseLatency(v string) time.Duration {
	d, _ := parseLatency(v)
	return d
}

// onHost reports the first processor that the host does not have, or not
// now. It does nothing if the host's are not known.
func onHost(set, online []int) error {
	if len(online) == 0 {
		return nil
	}
	have := map[int]bool{}
	for _, n := range online {
		have[n] = true
	}
	for _, n := range set {
		if !have[n] {
			return errs.Invalidf("processor %d is not online: this host has %s", n, FormatCPUs(online))
		}
	}
	return nil
}

// A DiskLimit limits what goes through a disk in each second. 0 is for no
// limit.
type DiskLimit struct {
	ReadBytes, ReadOps   int64
	WriteBytes, WriteOps int64
}

// ParseDiskLimit returns the limits that a device has, which is valid.
func ParseDiskLimit(d Device) DiskLimit {
	var l DiskLimit
	l.ReadBytes, l.ReadOps, _ = parseThroughput(either(d["limits.read"], d["limits.max"]))
	l.WriteBytes, l.WriteOps, _ = parseThroughput(either(d["limits.write"], d["limits.max"]))
	return l
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// parseThroughput reads a size, a number with "iops" behind, or both with a
// comma between them.
func parseThroughput(v string) (bytes, ops int64, err error) {
	if v == "" {
		return 0, 0, nil
	}
	for part := range strings.SplitSeq(v, ",") {
		to := &bytes
		number, isOps := strings.CutSuffix(part, "iops")
		if isOps {
			to = &ops
		}
		n, err := units.ParseBytes(number)
		if err != nil || n <= 0 || *to != 0 || isOps && strings.Trim(number, digits) != "" {
			return 0, 0, errors.Join(err, errNo)
		}
		*to = n
	}
	return bytes, ops, nil
}

func checkThroughput(v string) error {
	if _, _, err := parseThroughput(v); err != nil {
		return errNo
	}
	return nil
}

// limitOptions are of disks.
func limitOptions() []Option {
	return append([]Option{throughput("limits.max", "How much is read in each second, and how much is written.")}, readWriteLimits()...)
}

// readWriteLimits are of all devices that are on a disk.
func readWriteLimits() []Option {
	return []Option{
		throughput("limits.read", "How much is read in each second; it goes before limits.max."),
		throughput("limits.write", "How much is written in each second; it goes before limits.max."),
	}
}

func throughput(name, doc string) Option {
	const allowed = `bytes or operations in each second such as "20MiB", "500iops" or "20MiB,500iops"`
	return option(Key{Name: name, Type: String, Allowed: allowed, Live: true, Doc: doc, check: checkThroughput})
}
