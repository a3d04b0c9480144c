package profiles

import (
	"net/netip" //nolint:depguard // It parses, and looks at no host.
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

func nicType() DeviceType {
	return DeviceType{Name: "nic", Doc: "A network interface.", Options: nicOptions(), together: checkNIC, places: nicPlaces}
}

func nicOptions() []Option {
	const toNetwork = "with network"
	return []Option{
		option(Key{Name: "host_name", Type: String, Allowed: wantIfname, Condition: "bridged", Doc: "The name of the interface's end on the host.", check: checkIfname}),
		option(Key{Name: "hwaddr", Type: String, Allowed: wantMAC, Doc: "The interface's address.", check: is(isMAC)}),
		option(Key{Name: "ipv4.address", Type: String, Allowed: "an IPv4 address", Condition: toNetwork, Doc: "The address that the network's DHCP gives to the interface.", check: is(isIPv4)}),
		option(Key{Name: "ipv6.address", Type: String, Allowed: "an IPv6 address", Condition: toNetwork, Doc: "The address that the network's DHCP gives to the interface.", check: is(isIPv6)}),
		option(Key{Name: "mode", Type: String, Default: "bridge", Allowed: "bridge, vepa, passthru or private", Condition: "macvlan", Doc: "Who the interfaces on one parent can talk to.", check: oneOf("bridge", "vepa", "passthru", "private")}),
		option(Key{Name: "mtu", Type: Integer, Allowed: "a number of bytes from 68 to 65535", Doc: "The largest packet; that of the parent where it is not set.", check: between(68, 65535)}),
		option(Key{Name: "name", Type: String, Default: "eth0 and so on", Allowed: wantIfname, Doc: "The interface's name inside.", check: checkIfname}),
		option(Key{Name: "network", Type: String, Allowed: "the name of a network", Doc: "The managed network to connect to, instead of nictype and parent.", check: CheckNetworkName}),
		option(Key{Name: "nictype", Type: String, Allowed: "bridged or macvlan", Doc: "How to connect to the parent.", check: oneOf("bridged", "macvlan")}),
		option(Key{Name: "parent", Type: String, Allowed: "the name of an interface of the host", Condition: "with nictype", Doc: "The bridge, or the interface below a macvlan.", check: checkIfname}),
	}
}

func checkNIC(d Device) error {
	switch {
	case d["network"] != "" && d["nictype"] != "":
		return errs.Invalidf("network and nictype: want one of them, as the network knows the type")
	case d["network"] != "" && d["parent"] != "":
		return errs.Invalidf("network and parent: want one of them, as the network knows the parent")
	case d["network"] != "":
		return nil
	case d["nictype"] == "":
		return errs.Invalidf("a device of type nic needs the option network, or nictype and parent")
	case d["parent"] == "":
		return errs.Invalidf("a nic of nictype %s needs the option parent, want the name of an interface of the host", d["nictype"])
	case d["mode"] != "" && d["nictype"] != "macvlan":
		return errs.Invalidf("mode: a nic of nictype %s does not have it", d["nictype"])
	case d["host_name"] != "" && d["nictype"] != "bridged":
		return errs.Invalidf("host_name: a nic of nictype %s does not have it", d["nictype"])
	}
	for _, o := range []string{"ipv4.address", "ipv6.address"} {
		if d[o] != "" {
			return errs.Invalidf("%s: only a nic on a managed network has it", o)
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
		if v := d[opt]; v != "" {
			all = append(all, "the address "+v+" on "+d["network"])
		}
	}
	return all
}

// checkIfname is for the names of interfaces of the host and inside.
func checkIfname(v string) error {
	if CheckInterfaceName("interface", v) != nil {
		return errNo
	}
	return nil
}

func isMAC(v string) bool {
	parts := strings.Split(strings.ToLower(v), ":")
	for _, p := range parts {
		if len(p) != 2 || !only(p, digits+"abcdef") {
			return false
		}
	}
	// The last bit of the first byte is for groups.
	return len(parts) == 6 && strings.ContainsRune("02468ace", rune(parts[0][1]))
}

func isIPv4(v string) bool {
	a, err := netip.ParseAddr(v)
	return err == nil && a.Is4()
}

func isIPv6(v string) bool {
	a, err := netip.ParseAddr(v)
	return err == nil && a.Is6() && a.Zone() == "" && !a.Is4In6()
}
