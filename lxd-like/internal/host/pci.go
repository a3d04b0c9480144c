package host

import (
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/api"
)

const pciDevices = "sys/bus/pci/devices"

// The classes of PCI devices that are told apart: the first byte of three.
const (
	pciNetwork = "0x02"
	pciDisplay = "0x03"
)

var pciAddress = regexp.MustCompile(`^[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// pciDir returns the directory of the PCI device that a device is, or is
// behind, or nothing if there is none.
func pciDir(dev string) string {
	for ; dev != "." && dev != "/"; dev = path.Dir(dev) {
		if pciAddress.MatchString(path.Base(dev)) {
			return dev
		}
	}
	return ""
}

// pci returns the PCI devices.
func (h Host) pci(names pciNames) api.ResourcesPCI {
	out := api.ResourcesPCI{Devices: []api.ResourcesPCIDevice{}}
	for _, address := range h.names(pciDevices) {
		out.Devices = append(out.Devices, h.pciDevice(path.Join(pciDevices, address), names))
	}
	out.Total = uint64(len(out.Devices))
	return out
}

func (h Host) pciDevice(dir string, names pciNames) api.ResourcesPCIDevice {
	id := func(file string) string { return strings.TrimPrefix(h.text(dir, file), "0x") }
	out := api.ResourcesPCIDevice{NUMANode: h.number(dir, "numa_node"), PCIAddress: path.Base(dir), VendorID: id("vendor"), ProductID: id("device")}
	out.Driver, out.DriverVersion = h.driver(dir)
	out.Vendor, out.Product = names[out.VendorID], names[out.VendorID+":"+out.ProductID]
	group, err := strconv.ParseUint(path.Base(h.follow(dir, "iommu_group")), 10, 64)
	if err == nil {
		out.IOMMUGroup = group
	}
	return out
}

// ofClass returns the directories of the PCI devices of a class.
func (h Host) ofClass(class string) []string {
	var out []string
	for _, address := range h.names(pciDevices) {
		if strings.HasPrefix(h.text(pciDevices, address, "class"), class) {
			out = append(out, path.Join(pciDevices, address))
		}
	}
	return out
}

// pciNames are the names of vendors by their id, and of products by both ids
// with a colon between.
type pciNames map[string]string

// pciNames reads the list of names that the host has, if it has one.
func (h Host) pciNames() pciNames {
	for _, file := range []string{"usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids"} {
		if text := h.text(file); text != "" {
			return parsePCINames(text)
		}
	}
	return nil
}

// parsePCINames parses pci.ids: lines of an id, two spaces and a name. Those
// of products have a tab before them, and come after their vendor.
func parsePCINames(text string) pciNames {
	out := pciNames{}
	var vendor string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "C ") {
			break // Classes follow.
		}
		product, isProduct := strings.CutPrefix(line, "\t")
		id, name, ok := strings.Cut(product, "  ")
		switch {
		case !ok || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "\t\t"):
		case isProduct:
			out[vendor+":"+id] = name
		default:
			vendor = id
			out[vendor] = name
		}
	}
	return out
}
