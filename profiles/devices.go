package profiles

import (
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/cuib/cuib/shared/errs"
)

// An Option is a row of the table of one type of device.
type Option struct {
	Key
	Required bool
}

// A DeviceType is a type of device, with the options that it has.
type DeviceType struct {
	Name    string
	Doc     string
	Options []Option

	// together reports what is wrong with options that are each right.
	together func(Device) error

	// places says what only one device of an instance can have, in words such
	// as "the path /srv". Nil is for nothing.
	places func(Device) []string
}

// DeviceTypes returns the table of devices, by name. Each type has a file of
// its own.
func DeviceTypes() []DeviceType {
	return []DeviceType{
		diskType(),
		gpuType(),
		nicType(),
		noneType(),
		proxyType(),
		tpmType(),
		unixBlockType(),
		unixCharType(),
		unixHotplugType(),
		usbType(),
	}
}

var typeByName = sync.OnceValue(func() map[string]DeviceType {
	m := make(map[string]DeviceType)
	for _, t := range DeviceTypes() {
		m[t.Name] = t
	}
	return m
})

// ValidateDevices reports the first device, by name, that is wrong. Each is
// looked at alone; see [ValidateExpanded].
func ValidateDevices(devices map[string]Device) error {
	for name, dev := range sorted(devices) {
		if err := CheckDeviceName(name); err != nil {
			return err
		}
		if err := validateDevice(dev); err != nil {
			return errs.Newf(errs.KindOf(err), "device %q: %w", name, err)
		}
	}
	return nil
}

func validateDevice(dev Device) error {
	t, ok := typeByName()[dev["type"]]
	if !ok {
		return unknownType(dev["type"])
	}
	if err := checkOptions(t, dev); err != nil {
		return err
	}
	if t.together == nil {
		return nil
	}
	return t.together(dev)
}

// checkOptions looks at each option of a device alone.
func checkOptions(t DeviceType, dev Device) error {
	opts := map[string]Option{}
	for _, o := range t.Options {
		opts[o.Name] = o
	}
	for name, value := range sorted(dev) {
		if err := checkText(name, value); err != nil {
			return err
		}
		if name == "type" || strings.HasPrefix(name, "user.") {
			continue
		}
		o, ok := optionOf(opts, name)
		if why, no := refusedOption(t.Name, name, value); no {
			return wrap(name, refuse(value, why, o.Allowed))
		}
		if !ok {
			return unknownOption(t, name)
		}
		if err := o.Check(value); err != nil {
			return wrap(name, err)
		}
	}
	for _, o := range t.Options {
		if o.Required && dev[o.Name] == "" {
			return errs.Invalidf("a device of type %s needs the option %s, want %s", t.Name, o.Name, o.Allowed)
		}
	}
	return nil
}

// optionOf finds an option by its name, or by a pattern.
func optionOf(opts map[string]Option, name string) (o Option, ok bool) {
	if o, ok = opts[name]; ok {
		return o, true
	}
	for pattern, o := range opts {
		if strings.Contains(pattern, "*") && matches(pattern, name) {
			return o, true
		}
	}
	return Option{}, false
}

func unknownType(name string) error {
	if why, no := refusedType(name); no {
		return errs.Invalidf("got type %q, but there is no such device: %s", name, why)
	}
	var names []string
	for _, t := range DeviceTypes() {
		names = append(names, t.Name)
	}
	if name == "" {
		return errs.Invalidf("it has no type, want one of %s", strings.Join(names, ", "))
	}
	return errs.Invalidf("got type %s, want one of %s", quote(name), strings.Join(names, ", "))
}

func unknownOption(t DeviceType, name string) error {
	var known []string
	for _, o := range t.Options {
		known = append(known, o.Name)
	}
	if len(known) == 0 {
		return errs.Invalidf("a device of type %s has no options, got %s", t.Name, quote(name))
	}
	err := unknown("option", name, known)
	if _, near := nearest(name, known); near {
		return err
	}
	return errs.Invalidf("%w: a device of type %s has %s", err, t.Name, strings.Join(known, ", "))
}

func option(k Key) Option { return Option{Key: k} }

func booleanOption(k Key) Option { return Option{Key: boolean(k)} }

// insidePath reports whether v is a path that cannot lead out of an instance.
func insidePath(v string) bool { return hostPath(v) }

func hostPath(v string) bool {
	return strings.HasPrefix(v, "/") && oneLine(v) && !slices.Contains(strings.Split(v, "/"), "..")
}

// pathOnly are the places of a device whose path is required.
func pathOnly(d Device) []string { return []string{"the path " + cleanPath(d["path"])} }

// pathOrSource are the places of a device that is inside where it is on the
// host unless it has a path.
func pathOrSource(d Device) []string {
	if d["path"] == "" {
		return []string{"the path " + cleanPath(d["source"])}
	}
	return pathOnly(d)
}

func cleanPath(v string) string {
	if v == "" {
		return ""
	}
	return path.Clean("/" + v)
}

func isMode(v string) bool {
	return len(v) >= 3 && len(v) <= 4 && only(v, "01234567") && (len(v) == 3 || v[0] == '0')
}
