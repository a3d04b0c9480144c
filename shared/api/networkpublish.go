package api

// NetworkForwardPort is ports of a forward's address, and where they lead to.
type NetworkForwardPort struct {
	Description   string `json:"description"`
	Protocol      string `json:"protocol"`    // tcp or udp
	ListenPort    string `json:"listen_port"` // "80,443,8000-8010"
	TargetPort    string `json:"target_port"` // As many ports, one for all, or empty for the same.
	TargetAddress string `json:"target_address"`
	SNAT          bool   `json:"snat"` // What the target begins from its port leaves with the forward's address.
}

// NetworkForwardPut is the writable part of a forward.
type NetworkForwardPut struct {
	Description string               `json:"description"`
	Config      ConfigMap            `json:"config"`
	Ports       []NetworkForwardPort `json:"ports"`
}

// NetworkForwardsPost creates a forward.
type NetworkForwardsPost struct {
	NetworkForwardPut

	ListenAddress string `json:"listen_address"`
}

// NetworkForward has what comes for an address go on to instances.
type NetworkForward struct {
	NetworkForwardPut

	ListenAddress string `json:"listen_address"`
	Location      string `json:"location"`
}

// NetworkLoadBalancerBackend is one of those who take turns.
type NetworkLoadBalancerBackend struct {
	Name          string `json:"name"`
	Description   string `json:"description"`
	TargetPort    string `json:"target_port"`
	TargetAddress string `json:"target_address"`
}

// NetworkLoadBalancerPort is ports of a load balancer's address, and who takes
// turns there.
type NetworkLoadBalancerPort struct {
	Description   string   `json:"description"`
	Protocol      string   `json:"protocol"`
	ListenPort    string   `json:"listen_port"`
	TargetBackend []string `json:"target_backend"`
}

// NetworkLoadBalancerPut is the writable part of a load balancer.
type NetworkLoadBalancerPut struct {
	Description string                       `json:"description"`
	Config      ConfigMap                    `json:"config"`
	Backends    []NetworkLoadBalancerBackend `json:"backends"`
	Ports       []NetworkLoadBalancerPort    `json:"ports"`
}

// NetworkLoadBalancersPost creates a load balancer.
type NetworkLoadBalancersPost struct {
	NetworkLoadBalancerPut

	ListenAddress string `json:"listen_address"`
}

// NetworkLoadBalancer has instances take turns in what comes for an address.
type NetworkLoadBalancer struct {
	NetworkLoadBalancerPut

	ListenAddress string `json:"listen_address"`
	Location      string `json:"location"`
}

// NetworkLoadBalancerState is how the back ends are that are checked, by name.
type NetworkLoadBalancerState struct {
	BackendHealth map[string]NetworkLoadBalancerStateBackendHealth `json:"backend_health"`
}

// NetworkLoadBalancerStateBackendHealth is how a back end is.
type NetworkLoadBalancerStateBackendHealth struct {
	Address string                                      `json:"address"`
	Ports   []NetworkLoadBalancerStateBackendHealthPort `json:"ports"`
}

// NetworkLoadBalancerStateBackendHealthPort is how a port of a back end is.
type NetworkLoadBalancerStateBackendHealthPort struct {
	Protocol string `json:"protocol"`
	Port     int    `json:"port"`
	Status   string `json:"status"` // online or offline
}
