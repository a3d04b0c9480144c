package profiles

import "slices"

// Texts that several rows have.
const (
	wantBool   = "true or false"
	wantBytes  = `a size such as "512MiB"`
	wantMemory = `a size such as "512MiB" or a percentage`
	wantIfname = "a name of up to 15 letters and digits"
	wantMAC    = `an address such as "10:66:6a:01:02:03"`
	wantRlimit = `a number, "unlimited", or two of those as "soft:hard"`

	unprivileged = "unprivileged"
)

// Keys returns the whole table, by group. Each group has a file of its own.
func Keys() []Key {
	return slices.Concat(
		group("backups", backupKeys()),
		group("boot", bootKeys()),
		group("cloud-init", cloudInitKeys()),
		group("miscellaneous", miscKeys()),
		group("raw", rawKeys()),
		group("resource-limits", slices.Concat(limitKeys(), rlimitKeys())),
		group("security", slices.Concat(securityKeys(), guestAPIKeys(), syscallKeys())),
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
