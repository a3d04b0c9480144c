package profiles

import (
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

// IsHostNIC reports whether a device puts the instance into the host's own
// network.
func IsHostNIC(d Device) bool { return d["type"] == "nic" && d["nictype"] == HostNIC }

// HostNICOf returns the device that puts an instance into the host's own
// network; an empty name for none.
func HostNICOf(devices map[string]Device) string {
	for name, dev := range sorted(devices) {
		if IsHostNIC(dev) {
			return name
		}
	}
	return ""
}

// checkHostNIC reports what an instance has that there is not in the host's own
// network, which is not the instance's to set up.
func checkHostNIC(c Config) error {
	host := HostNICOf(c.Devices)
	if host == "" {
		return nil
	}
	for name, dev := range sorted(c.Devices) {
		if dev["type"] == "nic" && name != host {
			return errs.Invalidf("devices %q and %q: a nic of nictype host is all of the host's network, and the only nic that an instance can have", host, name)
		}
	}
	if err := checkPower(c, host); err != nil {
		return err
	}
	for key, value := range sorted(c.Options) {
		switch {
		case value == "":
		case strings.HasPrefix(strings.ReplaceAll(key, "/", "."), prefixSysctl+"net."):
			return errs.Invalidf("%s: it would be the host's, as device %q is the host's network; set it on the host", key, host)
		case key == networkConfig || key == "user.network-config":
			return errs.Invalidf("%s: device %q is the host's network, which no instance sets up; want no value", key, host)
		}
	}
	return nil
}

// checkPower reports what would give root in the instance power over the host's
// network, unless the device allows it.
func checkPower(c Config, host string) error {
	if allowed, _ := ParseBool(c.Devices[host]["privileged"]); allowed { // It is valid, or empty.
		return nil
	}
	const unless = "; if it may, set the device's option privileged=true"
	opts := options(c.Options)
	switch {
	case opts.bool("security.privileged"):
		return errs.Invalidf("device %q: with security.privileged the instance's root changes the host's interfaces, routes and firewall and reads all traffic"+unless, host)
	case opts.bpf().Path != "":
		return errs.Invalidf("device %q: with programs of BPF that are delegated to it the instance's root can read and drop the traffic of the host's interfaces"+unless, host)
	}
	return nil
}
