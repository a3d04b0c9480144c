package profiles

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// BPF says what an instance may do with bpf(2).
type BPF struct {
	Path    string            // Where its tokens come from; empty for nowhere.
	Options map[string]string // Of the file system there, as bpffs has them.
}

const (
	keyDelegate = "security.delegate_bpf"
	keyBPFPath  = "security.bpffs.path"

	defaultBPFPath = "/sys/fs/bpf"
	anyBPF         = "any"
)

// A kind is one of what can be handed on, with its keys and its words, whose
// places are the kernel's numbers: enum bpf_cmd and others of linux/bpf.h.
type bpfKind struct {
	option, lxd, incus, doc string
	words                   string
}

var bpfKinds = []bpfKind{
	{
		"delegate_cmds", keyDelegate + ".cmd_types", "security.bpffs.delegate_cmds", "Commands of bpf(2) that the instance may use with a token",
		"map_create map_lookup_elem map_update_elem map_delete_elem map_get_next_key prog_load obj_pin obj_get prog_attach prog_detach prog_test_run prog_get_next_id map_get_next_id prog_get_fd_by_id map_get_fd_by_id obj_get_info_by_fd prog_query raw_tracepoint_open btf_load btf_get_fd_by_id task_fd_query map_lookup_and_delete_elem map_freeze btf_get_next_id map_lookup_batch map_lookup_and_delete_batch map_update_batch map_delete_batch link_create link_update link_get_fd_by_id link_get_next_id enable_stats iter_create link_detach prog_bind_map token_create",
	},
	{
		"delegate_maps", keyDelegate + ".map_types", "security.bpffs.delegate_maps", "Types of BPF maps that the instance may make with a token",
		"unspec hash array prog_array perf_event_array percpu_hash percpu_array stack_trace cgroup_array lru_hash lru_percpu_hash lpm_trie array_of_maps hash_of_maps devmap sockmap cpumap xskmap sockhash cgroup_storage reuseport_sockarray percpu_cgroup_storage queue stack sk_storage devmap_hash struct_ops ringbuf inode_storage task_storage bloom_filter user_ringbuf cgrp_storage arena",
	},
	{
		"delegate_progs", keyDelegate + ".prog_types", "security.bpffs.delegate_progs", "Types of BPF programs that the instance may load with a token",
		"unspec socket_filter kprobe sched_cls sched_act tracepoint xdp perf_event cgroup_skb cgroup_sock lwt_in lwt_out lwt_xmit sock_ops sk_skb cgroup_device sk_msg raw_tracepoint cgroup_sock_addr lwt_seg6local lirc_mode2 sk_reuseport flow_dissector cgroup_sysctl raw_tracepoint_writable cgroup_sockopt tracing struct_ops ext lsm sk_lookup syscall netfilter",
	},
	{
		"delegate_attachs", keyDelegate + ".attach_types", "security.bpffs.delegate_attachs", "Where the instance may attach BPF programs with a token",
		"cgroup_inet_ingress cgroup_inet_egress cgroup_inet_sock_create cgroup_sock_ops sk_skb_stream_parser sk_skb_stream_verdict cgroup_device sk_msg_verdict cgroup_inet4_bind cgroup_inet6_bind cgroup_inet4_connect cgroup_inet6_connect cgroup_inet4_post_bind cgroup_inet6_post_bind cgroup_udp4_sendmsg cgroup_udp6_sendmsg lirc_mode2 flow_dissector cgroup_sysctl cgroup_udp4_recvmsg cgroup_udp6_recvmsg cgroup_getsockopt cgroup_setsockopt trace_raw_tp trace_fentry trace_fexit modify_return lsm_mac trace_iter cgroup_inet4_getpeername cgroup_inet6_getpeername cgroup_inet4_getsockname cgroup_inet6_getsockname xdp_devmap cgroup_inet_sock_release xdp_cpumap sk_lookup xdp sk_skb_verdict sk_reuseport_select sk_reuseport_select_or_migrate perf_event trace_kprobe_multi lsm_cgroup struct_ops netfilter tcx_ingress tcx_egress trace_uprobe_multi cgroup_unix_connect cgroup_unix_sendmsg cgroup_unix_recvmsg cgroup_unix_getpeername cgroup_unix_getsockname netkit_primary netkit_peer trace_kprobe_session trace_uprobe_session",
	},
}

func bpfKeys() []Key {
	keys := []Key{
		boolean(Key{Name: keyDelegate, Default: "false", Condition: unprivileged, Doc: "Have a file system in the instance by which it may use parts of bpf(2), as security.delegate_bpf.* says.", Differs: "Incus's security.bpffs.* say the same and are served too."}),
		{Name: keyBPFPath, Type: String, Default: defaultBPFPath, Allowed: "an absolute path in the instance, of one line", Condition: unprivileged, Doc: "Where that file system is mounted in the instance.", check: is(bpfPath)},
	}
	for _, k := range bpfKinds {
		allowed := fmt.Sprintf("%q, a number, or names such as %q", anyBPF, strings.Join(strings.Fields(k.words)[1:3], ","))
		check := parses(k.mask)
		keys = append(
			keys,
			Key{Name: k.lxd, Type: String, Allowed: allowed, Condition: unprivileged, Doc: k.doc + "; with security.delegate_bpf.", check: check},
			Key{Name: k.incus, Type: String, Allowed: allowed, Condition: unprivileged, Doc: k.doc + ", by the name that Incus has for it.", check: check},
		)
	}
	return keys
}

func bpfPath(v string) bool {
	return path.IsAbs(v) && path.Clean(v) == v && v != "/" && oneLine(v) && len(v) < 4096
}

// mask returns the value of bpffs's option.
func (k bpfKind) mask(v string) (string, error) {
	if v == anyBPF {
		return v, nil
	}
	words := strings.Fields(k.words)
	var mask uint64
	for word := range strings.FieldsFuncSeq(v, func(c rune) bool { return c == ',' || c == ':' || c == ' ' }) {
		if n, err := strconv.ParseUint(word, 0, 64); err == nil {
			mask |= n
			continue
		}
		i := slices.Index(words, strings.ToLower(word))
		if i < 0 {
			return "", errNo
		}
		mask |= 1 << i
	}
	if mask == 0 {
		return "", errNo
	}
	return fmt.Sprintf("%#x", mask), nil
}

// bpf returns what valid options mean for bpf(2).
func (o options) bpf() BPF {
	b := BPF{Options: map[string]string{}}
	delegates := o.bool(keyDelegate)
	for _, k := range bpfKinds {
		for _, key := range []string{k.lxd, k.incus} {
			if o[key] == "" || key == k.lxd && !delegates {
				continue
			}
			b.Options[k.option], _ = k.mask(o[key])
			delegates = delegates || key == k.incus
		}
	}
	if !delegates || o.bool("security.privileged") {
		return BPF{}
	}
	if b.Path = o[keyBPFPath]; b.Path == "" {
		b.Path = defaultBPFPath
	}
	return b
}
