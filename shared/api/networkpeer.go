package api

// The states of a network's peer.
const (
	PeerPending = "Pending" // The other network has not said the same.
	PeerCreated = "Created"
)

// NetworkPeersPost creates a peer of a network.
type NetworkPeersPost struct {
	NetworkPeerPut

	Name              string `json:"name"`
	TargetProject     string `json:"target_project" key:"project"`
	TargetNetwork     string `json:"target_network" key:"network"`
	Type              string `json:"type,omitempty"`
	TargetIntegration string `json:"target_integration,omitempty"`
}

// NetworkPeerPut is the writable part of a peer of a network.
type NetworkPeerPut struct {
	Description string    `json:"description"`
	Config      ConfigMap `json:"config"`
}

// NetworkPeer is another network that a network is routed to as it is.
type NetworkPeer struct {
	NetworkPeerPut

	Name              string   `json:"name"`
	TargetProject     string   `json:"target_project" key:"project"`
	TargetNetwork     string   `json:"target_network" key:"network"`
	Status            string   `json:"status"`
	Type              string   `json:"type"`
	TargetIntegration string   `json:"target_integration"`
	UsedBy            []string `json:"used_by" key:"url"`
}
