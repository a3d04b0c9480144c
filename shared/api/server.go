package api

// ServerPut is the writable part of the server.
type ServerPut struct {
	Config ConfigMap `json:"config"`
}

// Server is what GET /1.0 answers.
type Server struct {
	ServerPut

	APIExtensions  []string          `json:"api_extensions"`
	APIStatus      string            `json:"api_status"`
	APIVersion     string            `json:"api_version"`
	Auth           string            `json:"auth"` // trusted or untrusted
	Public         bool              `json:"public"`
	AuthMethods    []string          `json:"auth_methods"`
	AuthUserName   string            `json:"auth_user_name"`
	AuthUserMethod string            `json:"auth_user_method"`
	Environment    ServerEnvironment `json:"environment"`
}

// ServerEnvironment describes host and daemon.
type ServerEnvironment struct {
	Addresses              []string              `json:"addresses"`
	Architectures          []string              `json:"architectures"`
	Certificate            string                `json:"certificate"`
	CertificateFingerprint string                `json:"certificate_fingerprint"`
	Driver                 string                `json:"driver"`
	DriverVersion          string                `json:"driver_version"`
	Firewall               string                `json:"firewall"`
	Kernel                 string                `json:"kernel"`
	KernelArchitecture     string                `json:"kernel_architecture"`
	KernelFeatures         map[string]string     `json:"kernel_features"`
	KernelVersion          string                `json:"kernel_version"`
	LXCFeatures            map[string]string     `json:"lxc_features"`
	OSName                 string                `json:"os_name"`
	OSVersion              string                `json:"os_version"`
	Project                string                `json:"project"`
	Server                 string                `json:"server"`
	ServerClustered        bool                  `json:"server_clustered"`
	ServerEventMode        string                `json:"server_event_mode"`
	ServerName             string                `json:"server_name"`
	ServerPid              int                   `json:"server_pid"`
	ServerVersion          string                `json:"server_version"`
	Storage                string                `json:"storage"`
	StorageVersion         string                `json:"storage_version"`
	StorageDrivers         []ServerStorageDriver `json:"storage_supported_drivers"`
}

// ServerStorageDriver is a storage driver that the host can run. Its keys are
// capitalized on the wire.
type ServerStorageDriver struct {
	Name    string
	Version string
	Remote  bool
}
