package api

// ResourcesSystem is what the firmware says of the host. Its parts are always
// there: clients look into them.
type ResourcesSystem struct {
	UUID        string                      `json:"uuid"`
	Vendor      string                      `json:"vendor"`
	Product     string                      `json:"product"`
	Family      string                      `json:"family"`
	Version     string                      `json:"version"`
	Sku         string                      `json:"sku"`
	Serial      string                      `json:"serial"`
	Type        string                      `json:"type"` // physical, virtual-machine or container
	Firmware    *ResourcesSystemFirmware    `json:"firmware"`
	Chassis     *ResourcesSystemChassis     `json:"chassis"`
	Motherboard *ResourcesSystemMotherboard `json:"motherboard"`
}

// ResourcesSystemFirmware is the firmware.
type ResourcesSystemFirmware struct {
	Vendor  string `json:"vendor"`
	Date    string `json:"date"`
	Version string `json:"version"`
}

// ResourcesSystemChassis is the chassis.
type ResourcesSystemChassis struct {
	Vendor  string `json:"vendor"`
	Type    string `json:"type"` // In words.
	Serial  string `json:"serial"`
	Version string `json:"version"`
}

// ResourcesSystemMotherboard is the motherboard.
type ResourcesSystemMotherboard struct {
	Vendor  string `json:"vendor"`
	Product string `json:"product"`
	Serial  string `json:"serial"`
	Version string `json:"version"`
}
