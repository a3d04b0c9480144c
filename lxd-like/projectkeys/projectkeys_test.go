package projectkeys_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/projectkeys"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

func TestNormal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ key, value, want, wrong string }{
		{"features.images", "1", "true", ""},
		{"features.networks", "Off", "false", ""},
		{"features.profiles", "maybe", "", `features.profiles: got "maybe", want true or false`},
		{"restricted", "yes", "true", ""},
		{"limits.instances", "0", "0", ""},
		{"limits.instances", "-1", "", `limits.instances: got "-1", want a whole number, 0 or more`},
		{"limits.instances", "2GiB", "", "limits.instances: got"},
		{"limits.memory", "2GiB", "2GiB", ""},
		{"limits.memory", "50%", "", `limits.memory: got "50%", want a size such as "10GiB"`},
		{"limits.disk.pool.tank", "0", "0", ""},
		{"limits.disk.pool.", "0", "", "unknown project configuration key"},
		{"limits.memroy", "1", "", `unknown project configuration key "limits.memroy", did you mean "limits.memory"?`},
		{"limits.virtual-machines", "3", "3", ""},
		{"limits.networks.uplink_ips.ipv4.UP", "3", "3", ""},
		{"restricted.containers.privilege", "isolated", "isolated", ""},
		{"restricted.containers.privilege", "block", "", `got "block", want unprivileged, isolated or allow`},
		{"restricted.devices.disk", "yes", "", "want block, managed or allow"},
		{"restricted.devices.disk.paths", "/srv, /home/a", "/srv, /home/a", ""},
		{"restricted.devices.disk.paths", "srv", "", "want clean absolute paths"},
		{"restricted.devices.disk.paths", "/srv/../etc", "", "want clean absolute paths"},
		{"restricted.idmap.uid", "1000,2000-2999", "1000,2000-2999", ""},
		{"restricted.idmap.uid", "2-1", "", "restricted.idmap.uid: got"},
		{"restricted.cluster.target", "allow", "allow", ""},
		{"backups.compression_algorithm", "zstd -19", "zstd -19", ""},
		{"backups.compression_algorithm", "zip", "", "backups.compression_algorithm"},
		{"images.compression_algorithm", "lz4", "", "want none, gzip, zstd, xz or bzip2"},
		{"images.auto_update_cached", "0", "false", ""},
		{"images.auto_update_cached", "true", "", `images.auto_update_cached: got "true", but it cannot be set: images are not`},
		{"images.auto_update_interval", "0", "0", ""},
		{"images.auto_update_interval", "6", "", "but it cannot be set"},
		{"images.default_architecture", "vax", "", "images.default_architecture: got"},
		{"replica.cluster", "a", "", "but it cannot be set: a host works alone"},
		{"network.hwaddr_pattern", "02:00:5E:xx:XX:xx", "02:00:5E:xx:XX:xx", ""},
		{"network.hwaddr_pattern", "01:00:5e:xx:xx:xx", "", "addresses of groups"},
		{"network.hwaddr_pattern", "02:00:5e:01:02:xx", "", "at least four"},
		{"network.hwaddr_pattern", "02:00:5e:xx:xx", "", "network.hwaddr_pattern: got"},
		{"user.a", "b\nc", "b\nc", ""},
		{"user.", "b", "", "unknown"},
	} {
		got, err := projectkeys.Normal(map[string]string{tt.key: tt.value})
		switch {
		case tt.wrong == "" && err != nil:
			t.Errorf("%s=%s: %v", tt.key, tt.value, err)
		case tt.wrong == "" && got[tt.key] != tt.want:
			t.Errorf("%s=%s: kept as %q, want %q", tt.key, tt.value, got[tt.key], tt.want)
		case tt.wrong != "" && (!errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.wrong)):
			t.Errorf("%s=%s: got %v, want …%s…", tt.key, tt.value, err, tt.wrong)
		}
	}
	if got, err := projectkeys.Normal(map[string]string{"user.a": "", "limits.cpu": ""}); err != nil || len(got) != 0 {
		t.Errorf("keys without values: %v, %v", got, err)
	}
}

// TestDefaults has each key's default be a value that it can have.
func TestDefaults(t *testing.T) {
	t.Parallel()
	for _, k := range projectkeys.Keys() {
		if k.Default == "" || strings.Contains(k.Default, "'s") {
			continue
		}
		if _, err := projectkeys.Normal(map[string]string{k.Name: k.Default}); err != nil {
			t.Errorf("%s: %v", k.Name, err)
		}
		if k.Doc == "" || k.Allowed == "" {
			t.Errorf("%s is not described", k.Name)
		}
	}
	if projectkeys.NewRules(map[string]string{"user.a": "b", "restricted.snapshots": "allow"}) != nil {
		t.Error("a project has rules that limits and restricts nothing")
	}
}

// TestOptions has each restriction refuse what it is about, and allow it.
func TestOptions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		option, value, key string // key is empty for what is always allowed.
		allowed            string // What key allows it with.
	}{
		{"security.nesting", "true", "restricted.containers.nesting", "allow"},
		{"security.nesting", "0", "", ""},
		{"security.privileged", "yes", "restricted.containers.privilege", "allow"},
		{"security.idmap.isolated", "false", "", ""},
		{"raw.lxc", "lxc.cap.drop =", "restricted.containers.lowlevel", "allow"},
		{"raw.apparmor", "x", "restricted.containers.lowlevel", "allow"},
		{"raw.seccomp", "2", "restricted.containers.lowlevel", "allow"},
		{"raw.idmap", "both 1000 1000", "restricted.containers.lowlevel", "allow"},
		{"raw.idmap", "uid 1000 1000", "restricted.idmap.uid", "900-1000"},
		{"raw.idmap", "uid 1000-1001 1000-1001", "restricted.idmap.uid", "0,1000-1001"},
		{"linux.kernel_modules", "kvm", "restricted.containers.lowlevel", "allow"},
		{"limits.memory.swap", "1GiB", "restricted.containers.lowlevel", "allow"},
		{"boot.host_shutdown_timeout", "9", "restricted.containers.lowlevel", "allow"},
		{"boot.wait_for", "path:/etc/secret", "restricted.containers.lowlevel", "allow"},
		{"security.idmap.base", "1000", "restricted.containers.lowlevel", "allow"},
		{"security.syscalls.deny_default", "false", "restricted.containers.lowlevel", "allow"},
		{"security.syscalls.deny_default", "true", "", ""},
		{"security.syscalls.allow", "[all]", "restricted.containers.lowlevel", "allow"},
		{"security.syscalls.whitelist", "[all]", "restricted.containers.lowlevel", "allow"},
		{"security.delegate_bpf", "true", "restricted.containers.lowlevel", "allow"},
		{"security.delegate_bpf.map_types", "any", "restricted.containers.lowlevel", "allow"},
		{"security.bpffs.path", "/x", "restricted.containers.lowlevel", "allow"},
		{"security.guestapi.images", "true", "restricted.containers.lowlevel", "allow"},
		{"security.syscalls.intercept.mknod", "true", "restricted.containers.interception", "allow"},
		{"security.syscalls.intercept.mount.fuse", "ext4=fuse2fs", "restricted.containers.interception", "allow"},
		{"security.syscalls.intercept.mount.allowed", "ext4", "restricted.containers.interception", "full"},
		{"security.syscalls.intercept.sched_setscheduler", "true", "restricted.containers.interception", "full"},
		{"backups.repository", "r", "restricted.backups", "allow"},
		{"limits.memory", "1GiB", "", ""},
		{"environment.A", "b", "", ""},
		{"user.x", "y", "", ""},
	} {
		check(t, tt.option+"="+tt.value, profiles.Config{Options: map[string]string{tt.option: tt.value}}, tt.key, tt.allowed)
	}
	// What is safe is not all.
	rules := projectkeys.NewRules(map[string]string{"restricted": "true", "restricted.containers.interception": "allow", "restricted.containers.privilege": "isolated"})
	for _, option := range []string{"security.syscalls.intercept.mount.allowed", "security.syscalls.intercept.mount.shift", "security.privileged"} {
		if err := rules.CheckConfig(profiles.Config{Options: map[string]string{option: "true"}}); !errs.Is(err, errs.Denied) {
			t.Errorf("%s: %v", option, err)
		}
	}
	if err := rules.CheckConfig(profiles.Config{Options: map[string]string{"security.idmap.isolated": "no"}}); !errs.Is(err, errs.Denied) {
		t.Errorf("not isolated: %v", err)
	}
}

// check has a configuration be refused by a key, and allowed when it says so.
func check(t *testing.T, what string, c profiles.Config, key, allowed string) {
	t.Helper()
	config := map[string]string{"restricted": "true"}
	err := projectkeys.NewRules(config).CheckConfig(c)
	if key == "" {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return
	}
	// raw.idmap is refused by another key until there are ids.
	if !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), key+"=") && !strings.HasPrefix(key, "restricted.idmap") {
		t.Errorf("%s: got %v, want an error of %s", what, err, key)
	}
	config = maps.Clone(config)
	config[key] = allowed
	if err := projectkeys.NewRules(config).CheckConfig(c); err != nil {
		t.Errorf("%s with %s=%s: %v", what, key, allowed, err)
	}
	config["restricted"] = "false"
	delete(config, key)
	if projectkeys.NewRules(config) != nil {
		t.Errorf("%s: there are rules without restricted", what)
	}
}

func TestDevices(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		dev          string // Options with spaces between them.
		key, allowed string
	}{
		{"type=disk path=/ pool=tank", "", ""},
		{"type=disk path=/data pool=tank source=v", "", ""},
		{"type=disk path=/run/x source=tmpfs:", "", ""},
		{"type=disk path=/srv source=/srv", "restricted.devices.disk", "allow"},
		{"type=nic network=lan", "", ""},
		{"type=nic nictype=bridged parent=br0", "restricted.devices.nic", "allow"},
		{"type=nic nictype=macvlan parent=eth0", "restricted.devices.nic", "allow"},
		{"type=proxy listen=tcp:0.0.0.0:80 connect=tcp:127.0.0.1:80", "restricted.devices.proxy", "allow"},
		{"type=gpu", "restricted.devices.gpu", "allow"},
		{"type=usb", "restricted.devices.usb", "allow"},
		{"type=unix-char path=/dev/x", "restricted.devices.unix-char", "allow"},
		{"type=unix-block path=/dev/x", "restricted.devices.unix-block", "allow"},
		{"type=unix-hotplug", "restricted.devices.unix-hotplug", "allow"},
		{"type=tpm path=/dev/tpm0", "", ""},
		{"type=none", "", ""},
	} {
		check(t, tt.dev, profiles.Config{Devices: map[string]profiles.Device{"d": device(tt.dev)}}, tt.key, tt.allowed)
	}
}

func device(text string) profiles.Device {
	d := profiles.Device{}
	for word := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(word, "=")
		d[key] = value
	}
	return d
}

// TestDevicesMore has what needs more than one key.
func TestDevicesMore(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ dev, config, wrong string }{
		{"type=disk path=/ pool=tank", "restricted.devices.disk=block restricted.devices.nic=block", ""},
		{"type=disk path=/d pool=tank source=v", "restricted.devices.disk=block", "restricted.devices.disk=block"},
		{"type=nic network=lan", "restricted.devices.nic=block", "restricted.devices.nic=block"},
		{"type=nic network=lan", "restricted.networks.access=lan,wan", ""},
		{"type=nic network=dmz", "restricted.networks.access=lan,wan", "restricted.networks.access=lan,wan"},
		{"type=nic network=p%own", "restricted.networks.access=lan", ""},
		{"type=nic nictype=bridged parent=dmz", "restricted.devices.nic=allow restricted.networks.access=lan", "restricted.networks.access=lan"},
		{"type=nic nictype=host", "restricted.devices.nic=allow", "restricted.containers.lowlevel=block"},
		{"type=nic nictype=host", "restricted.devices.nic=allow restricted.containers.lowlevel=allow", ""},
		{"type=disk path=/d source=/srv/a", "restricted.devices.disk=allow restricted.devices.disk.paths=/srv", ""},
		{"type=disk path=/d source=/srv", "restricted.devices.disk=allow restricted.devices.disk.paths=/home,/srv/", ""},
		{"type=disk path=/d source=/srvx", "restricted.devices.disk=allow restricted.devices.disk.paths=/srv", "restricted.devices.disk.paths=/srv"},
		{"type=disk path=/d source=/srv/../etc", "restricted.devices.disk=allow restricted.devices.disk.paths=/srv", "restricted.devices.disk.paths=/srv"},
		{"type=disk path=/d source=/etc", "restricted.devices.disk=allow restricted.devices.disk.paths=/", ""},
		{"type=disk path=/ pool=tank", "restricted.storage-pools.access=other", `storage pool "tank" not found`},
		{"type=disk path=/ pool=tank", "limits.disk.pool.tank=0", `storage pool "tank" not found`},
		{"type=disk path=/ pool=tank", "limits.disk.pool.tank=1", ""},
	} {
		config := device(tt.config)
		config["restricted"] = "true"
		err := projectkeys.NewRules(config).CheckConfig(profiles.Config{Devices: map[string]profiles.Device{"d": device(tt.dev)}})
		if tt.wrong == "" && err != nil || tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong)) {
			t.Errorf("%s with %s: got %v, want %q", tt.dev, tt.config, err, tt.wrong)
		}
	}
}

func TestSees(t *testing.T) {
	t.Parallel()
	rules := func(config string) *projectkeys.Rules {
		c := device(config)
		c["restricted"] = "true"
		return projectkeys.NewRules(c)
	}
	for _, tt := range []struct {
		config, network string
		managed, want   bool
	}{
		{"", "lan", true, true},
		{"", "eth0", false, false},
		{"restricted.devices.nic=allow", "eth0", false, true},
		{"restricted.devices.nic=block", "lan", true, false},
		{"restricted.devices.nic=block", "p%lan", true, true},
		{"restricted.networks.access=lan", "wan", true, false},
		{"restricted.networks.access=lan", "lan", true, true},
	} {
		if got := rules(tt.config).SeesNetwork(tt.network, tt.managed); got != tt.want {
			t.Errorf("%s: %s is seen: %v, want %v", tt.config, tt.network, got, tt.want)
		}
	}
	var none *projectkeys.Rules
	if !none.SeesNetwork("eth0", false) || !none.SeesPool("tank") || none.CheckServer("h") != nil || none.CheckZone("z") != nil || none.CheckSnapshots() != nil || none.CheckBackups() != nil || none.DiskPaths() != nil {
		t.Error("a project without rules is refused something")
	}
	r := rules("restricted.images.servers=images.example restricted.networks.zones=example.net,in-addr.arpa")
	if r.CheckServer("images.example") != nil || r.CheckServer("example") == nil {
		t.Error("servers of images are not those of the list")
	}
	for zone, ok := range map[string]bool{"example.net": true, "p.example.net": true, "xexample.net": false, "example.org": false, "2.0.192.in-addr.arpa": true} {
		if got := r.CheckZone(zone) == nil; got != ok {
			t.Errorf("zone %s: %v, want %v", zone, got, ok)
		}
	}
	if rules("").CheckZone("example.net") == nil {
		t.Error("a zone can be had where none is named")
	}
}

func TestUse(t *testing.T) {
	t.Parallel()
	use := projectkeys.Use{"limits.disk": 1 << 62}
	use.Add(projectkeys.Use{"limits.disk": 1 << 62})
	use.Add(projectkeys.Use{"limits.disk": 1 << 62})
	if err := projectkeys.NewRules(map[string]string{"limits.disk": "1EiB"}).CheckUse(use); !errs.Is(err, errs.Denied) {
		t.Errorf("a sum that is too large is no more than the limit: %v", err)
	}
}
