package profiles

import (
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

// The types of NICs, as the option nictype has them.
const (
	Bridged  = "bridged"
	CNI      = "cni"
	HostNIC  = "host"
	IPVlan   = "ipvlan"
	Macvlan  = "macvlan"
	P2P      = "p2p"
	Physical = "physical"
	Routed   = "routed"
)

var nicTypes = []string{Bridged, CNI, HostNIC, IPVlan, Macvlan, P2P, Physical, Routed}

// ownNICs are those with an interface of their own.
var ownNICs = []string{Bridged, CNI, IPVlan, Macvlan, P2P, Physical, Routed}

func nicType() DeviceType {
	t := DeviceType{Name: "nic", Doc: "A network interface.", together: checkNIC, places: nicPlaces}
	for _, o := range slices.Concat(nicOptions(), nicACLOptions(), nicAddressOptions("ipv4", "IPv4"), nicAddressOptions("ipv6", "IPv6"), nicPortOptions(), nicPluginOptions()) {
		if kinds := nicHas[o.Name]; kinds != nil {
			o.Condition = strings.Join(kinds, ", ")
		}
		t.Options = append(t.Options, o)
	}
	slices.SortFunc(t.Options, func(a, b Option) int { return strings.Compare(a.Name, b.Name) })
	return t
}

// nicHas are the types of NICs that have an option; one that is not here all
// have.
var nicHas = map[string][]string{
	"attached":                             ownNICs,
	"cni.config":                           {CNI},
	"cni.ports":                            {CNI},
	"connected":                            {Bridged, P2P, Routed},
	"gvrp":                                 {IPVlan, Macvlan, Physical, Routed},
	"host_name":                            {Bridged, P2P, Routed},
	"hwaddr":                               {Bridged, CNI, Macvlan, P2P, Physical, Routed},
	"ipv4.address":                         {Bridged, CNI, IPVlan, Routed},
	"ipv4.gateway":                         {IPVlan, Routed},
	"ipv4.host_address":                    {Routed},
	"ipv4.host_table":                      {IPVlan, Routed},
	"ipv4.host_tables":                     {Routed},
	"ipv4.neighbor_probe":                  {Routed},
	"ipv4.routes":                          {Bridged, P2P, Routed},
	"ipv4.routes.external":                 {Bridged},
	"ipv6.address":                         {Bridged, CNI, IPVlan, Routed},
	"ipv6.gateway":                         {IPVlan, Routed},
	"ipv6.host_address":                    {Routed},
	"ipv6.host_table":                      {IPVlan, Routed},
	"ipv6.host_tables":                     {Routed},
	"ipv6.neighbor_probe":                  {Routed},
	"ipv6.routes":                          {Bridged, P2P, Routed},
	"ipv6.routes.external":                 {Bridged},
	"limits.egress":                        {Bridged, P2P, Routed},
	"limits.ingress":                       {Bridged, P2P, Routed},
	"limits.max":                           {Bridged, P2P, Routed},
	"limits.priority":                      {Bridged, P2P, Routed},
	"mode":                                 {IPVlan, Macvlan},
	"mtu":                                  {Bridged, IPVlan, Macvlan, P2P, Physical, Routed},
	"name":                                 ownNICs,
	"network":                              {Bridged, Macvlan, Physical},
	"parent":                               {Bridged, IPVlan, Macvlan, Physical, Routed},
	"privileged":                           {HostNIC},
	"queue.tx.length":                      {Bridged, P2P, Routed},
	"security.acls":                        {Bridged},
	"security.acls.default.egress.action":  {Bridged},
	"security.acls.default.egress.logged":  {Bridged},
	"security.acls.default.ingress.action": {Bridged},
	"security.acls.default.ingress.logged": {Bridged},
	"security.ipv4_filtering":              {Bridged},
	"security.ipv6_filtering":              {Bridged},
	"security.mac_filtering":               {Bridged},
	"security.port_isolation":              {Bridged},
	"vlan":                                 {Bridged, IPVlan, Macvlan, Physical, Routed},
	"vlan.tagged":                          {Bridged},
	"vrf":                                  {Routed},
}

const wantNICMode = "bridge, vepa, passthru or private for macvlan, l2, l3 or l3s for ipvlan"

func nicOptions() []Option {
	return []Option{
		booleanOption(Key{Name: "attached", Default: "true", Doc: "Whether the interface is there."}),
		booleanOption(Key{Name: "connected", Default: "true", Doc: "Whether the interface has a carrier.", Differs: "A macvlan does not have it, as the kernel gives back the carrier that was taken from it."}),
		booleanOption(Key{Name: "gvrp", Default: "false", Doc: "Register the VLAN at the switch."}),
		option(Key{Name: "host_name", Type: String, Default: "a random one", Allowed: wantIfname, Doc: "The name of the interface's end on the host.", check: checkIfname}),
		option(Key{Name: "hwaddr", Type: String, Default: "a random one", Allowed: wantMAC, Doc: "The interface's address.", Differs: "An ipvlan has that of its parent, a cni one that of its plugins.", check: is(isMAC)}),
		option(Key{Name: "mode", Type: String, Default: "bridge, l3s", Allowed: wantNICMode, Doc: "Who the interfaces on one parent can talk to, and how.", check: oneOf(slices.Concat(macvlanModes, ipvlanModes)...)}),
		option(Key{Name: "mtu", Type: Integer, Allowed: "a number of bytes from 68 to 65535", Doc: "The largest packet; that of the parent where it is not set.", check: between(68, 65535)}),
		option(Key{Name: "name", Type: String, Default: "eth0 and so on", Allowed: "a name of 2 to 15 letters and digits", Doc: "The interface's name inside.", check: checkInnerName}),
		option(Key{Name: "network", Type: String, Allowed: "the name of a network", Doc: "The managed network to connect to, instead of nictype and parent.", check: CheckNetworkName}),
		option(Key{Name: "nictype", Type: String, Allowed: "bridged, cni, host, ipvlan, macvlan, p2p, physical or routed", Doc: "How to connect to the parent; host is the host's own network.", check: oneOf(nicTypes...)}),
		option(Key{Name: "parent", Type: String, Allowed: "the name of an interface of the host", Doc: "The bridge, or the interface of the host that it is on or is.", check: checkIfname}),
		booleanOption(Key{Name: "privileged", Default: "false", Doc: "Have it with security.privileged or delegated programs of BPF too, which put the host's network in the hands of the instance's root."}),
		option(Key{Name: "queue.tx.length", Type: Integer, Default: "1000", Allowed: "a number of packets from 1 to 1000000", Doc: "How many packets wait at either end.", check: between(1, 1000000)}),
		option(Key{Name: "vrf", Type: String, Allowed: "the name of a VRF of the host", Doc: "The VRF that the host's end is in, with the routes to it.", check: checkIfname}),
	}
}

// nicAddressOptions are those that both families have.
func nicAddressOptions(f, name string) []Option {
	routes := "routes, such as 10.1.2.0/24, with commas between them"
	host := "169.254.0.1"
	one := parseIPv4
	if f == "ipv6" {
		routes, host, one = "routes, such as fd42:1:2::/64, with commas between them", "fe80::1", parseIPv6
	}
	const announces = "They are routes of the host as those of routes: nothing announces them (BGP)."
	return []Option{
		option(Key{Name: f + ".address", Type: String, Allowed: "an " + name + " address, several with commas between them, or none", Doc: "The address that a network's DHCP gives to the interface, and that filtering holds it to; the addresses that routed and ipvlan have.", check: is(one.addresses)}),
		option(Key{Name: f + ".gateway", Type: String, Default: "auto", Allowed: "auto, none or an " + name + " address", Doc: "The default route inside: auto is the host, an address the gateway of an ipvlan of mode l2.", Differs: "Bridged ones have their gateway by DHCP only.", check: is(func(v string) bool { return v == "auto" || v == "none" || one.address(v) })}),
		option(Key{Name: f + ".host_address", Type: String, Default: host, Allowed: "an " + name + " address", Doc: "The address of the host's end, which is the gateway.", check: is(one.address)}),
		option(Key{Name: f + ".host_table", Type: Integer, Allowed: wantTable, Doc: "A table of routes that has those to the addresses too.", check: is(isTable)}),
		option(Key{Name: f + ".host_tables", Type: String, Default: "254", Allowed: "numbers from 1 to 4294967294 with commas between them", Doc: "The tables of routes that have those to the addresses, instead of the main one.", check: is(listOf(isTable))}),
		booleanOption(Key{Name: f + ".neighbor_probe", Default: "true", Doc: "Ask on the parent whether somebody has an address, and refuse it then."}),
		option(Key{Name: f + ".routes", Type: String, Allowed: routes, Doc: "Networks that the host routes to the interface.", check: is(listOf(one.route))}),
		option(Key{Name: f + ".routes.external", Type: String, Allowed: routes, Doc: "Networks that the host routes to the interface.", Differs: announces, check: is(listOf(one.route))}),
	}
}

const (
	wantTable = "a number from 1 to 4294967294"
	wantRate  = `bits in a second, such as "100Mbit" or "1Gbit"`
	wantVLAN  = "a number from 1 to 4094"
)

// nicPortOptions are what is done at the host's end.
func nicPortOptions() []Option {
	rate := is(func(v string) bool { _, err := ParseBitRate(v); return err == nil })
	return []Option{
		option(Key{Name: "limits.egress", Type: String, Allowed: wantRate, Doc: "How much leaves the instance.", check: rate}),
		option(Key{Name: "limits.ingress", Type: String, Allowed: wantRate, Doc: "How much comes to the instance.", check: rate}),
		option(Key{Name: "limits.max", Type: String, Allowed: wantRate, Doc: "The same for both directions, instead of limits.ingress and limits.egress.", check: rate}),
		option(Key{Name: "limits.priority", Type: Integer, Default: "0", Allowed: "a number from 0 to 4294967295", Doc: "The priority that the host's queues see of what leaves the instance.", check: between(0, 1<<32-1)}),
		booleanOption(Key{Name: "security.ipv4_filtering", Default: "false", Doc: "Let nothing out that is not from the interface's IPv4 address, which it keeps, and no DHCP server."}),
		booleanOption(Key{Name: "security.ipv6_filtering", Default: "false", Doc: "Let nothing out that is not from the interface's IPv6 addresses, which it keeps, and no router or DHCP server."}),
		booleanOption(Key{Name: "security.mac_filtering", Default: "false", Doc: "Let nothing out that is not from hwaddr, which filtering of addresses does too."}),
		booleanOption(Key{Name: "security.port_isolation", Default: "false", Doc: "Keep it from others on the bridge that have this too."}),
		option(Key{Name: "vlan", Type: String, Allowed: wantVLAN + ", or none for a bridged one", Doc: "The VLAN that is untagged inside.", check: is(func(v string) bool { return v == "none" || isVLAN(v) })}),
		option(Key{Name: "vlan.tagged", Type: String, Allowed: "numbers from 1 to 4094, and ranges, with commas between them", Doc: "The VLANs that are tagged inside.", Differs: "A physical one has all that its parent has.", check: is(func(v string) bool { _, err := ParseVLANs(v); return err == nil })}),
	}
}

// nicACLOptions are those of network ACLs.
func nicACLOptions() []Option {
	const acls = "security.acls"
	const action = "allow, reject or drop"
	const differs = "Dropped where it would have to be rejected on its way to the instance, as the kernel cannot answer there."
	actions := oneOf("allow", "reject", "drop")
	return []Option{
		option(Key{Name: acls, Type: String, Allowed: "names of network ACLs, with commas between them", Doc: "The ACLs that say what passes to and from the interface, also between instances on one bridge.", check: is(listOf(func(v string) bool { return v != "" && !strings.ContainsAny(v, "/ ") }))}),
		option(Key{Name: acls + ".default.egress.action", Type: String, Default: "that of the network, or reject", Allowed: action, Doc: "What happens to what the instance sends and no rule of the ACLs is about.", check: actions}),
		booleanOption(Key{Name: acls + ".default.egress.logged", Default: "that of the network, or false", Doc: "Log it."}),
		option(Key{Name: acls + ".default.ingress.action", Type: String, Default: "that of the network, or reject", Allowed: action, Doc: "What happens to what is sent to the instance and no rule of the ACLs is about.", Differs: differs, check: actions}),
		booleanOption(Key{Name: acls + ".default.ingress.logged", Default: "that of the network, or false", Doc: "Log it."}),
	}
}

func checkNIC(d Device) error {
	switch {
	case d["network"] != "" && d["nictype"] != "":
		return errs.Invalidf("network and nictype: want one of them, as the network knows the type")
	case d["network"] != "" && d["parent"] != "":
		return errs.Invalidf("network and parent: want one of them, as the network knows the parent")
	case d["network"] != "":
		return checkOnNetwork(d)
	case d["nictype"] == "":
		return errs.Invalidf("a device of type nic needs the option network, or nictype and parent")
	case d["nictype"] == CNI && d["cni.config"] == "":
		return errs.Invalidf("a nic of nictype cni needs the option cni.config, want %s", wantCNIConfig)
	case d["parent"] == "" && !slices.Contains([]string{CNI, HostNIC, P2P, Routed}, d["nictype"]):
		return errs.Invalidf("a nic of nictype %s needs the option parent, want the name of an interface of the host", d["nictype"])
	}
	return CheckNIC(d, d["nictype"])
}

// onNetworks are the types of NICs that managed networks make.
var onNetworks = []string{Bridged, Macvlan, Physical}

// checkOnNetwork is checkNIC for what a managed network makes one of the types
// of; which one [CheckNIC] looks at when that is known.
func checkOnNetwork(d Device) error {
	for name := range sorted(d) {
		if has := nicHas[name]; d[name] != "" && has != nil && !slices.ContainsFunc(onNetworks, func(kind string) bool { return slices.Contains(has, kind) }) {
			return errs.Invalidf("%s: a nic on a managed network does not have it, only one of nictype %s", name, strings.Join(has, ", "))
		}
	}
	if err := checkAddresses(d, Bridged); err != nil {
		return err
	}
	return checkTogether(d)
}

// CheckNIC reports what is wrong with a NIC of a type, which its network or
// its nictype says.
func CheckNIC(d Device, kind string) error {
	for name := range sorted(d) {
		has := nicHas[name]
		if d[name] == "" || has == nil || slices.Contains(has, kind) {
			continue
		}
		if kind == IPVlan && name == "hwaddr" {
			return errs.Invalidf("hwaddr: an ipvlan has the address of its parent")
		}
		return errs.Invalidf("%s: a nic of nictype %s does not have it", name, kind)
	}
	for _, check := range []func(Device, string) error{checkMode, checkVLAN, checkAddresses} {
		if err := check(d, kind); err != nil {
			return err
		}
	}
	return checkTogether(d)
}

// checkACLs is for what does not go together with ACLs at a nic.
func checkACLs(d Device) error {
	switch {
	case d["security.acls"] == "":
		return nil
	case d["network"] == "":
		return errs.Invalidf("security.acls: a nic with ACLs needs the option network, in which their names are meant")
	case d["vlan.tagged"] != "":
		return errs.Invalidf("security.acls: what is in a VLAN of vlan.tagged cannot be looked at, want one of them")
	}
	return nil
}

// checkTogether is for what does not go together whatever the type is.
func checkTogether(d Device) error {
	if d["limits.max"] != "" && (d["limits.ingress"] != "" || d["limits.egress"] != "") {
		return errs.Invalidf("limits.max: want it, or limits.ingress and limits.egress, as it is both of them")
	}
	if err := checkACLs(d); err != nil {
		return err
	}
	for _, f := range []string{"ipv4", "ipv6"} {
		if d[f+".host_table"] != "" && d[f+".host_tables"] != "" {
			return errs.Invalidf("%s.host_table and %s.host_tables: want one of them", f, f)
		}
		if on, _ := ParseBool(d["security."+f+"_filtering"]); on && d["vlan.tagged"] != "" {
			return errs.Invalidf("security.%s_filtering: what is in a VLAN of vlan.tagged cannot be looked at, want one of them", f)
		}
	}
	return nil
}

var (
	macvlanModes = []string{"bridge", "vepa", "passthru", "private"}
	ipvlanModes  = []string{"l2", "l3", "l3s"}
)

func checkMode(d Device, kind string) error {
	modes := map[string][]string{Macvlan: macvlanModes, IPVlan: ipvlanModes}[kind]
	if d["mode"] != "" && !slices.Contains(modes, d["mode"]) {
		return errs.Invalidf("mode: got %q for nictype %s, want %s", d["mode"], kind, strings.Join(modes, ", "))
	}
	return nil
}

func checkVLAN(d Device, kind string) error {
	if d["vlan"] == "none" && kind != Bridged {
		return errs.Invalidf("vlan: got \"none\" for nictype %s, want %s", kind, wantVLAN)
	}
	if on, _ := ParseBool(d["gvrp"]); on && d["vlan"] == "" {
		return errs.Invalidf("gvrp: it is of use with the option vlan only")
	}
	if d["vlan"] != "" && d["parent"] == "" && kind != Bridged {
		return errs.Invalidf("vlan: it is a VLAN of parent, which is not set")
	}
	tagged, _ := ParseVLANs(d["vlan.tagged"]) // It is valid.
	for _, id := range tagged {
		if isVLAN(d["vlan"]) && number(d["vlan"]) == id {
			return errs.Invalidf("vlan.tagged: VLAN %d is the untagged one of vlan already", id)
		}
	}
	return nil
}

func nicPlaces(d Device) []string {
	var all []string
	for opt, v := range sorted(map[string]string{"name": d["name"], "host_name": d["host_name"], "hwaddr": strings.ToLower(d["hwaddr"])}) {
		if v != "" {
			all = append(all, "the "+opt+" "+v)
		}
	}
	for _, opt := range []string{"ipv4.address", "ipv6.address"} {
		for _, v := range SplitList(d[opt]) {
			if v != "none" {
				all = append(all, "the address "+v+" on "+d["network"]+d["parent"])
			}
		}
	}
	if d["nictype"] == Physical {
		all = append(all, "the interface "+d["parent"]+" "+d["vlan"])
	}
	return all
}
