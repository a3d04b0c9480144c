package profiles

import (
	"net/netip" //nolint:depguard // It parses, and looks at no host.
	"path"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

// An Option is a row of the table of one type of device.
type Option struct {
	Key
	Required bool
}

// A DeviceType is a type of device, with the options that it has.
type DeviceType struct {
	Name    string
	Doc     string
	Options []Option

	// together reports what is wrong with options that are each right.
	together func(Device) error
}

// DeviceTypes returns the table of devices, by name.
func DeviceTypes() []DeviceType {
	return []DeviceType{
		{Name: "disk", Doc: "The root disk, a volume of a pool, or a directory or file of the host.", Options: diskOptions(), together: checkDisk},
		{Name: "nic", Doc: "A network interface.", Options: nicOptions(), together: checkNIC},
		{Name: "none", Doc: "Nothing: it hides the device of that name which a profile has."},
		{Name: "unix-block", Doc: "A block device.", Options: nodeOptions(), together: checkNode},
		{Name: "unix-char", Doc: "A character device.", Options: nodeOptions(), together: checkNode},
	}
}

// ValidateDevices reports the first device, by name, that is wrong. Each is
// looked at alone; see [ValidateExpanded].
func ValidateDevices(devices map[string]Device) error {
	for name, dev := range sorted(devices) {
		if err := CheckDeviceName(name); err != nil {
			return err
		}
		if err := validateDevice(dev); err != nil {
			return errs.Newf(errs.KindOf(err), "device %q: %w", name, err)
		}
	}
	return nil
}

func validateDevice(dev Device) error {
	all := DeviceTypes()
	i := slices.IndexFunc(all, func(t DeviceType) bool { return t.Name == dev["type"] })
	if i < 0 {
		var names []string
		for _, t := range all {
			names = append(names, t.Name)
		}
		if dev["type"] == "" {
			return errs.Invalidf("it has no type, want one of %s", strings.Join(names, ", "))
		}
		return errs.Invalidf("got type %q, want one of %s", dev["type"], strings.Join(names, ", "))
	}
	t := all[i]
	opts := map[string]Option{}
	for _, o := range t.Options {
		opts[o.Name] = o
		if o.Required && dev[o.Name] == "" {
			return errs.Invalidf("a device of type %s needs the option %s, want %s", t.Name, o.Name, o.Allowed)
		}
	}
	for name, value := range sorted(dev) {
		if name == "type" || strings.HasPrefix(name, "user.") {
			continue
		}
		o, ok := opts[name]
		if !ok {
			return unknownOption(t, name)
		}
		if err := o.Check(value); err != nil {
			return wrap(name, err)
		}
	}
	if t.together == nil {
		return nil
	}
	return t.together(dev)
}

func unknownOption(t DeviceType, name string) error {
	var known []string
	for _, o := range t.Options {
		known = append(known, o.Name)
	}
	if len(known) == 0 {
		return errs.Invalidf("a device of type %s has no options, got %q", t.Name, name)
	}
	err := unknown("option", name, known)
	if _, near := nearest(name, known); near {
		return err
	}
	return errs.Invalidf("%w: a device of type %s has %s", err, t.Name, strings.Join(known, ", "))
}

func option(k Key) Option { return Option{Key: k} }

func booleanOption(k Key) Option { return Option{Key: boolean(k)} }

func diskOptions() []Option {
	const isRoot, notRoot = "root disk", "not the root disk"
	return []Option{
		booleanOption(Key{Name: "initial.zfs.delegate", Default: "volume.zfs.delegate of the pool", Condition: isRoot, Doc: "Let the guest have datasets of its own, from its next start on."}),
		booleanOption(Key{Name: "optional", Default: "false", Condition: notRoot, Doc: "The opposite of required."}),
		{Required: true, Key: Key{Name: "path", Type: String, Allowed: `an absolute path such as "/srv/data"`, Doc: `Where the disk is inside; "/" for the root disk.`, check: is(insidePath)}},
		option(Key{Name: "pool", Type: String, Allowed: "the name of a storage pool", Doc: "The storage pool that the root disk, or the volume, is in.", check: CheckPoolName}),
		booleanOption(Key{Name: "readonly", Default: "false", Condition: notRoot, Doc: "Let nothing write to the disk."}),
		booleanOption(Key{Name: "recursive", Default: "false", Condition: notRoot, Doc: "Show what is mounted below the source too."}),
		booleanOption(Key{Name: "required", Default: "true", Condition: notRoot, Doc: "Refuse to start the instance while the source is missing."}),
		booleanOption(Key{Name: "shift", Default: "false", Condition: notRoot, Doc: "Show files of the host's users 0 and up as those of the instance's users 0 and up."}),
		option(Key{Name: "size", Type: String, Allowed: `a size such as "10GiB"`, Condition: isRoot, Doc: "How large the root disk may get.", check: parses(ParseSize)}),
		option(Key{Name: "source", Type: String, Allowed: `an absolute path without "..", or with a pool VOLUME or VOLUME/SNAPSHOT`, Condition: notRoot, Doc: "The directory or file of the host, or the volume of the pool."}),
	}
}

func checkDisk(d Device) error {
	if d["required"] != "" && d["optional"] != "" {
		return errs.Invalidf("required and optional are opposites, want one of them")
	}
	if IsRoot(d) {
		for _, o := range []string{"source", "readonly", "recursive", "shift", "optional", "required"} {
			if d[o] != "" {
				return errs.Invalidf("%s: the root disk does not have it", o)
			}
		}
		return nil
	}
	if d["initial.zfs.delegate"] != "" {
		return errs.Invalidf(`initial.zfs.delegate: only the root disk, whose path is "/", has it`)
	}
	if d["pool"] != "" {
		return checkVolumeDisk(d)
	}
	if d["size"] != "" {
		return errs.Invalidf(`size: only the root disk, whose path is "/", has one`)
	}
	if d["source"] == "" {
		return errs.Invalidf(`a disk with the path %q needs the option source, want an absolute path of the host`, d["path"])
	}
	if !hostPath(d["source"]) {
		return errs.Invalidf(`source: got %q, want an absolute path without "..", or the name of a volume and the option pool`, d["source"])
	}
	return nil
}

func nicOptions() []Option {
	const toNetwork = "with network"
	return []Option{
		option(Key{Name: "host_name", Type: String, Allowed: "a name of up to 15 letters and digits", Condition: "bridged", Doc: "The name of the interface's end on the host.", check: checkIfname}),
		option(Key{Name: "hwaddr", Type: String, Allowed: `an address such as "10:66:6a:01:02:03"`, Doc: "The interface's address.", check: is(isMAC)}),
		option(Key{Name: "ipv4.address", Type: String, Allowed: "an IPv4 address", Condition: toNetwork, Doc: "The address that the network's DHCP gives to the interface.", check: is(isIPv4)}),
		option(Key{Name: "ipv6.address", Type: String, Allowed: "an IPv6 address", Condition: toNetwork, Doc: "The address that the network's DHCP gives to the interface.", check: is(isIPv6)}),
		option(Key{Name: "mode", Type: String, Default: "bridge", Allowed: "bridge, vepa, passthru or private", Condition: "macvlan", Doc: "Who the interfaces on one parent can talk to.", check: oneOf("bridge", "vepa", "passthru", "private")}),
		option(Key{Name: "mtu", Type: Integer, Allowed: "a number of bytes from 68 to 65535", Doc: "The largest packet; that of the parent where it is not set.", check: between(68, 65535)}),
		option(Key{Name: "name", Type: String, Default: "eth0 and so on", Allowed: "a name of up to 15 letters and digits", Doc: "The interface's name inside.", check: checkIfname}),
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

func nodeOptions() []Option {
	return []Option{
		option(Key{Name: "gid", Type: Integer, Default: "0", Allowed: "a group id", Doc: "The group inside that owns it.", check: between(0, 1<<32-2)}),
		option(Key{Name: "major", Type: Integer, Allowed: "a number from 0 to 4095", Doc: "The device's major number, where no source has it.", check: between(0, 1<<12-1)}),
		option(Key{Name: "minor", Type: Integer, Allowed: "a number from 0 to 1048575", Doc: "The device's minor number, where no source has it.", check: between(0, 1<<20-1)}),
		option(Key{Name: "mode", Type: String, Default: "0660", Allowed: `an octal mode such as "0660"`, Doc: "Who may do what with it inside.", check: is(isMode)}),
		option(Key{Name: "path", Type: String, Allowed: `an absolute path such as "/dev/fuse"`, Doc: "Where it is inside; as on the host where it is not set.", check: is(insidePath)}),
		booleanOption(Key{Name: "required", Default: "true", Doc: "Refuse to start the instance while the source is missing."}),
		option(Key{Name: "source", Type: String, Allowed: `an absolute path without ".."`, Doc: "Where it is on the host.", check: is(hostPath)}),
		option(Key{Name: "uid", Type: Integer, Default: "0", Allowed: "a user id", Doc: "The user inside that owns it.", check: between(0, 1<<32-2)}),
	}
}

func checkNode(d Device) error {
	if d["source"] == "" && d["path"] == "" {
		return errs.Invalidf("a device of type %s needs the option source or path", d["type"])
	}
	if (d["major"] == "") != (d["minor"] == "") {
		return errs.Invalidf("major and minor: want both or none")
	}
	if cleanPath(d["path"]) == "/" {
		return errs.Invalidf(`path: got "/", want a path below it`)
	}
	return nil
}

// checkIfname is for the names of interfaces of the host and inside.
func checkIfname(v string) error {
	if CheckInterfaceName("interface", v) != nil {
		return errNo
	}
	return nil
}

// insidePath reports whether v is a path that cannot lead out of an instance.
func insidePath(v string) bool { return hostPath(v) }

func hostPath(v string) bool {
	return strings.HasPrefix(v, "/") && oneLine(v) && !slices.Contains(strings.Split(v, "/"), "..")
}

func cleanPath(v string) string {
	if v == "" {
		return ""
	}
	return path.Clean("/" + v)
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

func isMode(v string) bool {
	return len(v) >= 3 && len(v) <= 4 && only(v, "01234567") && (len(v) == 3 || v[0] == '0')
}
