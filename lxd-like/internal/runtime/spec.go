// Package runtime runs containers: it writes their liblxc configuration,
// starts them through cuib-shim, watches them, and acts on those that run.
//
// It knows no database and no wire format. What runs outlives the daemon:
// each container belongs to a cuib-shim process of its own, and [Runtime.Recover]
// finds it again.
package runtime

import (
	"net/netip"
	"os"
	"time"

	"github.com/cuib/cuib/networks/nic"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/seccomp"
)

// Spec is all that it takes to start a container. Nothing in it comes from
// profiles or devices any more: it is what the kernel is to do.
type Spec struct {
	Name        string
	Root        string    // Directory that is the root file system, mounted.
	RootMapped  bool      // Root shows mapped owners already; else liblxc maps them with an idmapped mount.
	IDs         idmap.Map // Nil: privileged.
	Nesting     bool
	Hostname    string
	Arch        string            // As uname -m has it; empty for the host's.
	Init        []string          // Empty for /sbin/init.
	Env         map[string]string // Of PID 1 and of every exec.
	Limits      Limits
	Rlimits     map[string]string // "nofile": "1024:4096", as liblxc's lxc.prlimit has them.
	Sysctls     map[string]string
	Mounts      []Mount
	Nodes       []Node
	NICs        []NIC
	Guest       string            // Directory that appears as /dev/incus and /dev/lxd; empty for none.
	Raw         string            // Lines for lxc.conf (raw.lxc), last.
	AppArmor    []string          // Rules beyond those of the generated profile.
	Credentials map[string][]byte // For a guest's systemd, by name.
	OOMScore    int               // -1000 to 1000, of the container's init.
	Syscalls    seccomp.Policy    // Which system calls it may make.
	// DevicePrograms lets it load programs for devices of cgroups, if bpf(2) is
	// intercepted.
	DevicePrograms bool
	Mounting       Mounting // What it may mount, if mount(2) is intercepted.
	BPF            BPF      // What it may do with bpf(2).
	EndsAtReboot   bool     // A reboot of the guest ends the container, with Exit.Reboot.
}

// Mount is a host directory, file or file system, or memory, that appears
// inside.
type Mount struct {
	Device      string // The device's name in the configuration, where its plan can become another by itself.
	Kind        MountKind
	Source      string
	Within      string // Directories with commas between them, one of which Source must be in, wherever links lead; empty for any place.
	Target      string // Absolute, inside; made if it is missing.
	ReadOnly    bool
	Recursive   bool   // Mounts below Source too.
	Mapped      bool   // Show Source's owners mapped by the container's ids (idmapped mount).
	Optional    bool   // No error if Source is missing.
	Absent      bool   // It was missing, and is not there until [Runtime.MountLate].
	Propagation string // As mount(8) has it: rslave and so on; empty for private.
	Options     string // Further ones, with commas between them; see [MountOptions].

	Type string // Of the file system on a block device.

	Size     int64  // In memory; 0 for the kernel's default.
	UID, GID int64  // Inside, of the root directory in memory.
	Mode     string // Octal, of that; empty for the default.
}

// Node is a device node inside.
type Node struct {
	Device       string // The device's name in the configuration; empty for what all containers have.
	Block        bool   // Else a character device.
	Major, Minor uint32
	Path         string // Absolute, inside.
	UID, GID     int64  // Inside.
	Mode         os.FileMode
}

// NIC is a network interface inside.
type NIC = nic.NIC

// Running says what runs.
type Running struct {
	Name      string
	PID       int // Of the container's init, on the host.
	StartedAt time.Time
	Frozen    bool

	// Ended is set by Recover alone, of a container that has ended while no
	// daemon ran, but since the host's boot. It has no PID.
	Ended *Exit
}

// Exit says how a container ended.
type Exit struct {
	Reboot bool // The guest asked to boot again, and Spec.EndsAtReboot keeps the shim from that.
	Status int  // Exit status of init, or 128 plus the signal that killed it.
}

// Usage is what a running container uses.
type Usage struct {
	CPU        time.Duration
	Memory     int64 // Bytes, without page cache that can go at once.
	MemoryPeak int64
	MemoryMax  int64 // The limit; the host's memory where there is none.
	Swap       int64
	SwapPeak   int64
	Processes  int64
	Pressure   map[string]Pressure // Of cpu, memory and io; nil where the kernel does not measure it.

	BytesRead, BytesWritten int64 // From and to block devices.
}

// Pressure says for how much of the time programs had to wait for something:
// some of them, and all that were not idle.
type Pressure struct {
	Some, Full Stall
}

// Stall is a part of the time.
type Stall struct {
	Avg10, Avg60, Avg300 float64       // Percent of the last 10, 60 and 300 seconds.
	Total                time.Duration // Since the start.
}

// Exec is a program to run in a running container.
type Exec struct {
	Args          []string
	Env           map[string]string // Above the container's own.
	UID, GID      uint32
	Cwd           string
	Terminal      bool
	Width, Height int // Of the terminal; 0 for unknown.
}

// Interface is a network interface of a running container, as the kernel has
// it inside.
type Interface struct {
	Type      string // broadcast, loopback or point-to-point
	MAC       string
	MTU       int
	Up        bool
	HostName  string // Of the host's end; empty for none.
	Addresses []netip.Prefix
	Counters  Counters
}

// Counters are an interface's counters, as the container sees them.
type Counters struct {
	BytesIn, BytesOut     int64
	PacketsIn, PacketsOut int64
	ErrorsIn, ErrorsOut   int64
	DroppedIn, DroppedOut int64
}
