package profiles

import (
	"slices"

	"github.com/cuib/cuib/shared/errs"
)

func unixBlockType() DeviceType {
	return DeviceType{Name: "unix-block", Doc: "A block device.", Options: slices.Concat(nodeOptions(), readWriteLimits()), together: checkNode, places: pathOrSource}
}

func unixCharType() DeviceType {
	return DeviceType{Name: "unix-char", Doc: "A character device.", Options: nodeOptions(), together: checkNode, places: pathOrSource}
}

func nodeOptions() []Option {
	return []Option{
		option(Key{Name: "gid", Type: Integer, Default: "0", Allowed: "a group id", Doc: "The group inside that owns it.", check: between(0, 1<<32-2)}),
		option(Key{Name: "major", Type: Integer, Allowed: "a number from 0 to 4095", Doc: "The device's major number, where no source has it.", check: between(0, 1<<12-1)}),
		option(Key{Name: "minor", Type: Integer, Allowed: "a number from 0 to 1048575", Doc: "The device's minor number, where no source has it.", check: between(0, 1<<20-1)}),
		option(Key{Name: "mode", Type: String, Default: "0660", Allowed: `an octal mode such as "0660"`, Doc: "Who may do what with it inside.", check: is(isMode)}),
		option(Key{Name: "path", Type: String, Allowed: `an absolute path such as "/dev/fuse"`, Doc: "Where it is inside; as on the host where it is not set.", check: is(insidePath)}),
		booleanOption(Key{Name: "required", Default: "true", Doc: "Refuse to start the instance while the source is missing."}),
		option(Key{Name: "source", Type: String, Allowed: `an absolute path without ".."`, Doc: "Where it is on the host.", check: is(hostPath)}),
		option(Key{Name: "uid", Type: Integer, Default: "0", Allowed: "a user id", Doc: "The user inside that owns it.", check: between(0, 1<<32-2)}),
	}
}

func checkNode(d Device) error {
	if d["source"] == "" && d["path"] == "" {
		return errs.Invalidf("a device of type %s needs the option source or path", d["type"])
	}
	if (d["major"] == "") != (d["minor"] == "") {
		return errs.Invalidf("major and minor: want both or none")
	}
	if cleanPath(d["path"]) == "/" {
		return errs.Invalidf(`path: got "/", want a path below it`)
	}
	return nil
}
