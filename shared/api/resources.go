package api

// Resources is what the host has.
type Resources struct {
	CPU     ResourcesCPU     `json:"cpu"`
	Memory  ResourcesMemory  `json:"memory"`
	GPU     ResourcesCards   `json:"gpu"`
	Network ResourcesCards   `json:"network"`
	Storage ResourcesDisks   `json:"storage"`
	USB     ResourcesDevices `json:"usb"`
	PCI     ResourcesDevices `json:"pci"`
}

// ResourcesCPU are the host's processors.
type ResourcesCPU struct {
	Architecture string               `json:"architecture"`
	Sockets      []ResourcesCPUSocket `json:"sockets"`
	Total        uint64               `json:"total"` // Threads.
}

// ResourcesCPUSocket is a socket with a processor.
type ResourcesCPUSocket struct {
	Name      string             `json:"name,omitempty"`
	Vendor    string             `json:"vendor,omitempty"`
	Socket    uint64             `json:"socket"`
	Cores     []ResourcesCPUCore `json:"cores"`
	Frequency uint64             `json:"frequency,omitempty"` // MHz
}

// ResourcesCPUCore is a core of a processor.
type ResourcesCPUCore struct {
	Core     uint64               `json:"core"`
	NUMANode uint64               `json:"numa_node"`
	Threads  []ResourcesCPUThread `json:"threads"`
}

// ResourcesCPUThread is a thread of a core.
type ResourcesCPUThread struct {
	ID       int64  `json:"id"`
	NUMANode uint64 `json:"numa_node"`
	Thread   uint64 `json:"thread"`
	Online   bool   `json:"online"`
	Isolated bool   `json:"isolated"`
}

// ResourcesMemory is the host's memory, in bytes.
type ResourcesMemory struct {
	HugepagesTotal uint64 `json:"hugepages_total"`
	HugepagesUsed  uint64 `json:"hugepages_used"`
	HugepagesSize  uint64 `json:"hugepages_size"`
	Used           uint64 `json:"used"`
	Total          uint64 `json:"total"`
}

// ResourcesCards are cards of some kind.
type ResourcesCards struct {
	Cards []any  `json:"cards"`
	Total uint64 `json:"total"`
}

// ResourcesDisks are disks.
type ResourcesDisks struct {
	Disks []any  `json:"disks"`
	Total uint64 `json:"total"`
}

// ResourcesDevices are devices of some kind.
type ResourcesDevices struct {
	Devices []any  `json:"devices"`
	Total   uint64 `json:"total"`
}
