package devices_test

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/devices"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/errs"
)

func TestDiff(t *testing.T) {
	mount := func(source, target string) devices.Plan {
		return devices.Plan{Mounts: []runtime.Mount{{Source: source, Target: target}}}
	}
	nic := func(mac, ip string) devices.Plan {
		h := networks.Host{Instance: "c1", MAC: mac}
		if ip != "" {
			h.IPv4 = netip.MustParseAddr(ip)
		}
		return devices.Plan{NICs: []runtime.NIC{{Name: "eth0", MAC: mac}}, Hosts: []devices.NetHost{{Network: "n", Host: h}}}
	}
	char := devices.Plan{Nodes: []runtime.Node{{Path: "/a/b/null"}}}
	shared := devices.Plan{NICs: []runtime.NIC{{Device: "n", Kind: "host"}}}
	const decided = `device "n": whether an instance is in the host's network (nictype host) cannot change while it runs: stop it first`
	type plans = map[string]devices.Plan
	for name, tt := range map[string]struct {
		have, want plans
		changes    devices.Changes
		err        string
	}{
		"nothing":     {plans{"a": mount("/1", "/a"), "n": nic("1", "")}, plans{"a": mount("/1", "/a"), "n": nic("1", "")}, devices.Changes{}, ""},
		"add, remove": {plans{"a": mount("/1", "/a")}, plans{"n": nic("1", "")}, devices.Changes{Remove: []string{"a"}, Add: []string{"n"}}, ""},
		"change":      {plans{"a": mount("/1", "/a")}, plans{"a": mount("/2", "/a")}, devices.Changes{Remove: []string{"a"}, Add: []string{"a"}}, ""},
		"mac":         {plans{"n": nic("1", "")}, plans{"n": nic("2", "")}, devices.Changes{Remove: []string{"n"}, Add: []string{"n"}}, ""},
		"address":     {plans{"n": nic("1", "")}, plans{"n": nic("1", "10.0.0.1")}, devices.Changes{Hosts: []string{"n"}}, ""},
		"what is below comes last and goes first": {
			plans{"x": mount("/1", "/a"), "b": mount("/1", "/a/b"), "c": char},
			plans{"z": mount("/1", "/c"), "y": mount("/1", "/c/d")},
			devices.Changes{Remove: []string{"c", "b", "x"}, Add: []string{"z", "y"}},
			"",
		},
		"above what stays": {
			plans{"x": mount("/1", "/a"), "b": mount("/1", "/a/b")},
			plans{"b": mount("/1", "/a/b")},
			devices.Changes{},
			`device "x": /a cannot change while the instance runs, as /a/b of device "b" is below it`,
		},
		"over what stays": {
			plans{"c": char},
			plans{"c": char, "x": mount("/1", "/a")},
			devices.Changes{},
			`device "x": /a cannot change while the instance runs, as /a/b/null of device "c" is below it`,
		},
		"beside what stays": {
			plans{"b": mount("/1", "/ab")},
			plans{"b": mount("/1", "/ab"), "a": mount("/1", "/a")},
			devices.Changes{Add: []string{"a"}},
			"",
		},
		"below what stays": {
			plans{"a": mount("/1", "/a")},
			plans{"a": mount("/1", "/a"), "b": mount("/1", "/a/b")},
			devices.Changes{Add: []string{"b"}},
			"",
		},
		"the host's network stays":  {plans{"n": shared, "a": mount("/1", "/a")}, plans{"n": shared}, devices.Changes{Remove: []string{"a"}}, ""},
		"to the host's network":     {plans{"n": nic("1", "")}, plans{"n": shared}, devices.Changes{}, decided},
		"from the host's network":   {plans{"n": shared}, plans{"n": nic("1", "")}, devices.Changes{}, decided},
		"into the host's network":   {plans{}, plans{"n": shared}, devices.Changes{}, decided},
		"out of the host's network": {plans{"n": shared}, plans{}, devices.Changes{}, decided},
		"volatile options": {
			plans{"n": nic("1", "")},
			plans{"n": func() devices.Plan { p := nic("1", ""); p.Volatile = map[string]string{"x": "y"}; return p }()},
			devices.Changes{},
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := devices.Diff(tt.have, tt.want)
			if tt.err != "" {
				if !errs.Is(err, errs.Conflict) || err.Error() != tt.err {
					t.Fatalf("got %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.changes) {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.changes)
			}
		})
	}
}
