package profiles_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range profiles.Keys() {
		if seen[k.Name] {
			t.Errorf("%s is there twice", k.Name)
		}
		seen[k.Name] = true
		if k.Type == "" || k.Group == "" || !strings.HasSuffix(k.Doc, ".") {
			t.Errorf("%s lacks a type, a group or a sentence: %+v", k.Name, k)
		}
		if err := k.Check(k.Default); err != nil {
			t.Errorf("%s: the default: %v", k.Name, err)
		}
		if got, ok := profiles.Lookup(strings.ReplaceAll(k.Name, "*", "x.y")); !ok || got.Name != k.Name {
			t.Errorf("lookup of %s found %q", k.Name, got.Name)
		}
	}
	for _, dt := range profiles.DeviceTypes() {
		for _, o := range dt.Options {
			if o.Allowed == "" || !strings.HasSuffix(o.Doc, ".") || o.Type == "" {
				t.Errorf("option %s of %s lacks something: %+v", o.Name, dt.Name, o.Key)
			}
		}
	}
}

func TestValidateOptions(t *testing.T) {
	for _, tt := range []struct{ key, value, want string }{ // want: empty if it is valid
		{"limits.cpuu", "1", `unknown configuration key "limits.cpuu", did you mean "limits.cpu"?`},
		{"raw.qemu", "-x", `raw.qemu: got "-x", but it cannot be set: only virtual machines have it, and instances are containers`},
		{"raw.qemu.qmp.early", "x", "raw.qemu.qmp.early: got"},
		{"security.secureboot", "false", "security.secureboot: got"},
		{"linux.kernel_modules.load", "ondemand", `linux.kernel_modules.load: got "ondemand", but it cannot be set: modules are loaded before`},
		{"nvidia.runtime", "true", "nvidia.runtime: got"},
		{strings.Repeat("x", 1<<20), "1", `unknown key "xxx`},
		{"user.a\nb", "1", "unknown key \"user.a\\nb\", want a name without control characters"},
		{"user.a", "b\x00c", "user.a: got \"b\\x00c\", want a text without NUL bytes"},
		{"user.a", strings.Repeat("x", 512<<10+1), `user.a: got "xxx`},
		{"nothing.like.it", "1", `unknown configuration key "nothing.like.it"`},
		{"user.", "1", `unknown configuration key "user."`},
		{"user.anything", "a\nb", ""},
		{"image.os", "debian", ""},
		{"volatile.eth0.hwaddr", "x", `volatile.eth0.hwaddr: got "x", want an address`},
		{"volatile.eth0.hwaddr", "00:00:00:00:00:00", `volatile.eth0.hwaddr: got "00:00:00:00:00:00", want an address`},
		{"volatile.a.b.hwaddr", "10:66:6a:01:02:03", ""},
		{"volatile.eth0.host_name", "a b", `volatile.eth0.host_name: got "a b", want a name`},
		{"volatile.other", "x", `unknown configuration key "volatile.other"`},
		{"limits.memory", "", ""},
		{"limits.memory", "512MiB", ""},
		{"limits.memory", "50%", ""},
		{"limits.memory", "12x", `limits.memory: got "12x", want a size such as "512MiB" or a percentage`},
		{"limits.memory", "0", `limits.memory: got "0", want a size such as "512MiB" or a percentage`},
		{"limits.memory", "0%", `limits.memory: got "0%", want a size such as "512MiB" or a percentage`},
		{"limits.memory", "101%", `limits.memory: got "101%", want a size such as "512MiB" or a percentage`},
		{"limits.memory.enforce", "soft", ""},
		{"limits.memory.enforce", "Hard", `limits.memory.enforce: got "Hard", want hard or soft`},
		{"limits.memory.swap", "false", ""},
		{"limits.memory.swap", "1GiB", ""},
		{"limits.memory.swap", "maybe", `limits.memory.swap: got "maybe", want true, false, or a size such as "512MiB"`},
		{"limits.memory.oom_priority", "-1001", `limits.memory.oom_priority: got "-1001", want a whole number from -1000 to 1000`},
		{"limits.cpu", "2", ""},
		{"limits.cpu", "0-2,5", ""},
		{"limits.cpu", "3-3", ""},
		{"limits.cpu", "0", "limits.cpu: got"},
		{"limits.cpu", "2-1", "limits.cpu: got"},
		{"limits.cpu", "1,", "limits.cpu: got"},
		{"limits.cpu", "-1", "limits.cpu: got"},
		{"limits.cpu", "0-99999", "limits.cpu: got"},
		{"limits.cpu", "1.5", "limits.cpu: got"},
		{"limits.cpu.allowance", "50%", ""},
		{"limits.cpu.allowance", "25ms/100ms", ""},
		{"limits.cpu.allowance", "200ms/100ms", ""},
		{"limits.cpu.allowance", "0ms/100ms", "limits.cpu.allowance: got"},
		{"limits.cpu.allowance", "25ms/1001ms", "limits.cpu.allowance: got"},
		{"limits.cpu.allowance", "25ms", "limits.cpu.allowance: got"},
		{"limits.cpu.allowance", "25/100", "limits.cpu.allowance: got"},
		{"limits.cpu.allowance", "0%", "limits.cpu.allowance: got"},
		{"limits.processes", "100", ""},
		{"limits.processes", "0", `limits.processes: got "0", want a number of processes, at least 1`},
		{"limits.kernel.nofile", "1024:4096", ""},
		{"limits.kernel.nofile", "unlimited", ""},
		{"limits.kernel.nofile", "10:unlimited", ""},
		{"limits.kernel.nofile", "unlimited:10", "limits.kernel.nofile: the soft limit unlimited is above the hard limit 10"},
		{"limits.kernel.nofile", "x", "limits.kernel.nofile: got"},
		{"limits.kernel.nope", "1", `unknown configuration key "limits.kernel.nope", did you mean "limits.kernel.core"?`},
		{"boot.autostart", "yes", ""},
		{"boot.autostart", "2", `boot.autostart: got "2", want true or false`},
		{"boot.autostart.delay", "-1", "boot.autostart.delay: got"},
		{"boot.host_shutdown_action", "stateful-stop", `boot.host_shutdown_action: got "stateful-stop", but it cannot be set: running`},
		{"environment.PATH", "/bin", ""},
		{"environment.A", "a\nb", "environment.A: got"},
		{"environment.A=B", "x", "unknown configuration key"},
		{"linux.sysctl.net.ipv4.ip_forward", "1", ""},
		{"linux.sysctl.a b", "1", "unknown configuration key"},
		{"security.idmap.base", "0", "security.idmap.base: got"},
		{"security.idmap.size", "131072", ""},
		{"raw.idmap", "both 1000 1000\nuid 50-60 500-510", ""},
		{"raw.idmap", "both 1000", `raw.idmap: line 1: got "both 1000", want three words`},
		{"raw.idmap", "both 0 1000", "raw.idmap: line 1: id 0 of the host cannot be given to an instance"},
		{"raw.lxc", "# a comment\nlxc.cap.drop = sys_time\n\n", ""},
		{"raw.lxc", "lxc.net.0.type = veth", `raw.lxc: line 1: "lxc.net.0.type" cannot be set here: add a nic device instead`},
		{"raw.lxc", "a\n", `raw.lxc: line 1: "a" is not a setting`},
		{"snapshots.pattern", "daily-%d", ""},
		{"snapshots.pattern", "{{ creation_date|date:'2006-01-02_15-04' }}", ""},
		{"snapshots.pattern", "{{ creation_date", "snapshots.pattern: "},
		{"snapshots.pattern", "a/b", "snapshots.pattern: "},
		{"snapshots.expiry", "1M 2H 3d 4w 5m 6y", ""},
		{"snapshots.expiry", "1", "snapshots.expiry: got"},
		{"snapshots.expiry", "d", "snapshots.expiry: got"},
	} {
		err := profiles.ValidateOptions(map[string]string{tt.key: tt.value})
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s=%q: %v", tt.key, tt.value, err)
			}
			continue
		}
		if !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s=%q: got %v, want %s", tt.key, tt.value, err, tt.want)
		}
	}
}

// TestRefusals fails if something is refused that the tables have.
func TestRefusals(t *testing.T) {
	options := map[string]map[string]bool{"": {}}
	for _, k := range profiles.Keys() {
		options[""][k.Name] = true
	}
	for _, dt := range profiles.DeviceTypes() {
		options[dt.Name] = map[string]bool{"": true}
		for _, o := range dt.Options {
			options[dt.Name][o.Name] = true
		}
	}
	seen := map[[3]string]bool{}
	for _, r := range profiles.Refusals() {
		id := [3]string{r.Device, r.Name, r.Value}
		if r.Why == "" || seen[id] {
			t.Errorf("%v is there twice, or without a reason", id)
		}
		seen[id] = true
		if r.Value == "" && options[r.Device][r.Name] {
			t.Errorf("%s %s is served and refused", r.Device, r.Name)
		}
	}
}

func TestValidateProfile(t *testing.T) {
	for key, ok := range map[string]bool{"limits.cpu": true, "volatile.uuid": false, "image.os": false} {
		err := profiles.ValidateProfile(profiles.Config{Options: map[string]string{key: "1"}})
		if (err == nil) != ok {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestLive(t *testing.T) {
	for key, want := range map[string]bool{"limits.memory": true, "user.x": true, "security.nesting": false, "unknown": false} {
		if k, _ := profiles.Lookup(key); k.Live != want {
			t.Errorf("%s: got %t", key, k.Live)
		}
	}
}

func TestMetadata(t *testing.T) {
	data, err := json.Marshal(profiles.Metadata())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"boot":{"keys":[{"boot.autorestart":{"type":"bool","defaultdesc":"false","liveupdate":"yes","shortdesc":"Start`,
		`{"path":{"type":"string","required":"yes","shortdesc":"Where the disk is`,
		`"device-nic":{"device-conf":{"keys":[`,
	} {
		if !strings.Contains(string(data), want) {
			t.Errorf("no %s in %s", want, data)
		}
	}
}

func FuzzValidateOptions(f *testing.F) {
	for _, k := range profiles.Keys() {
		f.Add(strings.ReplaceAll(k.Name, "*", "x"), k.Default)
	}
	f.Add("limits.cpu", "0-2,5")
	f.Add("limits.cpu.allowance", "25ms/100ms")
	f.Add("limits.memory", "50%")
	f.Add("raw.idmap", "uid 50-60 500-510")
	f.Add("snapshots.pattern", "{{ creation_date|date:'2006' }}")
	f.Add("snapshots.expiry", "1M 2H")
	host := profiles.Host{Memory: 1 << 40}
	f.Fuzz(func(t *testing.T, key, value string) {
		opts := map[string]string{key: value}
		err := profiles.ValidateOptions(opts)
		s, perr := profiles.Parse(opts, host)
		if (err == nil) != (perr == nil) {
			t.Fatalf("%s=%q: valid: %v, parsed: %v", key, value, err, perr)
		}
		if err != nil && !errs.Is(err, errs.Invalid) {
			t.Fatalf("%s=%q: the user's fault is of another kind: %v", key, value, err)
		}
		l := s.Limits
		if l.Memory < 0 || l.Swap < 0 || l.CPUQuota < 0 || l.CPUShare < 0 || l.CPUShare > 100 || l.CPUCount < 0 {
			t.Fatalf("%s=%q: %+v", key, value, l)
		}
	})
}
