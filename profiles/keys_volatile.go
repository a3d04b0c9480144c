package profiles

// volatileKeys are what the daemon itself keeps with an instance.
func volatileKeys() []Key {
	all := []Key{
		{Name: "volatile.*.apply_quota", Doc: "The size that the root disk gets at the next start."},
		{Name: "volatile.*.devlxd.owner", Doc: "The id of the instance whose guest attached the device.", Differs: "LXD has the identity of who holds a token there."},
		{Name: "volatile.*.host_name", Allowed: wantIfname, Doc: "The name of the NIC's end on the host.", check: checkIfname},
		{Name: "volatile.*.hwaddr", Allowed: wantMAC, Doc: "The address of the NIC.", check: is(isMAC)},
		{Name: "volatile.*.last_state.cni", Doc: "What the plugins of a cni NIC have made, as JSON: interfaces, addresses, routes and DNS."},
		{Name: "volatile.*.last_state.created", Doc: "Whether the interface of the host that the NIC is, or is on, was made for it."},
		{Name: "volatile.*.last_state.hwaddr", Doc: "The address that the interface of the host had before it was the instance's."},
		{Name: "volatile.*.last_state.ip_addresses", Doc: "The addresses that filtering holds the NIC to, as its network has chosen them."},
		{Name: "volatile.*.last_state.mtu", Doc: "The MTU that the interface of the host had before it was the instance's."},
		{Name: "volatile.*.name", Allowed: wantIfname, Doc: "The name of the NIC inside.", check: checkIfname},
		{Name: "volatile.apply_template", Doc: "What happened since the last start that the image's templates want to know."},
		{Name: "volatile.attached_volumes", Doc: "Of a snapshot: the volumes that have snapshots which were made with it, as JSON, by device with the snapshot's volatile.uuid."},
		{Name: "volatile.base_image", Doc: "The fingerprint of the image that the instance was made from."},
		{Name: "volatile.cloud-init.instance-id", Doc: "The id by which cloud-init knows a new instance."},
		{Name: "volatile.cpu", Doc: "The processors that limits.cpu chose."},
		{Name: "volatile.cpu.nodes", Doc: "The NUMA nodes that limits.cpu.nodes=balanced chose."},
		{Name: "volatile.idmap.base", Doc: "The first id of the host that is the instance's."},
		{Name: "volatile.idmap.current", Doc: "The map of ids with which the instance started last."},
		{Name: "volatile.idmap.next", Doc: "The map of ids with which it starts next."},
		{Name: "volatile.last_state.idmap", Doc: "The map of ids of the files on the disk: none, as they are stored with the ids inside."},
		{Name: "volatile.last_state.power", Doc: "Whether the instance ran when the daemon saw it last."},
		{Name: "volatile.last_state.ready", Doc: "Whether the guest has said that it is ready, since it started."},
		{Name: "volatile.moved", Doc: "What is to be deleted where the instance was before a move."},
		{Name: "volatile.moving", Doc: "Marks a move to another pool that has not ended."},
		{Name: "volatile.rebuilding", Doc: "Marks a rebuild that has not ended."},
		{Name: "volatile.refreshing", Doc: "Marks a refresh from another instance that has not ended."},
		{Name: "volatile.renaming", Doc: "Marks a rename that has not ended."},
		{Name: "volatile.restoring", Doc: "Marks a restore that has not ended."},
		{Name: "volatile.root.size", Doc: "How large the root may get, if its device says nothing: volume.size of the pool when it was made."},
		{Name: "volatile.uuid", Doc: "An id that the instance keeps."},
		{Name: "volatile.uuid.generation", Doc: "An id that changes when the instance goes back in time."},
	}
	for i := range all {
		all[i].Type, all[i].Live, all[i].OwnOnly = String, true, true
	}
	return all
}
