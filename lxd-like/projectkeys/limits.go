package projectkeys

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/units"
)

// The limits that are counted, and those that are summed up.
const (
	LimitInstances  = "limits.instances"
	LimitContainers = "limits.containers"
	LimitMachines   = "limits.virtual-machines"
	LimitNetworks   = "limits.networks"

	LimitCPU       = "limits.cpu"
	LimitMemory    = "limits.memory"
	LimitProcesses = "limits.processes"
	LimitDisk      = "limits.disk"
	limitPool      = "limits.disk.pool."
)

// LimitPool is the key of the limit of a storage pool.
func LimitPool(pool string) string { return limitPool + pool }

// A Use is how much there is of what limits are of, by their keys.
type Use map[string]int64

// Add adds what another has. No sum is too large to be counted.
func (u Use) Add(more Use) {
	for key, n := range more {
		u[key] = min(u[key], math.MaxInt64-n) + n
	}
}

// Lacks says, by the key of a limit, why an object cannot be counted by it.
type Lacks map[string]string

// InstanceUse is what an instance has of what is summed up, by its expanded
// configuration and the size of its root, which can be its pool's default.
func InstanceUse(c profiles.Config, rootSize string) (Use, Lacks) {
	use, lacks := Use{}, Lacks{}
	for key, of := range map[string]struct {
		parse func(string) (int64, error)
		want  string
	}{
		LimitCPU:       {parseNumber, "a number of processors"},
		LimitMemory:    {units.ParseBytes, "a size such as \"1GiB\""},
		LimitProcesses: {parseNumber, "a number"},
	} {
		v := c.Options[key]
		n, err := of.parse(v)
		switch {
		case v == "":
			lacks[key] = "it has no " + key + ": set it to " + of.want + ", or in a profile"
		case err != nil:
			lacks[key] = "its " + key + " is " + strconv.Quote(v) + ": set it to " + of.want
		default:
			use[key] = n
		}
	}
	name, disk, err := profiles.Root(c)
	if err != nil {
		return use, lacks // Others refuse it.
	}
	use.addDisk(disk["pool"], rootSize, lacks, "its root disk has no size: set size of the device "+strconv.Quote(name)+", or in a profile")
	return use, lacks
}

// VolumeUse is what a custom volume has.
func VolumeUse(pool, size string) (Use, Lacks) {
	use, lacks := Use{}, Lacks{}
	use.addDisk(pool, size, lacks, "it has no size: set the key size")
	return use, lacks
}

func (u Use) addDisk(pool, size string, lacks Lacks, missing string) {
	n, err := units.ParseBytes(size)
	for _, key := range []string{LimitDisk, LimitPool(pool)} {
		if size == "" || err != nil {
			lacks[key] = missing
		} else {
			u[key] = n
		}
	}
}

func parseNumber(v string) (int64, error) {
	n, err := strconv.ParseUint(v, 10, 62)
	return int64(n), err //nolint:gosec // It has 62 bits.
}

// Rules are what a project limits and restricts. The zero value does neither.
type Rules struct {
	config     map[string]string
	limits     map[string]int64
	restricted bool
}

// NewRules returns the rules of a configuration, which is normal, or nil if it
// limits and restricts nothing.
func NewRules(config map[string]string) *Rules {
	r := &Rules{config: config, limits: map[string]int64{}, restricted: config[Restricted] == "true"}
	for key, value := range config {
		if !strings.HasPrefix(key, "limits.") || value == "" {
			continue
		}
		n, err := units.ParseBytes(value) // Numbers are sizes without a unit.
		if err == nil {
			r.limits[key] = n
		}
	}
	if len(r.limits) == 0 && !r.restricted {
		return nil
	}
	return r
}

// Limit is a limit of the project, if it has that.
func (r *Rules) Limit(key string) (n int64, ok bool) {
	if r == nil {
		return 0, false
	}
	n, ok = r.limits[key]
	return n, ok
}

// Sums reports whether there is a limit for which all objects have to be looked
// at; Disks, whether there is one of disks.
func (r *Rules) Sums() bool {
	return r.has(func(key string) bool {
		return key == LimitCPU || key == LimitMemory || key == LimitProcesses || isDisk(key)
	})
}

// Disks is described at [Rules.Sums].
func (r *Rules) Disks() bool { return r.has(isDisk) }

func isDisk(key string) bool { return key == LimitDisk || strings.HasPrefix(key, limitPool) }

func (r *Rules) has(fn func(key string) bool) bool {
	for key := range r.limits {
		if fn(key) {
			return true
		}
	}
	return false
}

// CheckLacks reports why an object cannot be counted by a limit that there is.
func (r *Rules) CheckLacks(lacks Lacks) error {
	for _, key := range slices.Sorted(maps.Keys(lacks)) {
		if _, ok := r.limits[key]; ok {
			return errs.Invalidf("the project has %s=%s, and %s", key, r.config[key], lacks[key])
		}
	}
	return nil
}

// CheckUse reports a limit that what there is goes beyond.
func (r *Rules) CheckUse(use Use) error {
	for _, key := range slices.Sorted(maps.Keys(r.limits)) {
		if n := use[key]; n > r.limits[key] {
			return errs.Newf(errs.Denied, "the project has %s=%s, and %s would be in use", key, r.config[key], FormatUse(key, n))
		}
	}
	return nil
}

// FormatUse writes how much there is of what a limit is of.
func FormatUse(key string, n int64) string {
	if key != LimitMemory && !isDisk(key) {
		return strconv.FormatInt(n, 10)
	}
	return units.FormatBytes(n)
}
