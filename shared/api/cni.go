package api

// InstanceStateNetworkCNI is what the plugins of an interface have made:
// extension cuib_nic_cni. It is kept in the instance's options, too.
type InstanceStateNetworkCNI struct {
	Config     string                      `json:"config"` // The name of the configuration.
	Interfaces []InstanceStateCNIInterface `json:"interfaces"`
	Addresses  []InstanceStateCNIAddress   `json:"addresses"`
	Routes     []InstanceStateCNIRoute     `json:"routes"`
	DNS        InstanceStateCNIDNS         `json:"dns"`
}

// InstanceStateCNIInterface is one that plugins have made or used.
type InstanceStateCNIInterface struct {
	Name   string `json:"name"`
	Hwaddr string `json:"hwaddr"`
	Inside bool   `json:"inside"` // Of the instance, not of the host.
}

// InstanceStateCNIAddress is an address of the instance.
type InstanceStateCNIAddress struct {
	Address   string `json:"address"` // With the length of its network.
	Gateway   string `json:"gateway,omitempty"`
	Interface string `json:"interface,omitempty"`
}

// InstanceStateCNIRoute is a route of the instance.
type InstanceStateCNIRoute struct {
	To      string `json:"to"`
	Gateway string `json:"gateway,omitempty"`
}

// InstanceStateCNIDNS says whom the instance may ask for names. Nobody tells the
// guest.
type InstanceStateCNIDNS struct {
	Nameservers []string `json:"nameservers,omitempty"`
	Domain      string   `json:"domain,omitempty"`
	Search      []string `json:"search,omitempty"`
	Options     []string `json:"options,omitempty"`
}
