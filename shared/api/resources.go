package api

// Resources is the hardware of the host.
type Resources struct {
	CPU     ResourcesCPU     `json:"cpu"`
	Memory  ResourcesMemory  `json:"memory"`
	GPU     ResourcesGPU     `json:"gpu"`
	Network ResourcesNetwork `json:"network"`
	Storage ResourcesStorage `json:"storage"`
	USB     ResourcesUSB     `json:"usb"`
	PCI     ResourcesPCI     `json:"pci"`
	System  ResourcesSystem  `json:"system"`
	Load    ResourcesLoad    `json:"load"`
}

// ResourcesCPU is the processors.
type ResourcesCPU struct {
	Architecture string               `json:"architecture"`
	Sockets      []ResourcesCPUSocket `json:"sockets"`
	Total        uint64               `json:"total"` // Threads, of all sockets.
}

// ResourcesCPUSocket is one processor. Frequencies are in MHz.
type ResourcesCPUSocket struct {
	Name             string              `json:"name,omitempty"`
	Vendor           string              `json:"vendor,omitempty"`
	Socket           uint64              `json:"socket"`
	Cache            []ResourcesCPUCache `json:"cache,omitempty"` // Of its first core, and what that shares.
	Cores            []ResourcesCPUCore  `json:"cores"`
	Frequency        uint64              `json:"frequency,omitempty"` // The mean of the cores.
	FrequencyMinimum uint64              `json:"frequency_minimum,omitempty"`
	FrequencyTurbo   uint64              `json:"frequency_turbo,omitempty"`
}

// ResourcesCPUCache is a cache.
type ResourcesCPUCache struct {
	Level uint64 `json:"level"`
	Type  string `json:"type"` // Data, Instruction or Unified
	Size  uint64 `json:"size"` // Bytes.
}

// ResourcesCPUCore is a core of a processor.
type ResourcesCPUCore struct {
	Core      uint64               `json:"core"` // Within the die.
	Die       uint64               `json:"die"`
	Threads   []ResourcesCPUThread `json:"threads"`
	Frequency uint64               `json:"frequency,omitempty"` // MHz.
}

// ResourcesCPUThread is what the kernel calls a CPU.
type ResourcesCPUThread struct {
	ID       int64  `json:"id"` // As limits.cpu has it.
	NUMANode uint64 `json:"numa_node"`
	Thread   uint64 `json:"thread"` // Within the core.
	Online   bool   `json:"online"`
	Isolated bool   `json:"isolated"` // From the scheduler.
}

// ResourcesMemory is the memory, in bytes. What the kernel would give back
// at once is not in use.
type ResourcesMemory struct {
	Nodes          []ResourcesMemoryNode `json:"nodes,omitempty"`
	HugepagesTotal uint64                `json:"hugepages_total"`
	HugepagesUsed  uint64                `json:"hugepages_used"`
	HugepagesSize  uint64                `json:"hugepages_size"` // Of one.
	Used           uint64                `json:"used"`
	Total          uint64                `json:"total"`
}

// ResourcesMemoryNode is the memory of a NUMA node, in bytes.
type ResourcesMemoryNode struct {
	NUMANode       uint64 `json:"numa_node"`
	HugepagesUsed  uint64 `json:"hugepages_used"`
	HugepagesTotal uint64 `json:"hugepages_total"`
	Used           uint64 `json:"used"`
	Total          uint64 `json:"total"`
}

// ResourcesLoad is how busy the host is. Its keys are capitalized on the wire.
type ResourcesLoad struct {
	Average1Min  float64
	Average5Min  float64
	Average10Min float64 // The kernel's is of 15 minutes; the name is the wire's.
	Processes    int     // What the scheduler has: processes and their threads.
}
