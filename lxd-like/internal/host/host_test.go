package host_test

import (
	"encoding/json"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cuib/cuib/lxd-like/internal/host"
	"github.com/cuib/cuib/shared/api"
)

// The devices of the fake host: two network cards, one of them with a virtual
// function, a SATA disk, an NVMe disk, a USB stick and a graphics card.
const (
	nic   = "sys/devices/pci0000:00/0000:00:03.0"
	vf    = "sys/devices/pci0000:00/0000:00:03.1"
	bare  = "sys/devices/pci0000:00/0000:00:04.0"
	sata  = "sys/devices/pci0000:00/0000:00:05.0"
	nvme  = "sys/devices/pci0000:00/0000:00:06.0"
	gpu   = "sys/devices/pci0000:00/0000:00:07.0"
	stick = "sys/devices/pci0000:00/0000:00:08.0/usb1/1-2"
	sda   = sata + "/ata1/host0/target0:0:0/0:0:0:0"
	disk  = sda + "/block/sda"
)

// base is what all fake hosts have; a value of "-> X" is a link to X.
var base = map[string]string{
	"proc/meminfo": "MemTotal: 1000 kB\nMemFree: 300 kB\nBuffers: 50 kB\nCached: 250 kB\nShmem: 100 kB\nSReclaimable: 100 kB\n" +
		"HugePages_Total: 4\nHugePages_Free: 1\nHugepagesize: 2048 kB\n",
	"proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: A CPU\ncpu MHz\t\t: 1234.567\nflags\t\t: fpu vme\n\n",
	"proc/loadavg": "0.10 0.20 0.30 1/234 5678\n",
	"sys/devices/system/cpu/cpu0/topology/core_id": "0\n",
}

func tree(files ...map[string]string) host.Host {
	out := fstest.MapFS{}
	for _, set := range append([]map[string]string{base}, files...) {
		for name, content := range set {
			f := &fstest.MapFile{Data: []byte(content), Mode: 0o444}
			if to, ok := strings.CutPrefix(content, "-> "); ok {
				f = &fstest.MapFile{Data: []byte(to), Mode: 0o777 | fs.ModeSymlink}
			}
			out[name] = f
		}
	}
	return host.Host{Files: out, Machine: "x86_64", Release: "6.1.0"}
}

// pciFiles are the files of a PCI device.
func pciFiles(dir, class, ids string) map[string]string {
	vendor, product, _ := strings.Cut(ids, ":")
	address := dir[strings.LastIndex(dir, "/")+1:]
	return map[string]string{
		dir + "/class": "0x" + class + "\n", dir + "/vendor": "0x" + vendor + "\n", dir + "/device": "0x" + product + "\n",
		dir + "/numa_node":               "-1\n",
		"sys/bus/pci/devices/" + address: "-> ../../../" + strings.TrimPrefix(dir, "sys/"),
	}
}

func cpuFiles(id, socket, core, die string) map[string]string {
	dir := "sys/devices/system/cpu/cpu" + id
	return map[string]string{
		dir + "/topology/physical_package_id": socket, dir + "/topology/core_id": core, dir + "/topology/die_id": die,
		dir + "/node" + socket + "/cpulist": "", dir + "/online": "1",
	}
}

func TestResources(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files []map[string]string
		part  func(api.Resources) any
		want  any
	}{
		"the load": {nil, func(r api.Resources) any { return r.Load }, api.ResourcesLoad{
			Average1Min: .1, Average5Min: .2, Average10Min: .3, Processes: 234,
		}},
		"memory without caches of files": {nil, func(r api.Resources) any { return r.Memory }, api.ResourcesMemory{
			HugepagesTotal: 4 * 2048 << 10, HugepagesUsed: 3 * 2048 << 10, HugepagesSize: 2048 << 10, Used: 400 << 10, Total: 1000 << 10,
		}},
		"memory of nodes": {[]map[string]string{{
			"sys/devices/system/node/node0/meminfo":  "Node 0 MemTotal: 600 kB\nNode 0 MemFree: 100 kB\nNode 0 FilePages: 200 kB\n",
			"sys/devices/system/node/node10/meminfo": "Node 10 MemTotal: 400 kB\nNode 10 MemFree: 500 kB\nNode 10 HugePages_Total: 2\n",
		}}, func(r api.Resources) any { return r.Memory.Nodes }, []api.ResourcesMemoryNode{
			{NUMANode: 0, Used: 300 << 10, Total: 600 << 10},
			{NUMANode: 10, Used: 0, Total: 400 << 10, HugepagesTotal: 4096 << 10, HugepagesUsed: 4096 << 10},
		}},
		"an empty host has empty lists": {nil, func(r api.Resources) any {
			return []int{len(r.GPU.Cards), len(r.Network.Cards), len(r.Storage.Disks), len(r.USB.Devices), len(r.PCI.Devices)}
		}, []int{0, 0, 0, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, tree(c.files...), c.part, c.want)
		})
	}
}

func check(t *testing.T, h host.Host, part func(api.Resources) any, want any) {
	t.Helper()
	r, err := h.Resources()
	if err != nil {
		t.Fatal(err)
	}
	if got := part(r); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %s\nwant %s", text(got), text(want))
	}
}

func text(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func TestCPU(t *testing.T) {
	t.Parallel()
	const dir = "sys/devices/system/cpu/"
	h := tree(
		cpuFiles("0", "0", "0", "0"), cpuFiles("1", "1", "8", "0"), cpuFiles("2", "0", "0", "0"), cpuFiles("10", "0", "0", "1"),
		map[string]string{
			dir + "isolated": "2\n", dir + "cpu10/online": "0\n", dir + "cpu11/online": "0\n", dir + "cpufreq/x": "",
			dir + "cpu10/cpufreq/scaling_cur_freq": "3000000\n",
			dir + "cpu0/cpufreq/cpuinfo_min_freq":  "800000\n", dir + "cpu0/cpufreq/cpuinfo_max_freq": "4000000\n",
			dir + "cpu0/cache/index0/level": "1\n", dir + "cpu0/cache/index0/type": "Data\n", dir + "cpu0/cache/index0/size": "48K\n",
			dir + "cpu0/cache/index1/level": "2\n",
		})
	check(t, h, func(r api.Resources) any { return r.CPU }, api.ResourcesCPU{
		Architecture: "x86_64", Total: 4, Sockets: []api.ResourcesCPUSocket{
			{
				Name: "A CPU", Vendor: "GenuineIntel", Cache: []api.ResourcesCPUCache{{Level: 1, Type: "Data", Size: 48 << 10}},
				Frequency: 2117, FrequencyMinimum: 800, FrequencyTurbo: 4000, Cores: []api.ResourcesCPUCore{
					{Frequency: 1234, Threads: []api.ResourcesCPUThread{
						{ID: 0, Thread: 0, Online: true}, {ID: 2, Thread: 1, Online: true, Isolated: true},
					}},
					{Die: 1, Frequency: 3000, Threads: []api.ResourcesCPUThread{{ID: 10}}},
				},
			},
			{Socket: 1, Cores: []api.ResourcesCPUCore{
				{Core: 8, Threads: []api.ResourcesCPUThread{{ID: 1, NUMANode: 1, Online: true}}},
			}},
		},
	})
}

func TestDisks(t *testing.T) {
	t.Parallel()
	h := tree(pciFiles(sata, "010601", "8086:1"), pciFiles(nvme, "010802", "144d:2"), map[string]string{
		sata + "/numa_node": "1\n",
		disk + "/dev":       "8:0\n", disk + "/size": "2048\n", disk + "/ro": "0\n", disk + "/removable": "1\n",
		disk + "/queue/physical_block_size": "4096\n", disk + "/queue/rotational": "1\n", disk + "/device": "-> ../../../0:0:0:0",
		sda + "/model": "A DISK  \n", sda + "/rev": "1.0\n", sda + "/wwid": "t10.A\n",
		disk + "/sda10/partition": "10\n", disk + "/sda10/dev": "8:10\n", disk + "/sda10/size": "2\n", disk + "/sda10/ro": "1\n",
		disk + "/sda2/partition": "2\n", disk + "/sda2/dev": "8:2\n", disk + "/sda2/size": "4\n",
		"run/udev/data/b8:0": "S:disk/by-id/wwn-0x5\nS:disk/by-id/ata-A_DISK\nE:ID_SERIAL_SHORT=S1\nE:ID_WWN=0x5\n" +
			"E:ID_PATH=pci-0000:00:05.0-ata-1\nE:ID_ATA_ROTATION_RATE_RPM=7200\n",
		"sys/class/block/sda": "-> ../../" + strings.TrimPrefix(disk, "sys/"), "sys/class/block/sda10": "-> ../../" + strings.TrimPrefix(disk, "sys/") + "/sda10",
		"sys/class/block/sda2":                "-> ../../" + strings.TrimPrefix(disk, "sys/") + "/sda2",
		"sys/class/block/loop0":               "-> ../../devices/virtual/block/loop0",
		"sys/devices/virtual/block/loop0/dev": "7:0\n",
		"sys/class/block/nvme0n1":             "-> ../../" + strings.TrimPrefix(nvme, "sys/") + "/nvme/nvme0/nvme0n1",
		nvme + "/nvme/nvme0/nvme0n1/device":   "-> ../../nvme0",
		nvme + "/nvme/nvme0/nvme0n1/wwid":     "eui.1\n", nvme + "/nvme/nvme0/nvme0n1/size": "16\n",
		nvme + "/nvme/nvme0/serial": "S2\n", nvme + "/nvme/nvme0/model": "FAST\n", nvme + "/nvme/nvme0/firmware_rev": "F2\n",
	})
	check(t, h, func(r api.Resources) any { return r.Storage }, api.ResourcesStorage{Total: 4, Disks: []api.ResourcesStorageDisk{
		{
			ID: "nvme0n1", Model: "FAST", Type: "nvme", Size: 8192, WWN: "eui.1", Serial: "S2", FirmwareVersion: "F2",
			Partitions: []api.ResourcesStorageDiskPartition{},
		},
		{
			ID: "sda", Device: "8:0", Model: "A DISK", Type: "sata", Size: 1 << 20, Removable: true, WWN: "0x5", NUMANode: 1,
			DevicePath: "pci-0000:00:05.0-ata-1", BlockSize: 4096, FirmwareVersion: "1.0", RPM: 7200, Serial: "S1", DeviceID: "ata-A_DISK",
			Partitions: []api.ResourcesStorageDiskPartition{
				{ID: "sda2", Device: "8:2", Size: 2048, Partition: 2},
				{ID: "sda10", Device: "8:10", ReadOnly: true, Size: 1024, Partition: 10},
			},
		},
	}})
}

func TestNetworkCards(t *testing.T) {
	t.Parallel()
	h := tree(pciFiles(nic, "020000", "8086:1521"), pciFiles(vf, "020000", "8086:1520"), pciFiles(bare, "020000", "15b3:1"),
		map[string]string{
			nic + "/driver":                          "-> ../../../bus/pci/drivers/igb",
			"sys/bus/pci/drivers/igb/module/version": "5.6\n",
			nic + "/sriov_totalvfs":                  "7\n",
			nic + "/sriov_numvfs":                    "1\n",
			vf + "/physfn":                           "-> ../0000:00:03.0",
			"sys/class/net/lo":                       "-> ../../devices/virtual/net/lo",
			"sys/devices/virtual/net/lo/type":        "772\n",
			"sys/class/net/eth0":                     "-> ../../devices/pci0000:00/0000:00:03.0/net/eth0",
			nic + "/net/eth0/type":                   "1\n",
			nic + "/net/eth0/address":                "00:11:22:33:44:55\n",
			nic + "/net/eth0/carrier":                "1\n",
			nic + "/net/eth0/speed":                  "1000\n",
			nic + "/net/eth0/duplex":                 "full\n",
			"sys/class/net/eth1":                     "-> ../../devices/pci0000:00/0000:00:03.0/net/eth1",
			nic + "/net/eth1/type":                   "1\n",
			nic + "/net/eth1/dev_port":               "1\n",
			nic + "/net/eth1/speed":                  "-1\n",
			nic + "/net/eth1/duplex":                 "unknown\n",
			"sys/class/net/usb0":                     "-> ../../" + strings.TrimPrefix(stick, "sys/") + "/1-2:1.0/net/usb0",
			stick + "/1-2:1.0/net/usb0/type":         "1\n",
			stick + "/1-2:1.0/bInterfaceNumber":      "00\n",
			stick + "/1-2:1.0/driver":                "-> ../../../../../../bus/usb/drivers/cdc_ether",
			"sys/bus/usb/drivers/cdc_ether/new_id":   "",
			stick + "/busnum":                        "1\n",
			stick + "/devnum":                        "7\n",
			stick + "/idVendor":                      "0bda\n",
			stick + "/manufacturer":                  "A Maker\n",
			"usr/share/misc/pci.ids":                 "# a list\n8086  Intel\n\t1521  I350\n\t\t8086 0001  A card\n15b3  Mellanox\nC 02  Network\n\t00  Ethernet\n",
		})
	check(t, h, func(r api.Resources) any { return r.Network }, api.ResourcesNetwork{Total: 4, Cards: []api.ResourcesNetworkCard{
		{
			Driver: "igb", DriverVersion: "5.6", PCIAddress: "0000:00:03.0", Vendor: "Intel", VendorID: "8086", Product: "I350", ProductID: "1521",
			Ports: []api.ResourcesNetworkCardPort{
				{ID: "eth0", Address: "00:11:22:33:44:55", Protocol: "ethernet", LinkDetected: true, LinkSpeed: 1000, LinkDuplex: "full"},
				{ID: "eth1", Port: 1, Protocol: "ethernet"},
			},
			SRIOV: &api.ResourcesNetworkCardSRIOV{CurrentVFs: 1, MaximumVFs: 7, VFs: []api.ResourcesNetworkCard{
				{PCIAddress: "0000:00:03.1", Vendor: "Intel", VendorID: "8086", ProductID: "1520"},
			}},
		},
		{
			Driver: "cdc_ether", DriverVersion: "6.1.0", USBAddress: "1:7", Vendor: "A Maker", VendorID: "0bda",
			Ports: []api.ResourcesNetworkCardPort{{ID: "usb0", Protocol: "ethernet"}},
		},
		{PCIAddress: "0000:00:04.0", Vendor: "Mellanox", VendorID: "15b3", ProductID: "1"},
	}})
}

func TestDevices(t *testing.T) {
	t.Parallel()
	h := tree(pciFiles(gpu, "030000", "10de:1"), map[string]string{
		gpu + "/driver":                         "-> ../../../bus/pci/drivers/nouveau",
		"sys/bus/pci/drivers/nouveau/new_id":    "",
		gpu + "/iommu_group":                    "-> ../../../kernel/iommu_groups/12",
		"sys/kernel/iommu_groups/12/type":       "DMA\n",
		"sys/class/drm/card1":                   "-> ../../devices/pci0000:00/0000:00:07.0/drm/card1",
		gpu + "/drm/card1/dev":                  "226:1\n",
		"sys/class/drm/card1-DP-1":              "-> ../../devices/pci0000:00/0000:00:07.0/drm/card1/card1-DP-1",
		gpu + "/drm/card1/card1-DP-1/status":    "connected\n",
		"sys/class/drm/renderD128":              "-> ../../devices/pci0000:00/0000:00:07.0/drm/renderD128",
		gpu + "/drm/renderD128/dev":             "226:128\n",
		"sys/bus/usb/devices/usb1/busnum":       "1\n",
		"sys/bus/usb/devices/usb1/bDeviceClass": "09\n",
		"sys/bus/usb/devices/1-2":               "-> ../../../" + strings.TrimPrefix(stick, "sys/"),
		stick + "/busnum":                       "1\n",
		stick + "/devnum":                       "7\n",
		stick + "/speed":                        "480\n",
		stick + "/serial":                       "S3\n",
		stick + "/idVendor":                     "0951\n",
		stick + "/1-2:1.0/bInterfaceNumber":     "00\n",
		stick + "/1-2:1.0/bInterfaceClass":      "08\n",
		stick + "/1-2:1.0/bInterfaceSubClass":   "06\n",
		"sys/bus/usb/devices/1-2:1.0":           "-> ../../../" + strings.TrimPrefix(stick, "sys/") + "/1-2:1.0",
	})
	check(t, h, func(r api.Resources) any { return r.GPU }, api.ResourcesGPU{Total: 1, Cards: []api.ResourcesGPUCard{{
		Driver: "nouveau", DriverVersion: "6.1.0", PCIAddress: "0000:00:07.0", VendorID: "10de", ProductID: "1",
		DRM: &api.ResourcesGPUCardDRM{ID: 1, CardName: "card1", CardDevice: "226:1", RenderName: "renderD128", RenderDevice: "226:128"},
	}}})
	check(t, h, func(r api.Resources) any { return r.PCI }, api.ResourcesPCI{Total: 1, Devices: []api.ResourcesPCIDevice{{
		Driver: "nouveau", DriverVersion: "6.1.0", PCIAddress: "0000:00:07.0", VendorID: "10de", ProductID: "1", IOMMUGroup: 12,
	}}})
	check(t, h, func(r api.Resources) any { return r.USB }, api.ResourcesUSB{Total: 1, Devices: []api.ResourcesUSBDevice{{
		BusAddress: 1, DeviceAddress: 7, Serial: "S3", VendorID: "0951", Speed: 480,
		Interfaces: []api.ResourcesUSBDeviceInterface{{Class: "Mass Storage", ClassID: 8, SubClassID: 6}},
	}}})
}

func TestSystem(t *testing.T) {
	t.Parallel()
	const dmi = "sys/class/dmi/id/"
	for name, c := range map[string]struct {
		files map[string]string
		want  api.ResourcesSystem
	}{
		"nothing known": {nil, api.ResourcesSystem{Type: "physical"}},
		"a notebook": {map[string]string{
			dmi + "sys_vendor": "LENOVO\n", dmi + "product_uuid": "7fa1\n", dmi + "chassis_type": "10\n", dmi + "board_name": "B\n",
			dmi + "bios_version": "1.49\n",
		}, api.ResourcesSystem{
			Type: "physical", Vendor: "LENOVO", UUID: "7fa1", Chassis: &api.ResourcesSystemChassis{Type: "Notebook"},
			Motherboard: &api.ResourcesSystemMotherboard{Product: "B"}, Firmware: &api.ResourcesSystemFirmware{Version: "1.49"},
		}},
		"a board without DMI": {map[string]string{
			"sys/firmware/devicetree/base/model": "A Pi\x00", "sys/firmware/devicetree/base/serial-number": "1\x00",
		}, api.ResourcesSystem{Type: "physical", Product: "A Pi", Serial: "1"}},
		"a virtual machine by its vendor": {
			map[string]string{dmi + "sys_vendor": "QEMU\n"}, api.ResourcesSystem{Type: "virtual-machine", Vendor: "QEMU"},
		},
		"a virtual machine by its processor": {
			map[string]string{"proc/cpuinfo": "flags\t: fpu hypervisor\n"}, api.ResourcesSystem{Type: "virtual-machine"},
		},
		"a container": {
			map[string]string{"proc/1/environ": "A=b\x00container=lxc\x00"}, api.ResourcesSystem{Type: "container"},
		},
		"no container": {
			map[string]string{"proc/1/environ": "A=b\x00mycontainer=lxc\x00"}, api.ResourcesSystem{Type: "physical"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.want.Firmware == nil {
				c.want.Firmware, c.want.Chassis, c.want.Motherboard = &api.ResourcesSystemFirmware{}, &api.ResourcesSystemChassis{}, &api.ResourcesSystemMotherboard{}
			}
			check(t, tree(c.files), func(r api.Resources) any { return r.System }, c.want)
		})
	}
}

func TestListsAreNotNull(t *testing.T) {
	t.Parallel()
	r, err := tree().Resources()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"cards":[]`, `"disks":[]`, `"devices":[]`} {
		if got := text(r); !strings.Contains(got, want) {
			t.Errorf("got %s, want %s in it", got, want)
		}
	}
}

func TestWithoutProc(t *testing.T) {
	t.Parallel()
	if _, err := (host.Host{Files: fstest.MapFS{}}).Resources(); err == nil {
		t.Error("a host without /proc was read")
	}
}

func TestThisHost(t *testing.T) {
	t.Parallel()
	r, err := host.Local().Resources()
	if err != nil {
		t.Fatal(err)
	}
	if r.CPU.Total == 0 || len(r.CPU.Sockets) == 0 || len(r.CPU.Sockets[0].Cores) == 0 || r.CPU.Architecture == "" {
		t.Errorf("got CPU %s, want a thread, a core and an architecture", text(r.CPU))
	}
	if r.Memory.Total == 0 || r.Memory.Used == 0 || r.Memory.Used >= r.Memory.Total {
		t.Errorf("got memory %s, want some of it used", text(r.Memory))
	}
	for _, d := range r.Storage.Disks {
		if d.Device == "" || strings.HasPrefix(d.ID, "loop") {
			t.Errorf("got disk %s, want a number, and no loop device", text(d))
		}
	}
}
