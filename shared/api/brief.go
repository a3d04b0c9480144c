package api

import "time"

// InstanceBrief is an [InstanceFull] as most lists show it: without the
// configuration and the devices, which are most of what there is to send.
type InstanceBrief struct {
	Name         string                  `json:"name" key:"instance"`
	Status       string                  `json:"status"`
	StatusCode   StatusCode              `json:"status_code"`
	Architecture string                  `json:"architecture"`
	Type         string                  `json:"type"`
	Ephemeral    bool                    `json:"ephemeral"`
	CreatedAt    time.Time               `json:"created_at"`
	LastUsedAt   time.Time               `json:"last_used_at"`
	Description  string                  `json:"description"`
	Project      string                  `json:"project" key:"project"`
	Location     string                  `json:"location"`
	Profiles     []string                `json:"profiles" key:"profile"`
	State        *InstanceBriefState     `json:"state"` // Nil if it was not asked for.
	Snapshots    []InstanceBriefSnapshot `json:"snapshots"`
}

// InstanceSummary is an [InstanceFull] with as much of the snapshots as a table
// of them shows: there can be many, each with as much configuration as the
// instance has.
type InstanceSummary struct {
	Instance
	State     *InstanceState    `json:"state"`
	Snapshots []SnapshotSummary `json:"snapshots"`
}

// SnapshotSummary is the part of an [InstanceSnapshot] that is in an
// [InstanceSummary].
type SnapshotSummary struct {
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Stateful    bool      `json:"stateful"`
	CreatedAt   time.Time `json:"created_at"`
	ExpiresAt   time.Time `json:"expires_at"`
}

// InstanceBriefState is the part of an [InstanceState] that is in an
// [InstanceBrief].
type InstanceBriefState struct {
	Network map[string]InstanceBriefNetwork `json:"network"`
}

// InstanceBriefNetwork is the same of an [InstanceStateNetwork].
type InstanceBriefNetwork struct {
	Addresses []InstanceStateNetworkAddress `json:"addresses"`
}

// InstanceBriefSnapshot is the same of an [InstanceSnapshot].
type InstanceBriefSnapshot struct {
	Name string `json:"name"`
}
