package instance

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// A filter is one condition of list.
type filter struct {
	key   string // Empty for a filter by name.
	value string
	re    *regexp.Regexp // nil if value is no regular expression.
}

type filters []filter

func parseFilters(args []string) (filters, error) {
	var out filters
	for _, a := range args {
		a = strings.TrimPrefix(a, "local:")
		if a == "" {
			continue
		}
		key, value, isPair := strings.Cut(a, "=")
		if !isPair {
			key, value = "", a
		}
		f := filter{key: key, value: value}
		re, err := regexp.Compile("^(?:" + value + ")$")
		if err != nil && !isPair {
			return nil, errs.Invalidf("filter %q is not a regular expression: %w", a, err)
		}
		if err == nil {
			f.re = re
		}
		out = append(out, f)
	}
	return out, nil
}

// builtin are the keys of filters that are not of the configuration.
var builtin = []string{"", "name", "status", "state", "type", "architecture", "location", "ipv4", "ipv6"}

// needConfig tells whether a filter looks at the configuration.
func (fs filters) needConfig() bool {
	for _, f := range fs {
		if !slices.Contains(builtin, f.key) {
			return true
		}
	}
	return false
}

// needState tells whether a filter looks at addresses.
func (fs filters) needState() bool {
	for _, f := range fs {
		if f.key == "ipv4" || f.key == "ipv6" {
			return true
		}
	}
	return false
}

func (fs filters) match(in api.InstanceFull) bool {
	for _, f := range fs {
		if !f.match(in) {
			return false
		}
	}
	return true
}

func (f filter) match(in api.InstanceFull) bool {
	switch f.key {
	case "":
		return strings.HasPrefix(in.Name, f.value) || f.is(in.Name)
	case "name":
		return f.is(in.Name)
	case "status", "state":
		return f.oneOf(in.Status)
	case "type":
		return f.oneOf(in.Type)
	case "architecture":
		return f.oneOf(in.Architecture)
	case "location":
		return f.oneOf(in.Location)
	case "ipv4":
		return f.address(in, "inet")
	case "ipv6":
		return f.address(in, "inet6")
	}
	return f.config(in.ExpandedConfig) || f.config(in.Config)
}

func (f filter) is(value string) bool {
	return value == f.value || f.re != nil && f.re.MatchString(value)
}

// oneOf compares with values between commas, in any case of letters.
func (f filter) oneOf(value string) bool {
	for v := range strings.SplitSeq(f.value, ",") {
		if strings.EqualFold(v, value) {
			return true
		}
	}
	return false
}

func (f filter) address(in api.InstanceFull, family string) bool {
	if in.State == nil {
		return false
	}
	network, err := netip.ParsePrefix(f.value)
	for _, nic := range in.State.Network {
		for _, a := range nic.Addresses {
			if a.Family != family {
				continue
			}
			addr, aerr := netip.ParseAddr(a.Address)
			if a.Address == f.value || err == nil && aerr == nil && network.Contains(addr) {
				return true
			}
		}
	}
	return false
}

// config looks for a key, whose elements may be shortened, with the value.
func (f filter) config(config api.ConfigMap) bool {
	for key, value := range config {
		if shortened(f.key, key) && f.is(value) {
			return true
		}
	}
	return false
}

// shortened tells whether each element of the key abbreviated is the
// beginning of the one in key; the last one must be whole.
func shortened(abbreviated, key string) bool {
	if abbreviated == key {
		return true
	}
	a, k := strings.Split(abbreviated, "."), strings.Split(key, ".")
	if len(a) != len(k) || a[len(a)-1] != k[len(k)-1] {
		return false
	}
	for i := range a {
		if a[i] == "" || !strings.HasPrefix(k[i], a[i]) {
			return false
		}
	}
	return true
}

// keyColumn parses a column [config:|devices:]KEY[:NAME[:WIDTH]].
func keyColumn(spec string) (output.Column[api.InstanceFull], error) {
	var none output.Column[api.InstanceFull]
	parts := strings.Split(spec, ":")
	kind := "config"
	if len(parts) > 1 && (parts[0] == "config" || parts[0] == "devices") {
		kind, parts = parts[0], parts[1:]
	}
	key := parts[0]
	if key == "" || len(parts) > 3 {
		return none, errs.Invalidf("column %q is not of the form [config:|devices:]KEY[:NAME[:WIDTH]]", spec)
	}
	name, width := strings.ToUpper(key), -1
	if len(parts) > 1 && parts[1] != "" {
		name = parts[1]
	}
	if len(parts) == 3 {
		n, err := strconv.Atoi(parts[2])
		if err != nil || n < -1 {
			return none, errs.Invalidf("column %q: width %q is not a number from -1", spec, parts[2])
		}
		width = n
	}
	if width == 0 {
		width = len(name)
	}
	value := func(in api.InstanceFull) string { return in.ExpandedConfig[key] }
	if kind == "devices" {
		device, option, ok := strings.Cut(key, ".")
		if !ok {
			return none, errs.Invalidf("column %q: a device's key is of the form DEVICE.OPTION", spec)
		}
		value = func(in api.InstanceFull) string { return in.ExpandedDevices[device][option] }
	}
	return output.Column[api.InstanceFull]{Name: name, Value: func(in api.InstanceFull) string { return cut(value(in), width) }}, nil
}

func cut(s string, width int) string {
	if r := []rune(s); width >= 0 && len(r) > width {
		return string(r[:width])
	}
	return s
}
