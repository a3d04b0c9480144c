// Package seccomp reads profiles in liblxc's language and makes programs of
// them, by which the kernel decides which system calls a process may make.
//
// The language is that of lxc.container.conf(5), lxc.seccomp.profile: a line
// with the version, one with the style and the action for what no rule is for,
// and then a rule in each line.
package seccomp

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// An action is what the kernel does about a call, as seccomp(2) has it.
type action uint32

const (
	kill   action = 0x00000000 // The thread.
	trap   action = 0x00030000
	errno  action = 0x00050000
	notify action = 0x7fc00000
	allow  action = 0x7fff0000
)

// A comparison is one of an argument with a value. All of 64 bits count.
type comparison struct {
	arg         int
	op          string // As operators has them.
	value, mask uint64
}

// A rule says what is done about a call whose arguments compare.
type rule struct {
	call   string
	number int // In version 1, which has no names; else noCall.
	action action
	when   []comparison
}

// A profile is what a process may do.
type profile struct {
	unruled action
	rules   []rule
}

// operators are the names of comparisons, by their short forms.
var operators = map[string]string{
	"SCMP_CMP_NE": "!=", "SCMP_CMP_LT": "<", "SCMP_CMP_LE": "<=", "SCMP_CMP_EQ": "==",
	"SCMP_CMP_GE": ">=", "SCMP_CMP_GT": ">", "SCMP_CMP_MASKED_EQ": "&=",
}

// Check reports what is wrong with a profile.
func Check(text string) error {
	_, err := parse(text)
	return err
}

// CheckRules reports what is wrong with lines of rules of the profile's second
// version.
func CheckRules(lines string) error {
	_, err := parseRules(lines, kill, 1)
	return err
}

func parse(text string) (profile, error) {
	version, rest, _ := strings.Cut(text, "\n")
	head, rest, _ := strings.Cut(rest, "\n")
	style, def, _ := strings.Cut(strings.TrimSpace(head), " ")
	denies := style == "denylist" || style == "blacklist"
	if !denies && style != "allowlist" && style != "whitelist" {
		return profile{}, errs.Invalidf("line 2: got %q, want allowlist or denylist, and perhaps an action", head)
	}
	p, first := profile{unruled: kill}, allow
	if denies {
		p.unruled, first = allow, kill
	}
	if def = strings.TrimSpace(def); def != "" {
		var err error
		if p.unruled, err = parseAction(def); err != nil {
			return profile{}, errs.Invalidf("line 2: %w", err)
		}
	}
	if p.unruled == notify {
		return profile{}, errs.Invalidf("line 2: notify is for single system calls, want allow, kill, trap or errno")
	}
	const before = 3 // The number of the third line.
	var err error
	switch strings.TrimSpace(version) {
	case "1":
		if denies {
			return profile{}, errs.Invalidf("line 2: version 1 has an allowlist only")
		}
		p.rules, err = parseNumbers(rest, before)
	case "2":
		p.rules, err = parseRules(rest, first, before)
	default:
		err = errs.Invalidf("line 1: got %q, want the version, 1 or 2", version)
	}
	return p, err
}

func parseNumbers(text string, line int) ([]rule, error) {
	var rules []rule
	for s := range strings.Lines(text) {
		s = strings.TrimSpace(s)
		if s != "" {
			n, err := strconv.ParseUint(s, 10, 16)
			if err != nil {
				return nil, errs.Invalidf("line %d: got %q, want a system call's number", line, s)
			}
			rules = append(rules, rule{number: int(n), action: allow})
		}
		line++
	}
	return rules, nil
}

// sections are what liblxc knows of machines. Their rules are for all that the
// machine can run, whatever section they are in, if it is one of the machine's.
var sections = map[string][]string{
	"amd64": {"all", "x86", "x32", "x86_64"},
	"arm64": {"all", "arm", "arm64"},
	"":      {"ppc", "ppc64", "ppc64le", "mips", "mips64", "mips64n32", "mipsel", "mipsel64", "mipsel64n32", "s390", "s390x"},
}

func parseRules(text string, first action, line int) ([]rule, error) {
	var rules []rule
	ours := true
	for s := range strings.Lines(text) {
		s, _, _ = strings.Cut(strings.TrimSpace(s), "#")
		s = strings.TrimSpace(s)
		switch {
		case s == "":
		case s[0] == '[':
			name := strings.ToLower(strings.Trim(s, "[] "))
			var known bool
			if ours, known = isSection(name); !known {
				return nil, errs.Invalidf("line %d: %q is no architecture, want one such as [all] or [x86_64]", line, s)
			}
		case ours:
			r, err := parseRule(s, first)
			if err != nil {
				return nil, errs.Invalidf("line %d: %w", line, err)
			}
			rules = append(rules, r)
		}
		line++
	}
	return rules, nil
}

func isSection(name string) (ours, known bool) {
	for machine, names := range sections {
		known = known || slices.Contains(names, name)
		ours = ours || machine == hostArch && slices.Contains(names, name)
	}
	return ours, known
}

// forceUmount is a rule of its own: the flags of umount2 are compared.
const forceUmount = "reject_force_umount"

func parseRule(s string, def action) (rule, error) {
	name, rest, _ := strings.Cut(s, " ")
	if name == forceUmount {
		return rule{
			call: "umount2", number: noCall, action: errno | action(unix.EACCES),
			when: []comparison{{arg: 1, op: "&=", value: unix.MNT_FORCE, mask: unix.MNT_FORCE}},
		}, nil
	}
	if _, ok := calls()[name]; !ok {
		return rule{}, errs.Invalidf("%q is no system call that is known", name)
	}
	r := rule{call: name, number: noCall, action: def}
	act, args, compares := strings.Cut(rest, "[")
	if act = strings.TrimSpace(act); act != "" {
		var err error
		if r.action, err = parseAction(act); err != nil {
			return rule{}, err
		}
	}
	if !compares {
		return r, nil
	}
	for part := range strings.SplitSeq("["+args, "]") {
		part = strings.Trim(strings.TrimSpace(part), ", ")
		if part == "" {
			continue
		}
		c, err := parseComparison(part)
		if err != nil {
			return rule{}, err
		}
		r.when = append(r.when, c)
	}
	if len(r.when) > maxArgs {
		return rule{}, errs.Invalidf("got %d comparisons, want at most %d", len(r.when), maxArgs)
	}
	return r, nil
}

// maxArgs is how many arguments a call has at most.
const maxArgs = 6

// maxErrno is the highest number that the kernel returns as an error.
const maxErrno = 4095

func parseAction(s string) (action, error) {
	name, value, _ := strings.Cut(s, " ")
	plain := map[string]action{"kill": kill, "trap": trap, "allow": allow, "notify": notify}
	if a, ok := plain[name]; ok && value == "" {
		return a, nil
	}
	n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
	if name != "errno" || err != nil || n > maxErrno {
		return 0, errs.Invalidf("%q is no action, want kill, trap, allow, notify or errno with a number up to %d", s, maxErrno)
	}
	return errno | action(n), nil
}

// parseComparison reads [ARG,VALUE,OPERATOR] or [ARG,VALUE,OPERATOR,MASK].
func parseComparison(s string) (comparison, error) {
	bad := errs.Invalidf("%q is no comparison, want one such as [0,1,SCMP_CMP_EQ]", s)
	inner, ok := strings.CutPrefix(s, "[")
	fields := strings.Split(inner, ",")
	if !ok || len(fields) < 3 || len(fields) > 4 {
		return comparison{}, bad
	}
	for i := range fields {
		fields[i] = strings.TrimSpace(fields[i])
	}
	var c comparison
	arg, err1 := strconv.ParseUint(fields[0], 0, 8)
	value, err2 := strconv.ParseUint(fields[1], 0, 64)
	c.arg, c.value, c.op = int(arg), value, fields[2]
	if long, ok := operators[c.op]; ok {
		c.op = long
	}
	known := false
	for _, op := range operators {
		known = known || op == c.op
	}
	if err1 != nil || err2 != nil || arg >= maxArgs || !known {
		return comparison{}, bad
	}
	if len(fields) == 4 {
		var err error
		if c.mask, err = strconv.ParseUint(fields[3], 0, 64); err != nil {
			return comparison{}, bad
		}
	}
	return c, nil
}
