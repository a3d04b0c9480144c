package host

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/api"
)

const (
	blockDir = "sys/class/block"
	sector   = 512 // Bytes of what sysfs counts, whatever the disk has.
)

// storage returns the disks: block devices that are neither made by the
// kernel, as loop devices are, nor paths to another one.
func (h Host) storage() api.ResourcesStorage {
	out := api.ResourcesStorage{Disks: []api.ResourcesStorageDisk{}}
	partitions := map[string][]api.ResourcesStorageDiskPartition{} // By the disk's directory.
	for _, name := range h.names(blockDir) {
		if dev := h.follow(blockDir, name); h.exists(dev, "partition") {
			disk := path.Dir(dev)
			partitions[disk] = append(partitions[disk], h.partition(name, dev))
		}
	}
	for _, name := range h.names(blockDir) {
		dev := h.follow(blockDir, name)
		if dev == "" || isVirtual(dev) && !h.exists(dev, "device") || h.exists(dev, "partition") || h.text(dev, "hidden") == "1" {
			continue // An NVMe disk with several paths is virtual, but a device.
		}
		disk := h.disk(name, dev)
		disk.Partitions = append([]api.ResourcesStorageDiskPartition{}, partitions[dev]...)
		out.Disks = append(out.Disks, disk)
		out.Total += 1 + uint64(len(disk.Partitions))
	}
	return out
}

func (h Host) partition(name, dev string) api.ResourcesStorageDiskPartition {
	return api.ResourcesStorageDiskPartition{
		ID: name, Device: h.text(dev, "dev"), ReadOnly: h.text(dev, "ro") == "1",
		Size: h.number(dev, "size") * sector, Partition: h.number(dev, "partition"),
	}
}

func (h Host) disk(name, dev string) api.ResourcesStorageDisk {
	number := h.text(dev, "dev")
	known := parseUdev(h.text("run/udev/data", "b"+number))
	out := api.ResourcesStorageDisk{
		ID: name, Device: number, Model: h.text(dev, "device/model"), Type: h.diskType(name, dev),
		ReadOnly: h.text(dev, "ro") == "1", Removable: h.text(dev, "removable") == "1",
		Size: h.number(dev, "size") * sector, BlockSize: h.number(dev, "queue/physical_block_size"),
		WWN:             firstText(known.properties["ID_WWN"], h.text(dev, "wwid"), h.text(dev, "device/wwid")),
		FirmwareVersion: firstText(h.text(dev, "device/firmware_rev"), h.text(dev, "device/rev")),
		Serial:          firstText(known.properties["ID_SERIAL_SHORT"], h.text(dev, "device/serial"), h.text(dev, "serial")),
		RPM:             h.number(dev, "queue/rotational"),
		DevicePath:      known.properties["ID_PATH"], DeviceID: known.id,
	}
	if rpm, err := strconv.ParseUint(known.properties["ID_ATA_ROTATION_RATE_RPM"], 10, 64); err == nil {
		out.RPM = rpm
	}
	if pci := pciDir(dev); pci != "" {
		out.NUMANode = h.number(pci, "numa_node")
	}
	return out
}

func firstText(all ...string) string {
	i := slices.IndexFunc(all, func(s string) bool { return s != "" })
	if i < 0 {
		return ""
	}
	return all[i]
}

// diskType says how a disk is attached.
func (h Host) diskType(name, dev string) string {
	switch bus := path.Base(h.follow(dev, "device/subsystem")); {
	case strings.HasPrefix(name, "nvme"):
		return "nvme"
	case strings.HasPrefix(name, "sr"):
		return "cdrom"
	case strings.Contains(dev, "/usb"):
		return "usb"
	case strings.Contains(dev, "/ata"):
		return "sata"
	case bus == ".": // What path.Base makes of nothing.
		return ""
	default:
		return bus
	}
}

// udev is what udev knows of a device.
type udev struct {
	properties map[string]string
	id         string // In /dev/disk/by-id.
}

// parseUdev parses a file of udev's database. Lines are a letter, a colon and
// a value: E has a property, S a link in /dev. Of several links it takes the
// first in order that is not one by the disk's world-wide name alone.
func parseUdev(text string) udev {
	out := udev{properties: map[string]string{}}
	var ids []string
	for line := range strings.Lines(text) {
		kind, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch kind {
		case "E":
			key, value, _ := strings.Cut(value, "=")
			out.properties[key] = value
		case "S":
			if id, ok := strings.CutPrefix(value, "disk/by-id/"); ok {
				ids = append(ids, id)
			}
		}
	}
	slices.SortFunc(ids, func(a, b string) int {
		byName := func(s string) string {
			if strings.HasPrefix(s, "wwn-") {
				return "~" + s
			}
			return s
		}
		return strings.Compare(byName(a), byName(b))
	})
	out.id = firstText(ids...)
	return out
}
