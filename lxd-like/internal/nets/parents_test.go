package nets_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

func prefix(v string) netip.Prefix { return netip.MustParsePrefix(v) }

// post asks for a network of a type with keys: name, value and so on.
func post(name, typ string, keys ...string) api.NetworksPost {
	req := api.NetworksPost{Name: name, Type: typ, NetworkPut: api.NetworkPut{Config: api.ConfigMap{}}}
	if typ == "bridge" {
		req.Config = api.ConfigMap{"ipv4.address": "none", "ipv6.address": "none"}
	}
	for i := 0; i < len(keys); i += 2 {
		req.Config[keys[i]] = keys[i+1]
	}
	return req
}

// onInterfaces is a host with interfaces, and networks on some.
func onInterfaces(t *testing.T) env {
	t.Helper()
	e := newEnv(t)
	e.kernel.links = []host.Link{
		{Name: "eth0", Kind: "physical", Addresses: []netip.Prefix{prefix("fe80::1/64"), prefix("192.0.2.1/24")}},
		{Name: "eth1", Kind: "physical", Addresses: []netip.Prefix{prefix("fe80::2/64")}},
		{Name: "eth2", Kind: "physical", Master: "bond0"},
		{Name: "eth3", Kind: "physical"},
		{Name: "eth4", Kind: "physical"},
		{Name: "eth5", Kind: "physical"},
		{Name: "eth6", Kind: "physical"},
		{Name: "lan", Kind: "bridge", Addresses: []netip.Prefix{prefix("10.0.0.1/24")}},
	}
	for _, req := range []api.NetworksPost{
		post("whole", "physical", "parent", "eth3"), post("tagged", "physical", "parent", "eth4", "vlan", "7"),
		post("shared", "macvlan", "parent", "eth5"), post("joined", "bridge", "bridge.external_interfaces", "eth6"),
		post("onlan", "physical", "parent", "lan"), post("onhost", "physical", "parent", "eth0", "vlan", "9"),
	} {
		must(t, e.Create(t.Context(), req))
	}
	e.instance(t, "c1", map[string]string{"network": "", "nictype": "macvlan", "parent": "eth1"})
	return e
}

func TestInterfacesOfTheHost(t *testing.T) {
	e := onInterfaces(t)
	before := e.picture(t)
	tests := map[string]struct {
		req  api.NetworksPost
		kind errs.Kind // Internal for none.
		want string
	}{
		"absent":                {post("x1", "physical", "parent", "eth9"), errs.Invalid, `"parent": the host has no interface "eth9"`},
		"absent port":           {post("x1", "bridge", "bridge.external_interfaces", "eth9"), errs.Invalid, `"bridge.external_interfaces": the host has no interface "eth9"`},
		"absent parent of VLAN": {post("x1", "bridge", "bridge.external_interfaces", "v9/eth9/9"), errs.Invalid, `no interface "eth9"`},
		"with an address":       {post("x1", "physical", "parent", "eth0"), errs.Conflict, "192.0.2.1/24"},
		"port with an address":  {post("x1", "bridge", "bridge.external_interfaces", "eth0"), errs.Conflict, "192.0.2.1/24"},
		"a part of another":     {post("x1", "physical", "parent", "eth2"), errs.Conflict, "bond0"},
		"another network's":     {post("x1", "physical", "parent", "eth3"), errs.Conflict, `network "whole"`},
		"macvlan on another's":  {post("x1", "macvlan", "parent", "eth3"), errs.Conflict, `network "whole"`},
		"of the same VLAN":      {post("x1", "physical", "parent", "eth4", "vlan", "7"), errs.Conflict, `network "tagged"`},
		"port of the same VLAN": {post("x1", "bridge", "bridge.external_interfaces", "v7/eth4/7"), errs.Conflict, `network "tagged"`},
		"shared already":        {post("x1", "physical", "parent", "eth5"), errs.Conflict, `network "shared"`},
		"a port already":        {post("x1", "bridge", "bridge.external_interfaces", "eth6"), errs.Conflict, `network "joined"`},
		"an instance's":         {post("x1", "physical", "parent", "eth1"), errs.Conflict, `instance "c1"`},
		"vlan in words":         {post("x1", "physical", "parent", "eth4", "vlan", "seven"), errs.Invalid, "want a number from 1 to 4094"},
		"gvrp without VLAN":     {post("x1", "macvlan", "parent", "eth5", "gvrp", "true"), errs.Invalid, "needs vlan"},
		"for OVN":               {post("x1", "physical", "parent", "eth4", "ipv4.gateway", "10.0.0.1/24"), errs.Invalid, "OVN"},
		"sriov":                 {post("x1", "sriov", "parent", "eth4"), errs.Invalid, "SR-IOV"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := e.Create(t.Context(), tt.req)
			if !errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
			if got := e.picture(t); got != before {
				t.Errorf("it left something:\n%s", got)
			}
		})
	}
	for name, req := range map[string]api.NetworksPost{
		"another VLAN":        post("y1", "physical", "parent", "eth4", "vlan", "8"),
		"one more macvlan":    post("y2", "macvlan", "parent", "eth5", "vlan", "8"),
		"the same one":        post("y3", "macvlan", "parent", "eth5"),
		"one more on lan":     post("y4", "physical", "parent", "lan", "vlan", "8", "vlan.tagged", "9"),
		"VLAN of the uplink":  post("y5", "physical", "parent", "eth0", "vlan", "8"),
		"macvlan of the same": post("y6", "macvlan", "parent", "eth0"),
	} {
		if err := e.Create(t.Context(), req); err != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestLinkOnParent(t *testing.T) {
	e := onInterfaces(t)
	must(t, e.Create(t.Context(), post("trunk", "physical", "parent", "lan", "vlan", "5", "vlan.tagged", "6-7", "mtu", "1400")))
	must(t, e.Create(t.Context(), post("mac", "macvlan", "parent", "eth0", "vlan", "5", "gvrp", "true")))
	for name, want := range map[string]networks.Link{
		"whole":  {Kind: "physical", Parent: "eth3"},
		"tagged": {Kind: "physical", Parent: "eth4", VLAN: 7},
		"trunk":  {Kind: "bridged", Parent: "lan", VLAN: 5, Tagged: []int{6, 7}, MTU: 1400},
		"mac":    {Kind: "macvlan", Parent: "eth0", VLAN: 5, GVRP: true},
	} {
		got, err := e.Link(t.Context(), name)
		must(t, err)
		if got.Kind != want.Kind || got.Parent != want.Parent || got.VLAN != want.VLAN || got.MTU != want.MTU || got.GVRP != want.GVRP || len(got.Tagged) != len(want.Tagged) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	e.kernel.links = nil // An instance has it now.
	if got, err := e.Link(t.Context(), "whole"); err != nil || got.Kind != "physical" {
		t.Errorf("got %+v, %v", got, err)
	}
	if st, err := e.State(t.Context(), "whole"); err != nil || st.State != "down" {
		t.Errorf("got %+v, %v", st, err)
	}
	put := api.NetworkPut{Description: "new", Config: api.ConfigMap{"parent": "eth3"}}
	if err := e.Update(t.Context(), "whole", put); err != nil {
		t.Errorf("what stays as it is: got %v", err)
	}
}

// TestMoves changes on which interface networks are, while an instance runs on
// them, and while none does.
func TestMoves(t *testing.T) {
	e := onInterfaces(t)
	must(t, e.Create(t.Context(), post("trunk", "physical", "parent", "lan", "vlan.tagged", "6-7")))
	runs := map[string]bool{"run1": true, "run2": true}
	e.Inside = func(instance string) (map[string][]netip.Prefix, error) {
		if !runs[instance] {
			return nil, errs.NotFoundf("instance %q does not run", instance)
		}
		return map[string][]netip.Prefix{}, nil
	}
	for name, nic := range map[string]map[string]string{
		"run1": {"network": "shared"}, "run2": {"network": "trunk"}, "stopped": {"network": "shared"}, "out": {"network": "shared", "attached": "false"},
	} {
		e.instance(t, name, nic)
	}
	runs["out"] = true
	put := func(keys ...string) api.NetworkPut { return post("", "macvlan", keys...).NetworkPut }
	for _, tt := range []struct {
		network string
		put     api.NetworkPut
		want    string
	}{
		{"shared", put("parent", "eth1"), `configuration key "parent": cannot move network "shared" from eth5 to eth1 while instances run on it: run1; stop them`},
		{"shared", put("parent", "eth5", "vlan", "8"), `configuration key "vlan": cannot move network "shared" from 0 to 8`},
		{"trunk", put("parent", "lan", "vlan.tagged", "6-8"), `configuration key "vlan.tagged": cannot move network "trunk" from [6 7] to [6 7 8] while instances run on it: run2`},
	} {
		before := e.picture(t)
		if err := e.Update(t.Context(), tt.network, tt.put); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
		if got := e.picture(t); got != before {
			t.Errorf("it changed something:\n%s", got)
		}
	}
	must(t, e.Update(t.Context(), "shared", put("parent", "eth5", "mtu", "1400"))) // That moves nothing.
	clear(runs)
	must(t, e.Update(t.Context(), "shared", put("parent", "eth1")))
}
