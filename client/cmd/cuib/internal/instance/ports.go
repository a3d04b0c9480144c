package instance

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// exposures are the values of --expose.
var exposures = []string{"host-firewall", "public"}

// published is the form of what --publish has. No profile is named like that.
var published = regexp.MustCompile(`^(?:(\[[0-9a-fA-F:.]+\]|[0-9.]+):)?([0-9]+(?:-[0-9]+)?):([0-9]+(?:-[0-9]+)?)(?:/(tcp|udp))?$`)

// takePorts moves what -p says of ports from the profiles to them.
func (o *createOptions) takePorts() {
	o.publish = append(slices.Clone(o.publish), slices.DeleteFunc(slices.Clone(o.profiles), func(v string) bool { return !published.MatchString(v) })...)
	o.profiles = slices.DeleteFunc(slices.Clone(o.profiles), published.MatchString)
}

// applyPorts gives an instance the devices that publish its ports.
func (o createOptions) applyPorts(devices api.DevicesMap) error {
	if o.expose != "" && !slices.Contains(exposures, o.expose) {
		return errs.Invalidf("--expose: got %q, want host-firewall or public", o.expose)
	}
	if o.expose != "" && len(o.publish) == 0 {
		return errs.Invalidf("--expose is for published ports: say which with --publish")
	}
	for _, v := range o.publish {
		name, dev, err := portDevice(v)
		if err != nil {
			return err
		}
		if devices[name] != nil {
			return errs.Invalidf("--publish %s: there is a device %q already", v, name)
		}
		if o.expose != "" && dev["nat"] != "" {
			dev["expose"] = o.expose
		}
		devices[name] = dev
	}
	return nil
}

// portDevice returns the device that publishes a port. What comes for an
// address of the loopback is not forwarded by the kernel, but passed on by a
// process.
func portDevice(v string) (name string, dev api.ConfigMap, err error) {
	m := published.FindStringSubmatch(v)
	if m == nil {
		return "", nil, errs.Invalidf("--publish: got %q, want [ADDRESS:]PORT:INSTANCE-PORT[/udp], such as 8080:80, 127.0.0.1:8080:80 or [2001:db8::1]:5300:53/udp", v)
	}
	host, ports, inside, protocol := m[1], m[2], m[3], m[4]
	if protocol == "" {
		protocol = "tcp"
	}
	name = "port-" + ports
	if protocol == "udp" {
		name += "-udp"
	}
	dev = api.ConfigMap{"type": "proxy", "listen": protocol + ":" + host + ":" + ports, "connect": protocol + "::" + inside}
	if host == "" {
		dev["nat"] = "true"
		return name, dev, nil
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		return "", nil, errs.Invalidf("--publish: got %q, want an IP address of the host before the ports", v)
	}
	if a.IsLoopback() {
		return name + "-local", dev, nil
	}
	dev["nat"] = "true"
	return name + "-" + strings.NewReplacer(":", "-", ".", "-").Replace(a.String()), dev, nil
}
