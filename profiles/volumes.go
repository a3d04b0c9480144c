package profiles

import (
	"maps"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// VolumeKeys returns the table of the keys that custom volumes of all drivers
// have.
func VolumeKeys() []Key {
	const made = "when the volume is made"
	keys := []Key{
		{Name: "initial.gid", Type: Integer, Default: "0", Allowed: "a group id", Condition: made, Doc: "The group that owns the volume's root directory at first.", check: between(0, 1<<32-2)},
		{Name: "initial.mode", Type: String, Default: "0711", Allowed: `an octal mode such as "0755"`, Condition: made, Doc: "The mode of the volume's root directory at first.", check: is(isDirMode)},
		{Name: "initial.uid", Type: Integer, Default: "0", Allowed: "a user id", Condition: made, Doc: "The user who owns the volume's root directory at first.", check: between(0, 1<<32-2)},
		boolean(Key{Name: "security.shifted", Default: "false", Doc: "Accepted from other container managers; volumes are shown to each instance with its own ids in any case."}),
		boolean(Key{Name: "security.unmapped", Default: "false", Doc: "Show the volume to instances with the ids that are stored, as ids of the host."}),
		{Name: "size", Type: String, Allowed: wantBytes, Live: true, Doc: "How large the volume may get.", check: parses(ParseSize)},
		{Name: "user.*", Type: String, Live: true, Doc: "Anything that users want to keep with the volume."},
	}
	for _, k := range append(snapshotKeys(), backupKeys()...) {
		k.Live = true
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b Key) int { return strings.Compare(a.Name, b.Name) })
	return group("volume", keys)
}

// ValidateVolume reports the first key, by name, of a custom volume's
// configuration that is unknown or has a bad value. For extra see
// [CheckVolumeKey].
func ValidateVolume(config, extra map[string]string) error {
	for name, value := range sorted(config) {
		if err := CheckVolumeKey(name, value, extra); err != nil {
			return err
		}
	}
	return nil
}

// CheckVolumeKey reports what is wrong with a key of a custom volume. extra are
// the keys that the volumes of its driver have beyond those of all, whose
// values are the driver's matter.
func CheckVolumeKey(name, value string, extra map[string]string) error {
	if _, ok := extra[name]; ok || isVolumePrefix(name) {
		return nil
	}
	for _, k := range VolumeKeys() {
		if k.Name != name {
			continue
		}
		if err := k.Check(value); err != nil {
			return wrap(name, err)
		}
		return nil
	}
	known := slices.Collect(maps.Keys(extra))
	for _, k := range VolumeKeys() {
		known = append(known, k.Name)
	}
	return unknown("configuration key", name, known)
}

func isVolumePrefix(name string) bool {
	return len(name) > len("user.") && strings.HasPrefix(name, "user.") ||
		len(name) > len("volatile.") && strings.HasPrefix(name, "volatile.")
}

func isDirMode(v string) bool { return isMode(v) || len(v) == 4 && only(v, "01234567") }

// CheckVolumeName reports what is wrong with the name of a custom volume.
func CheckVolumeName(name string) error {
	name = project.Name(name)
	const want = `1 to 128 letters, digits, and ".", "_", "-", ":", with a letter or digit first`
	return checkName("volume", name, want, func() bool {
		return len(name) <= 128 && only(name, letters+digits+"._-:") && !strings.ContainsRune("._-:", rune(name[0]))
	})
}

// IsVolume reports whether a device is a disk whose source is a custom volume
// of a pool, or a snapshot of one.
func IsVolume(d Device) bool { return d["type"] == "disk" && d["pool"] != "" && !IsRoot(d) }

// ParseVolumeSource reads the source of a disk with a pool: VOLUME or
// VOLUME/SNAPSHOT.
func ParseVolumeSource(source string) (volume, snapshot string, err error) {
	volume, snapshot, found := strings.Cut(source, "/")
	if err := CheckVolumeName(volume); err != nil {
		return "", "", err
	}
	if !found {
		return volume, "", nil
	}
	return volume, snapshot, CheckSnapshotName(snapshot)
}

// VolumeSource returns the source of a disk that is a volume: VOLUME or
// VOLUME/SNAPSHOT, however the device says so.
func VolumeSource(d Device) string {
	if d["source.snapshot"] != "" {
		return d["source"] + "/" + d["source.snapshot"]
	}
	return d["source"]
}

// checkVolumeDisk is checkDisk for a volume.
func checkVolumeDisk(d Device) error {
	if d["source"] == "" {
		return errs.Invalidf("a disk with a pool and the path %q needs the option source, want the name of a volume, or VOLUME/SNAPSHOT", d["path"])
	}
	if strings.HasPrefix(d["source"], "/") {
		return errs.Invalidf("source: got %q, want the name of a volume, or VOLUME/SNAPSHOT, as the option pool is given", d["source"])
	}
	if strings.Contains(d["source"], "/") && d["source.snapshot"] != "" {
		return errs.Invalidf("source.snapshot: source names a snapshot already, want one of them")
	}
	if _, _, err := ParseVolumeSource(VolumeSource(d)); err != nil {
		return wrap("source", err)
	}
	for _, o := range []string{"recursive", "shift", "size"} {
		if d[o] != "" {
			return errs.Invalidf("%s: a disk that is a volume of a pool does not have it", o)
		}
	}
	return nil
}
