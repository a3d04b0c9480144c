package host

import (
	"path"
	"strconv"
	"strings"
)

// A Node is a device node, as the driver that it belongs to has it.
type Node struct {
	Block        bool // Else a character device.
	Major, Minor uint32
	Name         string   // Below /dev, such as "bus/usb/001/002".
	Subsystem    string   // Of the kernel: usb, drm, block and so on.
	Path         string   // Of the device below /sys, such as "/devices/virtual/mem/null".
	Properties   []string // NAME=VALUE, as the kernel tells them of the device.
}

// Nodes returns the device nodes for which want is true, of which it is given
// the subsystem; in the order of their numbers, character devices first.
func (h Host) Nodes(want func(subsystem string) bool) []Node {
	var out []Node
	for _, kind := range []string{"char", "block"} {
		dir := path.Join("sys/dev", kind)
		for _, number := range h.names(dir) {
			at := h.follow(dir, number)
			if at == "" || !want(h.subsystem(at)) {
				continue
			}
			if n, ok := h.node(at); ok {
				out = append(out, n)
			}
		}
	}
	return out
}

// NodeOf returns the device node with these numbers, if a driver has it.
func (h Host) NodeOf(block bool, major, minor uint32) (Node, bool) { //nolint:revive // It is a part of the number.
	kind := "char"
	if block {
		kind = "block"
	}
	at := h.follow("sys/dev", kind, strconv.FormatUint(uint64(major), 10)+":"+strconv.FormatUint(uint64(minor), 10))
	if at == "" {
		return Node{}, false
	}
	return h.node(at)
}

func (h Host) subsystem(dir string) string { return path.Base(h.follow(dir, "subsystem")) }

// node reads what the kernel tells of a device.
func (h Host) node(dir string) (n Node, ok bool) {
	n.Subsystem, n.Path = h.subsystem(dir), strings.TrimPrefix(dir, "sys")
	n.Block = n.Subsystem == "block"
	for line := range strings.Lines(h.text(dir, "uevent")) {
		line = strings.TrimSuffix(line, "\n")
		n.Properties = append(n.Properties, line)
		if name, found := strings.CutPrefix(line, "DEVNAME="); found {
			n.Name = name
		}
	}
	n.Major, n.Minor, ok = numbers(h.text(dir, "dev"))
	// A name is the kernel's, which writes no others.
	return n, ok && n.Name != "" && !strings.Contains(n.Name, "..")
}

func numbers(text string) (major, minor uint32, ok bool) {
	a, b, ok := strings.Cut(text, ":")
	x, err := strconv.ParseUint(a, 10, 32)
	if err != nil {
		return 0, 0, false
	}
	y, err := strconv.ParseUint(b, 10, 32)
	return uint32(x), uint32(y), ok && err == nil
}

// A USBDevice is one that is plugged in.
type USBDevice struct {
	Node
	Bus, Device     uint64
	Vendor, Product string // Four hexadecimal digits each.
	Serial          string
}

// USBDevices returns the USB devices that are no hubs.
func (h Host) USBDevices() []USBDevice {
	var out []USBDevice
	for _, name := range h.names(usbDevices) {
		dir := h.follow(usbDevices, name)
		if dir == "" || h.text(dir, "bDeviceClass") == usbHub {
			continue
		}
		if d, ok := h.usbDeviceAt(dir); ok {
			out = append(out, d)
		}
	}
	return out
}

func (h Host) usbDeviceAt(dir string) (d USBDevice, ok bool) {
	if !h.exists(dir, "busnum") {
		return d, false // An interface of one.
	}
	d.Node, ok = h.node(dir)
	d.Bus, d.Device, d.Serial = h.number(dir, "busnum"), h.number(dir, "devnum"), h.text(dir, "serial")
	d.Vendor, d.Product = h.text(dir, "idVendor"), h.text(dir, "idProduct")
	return d, ok
}

// USBOf returns the USB device that a node belongs to, and the PCI address of
// the controller that it is behind.
func (h Host) USBOf(n Node) (d USBDevice, controller string, ok bool) {
	dir := h.usbDir("sys" + n.Path)
	if dir == "" {
		return d, "", false
	}
	d, ok = h.usbDeviceAt(dir)
	if pci := pciDir(dir); pci != "" {
		controller = path.Base(pci)
	}
	return d, controller, ok
}

// A GPU is a graphics card that has a driver.
type GPU struct {
	ID                   string // The number of its DRM card; empty where there is none.
	PCI, Vendor, Product string // Its PCI address and ids; empty where it is on no such bus.
	Nvidia               string // The number that NVIDIA's own driver has for it; empty for others.
	Nodes                []Node // Those of DRM: card, render and control.
}

// GPUs returns the graphics cards, in the order of their directories.
func (h Host) GPUs() []GPU {
	var dirs []string
	nodes := map[string][]Node{}
	for _, name := range h.names(drmDir) {
		at := h.follow(drmDir, name)
		if at == "" || isVirtual(at) {
			continue // A card in memory.
		}
		n, ok := h.node(at)
		if !ok {
			continue // A connector.
		}
		dev := path.Dir(path.Dir(at)) // DEVICE/drm/card0
		if nodes[dev] == nil {
			dirs = append(dirs, dev)
		}
		nodes[dev] = append(nodes[dev], n)
	}
	for _, address := range h.names(nvidiaDir) {
		if dir := h.follow(pciDevices, address); dir != "" && nodes[dir] == nil {
			dirs = append(dirs, dir) // Without DRM.
		}
	}
	out := make([]GPU, 0, len(dirs))
	for _, dir := range dirs {
		out = append(out, h.gpuAt(dir, nodes[dir]))
	}
	return out
}

// nvidiaDir is where NVIDIA's driver tells of its cards, by PCI address.
const nvidiaDir = "proc/driver/nvidia/gpus"

func (h Host) gpuAt(dir string, nodes []Node) GPU {
	g := GPU{Nodes: nodes}
	for _, n := range nodes {
		if id, ok := strings.CutPrefix(path.Base(n.Name), "card"); ok {
			g.ID = id
		}
	}
	pci := pciDir(dir)
	if pci == "" {
		return g
	}
	id := func(file string) string { return strings.TrimPrefix(h.text(pci, file), "0x") }
	g.PCI, g.Vendor, g.Product = path.Base(pci), id("vendor"), id("device")
	for line := range strings.Lines(h.text(nvidiaDir, g.PCI, "information")) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "Device Minor" {
			g.Nvidia = strings.TrimSpace(value)
		}
	}
	return g
}
