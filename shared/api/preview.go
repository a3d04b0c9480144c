package api

// When a change counts.
const (
	WhenNow   = "now"   // The instance runs, and has it at once.
	WhenStart = "start" // From its next start on.
)

// InstanceChange is what a change of a profile or of an instance would change
// for one instance.
type InstanceChange struct {
	Instance string         `json:"instance" key:"instance"`
	Status   string         `json:"status"`
	Changes  []ConfigChange `json:"changes"`
	Error    string         `json:"error,omitempty"` // Why the instance cannot have it; empty if it can.
}

// ConfigChange is a change of one key of an expanded configuration, or of one
// option of a device, as devices.NAME.OPTION.
type ConfigChange struct {
	Key    string `json:"key"`
	Before string `json:"before"` // Empty for not set.
	After  string `json:"after"`
	When   string `json:"when"` // WhenNow or WhenStart.
}
