package profiles

import (
	"strings"

	"github.com/cuib/cuib/shared/seccomp"
)

// The keys of system calls, and the names that LXD had for some of them before.
const (
	keyRawSeccomp = "raw.seccomp"

	syscalls       = "security.syscalls."
	keyAllow       = syscalls + "allow"
	keyDeny        = syscalls + "deny"
	keyDenyDefault = syscalls + "deny_default"
	keyDenyCompat  = syscalls + "deny_compat"

	intercept         = syscalls + "intercept."
	keyBPFDevices     = intercept + "bpf.devices"
	keyMountAllowed   = intercept + "mount.allowed"
	keyMountFUSE      = intercept + "mount.fuse"
	keyMountShift     = intercept + "mount.shift"
	wantRules         = `lines such as "mknod errno 1" or "[all]", as in a profile of liblxc`
	differsUnknown    = "A system call that is not known is refused."
	differsUnpriv     = "With security.privileged it changes nothing: the instance can do that itself."
	differsOldSyscall = "The newer names are served too."
)

// oldSyscallKeys are the names that LXD had, with those that it has.
var oldSyscallKeys = map[string]string{
	syscalls + "whitelist":         keyAllow,
	syscalls + "blacklist":         keyDeny,
	syscalls + "blacklist_default": keyDenyDefault,
	syscalls + "blacklist_compat":  keyDenyCompat,
}

func syscallKeys() []Key {
	intercepted := func(name, doc string) Key {
		return boolean(Key{Name: intercept + name, Default: "false", Condition: unprivileged, Doc: doc, Differs: differsUnpriv})
	}
	sysinfo := intercepted("sysinfo", "Answer sysinfo(2) as /proc does: by the instance's limits and by what it uses.")
	sysinfo.Condition, sysinfo.Differs = "", ""
	return append([]Key{
		{Name: keyAllow, Type: Blob, Allowed: wantRules, Doc: "The system calls that the instance may make, a line each; it may make no others.", Differs: differsUnknown, check: checkRules},
		{Name: keyDeny, Type: Blob, Allowed: wantRules, Doc: "System calls that the instance may not make beside the usual ones, a line each; without an action the caller is killed.", Differs: differsUnknown, check: checkRules},
		boolean(Key{Name: keyDenyCompat, Default: "false", Doc: "Have no system calls for programs of 32 bits, or of any architecture but the host's own."}),
		boolean(Key{Name: keyDenyDefault, Default: "true", Doc: "Deny the system calls that are usually denied: those that load a kernel or modules, open files by handles, or unmount by force."}),
		intercepted("bpf", "Look at what bpf(2) is to do."),
		intercepted("bpf.devices", "Let the instance load and attach programs that say which devices a cgroup below its own may use; with security.syscalls.intercept.bpf."),
		intercepted("mknod", "Let the instance make nodes of devices that every instance has, such as /dev/null."),
		intercepted("mount", "Let the instance mount file systems on block devices that it was given, as security.syscalls.intercept.mount.allowed and .fuse say."),
		{Name: keyMountAllowed, Type: String, Allowed: "names of file systems such as \"ext4,xfs\", of " + strings.Join(blockFileSystems, ", "), Live: true, Condition: unprivileged, Doc: "File systems that the host's kernel mounts for the instance. Whoever can write to the device can tell the kernel what he likes.", Differs: "Only file systems on block devices, mounted without their device nodes; options that name other devices are refused.", check: parses(parseFileSystems)},
		{Name: keyMountFUSE, Type: String, Allowed: `pairs such as "ext4=fuse2fs"`, Live: true, Condition: unprivileged, Doc: "File systems that programs of the instance mount in the kernel's place.", check: parses(parseFUSE)},
		boolean(Key{Name: keyMountShift, Default: "false", Live: true, Condition: unprivileged, Doc: "Show the owners on what the kernel mounts for the instance as the instance's own ids.", Differs: "File systems without idmapped mounts cannot be mounted then."}),
		intercepted("sched_setscheduler", "Let the instance's root give its processes policies of real time. Such a process can keep a processor to itself."),
		intercepted("setxattr", "Let the instance set the attribute by which overlayfs hides what is below a directory."),
		sysinfo,
	}, append(oldSyscalls(), bpfKeys()...)...)
}

// rawSeccompKey is the row of the group raw.
func rawSeccompKey() Key {
	return Key{Name: keyRawSeccomp, Type: Blob, Allowed: "a profile of liblxc, from the version on", Doc: "The whole profile of system calls in place of the usual one and of what security.syscalls.* makes of it.", Differs: differsUnknown, check: func(v string) error { return seccomp.Check(v) }}
}

func oldSyscalls() []Key {
	return []Key{
		{Name: syscalls + "whitelist", Type: Blob, Allowed: wantRules, Doc: "As security.syscalls.allow, by the name that LXD had for it.", Differs: differsOldSyscall, check: checkRules},
		{Name: syscalls + "blacklist", Type: Blob, Allowed: wantRules, Doc: "As security.syscalls.deny, by the name that LXD had for it.", Differs: differsOldSyscall, check: checkRules},
		boolean(Key{Name: syscalls + "blacklist_default", Default: "true", Doc: "As security.syscalls.deny_default, by the name that LXD had for it.", Differs: differsOldSyscall}),
		boolean(Key{Name: syscalls + "blacklist_compat", Default: "false", Doc: "As security.syscalls.deny_compat, by the name that LXD had for it.", Differs: differsOldSyscall}),
	}
}

func checkRules(v string) error { return seccomp.CheckRules(v) }

// blockFileSystems can be mounted from a device alone.
var blockFileSystems = []string{
	"btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfs", "hfsplus", "iso9660", "jfs", "msdos", "nilfs2",
	"ntfs3", "squashfs", "udf", "vfat", "xfs",
}

func parseFileSystems(v string) ([]string, error) {
	var all []string
	for name := range strings.SplitSeq(v, ",") {
		name = strings.TrimSpace(name)
		found := false
		for _, known := range blockFileSystems {
			found = found || name == known
		}
		if !found {
			return nil, errNo
		}
		all = append(all, name)
	}
	return all, nil
}

// parseFUSE reads which programs mount which file systems.
func parseFUSE(v string) (map[string]string, error) {
	all := map[string]string{}
	for pair := range strings.SplitSeq(v, ",") {
		name, program, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if name == "" || program == "" || !only(name, letters+digits+"._-") || !only(program, letters+digits+"._-+/") {
			return nil, errNo
		}
		if _, twice := all[name]; twice {
			return nil, errNo
		}
		all[name] = program
	}
	return all, nil
}
