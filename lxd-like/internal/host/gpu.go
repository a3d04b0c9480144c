package host

import (
	"path"
	"regexp"
	"strconv"

	"github.com/cuib/cuib/shared/api"
)

const drmDir = "sys/class/drm"

var drmNode = regexp.MustCompile(`^(card|renderD)([0-9]+)$`)

// gpus returns the graphics cards: those on PCI, and others that have a
// driver.
func (h Host) gpus(names pciNames) api.ResourcesGPU {
	drivers := map[string]*api.ResourcesGPUCardDRM{} // By the base of the device's directory.
	var others []string
	for _, name := range h.names(drmDir) {
		m, node := drmNode.FindStringSubmatch(name), h.follow(drmDir, name)
		if m == nil || isVirtual(node) {
			continue // A connector, or a card in memory.
		}
		dev := path.Dir(path.Dir(node))
		key := path.Base(dev)
		if drivers[key] == nil {
			drivers[key] = &api.ResourcesGPUCardDRM{}
			if !pciAddress.MatchString(key) {
				others = append(others, dev)
			}
		}
		addNode(drivers[key], m, h.text(node, "dev"))
	}
	out := api.ResourcesGPU{Cards: []api.ResourcesGPUCard{}}
	for _, dir := range append(h.ofClass(pciDisplay), others...) {
		out.Cards = append(out.Cards, h.gpu(dir, drivers[path.Base(dir)], names))
	}
	out.Total = uint64(len(out.Cards))
	return out
}

// addNode notes a device node of a graphics card: its name, in parts, and its
// number.
func addNode(drm *api.ResourcesGPUCardDRM, name []string, number string) {
	if name[1] != "card" {
		drm.RenderName, drm.RenderDevice = name[0], number
		return
	}
	drm.CardName, drm.CardDevice = name[0], number
	drm.ID, _ = strconv.ParseUint(name[2], 10, 64) // It is of digits.
}

func (h Host) gpu(dir string, drm *api.ResourcesGPUCardDRM, names pciNames) api.ResourcesGPUCard {
	out := api.ResourcesGPUCard{DRM: drm}
	out.Driver, out.DriverVersion = h.driver(dir)
	if pci := pciDir(dir); pci != "" {
		d := h.pciDevice(pci, names)
		out.NUMANode, out.PCIAddress = d.NUMANode, d.PCIAddress
		out.Vendor, out.VendorID, out.Product, out.ProductID = d.Vendor, d.VendorID, d.Product, d.ProductID
	}
	return out
}
