package profiles

import "slices"

// Texts that several rows have.
const (
	wantBool   = "true or false"
	wantBytes  = `a size such as "512MiB"`
	wantMemory = `a size such as "512MiB" or a percentage`
	wantRlimit = `a number, "unlimited", or two of those as "soft:hard"`

	unprivileged = "unprivileged"
)

// Keys returns the whole table, by group.
func Keys() []Key {
	return slices.Concat(
		group("backups", backupKeys()),
		group("boot", bootKeys()),
		group("miscellaneous", miscKeys()),
		group("raw", rawKeys()),
		group("resource-limits", append(limitKeys(), rlimitKeys()...)),
		group("security", securityKeys()),
		group("snapshots", snapshotKeys()),
		group("image", imageKeys()),
		group("volatile", volatileKeys()),
	)
}

func group(name string, keys []Key) []Key {
	for i := range keys {
		keys[i].Group = name
	}
	return keys
}

// boolean completes a row whose value is true or false.
func boolean(k Key) Key {
	k.Type, k.Allowed, k.check = Bool, wantBool, parses(ParseBool)
	return k
}

func bootKeys() []Key {
	const order = "a whole number"
	return []Key{
		boolean(Key{Name: "boot.autorestart", Default: "false", Live: true, Doc: "Start the instance again when its init is killed or fails; not when it shuts down, is stopped, or dies for the tenth time within a minute. Ephemeral instances are deleted instead."}),
		boolean(Key{Name: "boot.autostart", Live: true, Doc: "Whether the instance starts when the daemon starts; where it is not set, it starts if it ran when the host went down, or the daemon was told to stop all instances."}),
		{Name: "boot.autostart.delay", Type: Integer, Default: "0", Allowed: "seconds from 0 to 86400", Live: true, Doc: "How many seconds to wait after the automatic start of this instance before that of the next one.", check: between(0, 86400)},
		{Name: "boot.autostart.priority", Type: Integer, Default: "0", Allowed: order, Live: true, Doc: "Instances with a higher number start earlier when the daemon starts.", check: between(-1<<31, 1<<31-1)},
		{Name: "boot.host_shutdown_action", Type: String, Default: "stop", Allowed: "stop or force-stop", Live: true, Doc: "What happens to the instance when the host shuts down: it is asked to shut down, or ended at once.", check: oneOf("stop", "force-stop")},
		{Name: "boot.host_shutdown_timeout", Type: Integer, Default: "30", Allowed: "seconds from 0 to 86400", Live: true, Doc: "How many seconds the instance has to end when the host shuts down, before it is killed.", check: between(0, 86400)},
		{Name: "boot.stop.priority", Type: Integer, Default: "0", Allowed: order, Live: true, Doc: "Instances with a higher number stop earlier when the host shuts down; those with the same number stop together.", check: between(-1<<31, 1<<31-1)},
	}
}

func miscKeys() []Key {
	return []Key{
		{Name: "environment.*", Type: String, Allowed: "text of one line", Live: true, Doc: "An environment variable of init, from the next start on, and of every program that is executed, at once.", check: is(oneLine)},
		{Name: "linux.sysctl.*", Type: String, Allowed: "text of one line", Doc: "A sysctl of the instance's own namespaces, such as linux.sysctl.net.ipv4.ip_forward.", check: is(oneLine)},
		{Name: "user.*", Type: String, Live: true, Doc: "Anything that users want to keep with the instance."},
	}
}

func rawKeys() []Key {
	return []Key{
		{Name: "raw.idmap", Type: Blob, Allowed: `lines such as "both 1000 1000" or "uid 50-60 500-510"`, Condition: unprivileged, Doc: "Ids of the host that the instance has, each line a kind (uid, gid, both), ids of the host and as many ids inside.", check: checkRawIdmap},
		{Name: "raw.lxc", Type: Blob, Allowed: `lines such as "lxc.cap.drop = sys_time"`, Doc: "Lines for the end of the configuration that liblxc gets.", check: checkRawLXC},
	}
}

func limitKeys() []Key {
	return []Key{
		{Name: "limits.cpu", Type: String, Allowed: `a number of processors, or a set of them such as "0-2,5" or, for one, "3-3"`, Live: true, Doc: "How many processors the instance runs on, which are chosen so that the load is spread, or which ones.", check: checkCPU},
		{Name: "limits.cpu.allowance", Type: String, Default: "100%", Allowed: `a percentage from "1%" to "100%", or a time in each period such as "25ms/100ms"`, Live: true, Doc: "The instance's share of its processors while others want them (percentage), or the time that it may run in each period even when nobody does.", check: parses(parseAllowance)},
		{Name: "limits.memory", Type: String, Allowed: wantMemory, Live: true, Doc: "How much memory the instance may use; a percentage is of the host's.", check: parses(func(v string) (int64, error) { return parseMemory(v, 1<<40) })},
		{Name: "limits.memory.enforce", Type: String, Default: "hard", Allowed: "hard or soft", Live: true, Doc: "Whether the limit of memory holds always (hard), or only while the host is short of it (soft).", check: oneOf("hard", "soft")},
		{Name: "limits.memory.oom_priority", Type: Integer, Default: "0", Allowed: "a whole number from -1000 to 1000", Doc: "Who goes first when the host has no memory left: a higher number goes earlier.", check: between(-1000, 1000)},
		{Name: "limits.memory.swap", Type: String, Default: "true", Allowed: `true, false, or a size such as "512MiB"`, Live: true, Doc: "Whether the instance may be swapped out, or how much of it.", check: is(func(v string) bool {
			_, _, err := parseSwap(v)
			return err == nil
		})},
		{Name: "limits.processes", Type: Integer, Allowed: "a number of processes, at least 1", Live: true, Doc: "How many processes and threads the instance may have.", check: between(1, 1<<62)},
	}
}

func rlimitKeys() []Key {
	const what = "The limit of the instance's processes on "
	var all []Key
	for _, l := range [][2]string{
		{"as", "the size of their address space, in bytes"},
		{"core", "the size of their core dumps, in bytes"},
		{"cpu", "the processor time of each, in seconds"},
		{"data", "the size of their data segment, in bytes"},
		{"fsize", "the size of files that they write, in bytes"},
		{"locks", "the number of file locks"},
		{"memlock", "the memory that they lock, in bytes"},
		{"nice", "how far they raise their priority"},
		{"nofile", "the number of their open files"},
		{"nproc", "the number of processes of each user"},
		{"rtprio", "their real-time priority"},
		{"sigpending", "the number of signals that wait for them"},
	} {
		all = append(all, Key{
			Name: "limits.kernel." + l[0], Type: String, Allowed: wantRlimit,
			Doc: what + l[1] + ".", check: checkRlimit,
		})
	}
	return all
}

func securityKeys() []Key {
	return []Key{
		{Name: "security.idmap.base", Type: Integer, Allowed: "an id of the host, from 1 to 4294967294", Condition: unprivileged, Doc: "The first id of the host that is the instance's.", check: between(1, 1<<32-2)},
		boolean(Key{Name: "security.idmap.isolated", Default: "true", Condition: unprivileged, Doc: "Accepted from other container managers; each instance has ids of its own in any case."}),
		{Name: "security.idmap.size", Type: Integer, Default: "65536", Allowed: "a number of ids from 1 to 4294967294", Condition: unprivileged, Doc: "How many ids the instance has.", check: between(1, 1<<32-2)},
		boolean(Key{Name: "security.nesting", Default: "false", Doc: "Let containers run in the instance."}),
		boolean(Key{Name: "security.privileged", Default: "false", Doc: "Give the instance the host's ids: root in it is root on the host."}),
		boolean(Key{Name: "security.protection.delete", Default: "false", Live: true, Doc: "Refuse to delete the instance."}),
		boolean(Key{Name: "security.protection.start", Default: "false", Live: true, Doc: "Refuse to start the instance."}),
	}
}

func snapshotKeys() []Key {
	const times = `times such as "3d" or "1M 2H" (S seconds, M minutes, H hours, d days, w weeks, m months, y years)`
	return []Key{
		{Name: "snapshots.expiry", Type: String, Allowed: times, Live: true, Doc: "How long new snapshots are kept.", check: parses(parseExpiry)},
		{Name: "snapshots.expiry.manual", Type: String, Allowed: times, Live: true, Doc: "How long new snapshots are kept that a user makes, instead of snapshots.expiry.", check: parses(parseExpiry)},
		{Name: "snapshots.pattern", Type: String, Default: "snap%d", Allowed: `a name with "%d" for a number, or with {{ creation_date }} or {{ creation_date|date:'2006-01-02' }}`, Live: true, Doc: "The name of snapshots that nobody names.", check: checkPattern},
		{Name: "snapshots.schedule", Type: String, Allowed: wantSchedule, Live: true, Doc: "When the daemon makes snapshots by itself; a time that passed while it did not run is made up for once.", check: checkSchedule},
		boolean(Key{Name: "snapshots.schedule.stopped", Default: "false", Live: true, Doc: "Whether snapshots are made by snapshots.schedule while the instance does not run, too."}),
	}
}

func imageKeys() []Key {
	return []Key{
		{Name: "image.*", Type: String, OwnOnly: true, Doc: "The properties of the image that the instance was made from."},
	}
}

// volatileKeys are what the daemon itself keeps with an instance.
func volatileKeys() []Key {
	all := []Key{
		{Name: "volatile.*.apply_quota", Doc: "The size that the root disk gets at the next start."},
		{Name: "volatile.*.host_name", Doc: "The name of the NIC's end on the host."},
		{Name: "volatile.*.hwaddr", Doc: "The address of the NIC."},
		{Name: "volatile.*.name", Doc: "The name of the NIC inside."},
		{Name: "volatile.apply_template", Doc: "What happened since the last start that the image's templates want to know."},
		{Name: "volatile.base_image", Doc: "The fingerprint of the image that the instance was made from."},
		{Name: "volatile.cloud-init.instance-id", Doc: "The id by which cloud-init knows a new instance."},
		{Name: "volatile.cpu", Doc: "The processors that limits.cpu chose."},
		{Name: "volatile.idmap.base", Doc: "The first id of the host that is the instance's."},
		{Name: "volatile.idmap.current", Doc: "The map of ids with which the instance started last."},
		{Name: "volatile.idmap.next", Doc: "The map of ids with which it starts next."},
		{Name: "volatile.last_state.idmap", Doc: "The map of ids of the files on the disk: none, as they are stored with the ids inside."},
		{Name: "volatile.last_state.power", Doc: "Whether the instance ran when the daemon saw it last."},
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
