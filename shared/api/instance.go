package api

import "time"

// InstancePut is the writable part of an instance.
type InstancePut struct {
	Architecture string     `json:"architecture"`
	Config       ConfigMap  `json:"config" key:"config"`
	Devices      DevicesMap `json:"devices" key:"devices"`
	Ephemeral    bool       `json:"ephemeral"`
	Profiles     []string   `json:"profiles" key:"profile"`
	Restore      string     `json:"restore,omitempty"` // Snapshot to put back; LXD sends INSTANCE/SNAPSHOT.
	Stateful     bool       `json:"stateful"`
	Description  string     `json:"description"`
	DiskOnly     bool       `json:"disk_only,omitempty"`

	// With Restore: the disks that get back what they had; root, if it is
	// empty, or all-exclusive. See [InstanceSnapshotsPost].
	RestoreVolumes string `json:"restore_disk_volumes_mode,omitempty"`
}

// Instance is an instance.
type Instance struct {
	InstancePut

	Name            string     `json:"name" key:"instance"`
	Status          string     `json:"status"`
	StatusCode      StatusCode `json:"status_code"`
	CreatedAt       time.Time  `json:"created_at"`
	LastUsedAt      time.Time  `json:"last_used_at"`
	ExpandedConfig  ConfigMap  `json:"expanded_config,omitempty" key:"config"`
	ExpandedDevices DevicesMap `json:"expanded_devices,omitempty" key:"devices"`
	Location        string     `json:"location"` // "none" without a cluster.
	Type            string     `json:"type"`     // container
	Project         string     `json:"project" key:"project"`
}

// InstanceFull is an instance with all that belongs to it.
type InstanceFull struct {
	Instance

	Backups   []any              `json:"backups"`
	State     *InstanceState     `json:"state"`
	Snapshots []InstanceSnapshot `json:"snapshots"`
}

// InstancesPost creates an instance.
type InstancesPost struct {
	InstancePut

	Name         string         `json:"name" key:"new"`
	Source       InstanceSource `json:"source"`
	InstanceType string         `json:"instance_type"`
	Type         string         `json:"type"`
	Start        bool           `json:"start"`
}

// InstanceSource says what an instance is made from.
type InstanceSource struct {
	Type              string            `json:"type"` // image, none, copy
	Certificate       string            `json:"certificate,omitempty"`
	Alias             string            `json:"alias,omitempty"`
	Fingerprint       string            `json:"fingerprint,omitempty"`
	Properties        map[string]string `json:"properties,omitempty"`
	Server            string            `json:"server,omitempty"`
	Secret            string            `json:"secret,omitempty"`
	Protocol          string            `json:"protocol,omitempty"`
	BaseImage         string            `json:"base-image,omitempty"`
	Mode              string            `json:"mode,omitempty"`
	Operation         string            `json:"operation,omitempty"`
	Secrets           map[string]string `json:"secrets,omitempty"`
	Source            string            `json:"source,omitempty" key:"instance"` // INSTANCE or INSTANCE/SNAPSHOT
	Live              bool              `json:"live,omitempty"`
	InstanceOnly      bool              `json:"instance_only,omitempty"`
	ContainerOnly     bool              `json:"container_only,omitempty"` // The older name of InstanceOnly.
	Refresh           bool              `json:"refresh,omitempty"`
	RefreshExclude    bool              `json:"refresh_exclude_older,omitempty"`
	Project           string            `json:"project,omitempty" key:"project"`
	AllowInconsistent bool              `json:"allow_inconsistent,omitempty"`
}

// InstancePost renames or moves an instance.
type InstancePost struct {
	Name         string `json:"name" key:"instance"`
	Migration    bool   `json:"migration"`
	Live         bool   `json:"live"`
	InstanceOnly bool   `json:"instance_only"`
	Pool         string `json:"pool"`
	Project      string `json:"project" key:"project"`

	// What the instance gets with the move; nil: what it has. The peers
	// write these names with capitals.
	Config   ConfigMap  `json:"Config,omitempty" key:"config"`
	Devices  DevicesMap `json:"Devices,omitempty" key:"devices"`
	Profiles []string   `json:"Profiles,omitempty" key:"profile"`
}

// InstancesPut changes the state of all instances.
type InstancesPut struct {
	State *InstanceStatePut `json:"state"`
}

// InstanceStatePut changes what an instance is doing.
type InstanceStatePut struct {
	Action   string `json:"action"`  // start, stop, restart, freeze, unfreeze
	Timeout  int    `json:"timeout"` // Seconds; -1 for none.
	Force    bool   `json:"force"`
	Stateful bool   `json:"stateful"`
}

// InstanceRebuildPost puts another image, or none, below an instance.
type InstanceRebuildPost struct {
	Source InstanceSource `json:"source"`
}

// InstanceState is what an instance is doing now.
type InstanceState struct {
	Status     string                          `json:"status"`
	StatusCode StatusCode                      `json:"status_code"`
	Disk       map[string]InstanceStateDisk    `json:"disk"`
	Memory     InstanceStateMemory             `json:"memory"`
	Network    map[string]InstanceStateNetwork `json:"network"`
	Pid        int64                           `json:"pid"`
	Processes  int64                           `json:"processes"`
	CPU        InstanceStateCPU                `json:"cpu"`
	StartedAt  time.Time                       `json:"started_at"`
	OSInfo     *InstanceStateOSInfo            `json:"os_info"`
	IO         *InstanceStateIO                `json:"io,omitempty"` // Ours: extension cuib_state_io.

	// Pressure is by what programs waited for: cpu, memory and io. It is
	// missing where the kernel does not measure it. It is of the extension
	// cuib_state_pressure.
	Pressure map[string]InstanceStatePressure `json:"pressure,omitempty"`
}

// InstanceStatePressure says for how much of the time programs had to wait for
// something: some of them, and all that were not idle.
type InstanceStatePressure struct {
	Some InstanceStateStall `json:"some"`
	Full InstanceStateStall `json:"full"`
}

// InstanceStateStall is a part of the time.
type InstanceStateStall struct {
	Avg10  float64 `json:"avg10"` // Percent of the last 10 seconds, and so on.
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`
	Total  int64   `json:"total"` // Nanoseconds since the start.
}

// InstanceStateIO is what an instance has read from and written to block
// devices since it was started, in bytes.
type InstanceStateIO struct {
	BytesRead    int64 `json:"bytes_read"`
	BytesWritten int64 `json:"bytes_written"`
}

// InstanceStateOSInfo is what the guest says of its system.
type InstanceStateOSInfo struct {
	OS            string `json:"os"`
	OSVersion     string `json:"os_version"`
	KernelVersion string `json:"kernel_version"`
	Hostname      string `json:"hostname"`
	FQDN          string `json:"fqdn"`
}

// InstanceStateDisk is the usage of a disk, in bytes.
type InstanceStateDisk struct {
	Usage int64 `json:"usage"`
	Total int64 `json:"total"`
}

// InstanceStateCPU is the usage of the processors.
type InstanceStateCPU struct {
	Usage         int64 `json:"usage"`          // Nanoseconds.
	AllocatedTime int64 `json:"allocated_time"` // Nanoseconds of CPU a second.
}

// InstanceStateMemory is the usage of memory, in bytes.
type InstanceStateMemory struct {
	Usage         int64 `json:"usage"`
	UsagePeak     int64 `json:"usage_peak"`
	Total         int64 `json:"total"`
	SwapUsage     int64 `json:"swap_usage"`
	SwapUsagePeak int64 `json:"swap_usage_peak"`
}

// InstanceStateNetwork is an interface of a running instance.
type InstanceStateNetwork struct {
	Addresses []InstanceStateNetworkAddress `json:"addresses"`
	Counters  NetworkCounters               `json:"counters"`
	Hwaddr    string                        `json:"hwaddr"`
	HostName  string                        `json:"host_name"`
	Mtu       int                           `json:"mtu"`
	State     string                        `json:"state"` // up or down
	Type      string                        `json:"type"`  // broadcast, loopback ...

	CNI *InstanceStateNetworkCNI `json:"cni,omitempty"` // Of one that plugins have made.
}

// InstanceStateNetworkAddress is an address.
type InstanceStateNetworkAddress struct {
	Family  string `json:"family"` // inet or inet6
	Address string `json:"address"`
	Netmask string `json:"netmask"` // Prefix length.
	Scope   string `json:"scope"`   // global, link or local
}

// NetworkCounters are an interface's counters.
type NetworkCounters struct {
	BytesReceived          int64 `json:"bytes_received"`
	BytesSent              int64 `json:"bytes_sent"`
	PacketsReceived        int64 `json:"packets_received"`
	PacketsSent            int64 `json:"packets_sent"`
	ErrorsReceived         int64 `json:"errors_received"`
	ErrorsSent             int64 `json:"errors_sent"`
	PacketsDroppedOutbound int64 `json:"packets_dropped_outbound"`
	PacketsDroppedInbound  int64 `json:"packets_dropped_inbound"`
}

// InstanceExecPost runs a program in an instance.
type InstanceExecPost struct {
	Command      []string          `json:"command"`
	WaitForWS    bool              `json:"wait-for-websocket"`
	Interactive  bool              `json:"interactive"`
	Environment  map[string]string `json:"environment"`
	Width        int               `json:"width"`
	Height       int               `json:"height"`
	RecordOutput bool              `json:"record-output"`
	User         uint32            `json:"user"`
	Group        uint32            `json:"group"`
	Cwd          string            `json:"cwd"`
}

// InstanceExecControl is a message on the control channel of an exec or a
// console.
type InstanceExecControl struct {
	Command string            `json:"command"` // window-resize or signal
	Args    map[string]string `json:"args"`
	Signal  int               `json:"signal"`
}

// InstanceConsolePost attaches to the console.
type InstanceConsolePost struct {
	Width  int    `json:"width"`
	Height int    `json:"height"`
	Type   string `json:"type"`
	Force  bool   `json:"force"`
}

// InstanceSnapshotPut is the writable part of a snapshot.
type InstanceSnapshotPut struct {
	ExpiresAt   time.Time `json:"expires_at"`
	Description string    `json:"description"`
}

// InstanceSnapshot is a snapshot of an instance.
type InstanceSnapshot struct {
	InstanceSnapshotPut

	Architecture    string     `json:"architecture"`
	Config          ConfigMap  `json:"config" key:"config"`
	CreatedAt       time.Time  `json:"created_at"`
	LastUsedAt      time.Time  `json:"last_used_at"`
	Devices         DevicesMap `json:"devices" key:"devices"`
	Ephemeral       bool       `json:"ephemeral"`
	ExpandedConfig  ConfigMap  `json:"expanded_config,omitempty" key:"config"`
	ExpandedDevices DevicesMap `json:"expanded_devices,omitempty" key:"devices"`
	Name            string     `json:"name"`
	Profiles        []string   `json:"profiles" key:"profile"`
	Stateful        bool       `json:"stateful"`
	Size            int64      `json:"size"`
}

// InstanceSnapshotsPost creates a snapshot.
type InstanceSnapshotsPost struct {
	Name        string     `json:"name"`
	Stateful    bool       `json:"stateful"`
	ExpiresAt   *time.Time `json:"expires_at"`
	Description string     `json:"description"`

	// The disks that get a snapshot of this name: root, if it is empty, or
	// all-exclusive, which are custom volumes too that no other instance has.
	Volumes string `json:"disk_volumes_mode,omitempty"`

	// Whether it takes the place of one that has its name, which is there until
	// the new one is. It is of the extension cuib_snapshot_replace.
	Replace bool `json:"replace,omitempty"`
}

// InstanceSnapshotsDelete deletes several snapshots. It is of the extension
// cuib_snapshot_bulk.
type InstanceSnapshotsDelete struct {
	Names []string `json:"names"`
}

// InstanceSnapshotPost renames a snapshot.
type InstanceSnapshotPost struct {
	Name      string `json:"name"`
	Migration bool   `json:"migration"`
}
