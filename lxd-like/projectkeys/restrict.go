package projectkeys

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/project"
)

// lowlevel are keys of instances that reach around the daemon, or tell of the
// host what is not of the project.
var lowlevel = []string{
	"boot.host_shutdown_timeout", "boot.wait_for", "limits.memory.swap", "linux.kernel_modules", "linux.kernel_modules.load",
	"raw.*", "security.bpffs.*", "security.delegate_bpf", "security.delegate_bpf.*", "security.devlxd.images", "security.guestapi.images",
	"security.idmap.base", "security.idmap.size", "security.syscalls.*",
}

// Interception of system calls, which has keys of its own.
const (
	intercept = "security.syscalls.intercept."

	keyLowlevel  = "restricted.containers.lowlevel"
	keyIntercept = "restricted.containers.interception"
	keyNesting   = "restricted.containers.nesting"
	keyPrivilege = "restricted.containers.privilege"
	keyDisk      = "restricted.devices.disk"
	keyPaths     = "restricted.devices.disk.paths"
	keyNIC       = "restricted.devices.nic"
	keyAccess    = "restricted.networks.access"
	keyPools     = "restricted.storage-pools.access"
	keyServers   = "restricted.images.servers"
	keyZones     = "restricted.networks.zones"
	keyBackups   = "restricted.backups"
	keySnapshots = "restricted.snapshots"
)

// unsafeIntercepts hand what comes from a guest to the host's kernel, or its
// processors to a guest.
var unsafeIntercepts = []string{"mount.allowed", "mount.shift", "sched_setscheduler"}

// says is what a key of the restrictions says.
func (r *Rules) says(key string) string { return Value(r.config, key) }

// broken is the error of what a project does not allow.
func (r *Rules) broken(key, what string) error {
	v := r.says(key)
	if v == "" {
		v = "nothing"
	}
	return errs.Newf(errs.Denied, "%s: the project has %s=%s", what, key, v)
}

// CheckConfig reports what the project does not allow of the configuration of a
// profile, or of an instance with its profiles.
func (r *Rules) CheckConfig(c profiles.Config) error {
	for name, dev := range c.Devices {
		if pool := dev["pool"]; dev["type"] == "disk" && pool != "" {
			if err := r.CheckPool(pool); err != nil {
				return errs.Newf(errs.KindOf(err), "device %q: %w", name, err)
			}
		}
	}
	if !r.restricted {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(c.Options)) {
		if err := r.checkOption(name, c.Options[name]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Devices)) {
		if err := r.checkDevice(c.Devices[name]); err != nil {
			return errs.Newf(errs.KindOf(err), "device %q: %w", name, err)
		}
	}
	return nil
}

// CheckPool reports a storage pool that the project does not see, as one that
// is not there.
func (r *Rules) CheckPool(pool string) error {
	if r.SeesPool(pool) {
		return nil
	}
	return errs.Invalidf("storage pool %q not found", pool)
}

// SeesPool reports whether the project sees a storage pool.
func (r *Rules) SeesPool(pool string) bool {
	if r == nil {
		return true
	}
	if n, ok := r.limits[LimitPool(pool)]; ok && n == 0 {
		return false
	}
	return !r.restricted || r.listed(keyPools, pool)
}

// listed reports whether a list that there is has a word.
func (r *Rules) listed(key, word string) bool {
	v := r.config[key]
	return v == "" || slices.Contains(List(v), word)
}

// SeesNetwork reports whether the project sees a network, or with a key of no
// project an interface of the host.
func (r *Rules) SeesNetwork(key string, isManaged bool) bool { //nolint:revive // It is what is asked about.
	if r == nil || !r.restricted || project.Of(key) != project.Default {
		return true // What is its own, it sees.
	}
	switch r.says(keyNIC) {
	case block:
		return false
	case managed:
		if !isManaged {
			return false
		}
	}
	return r.listed(keyAccess, key)
}

// Allows reports whether a key of the restrictions says allow; so does any of a
// project that restricts nothing.
func (r *Rules) Allows(key string) bool {
	return r == nil || !r.restricted || r.says(key) == allow
}

// CheckSnapshots reports whether snapshots can be made, CheckBackups backups.
func (r *Rules) CheckSnapshots() error {
	if r.Allows(keySnapshots) {
		return nil
	}
	return r.broken(keySnapshots, "snapshots cannot be made")
}

// CheckBackups is described at [Rules.CheckSnapshots].
func (r *Rules) CheckBackups() error {
	if r.Allows(keyBackups) {
		return nil
	}
	return r.broken(keyBackups, "backups cannot be made")
}

// CheckVolatile reports whether users can set keys that belong to the daemon.
func (r *Rules) CheckVolatile(key string) error {
	if r.Allows(keyLowlevel) {
		return nil
	}
	return r.broken(keyLowlevel, key+" cannot be set")
}

// CheckServer reports a server that images cannot come from.
func (r *Rules) CheckServer(host string) error {
	if r == nil || !r.restricted || r.listed(keyServers, host) {
		return nil
	}
	return r.broken(keyServers, "images of "+strconv.Quote(host)+" cannot be had")
}

// CheckZone reports a network zone that the project, or a network of it, cannot
// have.
func (r *Rules) CheckZone(zone string) error {
	if r == nil || !r.restricted {
		return nil
	}
	for _, z := range List(r.config[keyZones]) {
		if zone == z || strings.HasSuffix(zone, "."+z) {
			return nil
		}
	}
	return r.broken(keyZones, "network zone "+strconv.Quote(zone)+" cannot be had")
}

func (r *Rules) checkOption(name, value string) error {
	if value == "" || isDefault(name, value) {
		return nil
	}
	if name == "raw.idmap" {
		return r.checkIdmap(value)
	}
	key := about(name)
	switch says := r.says(key); {
	case key == "" || says == allow && !unsafeIntercept(name) || says == full:
		return nil
	case name == "security.idmap.isolated" && says != isolated:
		return nil
	}
	return r.broken(key, name+" cannot be set to "+strconv.Quote(value))
}

// about is the key of the restrictions that an option is about, or empty.
func about(option string) string {
	switch {
	case strings.HasPrefix(option, intercept):
		return keyIntercept
	case option == "security.nesting":
		return keyNesting
	case option == "security.privileged" || option == "security.idmap.isolated":
		return keyPrivilege
	case option == "backups.repository" || option == "backups.schedule":
		return keyBackups
	case slices.ContainsFunc(lowlevel, func(p string) bool { return profiles.Matches(p, option) }):
		return keyLowlevel
	}
	return ""
}

func unsafeIntercept(option string) bool {
	return slices.Contains(unsafeIntercepts, strings.TrimPrefix(option, intercept))
}

// isDefault reports whether a key says no more than would hold without it.
func isDefault(name, value string) bool {
	k, ok := profiles.Lookup(name)
	if !ok || k.Type != profiles.Bool || k.Default == "" {
		return ok && value == k.Default
	}
	on, err := profiles.ParseBool(value)
	return err == nil && strconv.FormatBool(on) == k.Default
}

// checkIdmap reports ids of the host that raw.idmap may not give away.
func (r *Rules) checkIdmap(value string) error {
	if r.Allows(keyLowlevel) {
		return nil
	}
	entries, err := idmap.ParseRaw(value)
	if err != nil {
		return nil //nolint:nilerr // Others refuse it.
	}
	for _, e := range entries {
		for _, of := range []struct {
			is  bool
			key string
		}{{e.UID, "restricted.idmap.uid"}, {e.GID, "restricted.idmap.gid"}} {
			if !of.is || covers(r.config[of.key], e.Host, e.Size) {
				continue
			}
			if r.config[of.key] == "" {
				return r.broken(keyLowlevel, "raw.idmap cannot be set")
			}
			return r.broken(of.key, "raw.idmap cannot have ids from "+strconv.FormatInt(e.Host, 10))
		}
	}
	return nil
}

// covers reports whether one of the ranges has all of the ids.
func covers(ranges string, first, size int64) bool {
	all, err := parseIDs(ranges)
	return err == nil && slices.ContainsFunc(all, func(have idRange) bool { return have.first <= first && first+size-1 <= have.last })
}

// blockable are types of devices that a key of their name is about.
var blockable = []string{"gpu", "infiniband", "pci", "proxy", "unix-block", "unix-char", "unix-hotplug", "usb"}

func (r *Rules) checkDevice(dev profiles.Device) error {
	switch typ := dev["type"]; {
	case typ == "disk":
		return r.checkDisk(dev)
	case typ == "nic":
		return r.checkNIC(dev)
	case slices.Contains(blockable, typ):
		if key := "restricted.devices." + typ; !r.Allows(key) {
			return r.broken(key, "there can be none of type "+typ)
		}
	}
	return nil
}

func (r *Rules) checkDisk(dev profiles.Device) error {
	if profiles.IsRoot(dev) && dev["source"] == "" {
		return nil
	}
	ofHost := dev["pool"] == "" && !profiles.IsMemory(dev)
	switch r.says(keyDisk) {
	case block:
		return r.broken(keyDisk, "there can be no disk beside the root disk")
	case managed:
		if ofHost {
			return r.broken(keyDisk, "the source can only be a volume of a storage pool")
		}
	case allow:
		if dirs := r.DiskPaths(); ofHost && dirs != nil && !Beneath(dirs, dev["source"]) {
			return r.broken(keyPaths, "source "+strconv.Quote(dev["source"])+" is in none of the directories")
		}
	}
	return nil
}

// DiskPaths are the directories of the host that sources of disks can be in; nil
// for any.
func (r *Rules) DiskPaths() []string {
	if r == nil || !r.restricted || r.config[keyPaths] == "" {
		return nil
	}
	return List(r.config[keyPaths])
}

// Beneath reports whether a path, as it is written, is one of the directories
// or in one.
func Beneath(dirs []string, source string) bool {
	source = path.Clean(source)
	return slices.ContainsFunc(dirs, func(dir string) bool {
		dir = path.Clean(dir)
		return source == dir || dir == "/" || strings.HasPrefix(source, dir+"/")
	})
}

func (r *Rules) checkNIC(dev profiles.Device) error {
	says := r.says(keyNIC)
	network := dev["network"]
	switch {
	case says == block:
		return r.broken(keyNIC, "there can be none of type nic")
	case says == managed && network == "":
		return r.broken(keyNIC, "a nic can only be on a network: set network")
	case dev["nictype"] == "host" && !r.Allows(keyLowlevel): // It is no nic, but all that the host has.
		return r.broken(keyLowlevel, "nictype cannot be host")
	case network != "" && !r.SeesNetwork(network, true):
		return r.broken(keyAccess, "network "+strconv.Quote(network)+" is not the project's")
	case network == "" && dev["parent"] != "" && !r.listed(keyAccess, dev["parent"]):
		return r.broken(keyAccess, "parent "+strconv.Quote(dev["parent"])+" is not the project's")
	}
	return nil
}
