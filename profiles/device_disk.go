package profiles

import (
	"slices"

	"github.com/cuib/cuib/shared/errs"
)

func diskType() DeviceType {
	return DeviceType{
		Name: "disk", Doc: "The root disk, a volume of a pool, or a directory or file of the host.",
		Options: diskOptions(), together: checkDisk, places: pathOnly,
	}
}

func diskOptions() []Option {
	const isRoot, notRoot = "root disk", "not the root disk"
	return slices.Concat([]Option{
		booleanOption(Key{Name: "initial.zfs.delegate", Default: "volume.zfs.delegate of the pool", Condition: isRoot, Doc: "Let the guest have datasets of its own, from its next start on."}),
	}, limitOptions(), []Option{
		booleanOption(Key{Name: "optional", Default: "false", Condition: notRoot, Doc: "The opposite of required."}),
		{Required: true, Key: Key{Name: "path", Type: String, Allowed: `an absolute path such as "/srv/data"`, Doc: `Where the disk is inside; "/" for the root disk.`, check: is(insidePath)}},
		option(Key{Name: "pool", Type: String, Allowed: "the name of a storage pool", Doc: "The storage pool that the root disk, or the volume, is in.", check: CheckPoolName}),
		booleanOption(Key{Name: "readonly", Default: "false", Condition: notRoot, Doc: "Let nothing write to the disk."}),
		booleanOption(Key{Name: "recursive", Default: "false", Condition: notRoot, Doc: "Show what is mounted below the source too."}),
		booleanOption(Key{Name: "required", Default: "true", Condition: notRoot, Doc: "Refuse to start the instance while the source is missing."}),
		booleanOption(Key{Name: "shift", Default: "false", Condition: notRoot, Doc: "Show files of the host's users 0 and up as those of the instance's users 0 and up."}),
		option(Key{Name: "size", Type: String, Allowed: `a size such as "10GiB"`, Condition: isRoot, Doc: "How large the root disk may get.", check: parses(ParseSize)}),
		option(Key{Name: "source", Type: String, Allowed: `an absolute path without "..", or with a pool VOLUME or VOLUME/SNAPSHOT`, Condition: notRoot, Doc: "The directory or file of the host, or the volume of the pool.", check: is(oneLine)}),
	})
}

func checkDisk(d Device) error {
	if d["required"] != "" && d["optional"] != "" {
		return errs.Invalidf("required and optional are opposites, want one of them")
	}
	if IsRoot(d) {
		for _, o := range []string{"source", "readonly", "recursive", "shift", "optional", "required"} {
			if d[o] != "" {
				return errs.Invalidf("%s: the root disk does not have it", o)
			}
		}
		return nil
	}
	if d["initial.zfs.delegate"] != "" {
		return errs.Invalidf(`initial.zfs.delegate: only the root disk, whose path is "/", has it`)
	}
	if d["pool"] != "" {
		return checkVolumeDisk(d)
	}
	if d["size"] != "" {
		return errs.Invalidf(`size: only the root disk, whose path is "/", has one`)
	}
	if d["source"] == "" {
		return errs.Invalidf(`a disk with the path %q needs the option source, want an absolute path of the host`, d["path"])
	}
	if !hostPath(d["source"]) {
		return errs.Invalidf(`source: got %q, want an absolute path without "..", or the name of a volume and the option pool`, d["source"])
	}
	return nil
}
