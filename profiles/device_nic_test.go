package profiles_test

import (
	"strings"
	"testing"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

func nicOf(text string) profiles.Device {
	d := profiles.Device{"type": "nic"}
	for f := range strings.FieldsSeq(text) {
		k, v, _ := strings.Cut(f, "=")
		d[k] = v
	}
	return d
}

func TestNICs(t *testing.T) {
	for _, good := range []string{
		"network=n ipv4.address=10.0.0.2 security.ipv4_filtering=true security.ipv6_filtering=true",
		"network=n ipv4.address=none limits.ingress=10Mbit limits.egress=1Gbit limits.priority=5",
		"network=n security.acls=a limits.ingress=10Mbit limits.egress=1Gbit",
		"network=n security.acls=a limits.max=1Gbit",
		"network=n vlan=5 vlan.tagged=6,10-12 security.mac_filtering=true security.port_isolation=true connected=false attached=false",
		"network=n security.acls=web,other security.acls.default.ingress.action=allow security.acls.default.egress.logged=true",
		"nictype=bridged parent=br0 vlan=none ipv4.routes=10.1.0.0/16,10.2.0.0/24 ipv6.routes.external=fd42::/64 queue.tx.length=100 limits.max=8kbit",
		"nictype=bridged parent=br0 ipv4.address=10.0.0.2 security.ipv4_filtering=true",
		"nictype=macvlan parent=eth0 mode=vepa vlan=4094 gvrp=true mtu=1400",
		"nictype=ipvlan parent=eth0 mode=l2 ipv4.address=10.0.0.2/24 ipv4.gateway=10.0.0.1",
		"nictype=ipvlan parent=eth0 ipv4.address=10.0.0.2,10.0.0.3 ipv4.gateway=auto ipv4.host_table=100",
		"nictype=physical parent=eth0 hwaddr=10:66:6a:00:00:01 mtu=9000 vlan=3",
		"nictype=p2p host_name=veth1 ipv4.routes=10.0.0.2/32",
		"nictype=routed ipv4.address=10.0.0.2 ipv6.address=fd42::2",
		"nictype=routed parent=eth0 ipv4.address=10.0.0.2 ipv4.gateway=none ipv4.host_address=169.254.7.1 ipv4.host_tables=254,100 ipv4.neighbor_probe=false vlan=9 vrf=blue",
		"nictype=host",
		"nictype=host privileged=true user.why=vpn",
	} {
		if err := profiles.ValidateDevices(map[string]profiles.Device{"d": nicOf(good)}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, want := range map[string]string{
		"nictype=physical":                                        "needs the option parent",
		"nictype=p2p parent=eth0":                                 "parent: a nic of nictype p2p does not have it",
		"nictype=bridged parent=br0 ipv4.address=10.0.0.2":        "ipv4.address: only a nic on a managed network has it, or one with security.ipv4_filtering",
		"nictype=bridged parent=br0 security.ipv4_filtering=true": "it needs the option ipv4.address",
		"nictype=bridged parent=br0 ipv4.gateway=auto":            "ipv4.gateway: a nic of nictype bridged does not have it",
		"nictype=macvlan parent=eth0 security.mac_filtering=true": "security.mac_filtering: a nic of nictype macvlan does not have it",
		"nictype=macvlan parent=eth0 connected=false":             "connected: a nic of nictype macvlan does not have it",
		"nictype=macvlan parent=eth0 mode=l2":                     `mode: got "l2" for nictype macvlan`,
		"nictype=macvlan parent=eth0 vlan=none":                   `vlan: got "none" for nictype macvlan`,
		"nictype=macvlan parent=eth0 gvrp=true":                   "gvrp: it is of use with the option vlan only",
		"nictype=ipvlan parent=eth0 hwaddr=10:66:6a:00:00:01":     "an ipvlan has the address of its parent",
		"nictype=ipvlan parent=eth0 ipv4.address=10.0.0.2/24":     "without the length",
		"nictype=ipvlan parent=eth0 mode=l2 ipv4.gateway=auto":    "want the address of a gateway",
		"nictype=routed ipv4.address=none":                        `got "none" for nictype routed`,
		"nictype=routed ipv4.gateway=10.0.0.1":                    "want auto or none for nictype routed",
		"nictype=routed vlan=5":                                   "vlan: it is a VLAN of parent, which is not set",
		"nictype=routed ipv4.host_table=5 ipv4.host_tables=6":     "want one of them",
		"nictype=routed ipv4.address=fd42::1":                     "want an IPv4 address",
		"nictype=routed ipv4.address=10.0.0.2,10.0.0.2":           "want an IPv4 address",
		"nictype=routed ipv4.host_tables=0":                       "want numbers from 1",
		"network=n ipv4.address=10.0.0.2,10.0.0.3":                "want one for a bridged nic",
		"network=n ipv4.host_address=10.0.0.1":                    "a nic on a managed network does not have it, only one of nictype routed",
		"network=n limits.max=1Mbit limits.ingress=1Mbit":         "limits.max: want it, or limits.ingress",
		"network=n limits.max=1MB":                                "want bits in a second",
		"network=n limits.max=-1Mbit":                             "want bits in a second",
		"network=n limits.max=1bit":                               "want bits in a second",
		"network=n limits.max=99999999999999999999":               "want bits in a second",
		"network=n limits.priority=-1":                            "want a number from 0",
		"network=n vlan=4095":                                     "want a number from 1 to 4094",
		"network=n vlan.tagged=5-4":                               "want numbers from 1 to 4094",
		"network=n vlan.tagged=5,4-6":                             "want numbers from 1 to 4094",
		"network=n ipv4.routes=10.0.0.1/24":                       "want routes",
		"network=n ipv4.routes=0.0.0.0/0":                         "want routes",
		"network=n ipv4.routes=fd42::/64":                         "want routes",
		"network=n vlan.tagged=5 security.ipv4_filtering=true":    "what is in a VLAN of vlan.tagged cannot be looked at",
		"network=n vlan.tagged=5 security.acls=web":               "what is in a VLAN of vlan.tagged cannot be looked at",
		"network=n security.acls=web,web":                         "want names of network ACLs",
		"network=n security.acls.default.egress.action=pass":      "want allow, reject or drop",
		"nictype=bridged parent=br0 security.acls=web":            "needs the option network",
		"nictype=macvlan parent=eth0 security.acls=web":           "a nic of nictype macvlan does not have it",
		"network=n queue.tx.length=0":                             "want a number of packets",
		"nictype=host parent=eth0":                                "parent: a nic of nictype host does not have it",
		"nictype=host name=eth0":                                  "name: a nic of nictype host does not have it",
		"nictype=host hwaddr=10:66:6a:00:00:01":                   "hwaddr: a nic of nictype host does not have it",
		"nictype=host attached=false":                             "attached: a nic of nictype host does not have it",
		"nictype=host ipv4.address=10.0.0.2":                      "ipv4.address: a nic of nictype host does not have it",
		"nictype=host limits.max=1Mbit":                           "limits.max: a nic of nictype host does not have it",
		"nictype=host security.acls=web":                          "a nic of nictype host does not have it",
		"nictype=host privileged=perhaps":                         "want true or false",
		"network=n privileged=true":                               "privileged: a nic on a managed network does not have it, only one of nictype host",
		"network=host":                                            "a device of nictype host is in it",
		"nictype=ovn parent=x":                                    "there are no OVN networks",
		"nictype=sriov parent=x":                                  "virtual functions",
		"nictype=bridged parent=br0 vlan=5 vlan.tagged=5":         "the untagged one of vlan already",
	} {
		err := profiles.ValidateDevices(map[string]profiles.Device{"d": nicOf(bad)})
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", bad, err, want)
		}
	}
}

func TestOneOfAPlaceIsEnough(t *testing.T) {
	for _, two := range [][2]string{
		{"nictype=physical parent=eth7", "nictype=physical parent=eth7"},
		{"nictype=routed ipv4.address=10.0.0.2,10.0.0.3", "nictype=routed ipv4.address=10.0.0.3"},
		{"nictype=p2p host_name=x1", "network=n host_name=x1"},
	} {
		err := profiles.ValidateExpanded(profiles.Config{Devices: map[string]profiles.Device{
			"root": {"type": "disk", "path": "/", "pool": "p"}, "a": nicOf(two[0]), "b": nicOf(two[1]),
		}})
		if !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.Conflict) {
			t.Errorf("%v: got %v", two, err)
		}
	}
}

func TestHostNIC(t *testing.T) {
	with := func(options map[string]string, nics ...string) profiles.Config {
		c := profiles.Config{Options: options, Devices: map[string]profiles.Device{"root": {"type": "disk", "path": "/", "pool": "p"}}}
		for i, text := range nics {
			c.Devices[string(rune('a'+i))] = nicOf(text)
		}
		return c
	}
	for _, good := range []profiles.Config{
		with(nil, "nictype=host"),
		with(map[string]string{"security.nesting": "true", "linux.sysctl.kernel.msgmax": "1", "cloud-init.network-config": ""}, "nictype=host"),
		with(map[string]string{"security.privileged": "true"}, "nictype=host privileged=true"),
		with(map[string]string{"security.privileged": "false", "security.delegate_bpf.prog_types": "xdp"}, "nictype=host"),
		with(map[string]string{"security.delegate_bpf": "true"}, "nictype=host privileged=true"),
		with(map[string]string{"security.privileged": "true", "linux.sysctl.net.ipv4.ip_forward": "1", "cloud-init.network-config": "version: 2"}, "network=n"),
	} {
		if err := profiles.ValidateExpanded(good); err != nil {
			t.Errorf("%v: %v", good, err)
		}
	}
	for _, tt := range []struct {
		config profiles.Config
		want   string
	}{
		{with(nil, "network=n", "nictype=host"), `devices "b" and "a": a nic of nictype host is all of the host's network`},
		{with(nil, "nictype=host", "nictype=host"), `devices "a" and "b"`},
		{with(map[string]string{"security.privileged": "true"}, "nictype=host"), `device "a": with security.privileged`},
		{with(map[string]string{"security.delegate_bpf": "true", "security.delegate_bpf.prog_types": "xdp"}, "nictype=host"), `device "a": with programs of BPF`},
		{with(map[string]string{"security.bpffs.delegate_progs": "any"}, "nictype=host privileged=false"), `device "a": with programs of BPF`},
		{with(map[string]string{"linux.sysctl.net.ipv4.ip_forward": "1"}, "nictype=host"), `linux.sysctl.net.ipv4.ip_forward: it would be the host's, as device "a" is`},
		{with(map[string]string{"linux.sysctl.net/core/somaxconn": "1"}, "nictype=host"), `it would be the host's`},
		{with(map[string]string{"cloud-init.network-config": "version: 2"}, "nictype=host"), `cloud-init.network-config: device "a" is the host's network`},
		{with(map[string]string{"user.network-config": "version: 2"}, "nictype=host"), `user.network-config: device "a" is the host's network`},
	} {
		if err := profiles.ValidateExpanded(tt.config); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: got %v, want %s", tt.config, err, tt.want)
		}
	}
	if got := profiles.CloudInit(with(map[string]string{"user.a": "b"}, "nictype=host")); got["cloud-init.network-config"] != "config: disabled\n" || got["user.a"] != "b" {
		t.Errorf("cloud-init gets %v", got)
	}
	if got := profiles.CloudInit(with(map[string]string{"user.a": "b"}, "network=n")); len(got) != 1 {
		t.Errorf("cloud-init gets %v", got)
	}
}

func FuzzParseBitRate(f *testing.F) {
	for _, s := range []string{"100Mbit", "8000", "1Gibit", "-1", "9999999999999999999Tbit", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := profiles.ParseBitRate(s); err == nil && (n < 8000 || n > 1e13) {
			t.Errorf("%q: %d", s, n)
		}
	})
}
