package profiles_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
)

var host = profiles.Host{Memory: 8 << 30, CPUs: []int{0, 1, 2, 3}}

func TestParse(t *testing.T) {
	got, err := profiles.Parse(map[string]string{
		"limits.cpu": "3", "limits.cpu.allowance": "25ms/100ms", "limits.memory": "50%", "limits.memory.enforce": "soft",
		"limits.memory.swap": "1GiB", "limits.processes": "7", "limits.kernel.nofile": "5", "limits.memory.oom_priority": "-5",
		"boot.autostart": "true", "boot.autorestart": "1", "boot.autostart.delay": "3", "boot.autostart.priority": "-2",
		"boot.stop.priority": "4", "boot.host_shutdown_action": "force-stop", "boot.host_shutdown_timeout": "60",
		"environment.A": "b", "linux.sysctl.net.x": "1", "security.privileged": "yes", "security.nesting": "true",
		"security.protection.delete": "on", "security.protection.start": "TRUE",
		"security.idmap.base": "500000", "security.idmap.size": "1000", "raw.idmap": "uid 5 6", "raw.lxc": "lxc.a = b",
		"snapshots.pattern": "s%d", "snapshots.expiry": "1d", "user.x": "y",
	}, host)
	if err != nil {
		t.Fatal(err)
	}
	want := profiles.Settings{
		Limits: profiles.Limits{
			CPUCount: 3, CPUQuota: 25 * time.Millisecond, CPUPeriod: 100 * time.Millisecond,
			Memory: 4 << 30, Soft: true, Swap: 1 << 30, Processes: 7,
		},
		Boot: profiles.Boot{
			Autostart: profiles.Always, Autorestart: true, Delay: 3 * time.Second, StartPriority: -2, StopPriority: 4,
			Kill: true, Timeout: time.Minute,
		},
		Security: profiles.Security{Privileged: true, Nesting: true, ProtectDelete: true, ProtectStart: true},
		IDs:      profiles.IDs{Base: 500000, Size: 1000, Least: 1000, Raw: []idmap.Entry{{UID: true, Host: 5, Inside: 6, Size: 1}}},
		OOMScore: -5, Rlimits: map[string]string{"nofile": "5:5"}, Sysctls: map[string]string{"net.x": "1"},
		Env: map[string]string{"A": "b"}, RawLXC: "lxc.a = b", SnapshotPattern: "s%d", SnapshotExpiry: "1d",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestParseOfNothing(t *testing.T) {
	got, err := profiles.Parse(nil, host)
	if err != nil {
		t.Fatal(err)
	}
	if got.Limits.CPUSet != nil || got.Limits.Memory != 0 || got.Limits.NoSwap || got.Boot.Autostart != profiles.AsBefore ||
		got.Boot.Timeout != 30*time.Second || got.IDs.Size != profiles.DefaultIDs || got.IDs.Base != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestParseLimits(t *testing.T) {
	for _, tt := range []struct {
		key, value string
		want       profiles.Limits
	}{
		{"limits.cpu", "3,0-1", profiles.Limits{CPUSet: []int{0, 1, 3}}},
		{"limits.cpu.allowance", "20%", profiles.Limits{CPUShare: 20}},
		{"limits.memory.swap", "false", profiles.Limits{NoSwap: true}},
		{"limits.memory.swap", "true", profiles.Limits{}},
		{"limits.memory.swap", "0B", profiles.Limits{NoSwap: true}},
		{"limits.memory", "1kB", profiles.Limits{Memory: 1000}},
		{"limits.memory", "100%", profiles.Limits{Memory: 8 << 30}},
	} {
		got, err := profiles.Parse(map[string]string{tt.key: tt.value}, host)
		if err != nil || !reflect.DeepEqual(got.Limits, tt.want) {
			t.Errorf("%s=%s: got %+v, %v, want %+v", tt.key, tt.value, got.Limits, err, tt.want)
		}
	}
	_, err := profiles.Parse(map[string]string{"limits.cpu": "2-4"}, host)
	if want := "limits.cpu: processor 4 is not online: this host has 0-3"; !errs.Is(err, errs.Invalid) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = profiles.Parse(map[string]string{"boot.autostart": "false"}, host)
	if err != nil {
		t.Error(err)
	}
}

func TestChooseCPUs(t *testing.T) {
	online := []int{0, 1, 2, 3}
	for name, tt := range map[string]struct {
		load  map[int]int
		count int
		want  string
	}{
		"idle host":    {nil, 2, "0-1"},
		"least loaded": {map[int]int{0: 2, 1: 1, 2: 1}, 2, "1,3"},
		"ties":         {map[int]int{0: 1, 3: 1}, 3, "0-2"},
		"all":          {nil, 4, "0-3"},
		"more":         {map[int]int{2: 9}, 99, "0-3"},
	} {
		if got := profiles.FormatCPUs(profiles.ChooseCPUs(online, tt.load, tt.count)); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}

func TestSnapshotName(t *testing.T) {
	now := time.Date(2024, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, tt := range []struct {
		pattern string
		taken   []string
		want    string // Starts with ! for an error.
	}{
		{"", nil, "snap0"},
		{"", []string{"snap0", "snap7", "snapx", "other9"}, "snap8"},
		{"a%db", []string{"a3b", "a9"}, "a4b"},
		{"{{ creation_date }}", nil, "2024-02-03_04-05-06"},
		{"{{creation_date|date:'2006-01-02'}}-%d", []string{"2024-02-03-0"}, "2024-02-03-1"},
		{`d-{{ creation_date | date:"150405" }}`, nil, "d-040506"},
		{"{{ name }}", nil, `!snapshots.pattern: unknown name "name", want creation_date`},
		{"{{ creation_date|upper }}", nil, "!snapshots.pattern: unknown filter"},
		{"{{ creation_date|date: }}", nil, "!snapshots.pattern: unknown filter"},
		{"{{ creation_date|date:' }}", nil, "!snapshots.pattern: unknown filter"},
		{"{{ x", nil, "!snapshots.pattern: "},
		{"a b", nil, "!snapshots.pattern: it makes a bad snapshot name"},
	} {
		got, err := profiles.SnapshotName(tt.pattern, tt.taken, now)
		if want, fails := strings.CutPrefix(tt.want, "!"); fails {
			if !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%q: got %q, %v, want %s", tt.pattern, got, err, want)
			}
			continue
		}
		if got != tt.want || err != nil {
			t.Errorf("%q: got %q, %v, want %q", tt.pattern, got, err, tt.want)
		}
	}
}

func TestExpiry(t *testing.T) {
	now := time.Date(2024, 1, 15, 0, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Time{
		"":         {},
		"1M 2H":    now.Add(2*time.Hour + time.Minute),
		"3d":       now.AddDate(0, 0, 3),
		"1w":       now.AddDate(0, 0, 7),
		"1m 1y":    now.AddDate(1, 1, 0),
		"90S":      now.Add(90 * time.Second),
		" 1d  1d ": now.AddDate(0, 0, 2),
	} {
		if got, err := profiles.Expiry(value, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: got %s, %v, want %s", value, got, err, want)
		}
	}
}

func TestParseMoreLimits(t *testing.T) {
	for _, tt := range []struct {
		key, value string
		want       profiles.Limits
	}{
		{"limits.cpu.nodes", "2,0-1", profiles.Limits{Nodes: []int{0, 1, 2}}},
		{"limits.cpu.nodes", "balanced", profiles.Limits{Balanced: true}},
		{"limits.cpu.priority", "3", profiles.Limits{CPUYield: 7}},
		{"limits.disk.priority", "0", profiles.Limits{IOWeight: 10}},
		{"limits.disk.priority", "10", profiles.Limits{IOWeight: 200}},
		{"limits.io.weight", "10000", profiles.Limits{IOWeight: 10000}},
		{"limits.hugepages.2MB", "1GiB", profiles.Limits{HugePages: map[string]int64{"2MB": 1 << 30}}},
		{"limits.hugepages.1GB", "0", profiles.Limits{HugePages: map[string]int64{"1GB": 0}}},
		{"limits.memory.high", "25%", profiles.Limits{MemoryHigh: 2 << 30}},
		{"limits.memory.swap.priority", "0", profiles.Limits{Swappier: 10}},
	} {
		got, err := profiles.Parse(map[string]string{tt.key: tt.value}, host)
		if err != nil || !reflect.DeepEqual(got.Limits, tt.want) {
			t.Errorf("%s=%s: got %+v, %v, want %+v", tt.key, tt.value, got.Limits, err, tt.want)
		}
	}
	for key, values := range map[string][]string{
		"limits.cpu.nodes": {"-1", "x", "0-", "Balanced"}, "limits.cpu.priority": {"11", "-1", "1.5"}, "limits.disk.priority": {"11", "high"},
		"limits.io.weight": {"0", "10001", "x"}, "limits.io.latency": {"0", "20", "-1ms", "11s", "x"}, "limits.hugepages.2MB": {"x", "-1", "10%"},
		"limits.hugepages.4MB": {"1MB"}, "limits.memory.high": {"0", "0%", "x"}, "limits.memory.swap.priority": {"11"},
	} {
		for _, v := range values {
			err := profiles.ValidateOptions(map[string]string{key: v})
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), key) {
				t.Errorf("%s=%s: %v", key, v, err)
			}
		}
	}
}

func TestParseDiskLimit(t *testing.T) {
	for _, tt := range []struct {
		dev  profiles.Device
		want profiles.DiskLimit
	}{
		{profiles.Device{}, profiles.DiskLimit{}},
		{profiles.Device{"limits.max": "1MiB"}, profiles.DiskLimit{ReadBytes: 1 << 20, WriteBytes: 1 << 20}},
		{profiles.Device{"limits.max": "20iops", "limits.read": "1kB,30iops"}, profiles.DiskLimit{ReadBytes: 1000, ReadOps: 30, WriteOps: 20}},
		{profiles.Device{"limits.write": "5iops,2kB"}, profiles.DiskLimit{WriteBytes: 2000, WriteOps: 5}},
	} {
		if got := profiles.ParseDiskLimit(tt.dev); got != tt.want {
			t.Errorf("%v: got %+v, want %+v", tt.dev, got, tt.want)
		}
	}
	for _, v := range []string{"0", "iops", "5MBiops", "1MB,2MB", "1iops,2iops", "x", "-1", "1MB,"} {
		err := profiles.ValidateDevices(map[string]profiles.Device{"d": {"type": "disk", "path": "/", "pool": "p", "limits.read": v}})
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "limits.read") {
			t.Errorf("%s: %v", v, err)
		}
	}
	err := profiles.ValidateDevices(map[string]profiles.Device{"d": {"type": "disk", "path": "/", "pool": "p", "limits.max.burst": "1MB"}})
	if err == nil || !strings.Contains(err.Error(), "without bursts") {
		t.Error(err)
	}
}
