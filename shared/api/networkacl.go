package api

// NetworkACLRule is a rule of a network ACL. Empty fields are for all.
type NetworkACLRule struct {
	Action          string `json:"action"`                     // allow, allow-stateless, reject, drop
	Source          string `json:"source,omitempty"`           // Addresses, networks, ranges and names, with commas between them.
	Destination     string `json:"destination,omitempty"`      // As source.
	Protocol        string `json:"protocol,omitempty"`         // tcp, udp, icmp4, icmp6
	SourcePort      string `json:"source_port,omitempty"`      // Ports and ranges, with commas between them.
	DestinationPort string `json:"destination_port,omitempty"` // As source_port.
	ICMPType        string `json:"icmp_type,omitempty"`
	ICMPCode        string `json:"icmp_code,omitempty"`
	Description     string `json:"description,omitempty"`
	State           string `json:"state"` // enabled, disabled, logged
}

// NetworkACLPut is the writable part of a network ACL.
type NetworkACLPut struct {
	Description string           `json:"description"`
	Egress      []NetworkACLRule `json:"egress"`
	Ingress     []NetworkACLRule `json:"ingress"`
	Config      ConfigMap        `json:"config"` // Only user.*.
}

// NetworkACLsPost creates a network ACL.
type NetworkACLsPost struct {
	NetworkACLPut

	Name string `json:"name" key:"network"`
}

// NetworkACL is rules for what may pass to and from instances.
type NetworkACL struct {
	NetworkACLPut

	Name    string   `json:"name" key:"network"`
	UsedBy  []string `json:"used_by" key:"url"`
	Project string   `json:"project" key:"project"`
}

// NetworkACLState is what was counted of an ACL: extension cuib_network_acl_state.
type NetworkACLState struct {
	Rules []NetworkACLCount `json:"rules"`
}

// NetworkACLCount is how often a rule was used at a place since the kernel has
// it.
type NetworkACLCount struct {
	Direction string `json:"direction"`
	Rule      int    `json:"rule"`  // Its number in the direction, from 0.
	Where     string `json:"where"` // "network NAME", or "interfaces on NAME".
	Packets   uint64 `json:"packets"`
	Bytes     uint64 `json:"bytes"`
}

// NetworkACLLogEntry is a line of the log of an ACL.
type NetworkACLLogEntry struct {
	Time      string `json:"time"`
	Proto     string `json:"proto"`
	Src       string `json:"src"`
	Dst       string `json:"dst"`
	SrcPort   string `json:"src_port,omitempty"`
	DstPort   string `json:"dst_port,omitempty"`
	ICMPType  string `json:"icmp_type,omitempty"`
	ICMPCode  string `json:"icmp_code,omitempty"`
	Action    string `json:"action"`
	Direction string `json:"direction"` // Ours, as what follows.
	Rule      string `json:"rule"`      // Its number in the direction, or default.
	Network   string `json:"network" key:"network"`
}

// NetworkAddressSetPut is the writable part of an address set.
type NetworkAddressSetPut struct {
	Description string    `json:"description"`
	Addresses   []string  `json:"addresses"`
	Config      ConfigMap `json:"config"` // Only user.*.
}

// NetworkAddressSetsPost creates an address set.
type NetworkAddressSetsPost struct {
	NetworkAddressSetPut

	Name string `json:"name" key:"network"`
}

// NetworkAddressSet is addresses that rules of ACLs name as $NAME.
type NetworkAddressSet struct {
	NetworkAddressSetPut

	Name    string   `json:"name" key:"network"`
	UsedBy  []string `json:"used_by" key:"url"`
	Project string   `json:"project" key:"project"`
}
