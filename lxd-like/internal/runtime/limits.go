package runtime

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
)

const (
	memLimitV1  = "memory.limit_in_bytes"
	memSwapV1   = "memory.memsw.limit_in_bytes"
	memSoftV1   = "memory.soft_limit_in_bytes"
	noneV1      = "-1"
	none        = "max"
	fullShareV1 = 1024
	fullShareV2 = 100

	defaultPeriod = 100 * time.Millisecond
)

// A Setting is a value of a cgroup's file.
type Setting struct {
	Controller  string
	File, Value string
	V2          bool
	Default     bool // The value is what the file has from the start.
}

// Settings returns what makes the kernel enforce the limits on a host, in an
// order in which they can be set on a new container.
func (l Limits) Settings(host Cgroups) ([]Setting, error) {
	if err := l.validate(); err != nil {
		return nil, err
	}
	var list []Setting
	for _, part := range []struct {
		name   string
		v1, v2 []Setting
		wanted bool
	}{
		{"cpuset", l.cpusetV1(host), l.cpusetV2(), l.CPUs != ""},
		{"cpu", l.cpuV1(), l.cpuV2(), l.CPUShare != 0 || l.CPUQuota != 0},
		{"memory", l.memoryV1(host), l.memoryV2(), l.Memory != 0 || l.Swap != 0 || l.NoSwap},
		{"pids", l.pids(), l.pids(), l.Processes != 0},
	} {
		settings := part.v1
		switch {
		case host.V1[part.name] != "":
		case host.V2Has[part.name]:
			settings = part.v2
		case part.wanted:
			return nil, errs.Newf(errs.Unsupported, "the host has no cgroup controller %q for this limit", part.name)
		default:
			continue
		}
		for _, s := range settings {
			s.Controller, s.V2 = part.name, host.V1[part.name] == ""
			list = append(list, s)
		}
	}
	return list, nil
}

func (l Limits) validate() error {
	if l.CPUShare < 0 || l.CPUShare > 100 {
		return errs.Invalidf("processor share %d: 1 to 100 percent, or 0 for all, is allowed", l.CPUShare)
	}
	if l.CPUQuota < 0 || l.CPUPeriod < 0 || l.CPUQuota > 0 && l.CPUQuota < time.Millisecond {
		return errs.Invalidf("processor time %s in each %s: at least 1ms is allowed", l.CPUQuota, l.CPUPeriod)
	}
	for name, n := range map[string]int64{"memory": l.Memory, "swap": l.Swap, "processes": l.Processes} {
		if n < 0 {
			return errs.Invalidf("limit %d of %s is negative", n, name)
		}
	}
	if strings.Trim(l.CPUs, "0123456789,-") != "" {
		return errs.Invalidf("processors %q: numbers and ranges such as \"0-1,3\" are allowed", l.CPUs)
	}
	return nil
}

func (l Limits) cpusetV1(host Cgroups) []Setting {
	if l.CPUs == "" {
		return []Setting{{File: "cpuset.cpus", Value: host.AllCPUs, Default: true}}
	}
	return []Setting{{File: "cpuset.cpus", Value: l.CPUs}}
}

func (l Limits) cpusetV2() []Setting {
	return []Setting{{File: "cpuset.cpus", Value: l.CPUs, Default: l.CPUs == ""}}
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

func (l Limits) cpuV1() []Setting {
	quota := noneV1
	if l.CPUQuota > 0 {
		quota = strconv.FormatInt(l.CPUQuota.Microseconds(), 10)
	}
	return []Setting{
		{File: "cpu.shares", Value: strconv.Itoa(max(2, fullShareV1*l.share()/100)), Default: l.share() == 100},
		{File: "cpu.cfs_period_us", Value: strconv.FormatInt(l.period(), 10), Default: l.period() == defaultPeriod.Microseconds()},
		{File: "cpu.cfs_quota_us", Value: quota, Default: quota == noneV1},
	}
}

func (l Limits) cpuV2() []Setting {
	quota := none
	if l.CPUQuota > 0 {
		quota = strconv.FormatInt(l.CPUQuota.Microseconds(), 10)
	}
	return []Setting{
		{File: "cpu.weight", Value: strconv.Itoa(max(1, fullShareV2*l.share()/100)), Default: l.share() == 100},
		{File: "cpu.max", Value: fmt.Sprintf("%s %d", quota, l.period()), Default: quota == none && l.CPUPeriod == 0},
	}
}

// number formats a limit, with absent for none.
func number(n int64, absent string) string {
	if n == 0 {
		return absent
	}
	return strconv.FormatInt(n, 10)
}

func (l Limits) memoryV1(host Cgroups) []Setting {
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
	list = append(list, Setting{File: memSoftV1, Value: soft, Default: soft == noneV1})
	if l.NoSwap {
		return append(list, Setting{File: "memory.swappiness", Value: "0"})
	}
	return append(list, Setting{File: "memory.swappiness", Value: "60", Default: true})
}

func (l Limits) memoryV2() []Setting {
	hard, soft := number(l.Memory, none), none
	if l.Soft {
		hard, soft = none, hard
	}
	swap := number(l.Swap, none)
	if l.NoSwap {
		swap = "0"
	}
	return []Setting{
		{File: "memory.max", Value: hard, Default: hard == none},
		{File: "memory.high", Value: soft, Default: soft == none},
		{File: "memory.swap.max", Value: swap, Default: swap == none},
	}
}

func (l Limits) pids() []Setting {
	return []Setting{{File: "pids.max", Value: number(l.Processes, none), Default: l.Processes == 0}}
}

// SetLimits changes the limits of a running container, all of them or none.
// They stay for when the guest reboots.
func (r *Runtime) SetLimits(ctx context.Context, name string, l Limits) (err error) {
	c, err := r.find(name)
	if err != nil {
		return err
	}
	host, err := r.cgroups()
	if err != nil {
		return err
	}
	settings, err := l.Settings(host)
	if err != nil {
		return err
	}
	in, err := c.current()
	if err != nil {
		return err
	}
	c.change.Lock()
	defer c.change.Unlock()
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	for _, s := range inOrder(settings, in.dirs) {
		old, err := s.apply(in.dirs)
		if err != nil {
			return c.orGone(err)
		}
		u.Push("restore "+s.File, func(context.Context) error {
			return writeValue(s.dir(in.dirs), s.File, old)
		})
	}
	return r.respec(c, func(s *Spec) { s.Limits = l })
}

func (s Setting) dir(dirs map[string]string) string {
	if s.V2 {
		return dirs[""]
	}
	return dirs[s.Controller]
}

// apply writes the setting and returns the value before.
func (s Setting) apply(dirs map[string]string) (old string, err error) {
	dir := s.dir(dirs)
	if dir == "" {
		return "", errs.Newf(errs.Unsupported, "the instance has no cgroup of controller %q", s.Controller)
	}
	old, err = readValue(dir, s.File)
	if err != nil {
		return "", err
	}
	if old == s.Value || old == s.Value+"\n" {
		return old, nil
	}
	if err := s.fits(dir); err != nil {
		return "", err
	}
	value := s.Value
	if value == "" {
		value = "\n" // No byte at all would be no write.
	}
	if err := writeValue(dir, s.File, value); err != nil {
		return "", s.explain(dir, err)
	}
	return old, nil
}

// fits refuses a memory limit below what is used on v2, where the kernel would
// kill processes until it fits. On v1 the kernel refuses it.
func (s Setting) fits(dir string) error {
	if s.File != "memory.max" || s.Value == none {
		return nil
	}
	used, err := readNumber(dir, "memory.current")
	if err != nil {
		return err
	}
	stat, err := readStat(dir, "memory.stat")
	if err != nil {
		return err
	}
	limit, err := strconv.ParseInt(s.Value, 10, 64)
	if err != nil {
		return err
	}
	if used -= stat["inactive_file"] + stat["active_file"]; used > limit {
		return errs.Conflictf("memory limit %d: the instance uses %d bytes", limit, used)
	}
	return nil
}

func (s Setting) explain(dir string, err error) error {
	if s.File == memLimitV1 || s.File == memSwapV1 {
		if used, uerr := readNumber(dir, "memory.usage_in_bytes"); uerr == nil {
			return errs.Conflictf("memory limit %s cannot be reached: the instance uses %d bytes: %w", s.Value, used, err)
		}
	}
	return fmt.Errorf("set %s of %s to %q: %w", s.File, filepath.Base(dir), s.Value, err)
}

// inOrder puts v1's two memory limits into an order that keeps the one of
// memory below the one of memory and swap at all times.
func inOrder(settings []Setting, dirs map[string]string) []Setting {
	list := slices.Clone(settings)
	i := slices.IndexFunc(list, func(s Setting) bool { return s.File == memLimitV1 })
	j := slices.IndexFunc(list, func(s Setting) bool { return s.File == memSwapV1 })
	if i < 0 || j < 0 {
		return list
	}
	now, err := readNumber(dirs["memory"], memLimitV1)
	if want := list[i].Value; err == nil && (want == noneV1 || atLeast(want, now)) { // Raised.
		list[i], list[j] = list[j], list[i]
	}
	return list
}

func atLeast(value string, n int64) bool {
	v, err := strconv.ParseInt(value, 10, 64)
	return err == nil && v >= n
}
