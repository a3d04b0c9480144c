package api

// GuestStoragePool is what a guest that may keep volumes reads of a pool.
type GuestStoragePool struct {
	Name   string `json:"name"`
	Driver string `json:"driver"`
	Status string `json:"status"`
}

// GuestStorageVolumePut is what a guest may change of a volume of its own.
type GuestStorageVolumePut struct {
	Config      ConfigMap `json:"config"`
	Description string    `json:"description"`
}

// GuestStorageVolume is a volume of a guest's own.
type GuestStorageVolume struct {
	GuestStorageVolumePut

	Name        string `json:"name"`
	Pool        string `json:"pool"`
	Type        string `json:"type"`
	ContentType string `json:"content_type"`
	Location    string `json:"location"`
}

// GuestStorageVolumesPost asks for a volume of a guest's own.
type GuestStorageVolumesPost struct {
	GuestStorageVolumePut

	Name        string `json:"name"`
	Type        string `json:"type"`
	ContentType string `json:"content_type"`
}

// GuestInstance is what a guest that may attach volumes reads of its instance:
// the devices that it has attached.
type GuestInstance struct {
	Name    string     `json:"name"`
	Devices DevicesMap `json:"devices" key:"devices"`
}

// GuestInstancePatch attaches and changes devices by name, and detaches those
// that are null.
type GuestInstancePatch struct {
	Devices DevicesMap `json:"devices" key:"devices"`
}
