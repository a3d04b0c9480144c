package profiles

func securityKeys() []Key {
	return []Key{
		{Name: "security.idmap.base", Type: Integer, Allowed: "an id of the host, from 1 to 4294967294", Condition: unprivileged, Doc: "The first id of the host that is the instance's.", check: between(1, 1<<32-2)},
		boolean(Key{Name: "security.idmap.isolated", Default: "true", Condition: unprivileged, Doc: "Accepted from other container managers; each instance has ids of its own in any case.", Differs: "It is so in any case."}),
		{Name: "security.idmap.size", Type: Integer, Default: "65536", Allowed: "a number of ids from 1 to 4294967294", Condition: unprivileged, Doc: "How many ids the instance has. With security.nesting, and without security.idmap.base, the default is 4194304, or as many of them as are free.", check: between(1, 1<<32-2)},
		boolean(Key{Name: "security.nesting", Default: "false", Doc: "Let containers run in the instance: Docker, Podman, Cuib itself; see nesting.md."}),
		boolean(Key{Name: "security.privileged", Default: "false", Doc: "Give the instance the host's ids: root in it is root on the host."}),
		boolean(Key{Name: "security.protection.delete", Default: "false", Live: true, Doc: "Refuse to delete the instance."}),
		boolean(Key{Name: "security.protection.shift", Default: "false", Live: true, Doc: "Accepted from other container managers; the owners of files on the disk never change for another map of ids.", Differs: "Nothing shifts owners on the disk, so there is nothing to refuse."}),
		boolean(Key{Name: "security.protection.start", Default: "false", Live: true, Doc: "Refuse to start the instance."}),
	}
}
