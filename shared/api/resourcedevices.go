package api

// ResourcesNetwork is the network cards.
type ResourcesNetwork struct {
	Cards []ResourcesNetworkCard `json:"cards"`
	Total uint64                 `json:"total"` // With virtual functions.
}

// ResourcesNetworkCard is a network card.
type ResourcesNetworkCard struct {
	Driver        string                     `json:"driver,omitempty"`
	DriverVersion string                     `json:"driver_version,omitempty"`
	Ports         []ResourcesNetworkCardPort `json:"ports,omitempty"`
	SRIOV         *ResourcesNetworkCardSRIOV `json:"sriov,omitempty"`
	NUMANode      uint64                     `json:"numa_node"`
	PCIAddress    string                     `json:"pci_address,omitempty"`
	USBAddress    string                     `json:"usb_address,omitempty"` // bus:device
	Vendor        string                     `json:"vendor,omitempty"`
	VendorID      string                     `json:"vendor_id,omitempty"`
	Product       string                     `json:"product,omitempty"`
	ProductID     string                     `json:"product_id,omitempty"`
}

// ResourcesNetworkCardPort is an interface of a network card.
type ResourcesNetworkCardPort struct {
	ID              string `json:"id"`
	Address         string `json:"address,omitempty"`
	Port            uint64 `json:"port"`
	Protocol        string `json:"protocol"` // ethernet or infiniband
	AutoNegotiation bool   `json:"auto_negotiation"`
	LinkDetected    bool   `json:"link_detected"`
	LinkSpeed       uint64 `json:"link_speed,omitempty"`  // Mbit/s.
	LinkDuplex      string `json:"link_duplex,omitempty"` // full or half
}

// ResourcesNetworkCardSRIOV is the virtual functions of a network card.
type ResourcesNetworkCardSRIOV struct {
	CurrentVFs uint64                 `json:"current_vfs"`
	MaximumVFs uint64                 `json:"maximum_vfs"`
	VFs        []ResourcesNetworkCard `json:"vfs"`
}

// ResourcesGPU is the graphics cards.
type ResourcesGPU struct {
	Cards []ResourcesGPUCard `json:"cards"`
	Total uint64             `json:"total"`
}

// ResourcesGPUCard is a graphics card.
type ResourcesGPUCard struct {
	Driver        string               `json:"driver,omitempty"`
	DriverVersion string               `json:"driver_version,omitempty"`
	DRM           *ResourcesGPUCardDRM `json:"drm,omitempty"`
	NUMANode      uint64               `json:"numa_node"`
	PCIAddress    string               `json:"pci_address,omitempty"`
	Vendor        string               `json:"vendor,omitempty"`
	VendorID      string               `json:"vendor_id,omitempty"`
	Product       string               `json:"product,omitempty"`
	ProductID     string               `json:"product_id,omitempty"`
}

// ResourcesGPUCardDRM is the device nodes of a graphics card.
type ResourcesGPUCardDRM struct {
	ID           uint64 `json:"id"`
	CardName     string `json:"card_name"`
	CardDevice   string `json:"card_device"` // major:minor
	RenderName   string `json:"render_name,omitempty"`
	RenderDevice string `json:"render_device,omitempty"`
}

// ResourcesUSB is the USB devices, without hubs.
type ResourcesUSB struct {
	Devices []ResourcesUSBDevice `json:"devices"`
	Total   uint64               `json:"total"`
}

// ResourcesUSBDevice is a USB device.
type ResourcesUSBDevice struct {
	BusAddress    uint64                        `json:"bus_address"`
	DeviceAddress uint64                        `json:"device_address"`
	Serial        string                        `json:"serial"`
	Interfaces    []ResourcesUSBDeviceInterface `json:"interfaces"`
	Vendor        string                        `json:"vendor"`
	VendorID      string                        `json:"vendor_id"`
	Product       string                        `json:"product"`
	ProductID     string                        `json:"product_id"`
	Speed         float64                       `json:"speed"` // Mbit/s.
}

// ResourcesUSBDeviceInterface is an interface of a USB device.
type ResourcesUSBDeviceInterface struct {
	Class         string `json:"class"` // In words.
	ClassID       uint64 `json:"class_id"`
	SubClass      string `json:"subclass"` // In words, which differ from class to class: empty.
	SubClassID    uint64 `json:"subclass_id"`
	Driver        string `json:"driver"`
	DriverVersion string `json:"driver_version"`
	Number        uint64 `json:"number"`
}

// ResourcesPCI is the PCI devices.
type ResourcesPCI struct {
	Devices []ResourcesPCIDevice `json:"devices"`
	Total   uint64               `json:"total"`
}

// ResourcesPCIDevice is a PCI device.
type ResourcesPCIDevice struct {
	Driver        string `json:"driver"`
	DriverVersion string `json:"driver_version"`
	NUMANode      uint64 `json:"numa_node"`
	PCIAddress    string `json:"pci_address"`
	Vendor        string `json:"vendor"`
	VendorID      string `json:"vendor_id"`
	Product       string `json:"product"`
	ProductID     string `json:"product_id"`
	IOMMUGroup    uint64 `json:"iommu_group"`
}
