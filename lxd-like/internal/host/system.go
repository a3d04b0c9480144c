package host

import (
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/api"
)

// chassisTypes are what SMBIOS calls the shapes of a machine, from 1 on.
var chassisTypes = []string{
	"Other", "Unknown", "Desktop", "Low Profile Desktop", "Pizza Box", "Mini Tower", "Tower", "Portable", "Laptop",
	"Notebook", "Hand Held", "Docking Station", "All in One", "Sub Notebook", "Space-saving", "Lunch Box",
	"Main Server Chassis", "Expansion Chassis", "SubChassis", "Bus Expansion Chassis", "Peripheral Chassis",
	"RAID Chassis", "Rack Mount Chassis", "Sealed-case PC", "Multi-system Chassis", "Compact PCI", "Advanced TCA",
	"Blade", "Blade Enclosure", "Tablet", "Convertible", "Detachable", "IoT Gateway", "Embedded PC", "Mini PC", "Stick PC",
}

// system returns what the firmware says of the host.
func (h Host) system() api.ResourcesSystem {
	dmi := func(file string) string { return h.text("sys/class/dmi/id", file) }
	const tree = "sys/firmware/devicetree/base" // What hosts without DMI can have.
	out := api.ResourcesSystem{
		UUID: dmi("product_uuid"), Vendor: dmi("sys_vendor"), Family: dmi("product_family"), Version: dmi("product_version"),
		Product: firstText(dmi("product_name"), h.text(tree, "model")), Sku: dmi("product_sku"),
		Serial: firstText(dmi("product_serial"), h.text(tree, "serial-number")),
		Firmware: &api.ResourcesSystemFirmware{
			Vendor: dmi("bios_vendor"), Date: dmi("bios_date"), Version: dmi("bios_version"),
		},
		Chassis: &api.ResourcesSystemChassis{
			Vendor: dmi("chassis_vendor"), Serial: dmi("chassis_serial"), Version: dmi("chassis_version"),
		},
		Motherboard: &api.ResourcesSystemMotherboard{
			Vendor: dmi("board_vendor"), Product: dmi("board_name"), Serial: dmi("board_serial"), Version: dmi("board_version"),
		},
	}
	if n := h.number("sys/class/dmi/id/chassis_type"); n > 0 && n <= uint64(len(chassisTypes)) {
		out.Chassis.Type = chassisTypes[n-1]
	}
	out.Type = h.systemType(out)
	return out
}

// hypervisors are beginnings of vendors and products that only virtual
// machines have.
var hypervisors = []string{
	"QEMU", "KVM", "VMware", "Xen", "innotek", "VirtualBox", "Parallels", "Bochs", "BHYVE", "Virtual Machine",
	"Amazon EC2", "Google Compute Engine", "OpenStack",
}

// systemType says what the host is: a container sets a variable for its first
// process, and hypervisors on x86 a flag of the processor.
func (h Host) systemType(s api.ResourcesSystem) string {
	if h.exists("run/systemd/container") || strings.Contains("\x00"+h.text("proc/1/environ"), "\x00container=") {
		return "container"
	}
	if h.exists("sys/hypervisor/type") || hasFlag(h.text("proc/cpuinfo"), "hypervisor") {
		return "virtual-machine"
	}
	for _, name := range hypervisors {
		if strings.HasPrefix(s.Vendor, name) || strings.HasPrefix(s.Product, name) {
			return "virtual-machine"
		}
	}
	return "physical"
}

func hasFlag(cpuinfo, flag string) bool {
	for line := range strings.Lines(cpuinfo) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) == "flags" {
			return slices.Contains(strings.Fields(value), flag)
		}
	}
	return false
}
