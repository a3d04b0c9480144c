package api

// GuestPut is what a guest may change of how its instance is seen.
type GuestPut struct {
	State string `json:"state"` // Started or Ready
}

// Guest is what a guest reads of its instance at GET /1.0 of its socket.
type Guest struct {
	GuestPut

	APIVersion   string `json:"api_version"`
	Location     string `json:"location"`
	InstanceType string `json:"instance_type"`
}

// GuestConfigEvent tells a guest of a key that has changed.
type GuestConfigEvent struct {
	Key      string `json:"key"`
	OldValue string `json:"old_value"`
	Value    string `json:"value"`
}

// GuestDeviceEvent tells a guest of a device that has changed.
type GuestDeviceEvent struct {
	Action string    `json:"action"` // added, removed or updated
	Name   string    `json:"name"`
	Config ConfigMap `json:"config"`
}
