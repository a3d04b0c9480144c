package api

import "time"

// ProfilePut is the writable part of a profile.
type ProfilePut struct {
	Config      ConfigMap  `json:"config" key:"config"`
	Description string     `json:"description"`
	Devices     DevicesMap `json:"devices" key:"devices"`
}

// ProfilesPost creates a profile.
type ProfilesPost struct {
	ProfilePut

	Name string `json:"name" key:"profile"`
}

// Profile is a profile.
type Profile struct {
	ProfilePut

	Name    string   `json:"name" key:"profile"`
	UsedBy  []string `json:"used_by" key:"url"`
	Project string   `json:"project" key:"project"`
}

// RenamePost renames an object.
type RenamePost struct {
	Name string `json:"name"`
}

// ImagePut is the writable part of an image.
type ImagePut struct {
	AutoUpdate bool              `json:"auto_update"`
	Properties map[string]string `json:"properties"`
	Public     bool              `json:"public"`
	ExpiresAt  time.Time         `json:"expires_at"`
	Profiles   []string          `json:"profiles"`
}

// Image is an image.
type Image struct {
	ImagePut

	Aliases      []ImageAlias `json:"aliases"`
	Architecture string       `json:"architecture"`
	Cached       bool         `json:"cached"`
	Filename     string       `json:"filename"`
	Fingerprint  string       `json:"fingerprint"`
	Size         int64        `json:"size"` // Bytes.
	Type         string       `json:"type"` // container
	CreatedAt    time.Time    `json:"created_at"`
	LastUsedAt   time.Time    `json:"last_used_at"`
	UploadedAt   time.Time    `json:"uploaded_at"`
	Project      string       `json:"project"`
	UpdateSource *ImageSource `json:"update_source,omitempty"`
}

// ImageAlias is an alias within an image.
type ImageAlias struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

// ImageSource says where an image comes from.
type ImageSource struct {
	Alias       string `json:"alias"`
	Certificate string `json:"certificate"`
	Protocol    string `json:"protocol"`
	Server      string `json:"server"`
	ImageType   string `json:"image_type"`
}

// ImagesPost makes an image of something that is not uploaded.
type ImagesPost struct {
	ImagePut

	Filename             string            `json:"filename"`
	Source               *ImagesPostSource `json:"source"`
	CompressionAlgorithm string            `json:"compression_algorithm"`
	Aliases              []ImageAlias      `json:"aliases"`
	Format               string            `json:"format,omitempty"`
}

// ImagesPostSource says what an image is made of. Type "build" is Cuib's own
// (extension cuib_image_build): Name is DISTRIBUTION:SUITE.
type ImagesPostSource struct {
	ImageSource

	Type        string `json:"type"` // instance, snapshot, image, build
	Mode        string `json:"mode"`
	Name        string `json:"name" key:"instance"`
	Fingerprint string `json:"fingerprint"`
	Secret      string `json:"secret"`
	Project     string `json:"project" key:"project"`
	URL         string `json:"url"`
	Variant     string `json:"variant,omitempty"`
	Refresh     bool   `json:"refresh,omitempty"` // Build even if it is cached.
}

// ImageExportPost pushes an image to a project that awaits it.
type ImageExportPost struct {
	Target   string   `json:"target"` // The URL of the server.
	Secret   string   `json:"secret"` // Of who awaits it.
	Profiles []string `json:"profiles"`
}

// ImageAliasesEntryPut is the writable part of an alias.
type ImageAliasesEntryPut struct {
	Description string `json:"description"`
	Target      string `json:"target"` // Fingerprint.
}

// ImageAliasesEntry is an alias of an image.
type ImageAliasesEntry struct {
	ImageAliasesEntryPut

	Name    string `json:"name"`
	Type    string `json:"type"` // container
	Project string `json:"-"`
}

// ImageMetadata is metadata.yaml, inside an image or an instance.
type ImageMetadata struct {
	Architecture string                            `json:"architecture" yaml:"architecture"`
	CreationDate int64                             `json:"creation_date" yaml:"creation_date"` // Unix seconds.
	ExpiryDate   int64                             `json:"expiry_date" yaml:"expiry_date"`
	Properties   map[string]string                 `json:"properties" yaml:"properties"`
	Templates    map[string]*ImageMetadataTemplate `json:"templates" yaml:"templates"`
}

// ImageMetadataTemplate is a template of an image.
type ImageMetadataTemplate struct {
	When       []string          `json:"when" yaml:"when"`
	CreateOnly bool              `json:"create_only" yaml:"create_only"`
	Template   string            `json:"template" yaml:"template"`
	Properties map[string]string `json:"properties" yaml:"properties"`
	UID        string            `json:"uid,omitempty" yaml:"uid,omitempty"`
	GID        string            `json:"gid,omitempty" yaml:"gid,omitempty"`
	Mode       string            `json:"mode,omitempty" yaml:"mode,omitempty"`
}

// NetworkPut is the writable part of a network.
type NetworkPut struct {
	Config      ConfigMap `json:"config" key:"netconfig"`
	Description string    `json:"description"`
}

// NetworksPost creates a network.
type NetworksPost struct {
	NetworkPut

	Name string `json:"name" key:"network"`
	Type string `json:"type"` // bridge, macvlan
}

// Network is a network.
type Network struct {
	NetworkPut

	Name      string   `json:"name" key:"network"`
	Type      string   `json:"type"`
	UsedBy    []string `json:"used_by" key:"url"`
	Managed   bool     `json:"managed"`
	Status    string   `json:"status"`
	Locations []string `json:"locations"`
	Project   string   `json:"project" key:"project"`

	// Obstacles and MissingInterfaces are as in NetworkState.
	Obstacles         []NetworkObstacle `json:"obstacles,omitempty"`
	MissingInterfaces []string          `json:"missing_interfaces,omitempty"`
}

// NetworkLease is an address that is given out.
type NetworkLease struct {
	Hostname string `json:"hostname"`
	Hwaddr   string `json:"hwaddr"`
	Address  string `json:"address"`
	Type     string `json:"type"` // static, dynamic, gateway
	Location string `json:"location"`
	Project  string `json:"project,omitempty"`
}

// NetworkState is the state of a network's interface on the host.
type NetworkState struct {
	Addresses []NetworkStateAddress `json:"addresses"`
	Counters  *NetworkCounters      `json:"counters"`
	Hwaddr    string                `json:"hwaddr"`
	Mtu       int                   `json:"mtu"`
	State     string                `json:"state"`
	Type      string                `json:"type"`
	Bridge    *NetworkStateBridge   `json:"bridge"`
	Bond      any                   `json:"bond"`
	VLAN      any                   `json:"vlan"`
	OVN       any                   `json:"ovn"`

	// Gateways are those of the host's default routes through the interface:
	// extension cuib_network_gateways.
	Gateways []string `json:"gateways,omitempty"`

	// Obstacles are what of the host's firewall drops packets of the network:
	// extension cuib_network_obstacles. ObstaclesUnread are the programs that are
	// missing to read all of it, such as iptables-legacy-save.
	Obstacles       []NetworkObstacle `json:"obstacles,omitempty"`
	ObstaclesUnread []string          `json:"obstacles_unread,omitempty"`

	// MissingInterfaces are those of the host that are to be ports of the bridge
	// and are not there: extension cuib_network_missing_interfaces.
	MissingInterfaces []string `json:"missing_interfaces,omitempty"`
}

// NetworkObstacle is a rule or a policy that is not ours and drops packets that
// a network needs.
type NetworkObstacle struct {
	What   string `json:"what"`  // The packets.
	Table  string `json:"table"` // With its family: "ip filter".
	Chain  string `json:"chain"`
	Rule   string `json:"rule"`   // As nft shows it, or "policy drop".
	Owner  string `json:"owner"`  // Who wrote the table: Docker, ufw, firewalld; empty if that is not known.
	Remedy string `json:"remedy"` // Commands that let the packets pass.
}

// NetworkCheck is something that was tried of a network.
type NetworkCheck struct {
	Name   string `json:"name"`
	Status string `json:"status"` // ok, failed, or skipped where it could not be tried.
	Detail string `json:"detail"`
	Cause  string `json:"cause,omitempty"`  // What is in the way, if it is known.
	Remedy string `json:"remedy,omitempty"` // Commands that take it out of the way.
}

// NetworkStateAddress is an address of the host.
type NetworkStateAddress struct {
	Family  string `json:"family"`
	Address string `json:"address"`
	Netmask string `json:"netmask"`
	Scope   string `json:"scope"`
}

// NetworkStateBridge is the state of a bridge.
type NetworkStateBridge struct {
	ID            string   `json:"id"`
	STP           bool     `json:"stp"`
	ForwardDelay  uint64   `json:"forward_delay"`
	VLANDefault   uint64   `json:"vlan_default"`
	VLANFiltering bool     `json:"vlan_filtering"`
	UpperDevices  []string `json:"upper_devices"`
}
