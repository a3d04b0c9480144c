package api

// NetworksVersion is that of the [NetworksDocument] that is written. Those
// without a version have networks alone.
const NetworksVersion = 1

// NetworksDocument is all that there is to know of the networks of a host, to
// make them again.
type NetworksDocument struct {
	NetworksVersion int                   `json:"networks_version,omitempty"`
	Networks        []Network             `json:"networks,omitempty"` // Managed ones.
	NetworkParts    []NetworkParts        `json:"network_parts,omitempty"`
	AddressSets     []NetworkAddressSet   `json:"network_address_sets,omitempty"`
	ACLs            []NetworkACL          `json:"network_acls,omitempty"`
	Zones           []NetworkZoneDocument `json:"network_zones,omitempty"`
}

// NetworkParts is what belongs to one network.
type NetworkParts struct {
	Network       string                `json:"network" key:"network"`
	Forwards      []NetworkForward      `json:"forwards,omitempty"`
	LoadBalancers []NetworkLoadBalancer `json:"load_balancers,omitempty"`
	Peers         []NetworkPeer         `json:"peers,omitempty"`
}

// NetworkZoneDocument is a zone with the records that it was given.
type NetworkZoneDocument struct {
	NetworkZone

	Records []NetworkZoneRecord `json:"records,omitempty"`
}
