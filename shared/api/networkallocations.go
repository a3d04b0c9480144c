package api

// NetworkAllocation is an address that somebody has in a managed network.
type NetworkAllocation struct {
	Address string `json:"addresses"`         // With the length of its network.
	UsedBy  string `json:"used_by" key:"url"` // URL of who has it.
	Type    string `json:"type"`              // network, instance, network-forward, network-load-balancer
	NAT     bool   `json:"nat"`
	Hwaddr  string `json:"hwaddr"`
	Network string `json:"network" key:"network"`
}
