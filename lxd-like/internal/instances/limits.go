package instances

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/devices"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
)

// balanced is limits.cpu.nodes of who leaves it to us.
const balanced = "balanced"

// limits are the instance's limits but for those of disks, with the processors
// chosen for it: those that the fewest other instances are bound to.
func (s *Service) limits(in *instance) (runtime.Limits, error) {
	host, err := hostFacts()
	if err != nil {
		return runtime.Limits{}, err
	}
	set, err := profiles.Parse(in.expanded.Options, host)
	if err != nil {
		return runtime.Limits{}, err
	}
	l := set.Limits
	out := runtime.Limits{
		CPUShare: l.CPUShare, CPUYield: l.CPUYield, CPUQuota: l.CPUQuota, CPUPeriod: l.CPUPeriod,
		Memory: l.Memory, MemoryHigh: l.MemoryHigh, Soft: l.Soft, NoSwap: l.NoSwap, Swap: l.Swap, Swappier: l.Swappier,
		HugePages: l.HugePages, Processes: l.Processes, IOWeight: l.IOWeight,
	}
	cpus, nodes, err := s.place(in, l, host.CPUs)
	out.CPUs, out.Nodes = profiles.FormatCPUs(cpus), profiles.FormatCPUs(nodes)
	return out, err
}

// place chooses the processors, and the NUMA nodes, of an instance; none is
// for all.
func (s *Service) place(in *instance, l profiles.Limits, online []int) (cpus, nodes []int, err error) {
	load := s.index.load(in.Name)
	if nodes = l.Nodes; nodes != nil || l.Balanced {
		have, err := nodeCPUs()
		if err != nil {
			return nil, nil, err
		}
		if l.Balanced {
			nodes = []int{idlest(have, load)}
		}
		if online, err = cpusOf(nodes, have); err != nil {
			return nil, nil, err
		}
		cpus = online
	}
	if l.CPUCount > 0 {
		cpus = profiles.ChooseCPUs(online, load, l.CPUCount)
	}
	if l.CPUSet != nil {
		cpus = l.CPUSet
	}
	return cpus, nodes, nil
}

// nodeCPUs returns the processors of the host's NUMA nodes.
func nodeCPUs() (map[int][]int, error) {
	const dir = "/sys/devices/system/node"
	online, err := os.ReadFile(filepath.Join(dir, "online"))
	if err != nil {
		return nil, errs.Newf(errs.Unsupported, "limits.cpu.nodes: this host's kernel has no NUMA nodes")
	}
	nodes, err := profiles.ParseCPUs(strings.TrimSpace(string(online)))
	if err != nil {
		return nil, err
	}
	all := map[int][]int{}
	for _, n := range nodes {
		list, err := os.ReadFile(filepath.Join(dir, "node"+profiles.FormatCPUs([]int{n}), "cpulist"))
		if err != nil {
			return nil, err
		}
		cpus, err := profiles.ParseCPUs(strings.TrimSpace(string(list)))
		if err != nil {
			continue // One of memory alone.
		}
		all[n] = cpus
	}
	return all, nil
}

// cpusOf returns the processors of nodes.
func cpusOf(nodes []int, have map[int][]int) ([]int, error) {
	var all []int
	for _, n := range nodes {
		cpus, ok := have[n]
		if !ok {
			return nil, errs.Invalidf("limits.cpu.nodes: NUMA node %d has no processors here: this host has %s", n, profiles.FormatCPUs(slices.Sorted(maps.Keys(have))))
		}
		all = append(all, cpus...)
	}
	slices.Sort(all)
	return all, nil
}

// idlest returns the node to whose processors the fewest instances are bound,
// for how many processors it has.
func idlest(have map[int][]int, load map[int]int) int {
	weight := func(n int) float64 {
		var sum int
		for _, cpu := range have[n] {
			sum += load[cpu]
		}
		return float64(sum) / float64(len(have[n]))
	}
	return slices.MinFunc(slices.Sorted(maps.Keys(have)), func(a, b int) int { return cmp.Compare(weight(a), weight(b)) })
}

// allLimits are the limits with those of disks.
func (s *Service) allLimits(ctx context.Context, in *instance) (runtime.Limits, error) {
	l, err := s.limits(in)
	if err != nil {
		return l, err
	}
	l.Disks, err = s.diskLimits(ctx, in)
	return l, err
}

// diskLimits are the limits of the instance's devices, by the disks of the host
// that they are on. Where several are on one, the kernel cannot tell them
// apart, and the lowest limits are those of all.
func (s *Service) diskLimits(ctx context.Context, in *instance) ([]runtime.Disk, error) {
	found := map[string]runtime.Disk{}
	for _, name := range slices.Sorted(maps.Keys(in.expanded.Devices)) {
		dev := in.expanded.Devices[name]
		want := runtime.Disk{}
		if dev["type"] == "disk" || dev["type"] == "unix-block" {
			l := profiles.ParseDiskLimit(dev)
			want = runtime.Disk{ReadBytes: l.ReadBytes, ReadOps: l.ReadOps, WriteBytes: l.WriteBytes, WriteOps: l.WriteOps}
		}
		if latency := in.expanded.Options["limits.io.latency"]; latency != "" && profiles.IsRoot(dev) {
			want.Latency = profiles.ParseLatency(latency)
		}
		if want == (runtime.Disk{}) {
			continue
		}
		numbers, err := s.blocksOf(ctx, dev)
		if err != nil {
			return nil, errs.Newf(errs.KindOf(err), "device %q: %w", name, err)
		}
		for _, number := range numbers {
			found[number] = lowest(found[number], want)
		}
	}
	var all []runtime.Disk
	for _, number := range slices.Sorted(maps.Keys(found)) {
		d := found[number]
		d.Device = number
		all = append(all, d)
	}
	return all, nil
}

// blocksOf returns the disks of the host that a device is on: none if it is not
// there and need not be. It is limited when it comes.
func (s *Service) blocksOf(ctx context.Context, dev profiles.Device) ([]string, error) {
	at, err := s.sourceOf(ctx, dev)
	if err == nil && devices.MayBeLate(dev) && !profiles.IsVolume(dev) {
		_, err = os.Stat(at)
	}
	if awaited(dev, err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	numbers, err := devices.Blocks(at)
	if errors.Is(err, fs.ErrNotExist) && devices.Comes(dev) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.Newf(errs.KindOf(err), "its limits are not possible: %w", err)
	}
	return numbers, nil
}

// sourceOf returns where on the host the contents of a device are.
func (s *Service) sourceOf(ctx context.Context, dev profiles.Device) (string, error) {
	pool := dev["pool"]
	if pool == "" {
		return cmp.Or(dev["source"], dev["path"]), nil
	}
	var p db.Pool
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		p, err = db.GetPool(ctx, tx, pool)
		return err
	})
	if err != nil {
		return "", asInvalid(err)
	}
	if p.Driver == "zfs" {
		return "", errs.Newf(errs.Unsupported, "limits of disks are not possible in storage pool %q: ZFS writes for all instances together", pool)
	}
	if info, err := os.Stat(p.Config["source"]); err == nil && info.IsDir() {
		return p.Config["source"], nil
	}
	return filepath.Join(s.Dir, "pools", pool), nil
}

func lowest(a, b runtime.Disk) runtime.Disk {
	return runtime.Disk{
		ReadBytes: lower(a.ReadBytes, b.ReadBytes), ReadOps: lower(a.ReadOps, b.ReadOps),
		WriteBytes: lower(a.WriteBytes, b.WriteBytes), WriteOps: lower(a.WriteOps, b.WriteOps),
		Latency: lower(a.Latency, b.Latency),
	}
}

// lower returns the lower of two limits, of which 0 is none.
func lower[T ~int64](a, b T) T {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// checkLimits reports limits that this host cannot hold an instance to.
func (s *Service) checkLimits(ctx context.Context, in *instance) error {
	l, err := s.allLimits(ctx, in)
	if err != nil {
		return err
	}
	return s.Runtime.CheckLimits(l)
}

// sameLimits reports whether a change leaves all limits as they are. Then nothing
// is asked of the host: what it cannot enforce any more is in the way of a start,
// and of nothing else.
func sameLimits(in, next *instance) bool {
	return sameDevices(in, next) && maps.Equal(limitsOf(in), limitsOf(next))
}

func limitsOf(in *instance) map[string]string {
	out := maps.Clone(in.expanded.Options)
	maps.DeleteFunc(out, func(key, _ string) bool { return !strings.HasPrefix(key, "limits.") })
	return out
}

// kept are the limits that an instance runs with, whose processors were chosen
// when it started.
func (s *Service) kept(ctx context.Context, in *instance) (runtime.Limits, error) {
	l, err := s.allLimits(ctx, in)
	if in.Config[keyCPU] != "" && l.CPUs != "" {
		l.CPUs = in.Config[keyCPU]
	}
	if in.Config[keyCPUNodes] != "" && l.Nodes != "" {
		l.Nodes = in.Config[keyCPUNodes]
	}
	return l, err
}

func (s *Service) changeLimits(ctx context.Context, in, next *instance, u *undo.Stack) error {
	if sameLimits(in, next) {
		return nil
	}
	before, err := s.kept(ctx, in)
	if err != nil {
		before = runtime.Limits{} // What the host has lost is not to be kept.
	}
	after, err := s.allLimits(ctx, next)
	if err != nil {
		return err
	}
	same := func(key string) bool { return in.expanded.Options[key] == next.expanded.Options[key] }
	if same("limits.cpu") && same("limits.cpu.nodes") {
		after.CPUs, after.Nodes = before.CPUs, before.Nodes
	}
	next.apply(map[string]string{keyCPU: after.CPUs, keyCPUNodes: chosenNodes(next, after)})
	if before.Equal(after) {
		return nil
	}
	if err := s.Runtime.SetLimits(ctx, in.Name, after); err != nil {
		return err
	}
	u.Push("set the limits back", func(ctx context.Context) error {
		s.index.bind(in.Name, before.CPUs)
		return s.Runtime.SetLimits(ctx, in.Name, before)
	})
	s.index.bind(in.Name, after.CPUs)
	return nil
}

// chosenNodes is what an instance has to remember of its NUMA nodes.
func chosenNodes(in *instance, l runtime.Limits) string {
	if in.expanded.Options["limits.cpu.nodes"] != balanced {
		return ""
	}
	return l.Nodes
}

// changeProcesses changes the limits of the processes themselves.
func (s *Service) changeProcesses(ctx context.Context, in, next *instance, u *undo.Stack) error {
	if sameLimits(in, next) {
		return nil
	}
	before, err := settings(in)
	if err != nil {
		return err
	}
	after, err := settings(next)
	if err != nil {
		return err
	}
	if !maps.Equal(before.Rlimits, after.Rlimits) {
		if err := s.Runtime.SetRlimits(ctx, in.Name, after.Rlimits); err != nil {
			return err
		}
		u.Push("set the limits of processes back", func(ctx context.Context) error {
			return s.Runtime.SetRlimits(ctx, in.Name, before.Rlimits)
		})
	}
	if before.OOMScore == after.OOMScore {
		return nil
	}
	if err := s.Runtime.SetOOMScore(ctx, in.Name, after.OOMScore); err != nil {
		return err
	}
	u.Push("set the score back", func(ctx context.Context) error {
		return s.Runtime.SetOOMScore(ctx, in.Name, before.OOMScore)
	})
	return nil
}

func apiPressure(all map[string]runtime.Pressure) map[string]api.InstanceStatePressure {
	if all == nil {
		return nil
	}
	stall := func(s runtime.Stall) api.InstanceStateStall {
		return api.InstanceStateStall{Avg10: s.Avg10, Avg60: s.Avg60, Avg300: s.Avg300, Total: int64(s.Total)}
	}
	out := make(map[string]api.InstanceStatePressure, len(all))
	for what, p := range all {
		out[what] = api.InstanceStatePressure{Some: stall(p.Some), Full: stall(p.Full)}
	}
	return out
}
