package profiles

func rawKeys() []Key {
	return []Key{
		{Name: "raw.apparmor", Type: Blob, Allowed: "lines of rules of AppArmor", Doc: "Rules that are added to the instance's AppArmor profile, where the host has AppArmor."},
		{Name: "raw.idmap", Type: Blob, Allowed: `lines such as "both 1000 1000" or "uid 50-60 500-510"`, Condition: unprivileged, Doc: "Ids of the host that the instance has, each line a kind (uid, gid, both), ids of the host and as many ids inside.", check: checkRawIdmap},
		{Name: "raw.lxc", Type: Blob, Allowed: `lines such as "lxc.cap.drop = sys_time"`, Doc: "Lines for the end of the configuration that liblxc gets.", check: checkRawLXC},
		rawSeccompKey(),
	}
}
