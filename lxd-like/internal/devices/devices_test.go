package devices_test

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/devices"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/testenv"
)

// env is what the tests' devices are planned for: networks br, mac, trunk and whole exist.
func env() devices.Env {
	return devices.Env{
		Instance: "c1", IDs: idmap.Default(1000000, 65536), Volatile: map[string]string{},
		CheckACLs: func(_ context.Context, names []string) error {
			if names[0] == "gone" {
				return errs.NotFoundf("network ACL %q not found", names[0])
			}
			return nil
		},
		Link: func(_ context.Context, network string) (networks.Link, error) {
			switch network {
			case "br":
				return networks.Link{Kind: "bridged", Parent: "br", MTU: 1400}, nil
			case "mac":
				return networks.Link{Kind: "macvlan", Parent: "eth9"}, nil
			case "trunk":
				return networks.Link{Kind: "bridged", Parent: "lan", VLAN: 5, Tagged: []int{6, 7}}, nil
			case "whole":
				return networks.Link{Kind: "physical", Parent: "nowhere0", MTU: 1300}, nil
			}
			return networks.Link{}, errs.NotFoundf("network %q not found", network)
		},
	}
}

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, tt := range map[string]struct {
		dev  profiles.Device
		want runtime.Mount
		err  string
	}{
		"directory": {
			profiles.Device{"type": "disk", "path": "/srv/", "source": dir + "/", "readonly": "true", "recursive": "yes"},
			runtime.Mount{Source: dir, Target: "/srv", ReadOnly: true, Recursive: true},
			"",
		},
		"file, mapped": {
			profiles.Device{"type": "disk", "path": "/f", "source": file, "shift": "true"},
			runtime.Mount{Source: file, Target: "/f", Mapped: true},
			"",
		},
		"socket": {
			profiles.Device{"type": "disk", "path": "/s", "source": dir + "/s"},
			runtime.Mount{Source: dir + "/s", Target: "/s"},
			"",
		},
		"missing and optional": {
			profiles.Device{"type": "disk", "path": "/srv", "source": dir + "/no", "optional": "true"},
			runtime.Mount{Source: dir + "/no", Target: "/srv", Optional: true},
			"",
		},
		"missing and not required": {
			profiles.Device{"type": "disk", "path": "/srv", "source": dir + "/no", "required": "false"},
			runtime.Mount{Source: dir + "/no", Target: "/srv", Optional: true},
			"",
		},
		"missing":      {profiles.Device{"type": "disk", "path": "/srv", "source": dir + "/no"}, runtime.Mount{}, "there is no " + dir + "/no on the host"},
		"below a file": {profiles.Device{"type": "disk", "path": "/srv", "source": file + "/no"}, runtime.Mount{}, "not a directory"},
		"a device":     {profiles.Device{"type": "disk", "path": "/srv", "source": "/dev/null"}, runtime.Mount{}, "/dev/null is no directory, file, socket or block device"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := devices.Make(t.Context(), "d", tt.dev, env())
			if !refused(t, err, tt.err) && !reflect.DeepEqual(got, devices.Plan{Mounts: []runtime.Mount{tt.want}}) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestDiskOfPrivilegedIsNotMapped(t *testing.T) {
	e := env()
	e.IDs = nil
	got, err := devices.Make(t.Context(), "d", profiles.Device{"type": "disk", "path": "/f", "source": "/", "shift": "true"}, e)
	if err != nil || len(got.Mounts) != 1 || got.Mounts[0].Mapped {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRootAndNoneComeToNothing(t *testing.T) {
	for _, dev := range []profiles.Device{{"type": "disk", "path": "/", "pool": "p"}, {"type": "none"}} {
		if got, err := devices.Make(t.Context(), "d", dev, env()); err != nil || !reflect.DeepEqual(got, devices.Plan{}) {
			t.Errorf("%v: got %+v, %v", dev, got, err)
		}
	}
	_, err := devices.Make(t.Context(), "d", profiles.Device{"type": "pci"}, env())
	refused(t, err, `got type "pci"`)
}

func TestNode(t *testing.T) {
	for name, tt := range map[string]struct {
		dev  profiles.Device
		want []runtime.Node
		err  string
	}{
		"by source": {
			profiles.Device{"type": "unix-char", "source": "/dev/null", "path": "/dev/nothing", "uid": "1", "gid": "2", "mode": "0600"},
			[]runtime.Node{{Device: "d", Major: 1, Minor: 3, Path: "/dev/nothing", UID: 1, GID: 2, Mode: 0o600}},
			"",
		},
		"by path": {
			profiles.Device{"type": "unix-char", "path": "/dev/zero"},
			[]runtime.Node{{Device: "d", Major: 1, Minor: 5, Path: "/dev/zero", Mode: 0o660}},
			"",
		},
		"by number": {
			profiles.Device{"type": "unix-block", "path": "/dev/nothing", "major": "7", "minor": "200"},
			[]runtime.Node{{Device: "d", Block: true, Major: 7, Minor: 200, Path: "/dev/nothing", Mode: 0o660}},
			"",
		},
		"missing, not required": {profiles.Device{"type": "unix-char", "source": "/dev/no-such", "required": "false"}, nil, ""},
		"missing":               {profiles.Device{"type": "unix-char", "source": "/dev/no-such"}, nil, "there is no /dev/no-such on the host"},
		"of the other type":     {profiles.Device{"type": "unix-block", "source": "/dev/null"}, nil, "/dev/null is no block device"},
		"a directory":           {profiles.Device{"type": "unix-char", "source": "/dev"}, nil, "/dev is no character device"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := devices.Make(t.Context(), "d", tt.dev, env())
			if !refused(t, err, tt.err) && !reflect.DeepEqual(got.Nodes, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestNICKeepsWhatIsMadeForIt(t *testing.T) {
	e := env()
	e.Devices = map[string]profiles.Device{
		"a": {"type": "nic", "network": "br", "ipv4.address": "10.0.0.2", "ipv6.address": "fd00::2"},
		"b": {"type": "nic", "network": "br", "name": "eth0"},
		"c": {"type": "nic", "network": "br"},
	}
	e.Volatile["volatile.c.name"] = "eth2"
	got, err := devices.Make(t.Context(), "a", e.Devices["a"], e)
	if err != nil {
		t.Fatal(err)
	}
	n := got.NICs[0]
	if n.Name != "eth1" || n.Kind != "bridged" || n.Parent != "br" || n.MTU != 1400 || n.Device != "a" {
		t.Errorf("got %+v", n)
	}
	if !regexp.MustCompile("^10:66:6a(:[0-9a-f]{2}){3}$").MatchString(n.MAC) || !regexp.MustCompile("^veth[0-9a-f]{8}$").MatchString(n.HostName) {
		t.Errorf("got %+v", n)
	}
	want := map[string]string{"volatile.a.name": "eth1", "volatile.a.hwaddr": n.MAC, "volatile.a.host_name": n.HostName}
	if !reflect.DeepEqual(got.Volatile, want) {
		t.Errorf("keeps %v, want %v", got.Volatile, want)
	}
	host := []devices.NetHost{{Network: "br", Host: networks.Host{
		Instance: "c1", MAC: n.MAC, IPv4: netip.MustParseAddr("10.0.0.2"), IPv6: netip.MustParseAddr("fd00::2"),
	}}}
	if !reflect.DeepEqual(got.Hosts, host) {
		t.Errorf("hosts %v, want %v", got.Hosts, host)
	}

	maps.Copy(e.Volatile, got.Volatile)
	again, err := devices.Make(t.Context(), "a", e.Devices["a"], e)
	if err != nil || len(again.Volatile) != 0 || !reflect.DeepEqual(again.NICs, got.NICs) {
		t.Errorf("again: %+v, %v", again, err)
	}
	if known := devices.Hosts("a", e.Devices["a"], "c1", e.Volatile); !reflect.DeepEqual(known, host) {
		t.Errorf("hosts %v, want %v", known, host)
	}
}

func TestNICSaysItself(t *testing.T) {
	dev := profiles.Device{
		"type": "nic", "network": "mac", "name": "up0", "hwaddr": "10:66:6A:00:00:01", "mtu": "9000", "mode": "vepa",
	}
	got, err := devices.Make(t.Context(), "a", dev, env())
	want := runtime.NIC{Device: "a", Kind: "macvlan", Parent: "eth9", Name: "up0", MAC: "10:66:6a:00:00:01", MTU: 9000, Mode: "vepa"}
	if len(got.NICs) == 1 {
		want.Inner = got.NICs[0].Inner
	}
	if err != nil || len(got.Volatile) != 0 || !reflect.DeepEqual(got.NICs, []runtime.NIC{want}) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestNICRefusals(t *testing.T) {
	for name, tt := range map[string]struct {
		dev  profiles.Device
		want string
	}{
		"mode on a bridge":       {profiles.Device{"type": "nic", "network": "br", "mode": "vepa"}, `network "br" makes it a nic of nictype bridged: mode: a nic of nictype bridged does not have it`},
		"host_name on a macvlan": {profiles.Device{"type": "nic", "network": "mac", "host_name": "x"}, `network "mac" makes it a nic of nictype macvlan: host_name: a nic of nictype macvlan does not have it`},
		"no parent":              {profiles.Device{"type": "nic", "nictype": "bridged", "parent": "no-such0"}, `parent: the host has no interface "no-such0"`},
		"no bridge":              {profiles.Device{"type": "nic", "nictype": "bridged", "parent": "lo"}, `parent: the host's interface "lo" is no bridge`},
		"macvlan on lo":          {profiles.Device{"type": "nic", "nictype": "macvlan", "parent": "lo"}, "parent: a nic of nictype macvlan cannot be on the loopback interface"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := devices.Make(t.Context(), "a", tt.dev, env())
			refused(t, err, tt.want)
		})
	}
	_, err := devices.Make(t.Context(), "a", profiles.Device{"type": "nic", "network": "no"}, env())
	if !errs.Is(err, errs.NotFound) {
		t.Errorf("unknown network: %v", err)
	}
}

func TestNICOnInterfacesOfTheHost(t *testing.T) {
	testenv.NetNS(t)
	testenv.Run(t, "ip", "link", "add", "br0", "type", "bridge")
	testenv.Run(t, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	for _, dev := range []profiles.Device{
		{"type": "nic", "nictype": "bridged", "parent": "br0"},
		{"type": "nic", "nictype": "macvlan", "parent": "up0"},
	} {
		got, err := devices.Make(t.Context(), "a", dev, env())
		if err != nil || len(got.NICs) != 1 || got.NICs[0].Parent != dev["parent"] || got.Hosts != nil {
			t.Errorf("%v: got %+v, %v", dev, got, err)
		}
	}
}

func TestRecallOfWhatTheHostLost(t *testing.T) {
	e := env()
	e.Volatile = map[string]string{"volatile.a.name": "eth0", "volatile.a.hwaddr": "10:66:6a:00:00:01", "volatile.a.host_name": "veth1"}
	for name, tt := range map[string]struct {
		dev  profiles.Device
		want devices.Plan
	}{
		"disk": {
			profiles.Device{"type": "disk", "path": "/srv", "source": "/no/such"},
			devices.Plan{Mounts: []runtime.Mount{{Source: "/no/such", Target: "/srv"}}},
		},
		"node": {
			profiles.Device{"type": "unix-char", "path": "/dev/no-such"},
			devices.Plan{Nodes: []runtime.Node{{Device: "a", Path: "/dev/no-such", Mode: 0o660}}},
		},
		"nic": {
			profiles.Device{"type": "nic", "network": "gone"},
			devices.Plan{
				NICs:  []runtime.NIC{{Device: "a", Name: "eth0", MAC: "10:66:6a:00:00:01", HostName: "veth1"}},
				Hosts: []devices.NetHost{{Network: "gone", Host: networks.Host{Instance: "c1", MAC: "10:66:6a:00:00:01"}}},
			},
		},
		"nothing": {profiles.Device{"type": "pci"}, devices.Plan{}},
		"what is there": {
			profiles.Device{"type": "unix-char", "path": "/dev/null"},
			devices.Plan{Nodes: []runtime.Node{{Device: "a", Major: 1, Minor: 3, Path: "/dev/null", Mode: 0o660}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := devices.Recall(t.Context(), "a", tt.dev, e)
			for i := range got.NICs {
				got.NICs[i].Inner = ""
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// refused checks that err is the user's fault and says want, or is nil if
// want is empty; it returns whether there is an error.
func refused(t *testing.T, err error, want string) bool {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Error(err)
	case want != "" && (!errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want)):
		t.Errorf("got %v, want %s", err, want)
	}
	return err != nil
}
