package api

// ResourcesStorage is the disks.
type ResourcesStorage struct {
	Disks []ResourcesStorageDisk `json:"disks"`
	Total uint64                 `json:"total"` // Disks and partitions.
}

// ResourcesStorageDisk is a disk. Sizes are in bytes.
type ResourcesStorageDisk struct {
	ID              string                          `json:"id"`
	Device          string                          `json:"device"` // major:minor
	Model           string                          `json:"model,omitempty"`
	Type            string                          `json:"type,omitempty"` // nvme, sata, scsi, usb, virtio, mmc, …
	ReadOnly        bool                            `json:"read_only"`
	Size            uint64                          `json:"size"`
	Removable       bool                            `json:"removable"`
	WWN             string                          `json:"wwn,omitempty"`
	NUMANode        uint64                          `json:"numa_node"`
	DevicePath      string                          `json:"device_path,omitempty"` // Its name in /dev/disk/by-path.
	BlockSize       uint64                          `json:"block_size"`
	FirmwareVersion string                          `json:"firmware_version,omitempty"`
	RPM             uint64                          `json:"rpm"` // 1 if it rotates, at an unknown speed.
	Serial          string                          `json:"serial,omitempty"`
	DeviceID        string                          `json:"device_id"` // Its name in /dev/disk/by-id.
	Partitions      []ResourcesStorageDiskPartition `json:"partitions"`
}

// ResourcesStorageDiskPartition is a partition of a disk.
type ResourcesStorageDiskPartition struct {
	ID        string `json:"id"`
	Device    string `json:"device"` // major:minor
	ReadOnly  bool   `json:"read_only"`
	Size      uint64 `json:"size"` // Bytes.
	Partition uint64 `json:"partition"`
}
