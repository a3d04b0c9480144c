package devices

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/networks/nic"
	"github.com/cuib/cuib/shared/errs"
)

// Changes lead from one set of plans to another: devices by name, in order.
type Changes struct {
	Remove []string // What is below something else first.
	Add    []string // What something else is below first.
	Change []string // NICs that become others without going.
	Hosts  []string // NICs that stay, also those that change, and are known otherwise to their networks.
}

// Diff says what to do with a container that has some devices, so that it has
// others: a device that changed goes and comes back. It refuses to touch a
// mount while another one below it stays, as that would go with it or be
// hidden.
func Diff(have, want map[string]Plan) (Changes, error) {
	var c Changes
	var stay []string
	for name, p := range have {
		if n, kept := want[name]; kept && (same(p, n) || becomes(p, n)) {
			stay = append(stay, name)
		} else {
			c.Remove = append(c.Remove, name)
		}
	}
	for name, p := range want {
		o, had := have[name]
		switch {
		case !had || !same(o, p) && !becomes(o, p):
			c.Add = append(c.Add, name)
			continue
		case !same(o, p):
			c.Change = append(c.Change, name)
		}
		if !slices.Equal(o.Hosts, p.Hosts) {
			c.Hosts = append(c.Hosts, name)
		}
	}
	slices.SortFunc(c.Remove, func(a, b string) int { return -byTarget(have, a, b) })
	slices.SortFunc(c.Add, func(a, b string) int { return byTarget(want, a, b) })
	slices.Sort(c.Change)
	slices.Sort(c.Hosts)
	slices.Sort(stay)
	for _, name := range c.Remove {
		if err := mayChange(name, have[name], stay, have); err != nil {
			return Changes{}, err
		}
	}
	for _, name := range c.Add {
		if err := mayChange(name, want[name], stay, have); err != nil {
			return Changes{}, err
		}
	}
	return c, nil
}

// mayChange reports why a device cannot come or go while the instance runs.
func mayChange(name string, p Plan, stay []string, plans map[string]Plan) error {
	if slices.ContainsFunc(p.NICs, func(n runtime.NIC) bool { return n.Kind == nic.Shared }) {
		return errs.Conflictf("device %q: whether an instance is in the host's network (nictype host) cannot change while it runs: stop it first", name)
	}
	return alone(name, p, stay, plans)
}

// alone reports devices that stay below the mounts of p.
func alone(name string, p Plan, stay []string, plans map[string]Plan) error {
	for _, m := range p.Mounts {
		for _, s := range stay {
			if t := plans[s].target(); strings.HasPrefix(t, m.Target+"/") {
				return errs.Conflictf("device %q: %s cannot change while the instance runs, as %s of device %q is below it", name, m.Target, t, s)
			}
		}
	}
	return nil
}

func byTarget(plans map[string]Plan, a, b string) int {
	return cmp.Or(cmp.Compare(plans[a].target(), plans[b].target()), cmp.Compare(a, b))
}

// target is where inside the device is; empty for a NIC.
func (p Plan) target() string {
	for _, m := range p.Mounts {
		return m.Target
	}
	for _, n := range p.Nodes {
		return n.Path
	}
	return ""
}

// same reports whether two plans are the same to the container.
func same(a, b Plan) bool {
	return a.Volume == b.Volume && a.Proxy == b.Proxy && a.TPM == b.TPM && slices.Equal(a.Mounts, b.Mounts) && slices.Equal(a.Nodes, b.Nodes) && reflect.DeepEqual(a.NICs, b.NICs)
}

// becomes reports whether a NIC can become another while it is used.
func becomes(a, b Plan) bool {
	if len(a.NICs) != 1 || len(b.NICs) != 1 {
		return false
	}
	n, to := a.NICs[0], b.NICs[0]
	a.NICs, b.NICs = nil, nil
	return same(a, b) && n.Live(to)
}
