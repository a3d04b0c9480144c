package projectkeys

import (
	"encoding/hex"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/archive"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/units"
)

const (
	wantBool   = "true or false"
	wantNumber = "a whole number, 0 or more"
	wantSize   = `a size such as "10GiB"`

	block   = "block"
	allow   = "allow"
	full    = "full"
	managed = "managed"
)

// Why keys of the peers have nothing to act on.
const (
	noVMs      = "instances are containers"
	noCluster  = "a host works alone, without a cluster"
	noOVN      = "there are no OVN networks"
	noBuckets  = "there are no storage buckets"
	noHardware = "containers take no such devices"
)

func featureKeys() []Key {
	feature := func(name, def, doc string) Key {
		return boolean(Key{Key: profiles.Key{Name: name, Default: def, Doc: doc}})
	}
	buckets := feature(Buckets, "true", "The project has storage buckets of its own.")
	buckets.Vacuous = noBuckets
	return []Key{
		feature(Images, "true", "The project has images and aliases of its own, and not those of the project default."),
		feature(Networks, "false", "The project has networks, network ACLs and address sets of its own."),
		feature(Zones, "false", "The project has network zones of its own."),
		feature(Profiles, "true", "The project has profiles of its own."),
		buckets,
		feature(Volumes, "true", "The project has custom volumes of its own."),
	}
}

func limitKeys() []Key {
	number := func(name, doc string) Key {
		return Key{Key: profiles.Key{Name: name, Type: profiles.Integer, Allowed: wantNumber, Doc: doc}, check: checkNumber}
	}
	size := func(name, doc string) Key {
		return Key{Key: profiles.Key{Name: name, Type: profiles.String, Allowed: wantSize, Doc: doc}, check: checkSize}
	}
	machines := number("limits.virtual-machines", "How many virtual machines there can be.")
	machines.Vacuous = noVMs
	uplinks := number("limits.networks.uplink_ips.*", "How many addresses of an uplink the project's networks can have.")
	uplinks.Vacuous = noOVN
	return []Key{
		number("limits.containers", "How many containers there can be."),
		number("limits.cpu", "The sum of limits.cpu of all instances, each of which must then have a number there."),
		size("limits.disk", "The sum of the sizes of all root disks and custom volumes, each of which must then have one."),
		size("limits.disk.pool.*", "Likewise, of those in the storage pool of that name; 0 hides the pool."),
		number("limits.instances", "How many instances there can be."),
		size("limits.memory", "The sum of limits.memory of all instances, each of which must then have a size there."),
		number("limits.networks", "How many networks the project can have of its own."),
		uplinks,
		number("limits.processes", "The sum of limits.processes of all instances, each of which must then have it."),
		machines,
	}
}

func restrictedKeys() []Key {
	const paths = "absolute paths with commas between them"
	const names = "names with commas between them"
	words := func(name, def, doc string, allowed ...string) Key {
		last := len(allowed) - 1
		return Key{
			Key:   profiles.Key{Name: name, Type: profiles.String, Default: def, Allowed: strings.Join(allowed[:last], ", ") + " or " + allowed[last], Doc: doc, Condition: "with restricted"},
			check: oneOf(allowed...),
		}
	}
	blocked := func(name, doc string) Key { return words(name, block, doc, block, allow) }
	list := func(name, want, doc string, check func(string) error) Key {
		return Key{Key: profiles.Key{Name: name, Type: profiles.String, Allowed: want, Doc: doc, Condition: "with restricted"}, check: check}
	}
	const ids = `ids and ranges of ids of the host, such as "1000,2000-2999"`
	return []Key{
		boolean(Key{Key: profiles.Key{Name: Restricted, Default: "false", Doc: "All keys that begin with restricted. are in force."}}),
		blocked("restricted.backups", "Make backups of instances and volumes, and export them."),
		vacuous(noCluster, list("restricted.cluster.groups", names, "The groups of a cluster that instances can be placed in.", nil)),
		vacuous(noCluster, blocked("restricted.cluster.target", "Choose the member of a cluster for what is made.")),
		words("restricted.containers.interception", block, "Which interception of system calls containers can have: none, that which is safe, or also that of mounts of other file systems than FUSE.", block, allow, full),
		blocked("restricted.containers.lowlevel", "Set raw.* and other keys that reach around the daemon, and volatile.*."),
		blocked("restricted.containers.nesting", "Set security.nesting."),
		words("restricted.containers.privilege", unprivileged, "The privilege that containers can have: none, none with ids that no other has (security.idmap.isolated), or any.", unprivileged, isolated, allow),
		words("restricted.devices.disk", managed, "Disks beside the root disk: none, volumes of storage pools, or also what the host has.", block, managed, allow),
		list("restricted.devices.disk.paths", paths, "The directories of the host that sources of disks can be in, with restricted.devices.disk=allow; all if it is not set.", checkPaths),
		blocked("restricted.devices.gpu", "Have devices of type gpu."),
		vacuous(noHardware, blocked("restricted.devices.infiniband", "Have devices of type infiniband.")),
		words("restricted.devices.nic", managed, "Devices of type nic: none, those on networks, or also those on what the host has.", block, managed, allow),
		vacuous(noHardware, blocked("restricted.devices.pci", "Have devices of type pci.")),
		blocked("restricted.devices.proxy", "Have devices of type proxy."),
		blocked("restricted.devices.unix-block", "Have devices of type unix-block."),
		blocked("restricted.devices.unix-char", "Have devices of type unix-char."),
		blocked("restricted.devices.unix-hotplug", "Have devices of type unix-hotplug."),
		blocked("restricted.devices.usb", "Have devices of type usb."),
		list("restricted.idmap.gid", ids, "The groups of the host that raw.idmap can give to instances, also with restricted.containers.lowlevel=block.", checkIDs),
		list("restricted.idmap.uid", ids, "The users of the host that raw.idmap can give to instances, likewise.", checkIDs),
		list("restricted.images.servers", "names of hosts with commas between them", "The servers that images can come from; all if it is not set.", checkWords),
		list("restricted.networks.access", names, "The networks of the project default that the project sees; all if it is not set.", checkWords),
		vacuous("there are no network integrations", list("restricted.networks.integrations", names, "The integrations that networks can have.", nil)),
		vacuous(noOVN, list("restricted.networks.subnets", "UPLINK:SUBNET with commas between them, or block", "The subnets of uplinks that networks can have.", nil)),
		vacuous(noOVN, list("restricted.networks.uplinks", names, "The uplinks that networks can have.", nil)),
		list("restricted.networks.zones", "names of zones with commas between them", "The zones, with all below them, that the project can have and its networks can be in; none if it is not set.", checkWords),
		blocked("restricted.snapshots", "Make snapshots of instances and volumes."),
		list("restricted.storage-pools.access", names, "The storage pools that the project sees; all if it is not set.", checkWords),
		vacuous(noVMs, blocked("restricted.virtual-machines.lowlevel", "Set keys of virtual machines that reach around the daemon.")),
		vacuous(noVMs, words("restricted.virtual-machines.nesting", allow, "Run virtual machines within virtual machines.", block, allow)),
	}
}

const (
	unprivileged = "unprivileged"
	isolated     = "isolated"
)

func vacuous(why string, k Key) Key {
	k.Vacuous = why
	return k
}

func specificKeys() []Key {
	const server = "the server's"
	arch := Key{Key: profiles.Key{Name: "images.default_architecture", Type: profiles.String, Default: "the host's", Allowed: strings.Join(architectures(), " or "), Doc: "The architecture of images that are named without one; the host runs one only."}, check: oneOf(architectures()...)}
	return []Key{
		{Key: profiles.Key{Name: BackupCompression, Type: profiles.String, Default: server, Allowed: "a compression such as gzip or zstd", Doc: "How backups of the project are compressed that ask for no compression."}, check: checkCompression},
		boolean(Key{Key: profiles.Key{Name: "images.auto_update_cached", Default: "false", Doc: "Bring images up to date that came from servers when they were first used."}}),
		{Key: profiles.Key{Name: "images.auto_update_interval", Type: profiles.Integer, Default: "0", Allowed: wantNumber, Doc: "How many hours are between looks for newer images."}, check: checkNumber},
		{Key: profiles.Key{Name: ImageCompression, Type: profiles.String, Default: "zstd", Allowed: "none, gzip, zstd, xz or bzip2", Doc: "How images are compressed that are made of instances of the project and ask for no compression."}, check: oneOf("none", "gzip", "zstd", "xz", "bzip2")},
		arch,
		{Vacuous: "images that come from servers are kept until they are deleted", Key: profiles.Key{Name: ImageExpiry, Type: profiles.Integer, Default: server, Allowed: wantNumber, Doc: "For how many days images are kept that came from servers and that nothing uses."}, check: checkNumber},
		{Key: profiles.Key{Name: MACPattern, Type: profiles.String, Default: "10:66:6a:xx:xx:xx", Allowed: `an address with x for digits that are chosen, at least four, such as "02:00:5e:xx:xx:xx"`, Doc: "The form of MAC addresses that are chosen for new NICs of the project."}, check: checkMACPattern},
		{Key: profiles.Key{Name: "user.*", Type: profiles.Blob, Doc: "Anything that users want to keep with the project."}},
	}
}

func boolean(k Key) Key {
	k.Type, k.Allowed = profiles.Bool, wantBool
	k.check = func(v string) error {
		_, err := profiles.ParseBool(v)
		return err
	}
	return k
}

func oneOf(words ...string) func(string) error {
	return func(v string) error {
		if slices.Contains(words, v) {
			return nil
		}
		return profiles.ErrValue
	}
}

func checkNumber(v string) error {
	if _, err := strconv.ParseUint(v, 10, 31); err != nil {
		return profiles.ErrValue
	}
	return nil
}

func checkSize(v string) error {
	if _, err := units.ParseBytes(v); err != nil {
		return profiles.ErrValue
	}
	return nil
}

// List reads words with commas between them.
func List(v string) []string {
	var out []string
	for word := range strings.SplitSeq(v, ",") {
		if word = strings.TrimSpace(word); word != "" {
			out = append(out, word)
		}
	}
	return out
}

func checkWords(v string) error {
	if len(List(v)) == 0 {
		return profiles.ErrValue
	}
	return nil
}

func checkPaths(v string) error {
	for _, p := range List(v) {
		if !path.IsAbs(p) || path.Clean(p) != strings.TrimSuffix(p, "/") && p != "/" {
			return errs.Invalidf("got %q, want clean absolute paths with commas between them", p)
		}
	}
	return checkWords(v)
}

func checkIDs(v string) error {
	_, err := parseIDs(v)
	return err
}

// An idRange is ids of the host, of which last is the last.
type idRange struct{ first, last int64 }

func parseIDs(v string) ([]idRange, error) {
	var out []idRange
	for _, word := range List(v) {
		low, high, isRange := strings.Cut(word, "-")
		if !isRange {
			high = low
		}
		first, err1 := strconv.ParseUint(low, 10, 32)
		last, err2 := strconv.ParseUint(high, 10, 32)
		if err1 != nil || err2 != nil || last < first {
			return nil, profiles.ErrValue
		}
		out = append(out, idRange{int64(first), int64(last)})
	}
	return out, nil
}

func checkCompression(v string) error {
	if _, err := archive.ParseCompression(v); err != nil {
		return errs.Invalidf("%w", err)
	}
	return nil
}

// architectures are the names of the one that the host has.
func architectures() []string {
	switch runtime.GOARCH {
	case "amd64":
		return []string{"x86_64", "amd64"}
	case "arm64":
		return []string{"aarch64", "arm64"}
	}
	return []string{runtime.GOARCH}
}

func checkMACPattern(v string) error {
	octets := strings.Split(v, ":")
	if len(octets) != 6 {
		return profiles.ErrValue
	}
	for _, o := range octets {
		if _, err := hex.DecodeString(strings.ReplaceAll(strings.ToLower(o), "x", "0")); err != nil || len(o) != 2 {
			return profiles.ErrValue
		}
	}
	if strings.Count(strings.ToLower(v), "x") < 4 {
		return profiles.ErrValue
	}
	// The second digit says whether an address is of a group.
	if c := v[1]; c == 'x' || c == 'X' || strings.ContainsRune("13579bdfBDF", rune(c)) {
		return errs.Invalidf("got %q, want an even digit in the second place: others are addresses of groups", v)
	}
	return nil
}
