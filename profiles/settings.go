package profiles

import (
	"strconv"
	"strings"
	"time"

	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/units"
)

// DefaultIDs is how many ids an instance has where nothing is said.
const DefaultIDs = 65536

// NestingIDs is how many one with security.nesting has: enough for those that
// its own users give to containers, which Debian begins to count at 100,000,
// and for 48 instances of a Cuib in it.
const NestingIDs = 1 << 22

// Host is what settings depend on.
type Host struct {
	Memory int64 // Bytes.
	CPUs   []int // The processors that are online, in order.
}

// Settings are what the options of an expanded configuration mean.
type Settings struct {
	Limits   Limits
	Boot     Boot
	Security Security
	IDs      IDs
	OOMScore int
	Rlimits  map[string]string // As "nofile": "1024:4096".
	Sysctls  map[string]string
	Env      map[string]string
	RawLXC   string
	AppArmor []string // Rules beyond those of the profile.

	Modules     []string          // Of the kernel, to be loaded.
	Credentials map[string][]byte // Of systemd, by name.

	Syscalls Syscalls
	BPF      BPF

	SnapshotPattern string // Empty for the default; see [SnapshotName].
	SnapshotExpiry  string // See [Expiry].
	ManualExpiry    string // Likewise, of snapshots that a user makes; empty for SnapshotExpiry.
}

// Autostart says whether an instance starts when the daemon does.
type Autostart uint8

// The values of [Autostart].
const (
	AsBefore Autostart = iota // If it ran when the host or the daemon shut down.
	Always
	Never
)

// Boot says how an instance starts and stops with the host.
type Boot struct {
	Autostart     Autostart
	Autorestart   bool
	Delay         time.Duration // Before the next instance starts.
	StartPriority int
	StopPriority  int
	Kill          bool          // At once when the host shuts down.
	Timeout       time.Duration // For a clean stop when the host shuts down.
	DependsOn     []string      // Instances that run before it.
	WaitFor       []Need        // What the host has before it starts.
}

// Security says what an instance may do, and what may be done to it.
type Security struct {
	Privileged    bool
	Nesting       bool
	ProtectDelete bool
	ProtectStart  bool
}

// IDs are the ids of an unprivileged instance.
type IDs struct {
	Base int64 // The first one of the host; 0 for any.
	Size int64
	// Least is how many are enough, if so many as Size are not free.
	Least int64
	Raw   []idmap.Entry // Ids that are mapped beside those; see [idmap.Map.Merge].
}

// Parse returns what options of an expanded configuration mean on a host. It
// refuses what [ValidateOptions] refuses, and what the host does not have.
func Parse(opts map[string]string, host Host) (Settings, error) {
	if err := ValidateOptions(opts); err != nil {
		return Settings{}, err
	}
	o := options(opts)
	s := Settings{
		Boot: ParseBoot(opts),
		Security: Security{
			Privileged:    o.bool("security.privileged"),
			Nesting:       o.bool("security.nesting"),
			ProtectDelete: o.bool("security.protection.delete"),
			ProtectStart:  o.bool("security.protection.start"),
		},
		IDs:             o.ids(),
		OOMScore:        int(o.int("limits.memory.oom_priority", 0)),
		Rlimits:         o.rlimits(),
		Sysctls:         o.below("linux.sysctl."),
		Env:             o.below("environment."),
		RawLXC:          o["raw.lxc"],
		AppArmor:        rules(o["raw.apparmor"]),
		SnapshotPattern: o["snapshots.pattern"],
		SnapshotExpiry:  o["snapshots.expiry"],
		ManualExpiry:    o["snapshots.expiry.manual"],
	}
	s.Modules, _ = parseModules(o[keyModules]) // Valid, or none.
	var err error
	if s.Credentials, err = o.credentials(); err != nil {
		return Settings{}, err
	}
	if s.IDs.Raw, err = idmap.ParseRaw(o["raw.idmap"]); err != nil {
		return Settings{}, wrap("raw.idmap", err)
	}
	if s.Syscalls, err = o.syscalls(); err != nil {
		return Settings{}, err
	}
	s.BPF = o.bpf()
	s.Limits, err = o.limits(host)
	return s, err
}

// options are options whose values are valid.
type options map[string]string

func (o options) bool(key string) bool {
	b, _ := ParseBool(o[key]) // It is valid.
	return b
}

func (o options) ids() IDs {
	ids := IDs{Base: o.int("security.idmap.base", 0), Size: o.int("security.idmap.size", DefaultIDs)}
	ids.Least = ids.Size
	if o["security.idmap.size"] == "" && ids.Base == 0 && o.bool("security.nesting") {
		ids.Size = NestingIDs
	}
	return ids
}

func (o options) int(key string, unset int64) int64 {
	n, err := strconv.ParseInt(o[key], 10, 64)
	if err != nil {
		return unset
	}
	return n
}

func (o options) seconds(key string, unset int64) time.Duration {
	return time.Duration(o.int(key, unset)) * time.Second
}

// below returns the options whose keys start with prefix, without it.
func (o options) below(prefix string) map[string]string {
	out := map[string]string{}
	for k, v := range o {
		if name, ok := strings.CutPrefix(k, prefix); ok && v != "" {
			out[name] = v
		}
	}
	return out
}

func (o options) rlimits() map[string]string {
	out := o.below("limits.kernel.")
	for name, v := range out {
		out[name], _ = parseRlimit(v) // It is valid.
	}
	return out
}

// ParseBoot returns what options, which are valid, mean for the start and the
// end of the host. Unlike [Parse] it does not fail where the host has changed.
func ParseBoot(opts map[string]string) Boot {
	o := options(opts)
	b := Boot{
		Autorestart:   o.bool("boot.autorestart"),
		Delay:         o.seconds("boot.autostart.delay", 0),
		StartPriority: int(o.int("boot.autostart.priority", 0)),
		StopPriority:  int(o.int("boot.stop.priority", 0)),
		Kill:          o["boot.host_shutdown_action"] == "force-stop",
		Timeout:       o.seconds("boot.host_shutdown_timeout", 30),
	}
	b.DependsOn, _ = parseDependencies(o[keyDependsOn]) // Valid, or none.
	b.WaitFor, _ = parseNeeds(o[keyWaitFor])            // Likewise.
	if strings.TrimSpace(o["boot.autostart"]) != "" {
		b.Autostart = Never
		if o.bool("boot.autostart") {
			b.Autostart = Always
		}
	}
	return b
}

// ParseSize reads the size option of a root disk; 0 is for no limit.
func ParseSize(v string) (int64, error) {
	if v == "" {
		return 0, nil
	}
	return units.ParseBytes(v)
}
