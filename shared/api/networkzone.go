package api

// NetworkZonePut is the writable part of a network zone.
type NetworkZonePut struct {
	Description string    `json:"description"`
	Config      ConfigMap `json:"config"`
}

// NetworkZonesPost creates a network zone.
type NetworkZonesPost struct {
	NetworkZonePut

	Name string `json:"name" key:"zone"`
}

// NetworkZone is a zone of DNS that networks' instances have their names in.
type NetworkZone struct {
	NetworkZonePut

	Name    string   `json:"name" key:"zone"`
	UsedBy  []string `json:"used_by" key:"url"`
	Project string   `json:"project" key:"project"`
}

// NetworkZoneRecordEntry is one value of a record.
type NetworkZoneRecordEntry struct {
	Type  string `json:"type"`          // Such as TXT.
	TTL   uint64 `json:"ttl,omitempty"` // Seconds; 0 for the zone's.
	Value string `json:"value"`
}

// NetworkZoneRecordPut is the writable part of a record.
type NetworkZoneRecordPut struct {
	Description string                   `json:"description"`
	Entries     []NetworkZoneRecordEntry `json:"entries"`
	Config      ConfigMap                `json:"config"` // Only user.*.
}

// NetworkZoneRecordsPost creates a record.
type NetworkZoneRecordsPost struct {
	NetworkZoneRecordPut

	Name string `json:"name"`
}

// NetworkZoneRecord is what a zone has for a name.
type NetworkZoneRecord struct {
	NetworkZoneRecordPut

	Name string `json:"name"`
}
