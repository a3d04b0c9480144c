package profiles

import (
	"slices"
	"strings"
	"sync"
)

// A Refusal is something that LXD and Incus have and no instance has here, with
// the reason. What is neither in the tables nor among these is just unknown.
type Refusal struct {
	Device string // The type of device; empty for keys of instances.
	Name   string // The key or option, with * for any text; empty for the whole type of device.
	Value  string // The one value that is meant, with * for any text; empty for all.
	Why    string // Why it cannot be had.
}

// Reasons that several rows have.
const (
	whyVM        = "only virtual machines have it, and instances are containers"
	whyCRIU      = "running containers are not written to the disk and started again from there (CRIU)"
	whyOCI       = "application containers (OCI) are not served, only containers with an init"
	whySELinux   = "instances are confined by AppArmor, not by SELinux"
	whyNvidia    = "NVIDIA's container tools are not part of Debian; hand over the nodes with devices of type gpu or unix-char"
	whyCluster   = "a host works alone, without a cluster"
	whyCeph      = "there is no storage driver for Ceph"
	whySRIOV     = "virtual functions of network cards (SR-IOV) are not handed out"
	whyOVN       = "there are no OVN networks"
	whyHostNet   = "the host's own network is none of the managed ones: a device of nictype host is in it"
	whyNoNIC     = "an instance without a nic has only its loopback: a device of type none takes away the one that a profile gives"
	whyBurst     = "the kernel's cgroups limit what goes through a disk in each second, without bursts"
	whyPCI       = "only virtual machines take PCI devices, a container shares the host's drivers"
	whyMediated  = "only virtual machines take parts of a graphics card"
	whyDependent = "a volume has a life of its own: cuib snapshot create --volumes makes snapshots of an instance and its volumes together"
	whyRoots     = "only custom volumes are shown: the root disk of an instance is that instance's alone"
	whyUbuntuPro = "it hands out a subscription of Ubuntu that hosts with Debian do not have"
)

// Refusals returns all of them: first keys, then types of devices, then options.
func Refusals() []Refusal {
	return slices.Concat(
		refuseKeys(whyVM,
			"agent.nic_config", "boot.debug_edk2", "boot.mode", "limits.cpu.pin_strategy", "limits.max_bus_ports",
			"limits.memory.hotplug", "limits.memory.hugepages", "raw.qemu", "raw.qemu.conf", "raw.qemu.qmp.*",
			"raw.qemu.scriptlet", "security.agent.metrics", "security.csm", "security.iommu", "security.secureboot",
			"security.sev", "security.sev.*", "smbios11.*", "volatile.apply_nvram", "volatile.bus.mode",
			"volatile.last_state.agent", "volatile.*.last_state.usb.*", "volatile.vm.*", "volatile.vsock_id", "volatile.*.bus", "volatile.*.io.bus"),
		refuseValues("", "boot.host_shutdown_action", whyCRIU, "stateful-stop"),
		refuseValues("", keyModulesLoad, "modules are loaded before the instance starts, not when it asks for one", "ondemand"),
		refuseKeys(whyCRIU, "migration.incremental.memory", "migration.incremental.memory.*", "migration.stateful"),
		refuseKeys(whyOCI, "oci.*", "volatile.container.oci"),
		refuseKeys(whySELinux, "security.selinux.*", "volatile.selinux.context"),
		refuseKeys(whyNvidia, "nvidia.driver.capabilities", "nvidia.require.*", "nvidia.runtime"),
		refuseKeys(whyCluster, "placement.group", "volatile.cluster.group", "volatile.evacuate.origin", "volatile.rebalance.last_move"),
		refuseKeys(whyUbuntuPro, "ubuntu_pro.guest_attach"),
		refuseKeys(whyCeph, "volatile.*.ceph_rbd"),
		refuseKeys(whyPCI, "volatile.*.last_state.pci.*"),
		refuseKeys(whyMediated, "volatile.*.mig.uuid", "volatile.*.vgpu.uuid"),
		refuseKeys(whySRIOV, "volatile.*.last_state.vf.*", "volatile.*.last_state.vdpa.name"),
		refusedDevices(),
	)
}

func refuseKeys(why string, names ...string) []Refusal { return refuseOptions("", why, names...) }

func refuseOptions(device, why string, names ...string) []Refusal {
	all := make([]Refusal, 0, len(names))
	for _, n := range names {
		all = append(all, Refusal{Device: device, Name: n, Why: why})
	}
	return all
}

// refuseValues is for values of one option.
func refuseValues(device, option, why string, values ...string) []Refusal {
	all := make([]Refusal, 0, len(values))
	for _, v := range values {
		all = append(all, Refusal{Device: device, Name: option, Value: v, Why: why})
	}
	return all
}

func refusedDevices() []Refusal {
	return slices.Concat(
		[]Refusal{
			{Device: "infiniband", Why: "InfiniBand cards are not handed out"},
			{Device: "pci", Why: whyPCI},
		},
		refuseOptions("disk", whyVM, "attached", "boot.priority", "io.bus", "io.cache", "io.threads", "size.state", "wwn"),
		refuseOptions("disk", whyBurst, "limits.max.burst", "limits.max.burst.length", "limits.read.burst", "limits.read.burst.length", "limits.write.burst", "limits.write.burst.length"),
		refuseOptions("disk", whyCeph, "ceph.cluster_name", "ceph.user_name"),
		refuseValues("disk", "source", whyCeph, "ceph:*", "cephfs:*"),
		refuseOptions("disk", whyDependent, "dependent"),
		refuseValues("disk", "source.type", whyRoots, "container", "virtual-machine"),
		refuseValues("disk", "source", whyVM, "agent:config", "cloud-init:config"),
		refuseOptions("gpu", whyMediated, "blob.size", "mdev", "mig.*"),
		refuseValues("gpu", "gputype", whyMediated, "mdev", "mig", "native-context", "sriov"),
		refuseOptions("nic", whyVM, "boot.priority", "io.bus"),
		refuseOptions("nic", whyOVN, "acceleration", "acceleration.parent", "ipv4.address.external", "ipv6.address.external", "nested", "security.promiscuous"),
		refuseValues("nic", "nictype", whyOVN, "ovn"),
		refuseValues("nic", "nictype", whyNoNIC, "none"),
		refuseValues("nic", "network", whyHostNet, "host"),
		refuseValues("nic", "network", whyNoNIC, "none"),
		refuseOptions("nic", whySRIOV, "pci", "productid", "security.trusted", "vendorid"),
		refuseValues("nic", "nictype", whySRIOV, "sriov"),
	)
}

// Of reports whether it is about a key or option of that name, which can be a
// pattern itself.
func (r Refusal) Of(name string) bool { return matches(r.Name, name) }

// refusals are the refusals by what they are about. Each key of each
// configuration is looked up among them.
type refusals struct {
	named    map[[2]string][]Refusal // By device and name.
	patterns map[string][]Refusal    // By device, those with a * in the name.
}

var allRefusals = sync.OnceValue(func() refusals {
	all := refusals{named: map[[2]string][]Refusal{}, patterns: map[string][]Refusal{}}
	for _, r := range Refusals() {
		if strings.Contains(r.Name, "*") {
			all.patterns[r.Device] = append(all.patterns[r.Device], r)
		} else {
			id := [2]string{r.Device, r.Name}
			all.named[id] = append(all.named[id], r)
		}
	}
	return all
})

// refusedKey returns why an instance cannot have a key, or that value of it.
func refusedKey(name, value string) (why string, refused bool) {
	return refusedOption("", name, value)
}

// refusedType returns why there is no device of a type.
func refusedType(device string) (why string, refused bool) { return refusedOption(device, "", "") }

// refusedOption returns why a device cannot have an option, or that value of
// it.
func refusedOption(device, name, value string) (why string, refused bool) {
	all := allRefusals()
	for _, r := range all.named[[2]string{device, name}] {
		if r.Value == "" || value != "" && matches(r.Value, value) {
			return r.Why, true
		}
	}
	if _, served := byName()[name]; device == "" && served {
		return "", false
	}
	for _, r := range all.patterns[device] {
		if r.Of(name) {
			return r.Why, true
		}
	}
	return "", false
}

// matches reports whether a name is a pattern's, in which each * stands for
// some text.
func matches(pattern, name string) bool {
	prefix, suffix, some := strings.Cut(pattern, "*")
	if !some {
		return name == pattern
	}
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return false
	}
	if !strings.Contains(suffix, "*") {
		return len(rest) > len(suffix) && strings.HasSuffix(rest, suffix)
	}
	for i := 1; i <= len(rest); i++ {
		if matches(suffix, rest[i:]) {
			return true
		}
	}
	return false
}
