package host

import (
	"path"
	"strconv"

	"github.com/cuib/cuib/shared/api"
)

const netDir = "sys/class/net"

// cards are network cards in the order in which they were found.
type cards struct {
	all   []*card
	byDir map[string]*card // By the base of the device's directory.
}

type card struct {
	api.ResourcesNetworkCard

	parent string // The PCI address of the card that this is a virtual function of.
}

// network returns the network cards: those with interfaces in this network
// namespace, and those on PCI that have none.
func (h Host) network(names pciNames) api.ResourcesNetwork {
	found := cards{byDir: map[string]*card{}}
	for _, name := range h.names(netDir) {
		iface := h.follow(netDir, name)
		if iface == "" || isVirtual(iface) {
			continue
		}
		c := found.at(path.Dir(path.Dir(iface)), func(dev string) *card { return h.card(dev, names) })
		c.Ports = append(c.Ports, h.port(name, iface))
	}
	for _, dir := range h.ofClass(pciNetwork) {
		found.at(dir, func(dev string) *card { return h.card(dev, names) })
	}
	return found.list()
}

// at returns the card of a device, which it makes if there is none.
func (c *cards) at(dev string, describe func(dev string) *card) *card {
	key := path.Base(dev)
	if pci := pciDir(dev); pci != "" {
		key = path.Base(pci)
	}
	if c.byDir[key] == nil {
		c.byDir[key] = describe(dev)
		c.all = append(c.all, c.byDir[key])
	}
	return c.byDir[key]
}

// list puts virtual functions below the cards that have them.
func (c *cards) list() api.ResourcesNetwork {
	out := api.ResourcesNetwork{Cards: []api.ResourcesNetworkCard{}, Total: uint64(len(c.all))}
	var top []*card
	for _, one := range c.all {
		if parent := c.byDir[one.parent]; parent != nil && parent.SRIOV != nil {
			parent.SRIOV.VFs = append(parent.SRIOV.VFs, one.ResourcesNetworkCard)
		} else {
			top = append(top, one)
		}
	}
	for _, one := range top {
		out.Cards = append(out.Cards, one.ResourcesNetworkCard)
	}
	return out
}

// card describes the card of a device.
func (h Host) card(dev string, names pciNames) *card {
	out := &card{}
	out.Driver, out.DriverVersion = h.driver(dev)
	if usb := h.usbDir(dev); usb != "" {
		d := h.usbDevice(usb)
		out.USBAddress = strconv.FormatUint(d.BusAddress, 10) + ":" + strconv.FormatUint(d.DeviceAddress, 10)
		out.Vendor, out.VendorID, out.Product, out.ProductID = d.Vendor, d.VendorID, d.Product, d.ProductID
		return out
	}
	pci := pciDir(dev)
	if pci == "" {
		return out
	}
	d := h.pciDevice(pci, names)
	out.NUMANode, out.PCIAddress = d.NUMANode, d.PCIAddress
	out.Vendor, out.VendorID, out.Product, out.ProductID = d.Vendor, d.VendorID, d.Product, d.ProductID
	if to := h.follow(pci, "physfn"); to != "" {
		out.parent = path.Base(to)
	}
	if most := h.number(pci, "sriov_totalvfs"); most > 0 {
		out.SRIOV = &api.ResourcesNetworkCardSRIOV{
			CurrentVFs: h.number(pci, "sriov_numvfs"), MaximumVFs: most, VFs: []api.ResourcesNetworkCard{},
		}
	}
	return out
}

// The kinds of links that cards have, as linux/if_arp.h numbers them.
var protocols = map[uint64]string{1: "ethernet", 32: "infiniband"}

// port describes an interface. What its link does cannot be read while it is
// down.
func (h Host) port(name, iface string) api.ResourcesNetworkCardPort {
	out := api.ResourcesNetworkCardPort{
		ID: name, Address: h.text(iface, "address"), Port: h.number(iface, "dev_port"), Protocol: protocols[h.number(iface, "type")],
		LinkDetected: h.text(iface, "carrier") == "1", LinkSpeed: h.number(iface, "speed"),
	}
	if out.LinkSpeed > 0 {
		out.LinkDuplex = h.text(iface, "duplex")
	}
	return out
}
