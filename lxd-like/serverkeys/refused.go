package serverkeys

import "github.com/cuib/cuib/profiles"

// A Refusal is keys that servers of LXD and Incus have and none has here, with
// the reason.
type Refusal struct {
	Names []string // With * for any text.
	Why   string
}

// Refusals returns all of them.
func Refusals() []Refusal {
	return []Refusal{
		{[]string{"acme.*", "authorization.*", "candid.*", "core.auth_secret_expiry", "core.https_*", "core.remote_token_expiry", "core.trust_*", "oidc.*", "openfga.*", "rbac.*"}, "the API is on no network, only on the unix socket: reach that from other hosts by ssh"},
		{[]string{"cluster.*", "instances.placement.*"}, "a host works alone, without a cluster"},
		{[]string{"core.bgp_*"}, "nothing here speaks BGP: run FRR or BIRD on the host, they can announce the routes that the host has"},
		{[]string{"core.storage_buckets_address"}, "there are no storage buckets"},
		{[]string{"images.auto_update_*"}, "images are not brought up to date by themselves: copy the image again"},
		{[]string{"images.compression_algorithm", "images.default_architecture", "images.remote_cache_expiry", "network.hwaddr_pattern"}, `it is a key of projects: use "cuib project set default"`},
		{[]string{"network.ovn.*", "network.ovs.*"}, "there are no OVN networks"},
		{[]string{"storage.linstor.*"}, "there is no such storage driver"},
	}
}

// refused returns why no server here has a key.
func refused(name string) (why string, no bool) {
	for _, r := range Refusals() {
		for _, n := range r.Names {
			if profiles.Matches(n, name) {
				return r.Why, true
			}
		}
	}
	return "", false
}
