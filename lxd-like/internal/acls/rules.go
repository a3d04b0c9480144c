package acls

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// checkName reports what is wrong with the name of an ACL or an address set,
// which rules name besides addresses.
func checkName(what, name string) error {
	ok := name != "" && len(name) <= 63
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		ok = ok && (letter || i > 0 && (r >= '0' && r <= '9' || strings.ContainsRune("-_.", r)))
	}
	if !ok {
		return errs.Invalidf(`%s name: got %q, want 1 to 63 letters, digits, and "-", "_", ".", with a letter first`, what, name)
	}
	return nil
}

var (
	actions   = []string{acl.Allow, acl.AllowStateless, acl.Reject, acl.Drop}
	states    = []string{acl.Enabled, acl.Disabled, acl.Logged}
	protocols = []string{acl.TCP, acl.UDP, acl.ICMP4, acl.ICMP6}
)

// rules returns what the rules of an ACL mean, those of ingress and then those
// of egress, without those that are disabled. In is the network in which names
// as @internal are meant. Defaults of put are filled in.
func (w *world) rules(name string, put *api.NetworkACLPut, in *place) ([]acl.Rule, error) {
	var all []acl.Rule
	for _, d := range []struct {
		direction string
		list      []api.NetworkACLRule
	}{{acl.Ingress, put.Ingress}, {acl.Egress, put.Egress}} {
		for i := range d.list {
			r, err := w.rule(project.Of(name), &d.list[i], in)
			if err != nil {
				return nil, errs.Invalidf("rule %d of %s: %w", i, d.direction, err)
			}
			for j := range d.list[:i] {
				if same(d.list[i], d.list[j]) {
					return nil, errs.Invalidf("rule %d of %s: it is the same as rule %d", i, d.direction, j)
				}
			}
			if d.list[i].State == acl.Disabled {
				continue
			}
			r.ACL, r.Direction, r.Index = name, d.direction, i
			all = append(all, r)
		}
	}
	return all, nil
}

// same reports whether rules differ in nothing but their descriptions.
func same(a, b api.NetworkACLRule) bool {
	a.Description, b.Description = "", ""
	return a == b
}

// rule checks one rule of an ACL of a project, and returns what it means.
func (w *world) rule(of string, r *api.NetworkACLRule, in *place) (out acl.Rule, err error) {
	if r.State == "" {
		r.State = acl.Enabled
	}
	for _, f := range []struct {
		field, value string
		allowed      []string
		optional     bool
	}{{"action", r.Action, actions, false}, {"state", r.State, states, false}, {"protocol", r.Protocol, protocols, true}} {
		if !slices.Contains(f.allowed, f.value) && (f.value != "" || !f.optional) {
			return out, errs.Invalidf("%s: got %q, want one of %s", f.field, f.value, strings.Join(f.allowed, ", "))
		}
	}
	out = acl.Rule{Action: r.Action, Logged: r.State == acl.Logged, Protocol: r.Protocol}
	if out.Source, err = w.side(of, "source", r.Source, in); err != nil {
		return out, err
	}
	if out.Destination, err = w.side(of, "destination", r.Destination, in); err != nil {
		return out, err
	}
	if err := checkFamilies(r.Protocol, out.Source, out.Destination); err != nil {
		return out, err
	}
	return out, transport(r, &out)
}

// checkFamilies refuses rules that no packet can be about.
func checkFamilies(protocol string, sides ...acl.Side) error {
	possible := map[bool]bool{false: protocol != acl.ICMP6, true: protocol != acl.ICMP4}
	for _, s := range sides {
		if s.All || len(s.Names) > 0 {
			continue
		}
		for _, six := range []bool{false, true} {
			possible[six] = possible[six] && len(acl.Merge(s.Addresses, six)) > 0
		}
	}
	if !possible[false] && !possible[true] {
		return errs.Invalidf("source, destination and protocol: want addresses of one family (IPv4 or IPv6), as no packet has both")
	}
	return nil
}

// transport checks ports, type and code.
func transport(r *api.NetworkACLRule, out *acl.Rule) (err error) {
	ports := r.Protocol == acl.TCP || r.Protocol == acl.UDP
	icmp := r.Protocol == acl.ICMP4 || r.Protocol == acl.ICMP6
	for _, f := range []struct {
		field, value string
		allowed      bool
		protocols    string
	}{
		{"source_port", r.SourcePort, ports, "tcp or udp"},
		{"destination_port", r.DestinationPort, ports, "tcp or udp"},
		{"icmp_type", r.ICMPType, icmp, "icmp4 or icmp6"},
		{"icmp_code", r.ICMPCode, icmp, "icmp4 or icmp6"},
	} {
		if f.value != "" && !f.allowed {
			return errs.Invalidf("%s: got %q, but the rule's protocol is %q: want protocol %s with it", f.field, f.value, r.Protocol, f.protocols)
		}
	}
	if out.SourcePorts, err = parsePorts("source_port", r.SourcePort); err != nil {
		return err
	}
	if out.DestinationPorts, err = parsePorts("destination_port", r.DestinationPort); err != nil {
		return err
	}
	if out.ICMPType, err = parseByte("icmp_type", r.ICMPType); err != nil {
		return err
	}
	out.ICMPCode, err = parseByte("icmp_code", r.ICMPCode)
	return err
}

func parsePorts(field, v string) ([]acl.Ports, error) {
	if v == "" {
		return nil, nil
	}
	var all []acl.Ports
	for s := range strings.SplitSeq(v, ",") {
		first, last, both := strings.Cut(strings.TrimSpace(s), "-")
		if !both {
			last = first
		}
		a, err1 := strconv.ParseUint(first, 10, 16)
		b, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || b < a || a == 0 {
			return nil, errs.Invalidf("%s: got %q, want ports from 1 to 65535 and ranges FIRST-LAST, with commas between them", field, strings.TrimSpace(s))
		}
		all = append(all, acl.Ports{First: uint16(a), Last: uint16(b)})
	}
	return all, nil
}

func parseByte(field, v string) (int, error) {
	if v == "" {
		return -1, nil
	}
	n, err := strconv.ParseUint(v, 10, 8)
	if err != nil {
		return 0, errs.Invalidf("%s: got %q, want a number from 0 to 255", field, v)
	}
	return int(n), nil
}

// The names that subjects have within a book: what kind it is, and its name.
const (
	bookACL      = "acl/"
	bookNetwork  = "network/"
	bookInstance = "instance/"
	bookSet      = "set/"
)

const wantSubjects = `addresses, networks such as 10.1.2.0/24, ranges FIRST-LAST, $SET, @internal, @external, and names of ACLs, networks and instances of the project (from the default project also PROJECT/INSTANCE), with commas between them`

// side reads who a rule of a project is about.
func (w *world) side(of, field, v string, in *place) (acl.Side, error) {
	if v == "" {
		return acl.Side{All: true}, nil
	}
	var out acl.Side
	for s := range strings.SplitSeq(v, ",") {
		s = strings.TrimSpace(s)
		if r, err := parseRange(s); err == nil {
			out.Addresses = append(out.Addresses, r)
			continue
		}
		switch s {
		case "@internal", "#internal":
			out.Addresses = append(out.Addresses, in.internal()...)
			continue
		case "@external", "#external":
			out.Addresses = append(out.Addresses, in.external()...)
			continue
		}
		name, err := w.subject(of, s)
		if err != nil {
			return out, errs.Invalidf("%s: %w", field, err)
		}
		out.Names = append(out.Names, name)
	}
	return out, nil
}

// subject returns the name within a book for one that a rule of a project has.
func (w *world) subject(of, s string) (string, error) {
	if name, ok := strings.CutPrefix(s, "$"); ok {
		key := keyOf(of, bookSet, name)
		if _, ok := w.sets[key]; !ok && !w.had[s] {
			return "", errs.Invalidf("got %q, but there is no network address set %q", s, name)
		}
		return bookSet + key, nil
	}
	for _, prefix := range []string{bookACL, bookNetwork, bookInstance} {
		if name, ok := strings.CutPrefix(s, prefix); ok {
			key := keyOf(of, prefix, name)
			if !w.has(prefix, key) && !w.had[s] {
				return "", errs.Invalidf("got %q, but there is no %s %q", s, strings.TrimSuffix(prefix, "/"), name)
			}
			return prefix + key, nil
		}
	}
	var found, keys []string
	for _, prefix := range []string{bookACL, bookNetwork, bookInstance} {
		if key := keyOf(of, prefix, s); w.has(prefix, key) {
			found, keys = append(found, prefix+s), append(keys, prefix+key)
		}
	}
	switch {
	case len(found) == 1, len(found) > 1 && w.had[s]:
		return keys[0], nil
	case len(found) > 1:
		return "", errs.Invalidf("got %q, which are several: want one of %s", s, strings.Join(found, ", "))
	case w.had[s]:
		return bookInstance + keyOf(of, bookInstance, s), nil // It was there when the rule was made.
	}
	return "", errs.Invalidf("got %q, want %s", s, wantSubjects)
}
