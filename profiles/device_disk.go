package profiles

import (
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

// The sources of disks in memory: an empty file system, and one above what the
// instance has at the path.
const (
	SourceMemory        = "tmpfs:"
	SourceMemoryOverlay = "tmpfs-overlay:"
)

func diskType() DeviceType {
	return DeviceType{
		Name: "disk", Doc: "The root disk, a volume of a pool, a directory, file or block device of the host, or memory.",
		Options: diskOptions(), together: checkDisk, places: pathOnly,
	}
}

func diskOptions() []Option {
	const (
		isRoot, notRoot = "root disk", "not the root disk"
		memory          = "in memory"
		volume          = "volume of a pool"
	)
	return slices.Concat([]Option{
		option(Key{Name: "initial.*", Type: String, Allowed: "what volumes of the pool's driver take of that key", Condition: isRoot, Doc: "What a new root volume has instead of volume.KEY of its pool, by KEY, such as initial.zfs.blocksize.", check: is(oneLine)}),
		option(Key{Name: "initial.gid", Type: Integer, Default: "0", Allowed: "a group id", Condition: memory, Doc: "The group, inside, of the root directory.", check: between(0, 1<<32-2)}),
		option(Key{Name: "initial.mode", Type: String, Default: "0755", Allowed: `an octal mode such as "1777"`, Condition: memory, Doc: "The mode of the root directory.", check: is(isDirMode)}),
		option(Key{Name: "initial.uid", Type: Integer, Default: "0", Allowed: "a user id", Condition: memory, Doc: "The user, inside, who owns the root directory.", check: between(0, 1<<32-2)}),
		booleanOption(Key{Name: "initial.zfs.delegate", Default: "volume.zfs.delegate of the pool", Condition: isRoot, Doc: "Let the guest have datasets of its own, from its next start on."}),
	}, limitOptions(), []Option{
		booleanOption(Key{Name: "optional", Default: "false", Condition: notRoot, Doc: "The opposite of required."}),
		{Required: true, Key: Key{Name: "path", Type: String, Allowed: `an absolute path such as "/srv/data"`, Doc: `Where the disk is inside; "/" for the root disk.`, check: is(insidePath)}},
		option(Key{Name: "pool", Type: String, Allowed: "the name of a storage pool", Doc: "The storage pool that the root disk, or the volume, is in.", check: CheckPoolName}),
		option(Key{Name: "propagation", Type: String, Default: "private", Allowed: "private, shared, slave, unbindable, rprivate, rshared, rslave or runbindable", Condition: notRoot, Doc: "Whether what the host mounts below the source later is seen inside (shared, slave), and by mounts that the guest makes of it (shared).", Differs: "What the guest mounts is never seen on the host; unbindable is as private for what is there at the start.", check: oneOf(propagations...)}),
		option(Key{Name: "raw.mount.options", Type: String, Allowed: `words with commas between them, such as "noexec,nosuid"`, Condition: notRoot, Doc: "Options of the mount: ro, nosuid, nodev, noexec, nosymfollow, noatime, nodiratime, relatime, strictatime and, of a block device, those of its file system.", check: is(isMountOptions)}),
		booleanOption(Key{Name: "readonly", Default: "false", Condition: notRoot, Doc: "Let nothing write to the disk."}),
		booleanOption(Key{Name: "recursive", Default: "false", Condition: notRoot, Doc: "Show what is mounted below the source too."}),
		booleanOption(Key{Name: "required", Default: "true", Condition: notRoot, Doc: "Refuse to start the instance while the source is missing; else the instance has the disk when the source appears."}),
		booleanOption(Key{Name: "shift", Default: "false", Condition: notRoot, Doc: "Show files of the host's users 0 and up as those of the instance's users 0 and up."}),
		option(Key{Name: "size", Type: String, Allowed: `a size such as "10GiB"`, Condition: isRoot + ", or " + memory, Doc: "How large the disk may get.", check: parses(ParseSize)}),
		option(Key{Name: "source", Type: String, Allowed: `an absolute path without "..", or with a pool VOLUME or VOLUME/SNAPSHOT, or tmpfs:, or tmpfs-overlay:`, Condition: notRoot, Doc: "The directory, file or block device of the host, the volume of the pool, or memory: empty, or above what the instance has there.", check: is(oneLine)}),
		option(Key{Name: "source.snapshot", Type: String, Allowed: "the name of a snapshot", Condition: volume, Doc: "The snapshot of the volume that is shown; the same as VOLUME/SNAPSHOT as source.", check: CheckSnapshotName}),
		option(Key{Name: "source.type", Type: String, Default: "custom", Allowed: "custom", Condition: volume, Doc: "What kind of volume the source is.", check: oneOf("custom")}),
	})
}

var propagations = []string{"private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable"}

func isMountOptions(v string) bool {
	return printable(v) && !strings.ContainsAny(v, " \\") && !slices.Contains(strings.Split(v, ","), "")
}

// IsMemory reports whether a device is a disk in memory.
func IsMemory(d Device) bool {
	return d["type"] == "disk" && (d["source"] == SourceMemory || d["source"] == SourceMemoryOverlay)
}

// InitialOptions are the keys of the root volume that a root disk gives it when
// it is made, without their prefix.
func InitialOptions(root Device) map[string]string {
	out := map[string]string{}
	for name, value := range root {
		if key, ok := strings.CutPrefix(name, "initial."); ok && value != "" {
			out[key] = value
		}
	}
	return out
}

func checkDisk(d Device) error {
	if d["required"] != "" && d["optional"] != "" {
		return errs.Invalidf("required and optional are opposites, want one of them")
	}
	if IsRoot(d) {
		return checkRootDisk(d)
	}
	for _, name := range sortedNames(d) {
		ofMemory := slices.Contains([]string{"initial.uid", "initial.gid", "initial.mode", "size"}, name)
		switch {
		case ofMemory && !IsMemory(d):
			return errs.Invalidf("%s: only a root disk has it, whose path is \"/\", or one in memory, whose source is %s or %s", name, SourceMemory, SourceMemoryOverlay)
		case !ofMemory && strings.HasPrefix(name, "initial."):
			return errs.Invalidf(`%s: only the root disk, whose path is "/", has it`, name)
		case d["pool"] == "" && strings.HasPrefix(name, "source."):
			return errs.Invalidf("%s: only a disk that is a volume of a pool has it", name)
		}
	}
	if d["pool"] != "" {
		return checkVolumeDisk(d)
	}
	if IsMemory(d) {
		return checkMemoryDisk(d)
	}
	if d["source"] == "" {
		return errs.Invalidf("a disk with the path %q needs the option source, want an absolute path of the host", d["path"])
	}
	if !hostPath(d["source"]) {
		return errs.Invalidf(`source: got %q, want an absolute path without "..", %s, %s, or the name of a volume and the option pool`, d["source"], SourceMemory, SourceMemoryOverlay)
	}
	return nil
}

func checkRootDisk(d Device) error {
	for _, o := range []string{"source", "source.snapshot", "source.type", "readonly", "recursive", "shift", "optional", "required", "propagation", "raw.mount.options"} {
		if d[o] != "" {
			return errs.Invalidf("%s: the root disk does not have it", o)
		}
	}
	for key := range sorted(InitialOptions(d)) {
		if !strings.Contains(key, ".") {
			return errs.Invalidf("initial.%s: the root disk does not have it, want keys that the volumes of one driver have, such as initial.zfs.blocksize", key)
		}
	}
	return nil
}

func checkMemoryDisk(d Device) error {
	for _, o := range []string{"recursive", "shift", "optional", "required", "limits.max", "limits.read", "limits.write"} {
		if d[o] != "" {
			return errs.Invalidf("%s: a disk in memory does not have it", o)
		}
	}
	return nil
}

func sortedNames(d Device) []string {
	var out []string
	for name, value := range sorted(d) {
		if value != "" {
			out = append(out, name)
		}
	}
	return out
}
