package host

import (
	"path"
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/api"
)

const (
	usbDevices = "sys/bus/usb/devices"
	usbHub     = "09"
)

// usbClasses are the classes of interfaces that USB defines.
var usbClasses = map[uint64]string{
	0x01: "Audio", 0x02: "Communications", 0x03: "Human Interface Device", 0x05: "Physical", 0x06: "Image",
	0x07: "Printer", 0x08: "Mass Storage", 0x09: "Hub", 0x0a: "CDC Data", 0x0b: "Smart Card",
	0x0d: "Content Security", 0x0e: "Video", 0x0f: "Personal Healthcare", 0x10: "Audio/Video",
	0xdc: "Diagnostic Device", 0xe0: "Wireless", 0xef: "Miscellaneous", 0xfe: "Application Specific", 0xff: "Vendor Specific",
}

// usb returns the USB devices.
func (h Host) usb() api.ResourcesUSB {
	out := api.ResourcesUSB{Devices: []api.ResourcesUSBDevice{}}
	for _, name := range h.names(usbDevices) {
		dir := path.Join(usbDevices, name)
		if h.exists(dir, "busnum") && h.text(dir, "bDeviceClass") != usbHub {
			out.Devices = append(out.Devices, h.usbDevice(dir))
		}
	}
	out.Total = uint64(len(out.Devices))
	return out
}

func (h Host) usbDevice(dir string) api.ResourcesUSBDevice {
	speed, _ := strconv.ParseFloat(h.text(dir, "speed"), 64) // "unknown" is 0.
	out := api.ResourcesUSBDevice{
		BusAddress: h.number(dir, "busnum"), DeviceAddress: h.number(dir, "devnum"), Serial: h.text(dir, "serial"),
		Interfaces: []api.ResourcesUSBDeviceInterface{}, Speed: speed,
		Vendor: h.text(dir, "manufacturer"), VendorID: h.text(dir, "idVendor"),
		Product: h.text(dir, "product"), ProductID: h.text(dir, "idProduct"),
	}
	for _, name := range h.names(dir) {
		if strings.Contains(name, ":") && h.exists(dir, name, "bInterfaceNumber") {
			out.Interfaces = append(out.Interfaces, h.usbInterface(path.Join(dir, name)))
		}
	}
	return out
}

func (h Host) usbInterface(dir string) api.ResourcesUSBDeviceInterface {
	hex := func(file string) uint64 {
		n, _ := strconv.ParseUint(h.text(dir, file), 16, 64) // The files are there.
		return n
	}
	class := hex("bInterfaceClass")
	out := api.ResourcesUSBDeviceInterface{
		Class: usbClasses[class], ClassID: class, SubClassID: hex("bInterfaceSubClass"), Number: hex("bInterfaceNumber"),
	}
	out.Driver, out.DriverVersion = h.driver(dir)
	return out
}

// usbDir returns the directory of the USB device that a device is, or is an
// interface of, or nothing if there is none.
func (h Host) usbDir(dev string) string {
	for ; dev != "." && dev != "/"; dev = path.Dir(dev) {
		if h.exists(dev, "busnum") && h.exists(dev, "devnum") {
			return dev
		}
	}
	return ""
}
