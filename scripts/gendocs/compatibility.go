package main

import (
	_ "embed" // For the list of the peers' names.
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cuib/cuib/profiles"
)

// peers has the keys and devices of LXD and Incus, one a line: a key, or a type
// of device with nothing, an option, or option=value.
//
//go:embed peers.txt
var peers string

// A status says what became of something that the peers have.
type status struct {
	served bool
	differ string // How, if it is served and differs.
	why    string // If it is refused.
}

// compatibility writes which of the peers' keys and devices are served.
func compatibility(w io.Writer) {
	all := strings.Split(strings.TrimSpace(peers), "\n")
	have, known := haves(), map[string]bool{}
	var served, differ, absent []string
	reasons, why := []string{}, map[string][]string{}
	for _, n := range all {
		known[n] = true
		switch s := lookup(have, n); {
		case s.differ != "":
			differ = append(differ, n)
		case s.served:
			served = append(served, n)
		case s.why != "":
			if why[s.why] == nil {
				reasons = append(reasons, s.why)
			}
			why[s.why] = append(why[s.why], n)
		default:
			absent = append(absent, n)
		}
	}
	fmt.Fprint(w, compatibilityHead)
	fmt.Fprintf(w, "\n## Served as they are there\n\n%s.\n", codes(served))
	if len(differ) > 0 {
		fmt.Fprint(w, "\n## Served with a difference\n\n| key or device | difference |\n|---|---|\n")
		for _, n := range differ {
			row(w, code(n), have[n].differ)
		}
	}
	fmt.Fprint(w, "\n## Refused\n\nSetting one fails with the reason.\n\n| reason | key or device |\n|---|---|\n")
	for _, r := range reasons {
		row(w, r, codes(why[r]))
	}
	if len(absent) > 0 {
		fmt.Fprintf(w, "\n## Not there yet\n\nSetting one fails as that of an unknown key.\n\n%s.\n", codes(absent))
	}
	var own []string
	for n := range have {
		if !known[n] && have[n].served && !covered(known, n) {
			own = append(own, n)
		}
	}
	slices.Sort(own)
	fmt.Fprintf(w, "\n## Beyond them\n\n%s.\n", codes(own))
}

const compatibilityHead = `# Keys and devices of LXD and Incus

This page is made by ` + "`make gen`" + ` from the tables and refusals in ` + "`profiles`" + `, held against a list of what LXD and Incus have for instances, profiles and their devices; change those instead. A name of two words is a type of device and an option of it.

What each key and option does is in [config-keys.md](config-keys.md).

## Requests

| in a request | what becomes of it |
|---|---|
| a field of a JSON body that is not known, such as one of a newer client | ignored, as LXD and Incus do |
| a field of a wrong type, or a body that is empty or no JSON | refused: status 400 names the field, or where in the body |
| a key of config or an option of a device that is not known | refused: status 400 names it and the allowed ones |
| a field that is known and cannot be had: ` + "`stateful`" + `, ` + "`instance_type`" + `, ` + "`type`" + ` other than container, ` + "`target`" + ` in the query | refused with the reason if it asks for something; false, empty and default pass |
| a field that the server answers and does not take (` + "`status`, `created_at`, `expanded_config`, `used_by`" + `) | ignored, so that what GET gave can be sent back by PUT |
| a query parameter that is not known | ignored |
| ` + "`If-Match`" + ` with an ETag that is not the object's | refused: status 412; if it is changed between the answer and the operation, the operation fails with the code 412 |
`

// haves returns what the tables have, by the names of peers.txt.
func haves() map[string]status {
	have := map[string]status{}
	for _, k := range profiles.Keys() {
		have[k.Name] = status{served: true, differ: k.Differs}
	}
	for _, t := range profiles.DeviceTypes() {
		have[t.Name] = status{served: true}
		for _, o := range t.Options {
			have[t.Name+" "+o.Name] = status{served: true, differ: o.Differs}
		}
	}
	return have
}

func lookup(have map[string]status, name string) status {
	if s, ok := have[name]; ok {
		return s
	}
	device, option, isDevice := strings.Cut(name, " ")
	option, value, _ := strings.Cut(option, "=")
	for _, r := range profiles.Refusals() {
		of := r.Device == device && isDevice && r.Of(option)
		switch {
		case r.Device == "" && r.Value == "" && r.Of(name), // A key.
			r.Device == device && r.Name == "", // A whole type.
			of && r.Value == "",                // An option.
			of && r.Value == value:             // A value of one.
			return status{why: r.Why}
		}
	}
	if isDevice {
		return allowed(device, option, value)
	}
	k, ok := profiles.Lookup(name)
	return status{served: ok && !strings.Contains(name, "*"), differ: k.Differs}
}

// allowed looks for a value of an option among those that are allowed.
func allowed(device, option, value string) status {
	for _, t := range profiles.DeviceTypes() {
		for _, o := range t.Options {
			if value != "" && t.Name == device && o.Name == option && o.Check(strings.TrimSuffix(value, "*")) == nil {
				return status{served: true}
			}
		}
	}
	return status{}
}

// covered reports whether one of the peers' patterns has a name.
func covered(known map[string]bool, name string) bool {
	for p := range known {
		if p != "image.*" && p != "user.*" && strings.Contains(p, "*") && (profiles.Refusal{Name: p}).Of(name) {
			return true
		}
	}
	return false
}

func codes(names []string) string {
	var all []string
	for _, n := range names {
		all = append(all, code(n))
	}
	return strings.Join(all, ", ")
}
