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
		{[]string{"core.debug_address"}, "the daemon listens on no network"},
		{[]string{"core.metrics_*"}, `there are no metrics to fetch: "cuib top" and the state of instances have the figures`},
		{[]string{"core.proxy_*"}, "packages come by apt and backups go by restic, which have settings of their own"},
		{[]string{"core.shutdown_*"}, "it is told for each instance, by boot.host_shutdown_timeout and boot.host_shutdown_action"},
		{[]string{"core.storage_buckets_address"}, "there are no storage buckets"},
		{[]string{"images.auto_update_*"}, "images are not brought up to date by themselves: copy the image again"},
		{[]string{"images.compression_algorithm", "images.default_architecture", "images.remote_cache_expiry", "network.hwaddr_pattern"}, `it is a key of projects: use "cuib project set default"`},
		{[]string{"instances.lxcfs.*"}, "one lxcfs serves all instances"},
		{[]string{"instances.migration.*"}, "an instance does not run while it moves"},
		{[]string{"instances.nic.host_name"}, "a NIC says it itself, by its option host_name"},
		{[]string{"instances.tpm.*"}, "a TPM has no certificate of a platform"},
		{[]string{"logging.*", "loki.*"}, "nothing is sent away: the log is on standard error, for the journal, and the events are for who listens"},
		{[]string{"maas.*"}, "nothing here speaks to a MAAS"},
		{[]string{"core.syslog_socket", "network.ovn.*", "network.ovs.*"}, "there are no OVN networks"},
		{[]string{"storage.backups_volume", "storage.images_volume", "storage.logs_volume", "storage.project.*"}, "a backup is made when it is read, and images and logs are in the daemon's directory, which can be a file system of its own"},
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
