package tests

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/profiles"
)

// goodDevices are devices of each type that this host can have, to which one
// option more is given. A type can need several: not all options go together.
var goodDevices = map[string][]profiles.Device{
	"disk": {
		{"source": "/usr", "path": "/mnt/d"},
		{"source": "tmpfs:", "path": "/mnt/d"},
		{"pool": "default", "source": "v", "path": "/mnt/d"},
		{"pool": "default", "path": "/"},
	},
	"gpu": {{}},
	"nic": {
		{"nictype": "bridged", "parent": "br9"},
		{"nictype": "routed", "parent": "br9"},
		{"nictype": "routed", "parent": "br9", "vlan": "7"},
		{"nictype": "routed", "ipv4.address": "10.99.1.2"},
		{"nictype": "routed", "ipv6.address": "fd42:99::2"},
		{"nictype": "macvlan", "parent": "br9"},
		{"nictype": "ipvlan", "parent": "br9"},
		{"nictype": "p2p"},
		{"nictype": "host"},
		{"network": "cuibbr0"},
	},
	"none": {{}},
	"proxy": {
		{"listen": "tcp:127.0.0.1:7", "connect": "tcp:127.0.0.1:7"},
		{"listen": "unix:/run/cuib-test.sock", "connect": "tcp:127.0.0.1:7"},
	},
	"tpm":          {{"path": "/dev/tpm0", "pathrm": "/dev/tpmrm0"}},
	"unix-block":   {{"source": "/dev/loop0", "required": "false"}, {"source": "/dev/loop0"}, {"path": "/dev/x", "major": "7", "minor": "0"}},
	"unix-char":    {{"source": "/dev/null"}, {"path": "/dev/x", "major": "1", "minor": "3"}},
	"unix-hotplug": {{"subsystem": "tty"}, {"vendorid": "1234"}},
	"usb":          {{}},
}

// goodOptions are values of options for which none of goodValues is right.
var goodOptions = map[string]string{
	"disk path": "/srv/d", "disk source": "/etc", "disk source.snapshot": "s0", "disk source.type": "custom",
	"disk initial.*": "", "disk initial.zfs.delegate": "", "disk initial.mode": "0700", "disk pool": "other", "disk propagation": "slave",
	"disk raw.mount.options": "noexec,nodev",
	"gpu gputype":            "physical", "gpu id": "0", "gpu mode": "0600", "gpu productid": "12ab", "gpu vendorid": "12ab", "nic mode": "bridge", "nic parent": "br8", "nic network": "net2", "nic nictype": "macvlan",
	"nic ipv4.address": "10.99.1.3", "nic ipv6.address": "fd42:99::3", "nic ipv4.gateway": "none", "nic ipv6.gateway": "none",
	"nic ipv4.host_address": "169.254.0.2", "nic ipv6.host_address": "fe80::2",
	"nic ipv4.routes": "10.98.0.0/24", "nic ipv6.routes": "fd42:98::/64", "nic ipv4.routes.external": "10.98.0.0/24",
	"nic ipv6.routes.external": "fd42:98::/64", "nic limits.egress": "1Mbit", "nic limits.ingress": "1Mbit", "nic limits.max": "1Mbit",
	"nic cni.config": "", "nic cni.ports": "", "nic vrf": "", "nic mtu": "1400",
	"nic security.acls": "web", "nic security.acls.default.egress.action": "drop", "nic security.acls.default.ingress.action": "drop",
	"proxy listen": "tcp:127.0.0.1:8", "proxy connect": "tcp:127.0.0.1:8", "proxy bind": "instance", "proxy mode": "0600", "proxy expose": "",
	"tpm path": "/dev/tpm1", "tpm pathrm": "/dev/tpmrm1",
	"unix-char source": "/dev/zero", "unix-char path": "/dev/x", "unix-block source": "/dev/loop1", "unix-block path": "/dev/x",
	"unix-char major": "2", "unix-char minor": "4", "unix-char mode": "0600", "unix-block major": "8", "unix-block minor": "1",
	"unix-block mode": "0600", "unix-hotplug mode": "0600", "unix-hotplug productid": "12ab", "unix-hotplug vendorid": "12ab",
	"usb mode": "0600", "usb productid": "12ab", "usb vendorid": "12ab", "usb required": "false",
	"unix-hotplug pci": "0000:01:00.0", "unix-hotplug subsystem": "net", "gpu pci": "0000:01:00.0",
}

// baseOf are the devices of options that go with one only.
var baseOf = map[string]profiles.Device{
	"disk pool":   {"pool": "default", "source": "v", "path": "/mnt/d"},
	"nic network": {"network": "cuibbr0"},
	"nic nictype": {"nictype": "bridged", "parent": "br9"},
	"nic parent":  {"nictype": "bridged", "parent": "br9"},

	"nic security.acls":                       {"network": "cuibbr0"},
	"nic security.acls.default.egress.action": {"network": "cuibbr0", "security.acls": "web"},
}

// withOption returns a device of a type that is good without the option, or
// with another value of it, and a value with which it is good too.
func withOption(kind string, o profiles.Option) (dev profiles.Device, value string) {
	values := goodValues
	if v, ok := goodOptions[kind+" "+o.Name]; ok {
		values = []string{v}
	}
	bases := slices.Clone(goodDevices[kind])
	slices.SortStableFunc(bases, func(a, b profiles.Device) int { return strings.Compare(a[o.Name], b[o.Name]) }) // Those without first.
	if base := baseOf[kind+" "+o.Name]; base != nil {
		bases = []profiles.Device{base}
	}
	for _, base := range bases {
		dev := maps.Clone(base)
		dev["type"] = kind
		for _, v := range values {
			with := maps.Clone(dev)
			with[o.Name] = v
			if v != "" && v != dev[o.Name] && (v != o.Default || len(values) == 1) && profiles.ValidateDevices(map[string]profiles.Device{"d1": with}) == nil {
				return dev, v
			}
		}
	}
	return nil, ""
}

// setOption has clients set, show and unset an option.
const setOption = `
	$1 config device set c3 d1 $(test "$1" = lxc && echo "$KEY" "$VALUE" || echo "$KEY=$VALUE")
	test "$($2 config device get c3 d1 "$KEY")" = "$VALUE"
	$1 config device show c3 | grep -qF "  $KEY: "
	$2 config show c3 | grep -qF "    $KEY: "
	if test -z "$NEEDED"; then
		$2 config device unset c3 d1 "$KEY"
		test -z "$($1 config device get c3 d1 "$KEY")"
	else
		! $2 config device unset c3 d1 "$KEY" 2>err
		grep -qF "$KEY" err
	fi`

// lacks are words for what a host can lack that a type of device is about.
var lacks = map[string]string{"gpu": "the host has no graphics card", "tpm": "a TPM needs"}

// TestClientsSetEachOption has the peers' clients set, show and unset each
// option of each type of device, as the tables have them.
func TestClientsSetEachOption(t *testing.T) {
	t.Parallel()
	h := startTiny(t)
	for _, args := range [][]string{
		{"lxc", "init", "tiny", "c3"},
		{"lxc", "profile", "device", "remove", "default", "eth0"}, // A nic of nictype host is the only one.
		{"lxc", "storage", "volume", "create", "default", "v"},
		{"lxc", "storage", "create", "other", "dir"},
		{"lxc", "storage", "volume", "create", "other", "v"},
		{"lxc", "storage", "volume", "snapshot", "default", "v", "s0"},
		{"ip", "-n", h.ns, "link", "add", "br8", "up", "type", "bridge"},
		{"ip", "-n", h.ns, "link", "add", "br9", "up", "type", "bridge"},
		{"lxc", "network", "create", "net2"},
		{"incus", "network", "acl", "create", "web"},
	} {
		if _, err := h.user(args...); err != nil {
			t.Fatal(err)
		}
	}
	api, count, dir := newAPI(h.socket()), 0, t.TempDir()
	for _, d := range profiles.DeviceTypes() {
		for _, o := range append(d.Options, userOption) {
			dev, value := withOption(d.Name, o)
			switch {
			case goodOptions[d.Name+" "+o.Name] == "" && isListed(d.Name+" "+o.Name):
				continue // Others test it, where there is what it is about.
			case dev == nil:
				t.Errorf("no good value of %s %s is among those that the test has: it is %s", d.Name, o.Name, o.Allowed)
				continue
			}
			change := map[string]any{"devices": map[string]any{"d1": dev}}
			err := api.call(http.MethodPatch, "/1.0/instances/c3", change, nil)
			if lack := lacks[d.Name]; err != nil && lack != "" && strings.Contains(err.Error(), lack) {
				t.Logf("%s %s is refused here: %v", d.Name, o.Name, err)
				continue
			}
			if err != nil {
				t.Errorf("%s %s: %v: %v", d.Name, o.Name, dev, err)
				continue
			}
			order := []string{"lxc incus", "incus lxc"}[count%2]
			count++
			_, err = h.user("env", "KEY="+o.Name, "VALUE="+value, "NEEDED="+dev[o.Name], "sh", "-ec", "cd "+dir+"; set -- "+order+"\n"+setOption)
			if err != nil {
				t.Errorf("%s %s=%s of %v: %v", d.Name, o.Name, value, dev, err)
			}
		}
	}
	t.Logf("%d options were set", count)
}

func isListed(option string) bool {
	_, ok := goodOptions[option]
	return ok
}

// TestClientsHearWhy has the peers' clients ask for what no instance can have.
func TestClientsHearWhy(t *testing.T) {
	t.Parallel()
	h := startTiny(t)
	count := 0
	for _, r := range profiles.Refusals() {
		if r.Device == "" && strings.HasPrefix(r.Name, "volatile.") {
			continue
		}
		client := []string{"lxc", "incus"}[count%2]
		count++
		name, value := strings.ReplaceAll(r.Name, "*", "x"), "x"
		if r.Value != "" {
			value = strings.ReplaceAll(r.Value, "*", "x")
		}
		args := []string{client, "config", "set", "c1", fmt.Sprintf("%s=%s", name, value)}
		if r.Device != "" {
			if name == "" {
				name = "x"
			}
			args = []string{client, "config", "device", "add", "c1", "d1", r.Device, fmt.Sprintf("%s=%s", name, value)}
		}
		if out, err := h.user(args...); err == nil || !strings.Contains(err.Error(), r.Why) {
			t.Errorf("%v: %s, %v; want %q", args, out, err, r.Why)
		}
	}
	if out, err := h.user("lxc", "config", "device", "list", "c1"); err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("the instance has devices %q, %v", out, err)
	}
}
