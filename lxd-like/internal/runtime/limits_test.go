package runtime_test

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

// kernels are hosts that have all, of v1 and of v2.
func kernels() (one, two runtime.Cgroups) {
	one = runtime.Cgroups{
		V1: map[string]string{"cpu": "/c/cpu", "cpuset": "/c/cpuset", "memory": "/c/memory", "blkio": "/c/blkio"},
		V2: "/c/unified", V2Has: map[string]bool{"hugetlb": true},
		SwapV1: true, AllCPUs: "0-7", AllNodes: "0-1", HugePages: map[string]int64{"2MB": 2 << 20},
		DiskFiles: map[string]bool{"blkio.bfq.weight": true},
	}
	two = runtime.Cgroups{
		V2: "/c", V2Has: map[string]bool{"cpu": true, "cpuset": true, "memory": true, "io": true, "hugetlb": true},
		HugePages: map[string]int64{"2MB": 2 << 20}, DiskFiles: map[string]bool{"io.weight": true, "io.latency": true},
	}
	return one, two
}

// Limits that not all kernels have, as the files that they come to, or the
// reason for which they are refused.
func TestLimitsOfKernels(t *testing.T) {
	one, two := kernels()
	huge := map[string]string{"hugetlb.2MB.max": "4194304", "hugetlb.2MB.rsvd.max": "4194304"}
	tests := map[string]struct {
		limits         runtime.Limits
		wantV1, wantV2 map[string]string
		noV1, noV2     string
	}{
		"high":          {limits: runtime.Limits{MemoryHigh: 100}, noV1: "limits.memory.high", wantV2: map[string]string{"memory.high": "100"}},
		"swap priority": {limits: runtime.Limits{Swappier: 7}, wantV1: map[string]string{"memory.swappiness": "67"}, noV2: "limits.memory.swap.priority"},
		"swap alone":    {limits: runtime.Limits{Swap: 100}, noV1: "limits.memory", wantV2: map[string]string{"memory.swap.max": "100"}},
		"huge pages":    {limits: runtime.Limits{HugePages: map[string]int64{"2MB": 5 << 20}}, wantV1: huge, wantV2: huge},
		"no huge pages": {
			limits: runtime.Limits{HugePages: map[string]int64{"64KB": 1 << 20}},
			noV1:   "huge pages of 2MB only", noV2: "huge pages of 2MB only",
		},
		"weight": {
			limits: runtime.Limits{IOWeight: 200},
			wantV1: map[string]string{"blkio.bfq.weight": "200"}, wantV2: map[string]string{"io.weight": "default 200"},
		},
		"large weight": {limits: runtime.Limits{IOWeight: 5000}, noV1: "at most 1000", wantV2: map[string]string{"io.weight": "default 5000"}},
		"latency": {
			limits: runtime.Limits{Disks: []runtime.Disk{{Device: "8:0", Latency: 20 * time.Millisecond}}},
			noV1:   "limits.io.latency", wantV2: map[string]string{"io.latency": "8:0 target=20000"},
		},
		"disk": {
			limits: runtime.Limits{Disks: []runtime.Disk{{Device: "8:0", ReadBytes: 1000, WriteOps: 30}}},
			wantV1: map[string]string{"blkio.throttle.read_bps_device": "8:0 1000", "blkio.throttle.write_iops_device": "8:0 30"},
			wantV2: map[string]string{"io.max": "8:0 rbps=1000 wbps=max riops=max wiops=30"},
		},
		"no disk": {limits: runtime.Limits{Disks: []runtime.Disk{{Device: "sda"}}}, noV1: `"8:0"`, noV2: `"8:0"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			checkSettings(t, test.limits, one, test.wantV1, test.noV1)
			checkSettings(t, test.limits, two, test.wantV2, test.noV2)
		})
	}
	one.DiskFiles, two.DiskFiles = map[string]bool{}, map[string]bool{"io.bfq.weight": true}
	checkSettings(t, runtime.Limits{IOWeight: 200}, one, nil, "CONFIG_BFQ_GROUP_IOSCHED")
	checkSettings(t, runtime.Limits{IOWeight: 200}, two, map[string]string{"io.bfq.weight": "default 200"}, "")
	checkSettings(t, runtime.Limits{IOWeight: 2000}, two, nil, "BFQ")
	checkSettings(t, runtime.Limits{Disks: []runtime.Disk{{Device: "8:0", Latency: time.Second}}}, two, nil, "CONFIG_BLK_CGROUP_IOLATENCY")
	pids := runtime.Cgroups{V1: map[string]string{"pids": "/c/pids"}}
	checkSettings(t, runtime.Limits{Processes: 1 << 40}, pids, map[string]string{"pids.max": "4194304"}, "")
	one.SwapV1 = false
	checkSettings(t, runtime.Limits{Memory: 100, Swap: 100}, one, nil, "swapaccount=1")
}

func checkSettings(t *testing.T, l runtime.Limits, host runtime.Cgroups, want map[string]string, refused string) {
	t.Helper()
	settings, err := l.Settings(host)
	if refused != "" {
		if err == nil || !strings.Contains(err.Error(), refused) || !errs.Is(err, errs.Unsupported) && !errs.Is(err, errs.Invalid) {
			t.Errorf("%+v: %v, want a refusal with %q", l, err, refused)
		}
		return
	}
	if err != nil {
		t.Errorf("%+v: %v", l, err)
		return
	}
	got := map[string]string{}
	for _, s := range settings {
		if s.Default {
			continue
		}
		got[s.File] = s.Value
		if s.Key != "" {
			got[s.File] = s.Key + " " + s.Value
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("%+v: %v, want %v", l, got, want)
	}
}

// Each limit is what the kernel says it is: from the start, changed live,
// taken away live, and refused where the kernel has it not.
func TestEachLimit(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	disk := aDisk(t)
	kernel := map[string]string{"/hugetlb.2MB.max": "4194304", "/hugetlb.2MB.rsvd.max": "4194304"}
	none := map[string]string{"/hugetlb.2MB.max": "max", "/hugetlb.2MB.rsvd.max": "max"}
	cases := map[string]struct {
		limits     runtime.Limits
		set, unset map[string]string
	}{
		"nodes": {
			runtime.Limits{Nodes: "0", CPUs: "0"},
			map[string]string{"cpuset/cpuset.mems": "0", "/cpuset.mems": "0", "cpuset/cpuset.cpus": "0", "/cpuset.cpus": "0"},
			map[string]string{"cpuset/cpuset.mems": "0", "/cpuset.mems": "", "/cpuset.cpus": ""},
		},
		"cpu priority": {
			runtime.Limits{CPUYield: 10, CPUShare: 50},
			map[string]string{"cpu/cpu.shares": "502", "/cpu.weight": "40"},
			map[string]string{"cpu/cpu.shares": "1024", "/cpu.weight": "100"},
		},
		"high":          {runtime.Limits{MemoryHigh: 64 << 20}, map[string]string{"/memory.high": "67108864"}, map[string]string{"/memory.high": "max"}},
		"soft":          {runtime.Limits{Memory: 64 << 20, Soft: true}, map[string]string{"memory/memory.soft_limit_in_bytes": "67108864", "/memory.low": "67108864"}, map[string]string{"memory/memory.soft_limit_in_bytes": "9223372036854771712", "/memory.low": "0"}},
		"swap priority": {runtime.Limits{Swappier: 4}, map[string]string{"memory/memory.swappiness": "64"}, map[string]string{"memory/memory.swappiness": "60"}},
		"huge pages":    {runtime.Limits{HugePages: map[string]int64{"2MB": 4 << 20}}, kernel, none},
		"weight": {
			runtime.Limits{IOWeight: 300},
			map[string]string{"blkio/blkio.bfq.weight": "300", "/io.weight": "default 300"},
			map[string]string{"blkio/blkio.bfq.weight": "100", "/io.weight": "default 100"},
		},
		"disk": {
			runtime.Limits{Disks: []runtime.Disk{{Device: disk, ReadBytes: 1 << 20, ReadOps: 100, WriteBytes: 2 << 20, WriteOps: 200}}},
			map[string]string{
				"blkio/blkio.throttle.read_bps_device": disk + " 1048576", "blkio/blkio.throttle.write_bps_device": disk + " 2097152",
				"blkio/blkio.throttle.read_iops_device": disk + " 100", "blkio/blkio.throttle.write_iops_device": disk + " 200",
				"/io.max": disk + " rbps=1048576 wbps=2097152 riops=100 wiops=200",
			},
			map[string]string{"blkio/blkio.throttle.read_bps_device": "", "blkio/blkio.throttle.write_iops_device": "", "/io.max": ""},
		},
		"latency": {runtime.Limits{Disks: []runtime.Disk{{Device: disk, Latency: 50 * time.Millisecond}}}, map[string]string{"/io.latency": disk + " target=50000"}, nil},
	}
	start(t, r, s)
	all, kept := runtime.Limits{}, map[string]string{}
	for name, c := range cases {
		err := r.CheckLimits(c.limits)
		if lerr := r.SetLimits(t.Context(), s.Name, c.limits); fmt.Sprint(err) != fmt.Sprint(lerr) {
			t.Errorf("%s: checked: %v; set: %v", name, err, lerr)
		}
		if err != nil {
			t.Logf("%s: %v", name, err)
			if !errs.Is(err, errs.Unsupported) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		checkLimits(t, r, s.Name, c.set)
		if err := r.SetLimits(t.Context(), s.Name, runtime.Limits{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.unset != nil {
			checkLimits(t, r, s.Name, c.unset)
		}
		all = both(all, c.limits)
		maps.Copy(kept, c.set)
	}
	again := newSpec(t)
	again.Root, again.IDs, again.Limits = s.Root, s.IDs, all
	start(t, r, again)
	checkLimits(t, r, again.Name, kept)
	reboot(t, r, again.Name)
	checkLimits(t, r, again.Name, kept)
}

// both returns limits that have what a has, and what b has.
func both(a, b runtime.Limits) runtime.Limits {
	to, from := reflect.ValueOf(&a).Elem(), reflect.ValueOf(b)
	for i := range from.NumField() {
		if !from.Field(i).IsZero() {
			to.Field(i).Set(from.Field(i))
		}
	}
	return a
}

// aDisk returns the number of a block device that is a whole disk.
func aDisk(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"loop0", "vda", "sda", "ubda"} {
		if data, err := os.ReadFile("/sys/block/" + name + "/dev"); err == nil {
			return strings.TrimSpace(string(data))
		}
	}
	t.Fatal("no disk")
	return ""
}

// A program of the guest's that makes more processes than it may, and one that
// takes more memory, are stopped by the limits, and do not concern another
// guest.
func TestHogsStayInside(t *testing.T) {
	r := newRuntime(t)
	hog, other := newSpec(t), newSpec(t)
	hog.Limits = runtime.Limits{Processes: 40, Memory: 64 << 20, NoSwap: true}
	start(t, r, hog)
	start(t, r, other)
	// They begin when nothing but them and init is there. A shell ends when it may
	// not fork: all three may be gone at once.
	sh(t, r, hog.Name, `for i in 1 2 3; do sh -c 'until test -e /tmp/go; do sleep 0.1; done; while :; do sleep 1000 & done' >/dev/null 2>&1 & done`)
	writeFile(t, hog.Root+"/tmp/go", "")
	testenv.Eventually(t, "processes up to the limit", func() bool {
		u, err := r.Usage(hog.Name)
		return err == nil && u.Processes >= 37
	})
	if u, err := r.Usage(hog.Name); err != nil || u.Processes > 40 {
		t.Errorf("%+v, %v", u, err)
	}
	if got := sh(t, r, other.Name, "echo well"); got != "well" {
		t.Errorf("%q", got)
	}
	kill(t, r, hog.Name)
	hog.Limits.Processes = 0
	start(t, r, hog)
	res := run(t, r, hog.Name, "", runtime.Exec{Args: []string{"sh", "-c", "mkdir -p /m; mount -t tmpfs none /m; exec dd if=/dev/zero of=/m/x bs=1M count=500"}})
	if res.status != 128+9 {
		t.Errorf("a program that took too much memory: %+v", res)
	}
	if u, err := r.Usage(hog.Name); err != nil || u.MemoryPeak > 65<<20 {
		t.Errorf("%+v, %v", u, err)
	}
	if got := sh(t, r, other.Name, "echo well"); got != "well" {
		t.Errorf("%q", got)
	}
}
