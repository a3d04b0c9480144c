package profiles

import "github.com/cuib/cuib/shared/errs"

const wantUSBID = `four hexadecimal digits such as "046d"`

func usbType() DeviceType {
	return DeviceType{
		Name: "usb", Doc: "USB devices of the host, as they are plugged in and out: their nodes below /dev/bus/usb.",
		Options: append(usbOptions(), ownerOptions()...),
	}
}

func usbOptions() []Option {
	return []Option{
		booleanOption(Key{Name: "attached", Default: "true", Doc: "Whether the instance has them; false is as if they were unplugged."}),
		option(Key{Name: "busnum", Type: Integer, Allowed: "a number from 1 to 999", Doc: "Only devices of this bus.", check: between(1, 999)}),
		option(Key{Name: "devnum", Type: Integer, Allowed: "a number from 1 to 127", Doc: "Only the device of this number, which is another each time that it is plugged in.", check: between(1, 127)}),
		option(Key{Name: "productid", Type: String, Allowed: wantUSBID, Doc: "Only devices of this product.", check: is(isUSBID)}),
		booleanOption(Key{Name: "required", Default: "false", Doc: "Refuse to start the instance while there is no such device."}),
		option(Key{Name: "serial", Type: String, Allowed: "one line of text", Doc: "Only devices with this serial number.", check: is(oneLine)}),
		option(Key{Name: "vendorid", Type: String, Allowed: wantUSBID, Doc: "Only devices of this vendor.", check: is(isUSBID)}),
	}
}

// ownerOptions are those of nodes whose paths and numbers the host says.
func ownerOptions() []Option {
	return []Option{
		option(Key{Name: "gid", Type: Integer, Default: "0", Allowed: "a group id", Doc: "The group inside that owns the nodes.", check: between(0, 1<<32-2)}),
		option(Key{Name: "mode", Type: String, Default: "0660", Allowed: `an octal mode such as "0660"`, Doc: "Who may do what with them inside.", check: is(isMode)}),
		option(Key{Name: "uid", Type: Integer, Default: "0", Allowed: "a user id", Doc: "The user inside that owns the nodes.", check: between(0, 1<<32-2)}),
	}
}

func unixHotplugType() DeviceType {
	return DeviceType{
		Name: "unix-hotplug", Doc: "Device nodes of the host, as they come and go: those of a vendor's USB devices, or of a subsystem of the kernel.",
		Options: append(hotplugOptions(), ownerOptions()...), together: checkHotplug,
	}
}

func hotplugOptions() []Option {
	return []Option{
		booleanOption(Key{Name: "ownership.inherit", Default: "false", Doc: "Give the nodes the mode that they have on the host, and the owner as far as the instance has that id."}),
		option(Key{Name: "pci", Type: String, Allowed: wantPCI, Doc: "Only devices behind the USB controller at this PCI address.", check: is(isPCI)}),
		option(Key{Name: "productid", Type: String, Allowed: wantUSBID, Doc: "Only nodes of USB devices of this product.", check: is(isUSBID)}),
		booleanOption(Key{Name: "required", Default: "false", Doc: "Refuse to start the instance while there is no such node."}),
		option(Key{Name: "subsystem", Type: String, Allowed: `the name of a subsystem such as "tty"`, Doc: "Only nodes of this subsystem of the kernel.", check: is(isSubsystem)}),
		option(Key{Name: "vendorid", Type: String, Allowed: wantUSBID, Doc: "Only nodes of USB devices of this vendor.", check: is(isUSBID)}),
	}
}

func checkHotplug(d Device) error {
	if d["vendorid"] == "" && d["productid"] == "" && d["subsystem"] == "" && d["pci"] == "" {
		return errs.Invalidf("a device of type unix-hotplug needs one of the options vendorid, productid, subsystem and pci")
	}
	if inherit, _ := ParseBool(d["ownership.inherit"]); inherit { // It is valid.
		for _, o := range []string{"gid", "mode", "uid"} {
			if d[o] != "" {
				return errs.Invalidf("%s and ownership.inherit: want one of them, as the host says it", o)
			}
		}
	}
	return nil
}

func isUSBID(v string) bool { return len(v) == 4 && only(v, digits+"abcdefABCDEF") }

func isSubsystem(v string) bool {
	return v != "" && len(v) <= 64 && only(v, letters+digits+"_-")
}
