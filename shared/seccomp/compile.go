package seccomp

import (
	"bytes"
	"encoding/binary"
	"maps"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

const hostArch = runtime.GOARCH

// machines are the abis of what programs run on, with what the kernel calls
// them; the machine's own is first.
var machines = map[string][]struct {
	abi   abi
	audit uint32
}{
	"amd64": {{amd64, unix.AUDIT_ARCH_X86_64}, {i386, unix.AUDIT_ARCH_I386}},
	"arm64": {{arm64, unix.AUDIT_ARCH_AARCH64}, {arm, unix.AUDIT_ARCH_ARM}},
}

// Programs are a profile's programs, as the kernel takes them: arrays of
// struct sock_filter. A process loads Notify first, if there is one, and
// hands on the descriptor that tells of calls; then Main. So it can still do
// the former if the profile does not let it.
type Programs struct {
	Main, Notify []byte
}

// The kernel takes programs of as many instructions.
const maxInstructions = 4096

// compile makes the programs of a profile on a machine.
func compile(p profile, goarch string, compat Compat) (Programs, error) {
	if machines[goarch] == nil {
		return Programs{}, errs.Newf(errs.Unsupported, "system calls cannot be filtered on %s", goarch)
	}
	var out Programs
	if slices.ContainsFunc(p.rules, func(r rule) bool { return r.action == notify }) {
		out.Notify = bytesOf(program(onlyNotify(p), goarch, AllowCompat))
	}
	for i := range p.rules {
		if p.rules[i].action == notify {
			p.rules[i].action = allow
		}
	}
	out.Main = bytesOf(program(p, goarch, compat))
	if most := max(len(out.Main), len(out.Notify)) / binary.Size(unix.SockFilter{}); most > maxInstructions {
		return Programs{}, errs.Invalidf("the profile is too long for the kernel: got %d instructions, want at most %d", most, maxInstructions)
	}
	return out, nil
}

// onlyNotify keeps the rules of calls that somebody is told of.
func onlyNotify(p profile) profile {
	told := map[string]bool{}
	for _, r := range p.rules {
		told[r.call] = told[r.call] || r.action == notify
	}
	out := profile{unruled: allow}
	for _, r := range p.rules {
		if told[r.call] && r.call != "" {
			if r.action != notify {
				r.action = allow
			}
			out.rules = append(out.rules, r)
		}
	}
	return out
}

// Offsets in struct seccomp_data, on machines whose lower halves come first.
const (
	offsetCall = 0
	offsetArch = 4
	offsetArgs = 16

	x32Bit = 0x40000000
)

func program(p profile, goarch string, compat Compat) []unix.SockFilter {
	out := []unix.SockFilter{load(offsetArch)}
	for i, m := range machines[goarch] {
		var body []unix.SockFilter
		switch {
		case i > 0 && compat == DenyCompat:
			body = []unix.SockFilter{ret(errno | action(unix.ENOSYS))}
		case m.abi == amd64:
			other := []unix.SockFilter{ret(errno | action(unix.ENOSYS))}
			if compat == AllowCompat {
				other = slices.Concat([]unix.SockFilter{load(offsetCall), alu(unix.BPF_AND, ^uint32(x32Bit))}, rulesOf(p, x32))
			}
			body = slices.Concat([]unix.SockFilter{load(offsetCall)}, unless(unix.BPF_JSET, x32Bit, other), rulesOf(p, amd64))
		default:
			body = append([]unix.SockFilter{load(offsetCall)}, rulesOf(p, m.abi)...)
		}
		out = append(out, unless(unix.BPF_JEQ, m.audit, body)...)
	}
	return append(out, ret(p.unruled))
}

// unless is a body that is left out if a test of the accumulator fails.
func unless(test uint16, k uint32, body []unix.SockFilter) []unix.SockFilter {
	const longest = 255
	if len(body) <= longest {
		return append([]unix.SockFilter{jump(test, k, 0, len(body))}, body...)
	}
	far := unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(body))} //nolint:gosec // It is a length.
	return append([]unix.SockFilter{jump(test, k, 1, 0), far}, body...)
}

// rulesOf are the rules for an abi, with the call in the accumulator. They
// end with a verdict.
func rulesOf(p profile, a abi) []unix.SockFilter {
	by := map[int][]rule{}
	for _, r := range p.rules {
		n := r.number
		if n == noCall {
			n = calls()[r.call][a]
		}
		if n != noCall {
			by[n] = append(by[n], r)
		}
	}
	var out []unix.SockFilter
	numbers := slices.Sorted(maps.Keys(by))
	for i := 0; i < len(numbers); i++ {
		first := numbers[i]
		verdict, plain := always(by[first])
		if !plain {
			out = append(out, unless(unix.BPF_JEQ, uint32(first), conditional(by[first], p.unruled))...) //nolint:gosec // It is a call.
			continue
		}
		last := first
		for ; i+1 < len(numbers) && numbers[i+1] == last+1; i++ { // Neighbours that are treated alike.
			if next, plain := always(by[last+1]); !plain || next != verdict {
				break
			}
			last++
		}
		out = append(out, within(first, last, verdict)...)
	}
	return append(out, ret(p.unruled))
}

// always returns the verdict on a call if it does not depend on arguments: a
// rule without comparisons that denies it holds whatever others say, and else
// they come first. Of several without the last holds.
func always(rules []rule) (verdict action, plain bool) {
	compares, denies := false, false
	for _, r := range rules {
		forbids := r.action != allow && r.action != notify
		switch {
		case len(r.when) > 0:
			compares = true
		case forbids || !denies:
			verdict, denies = r.action, forbids
		}
	}
	return verdict, denies || !compares
}

func within(first, last int, verdict action) []unix.SockFilter {
	if first == last {
		return unless(unix.BPF_JEQ, uint32(first), []unix.SockFilter{ret(verdict)}) //nolint:gosec // It is a call.
	}
	return []unix.SockFilter{
		jump(unix.BPF_JGE, uint32(first), 0, 2), //nolint:gosec // It is a call.
		jump(unix.BPF_JGT, uint32(last), 1, 0),  //nolint:gosec // It is a call.
		ret(verdict),
	}
}

// conditional are the rules of one call: those that compare arguments first,
// in their order.
func conditional(rules []rule, unruled action) []unix.SockFilter {
	var out []unix.SockFilter
	rest := unruled
	for _, r := range rules {
		if len(r.when) == 0 {
			rest = r.action
			continue
		}
		out = append(out, compared(r)...)
	}
	return append(out, ret(rest))
}

// Where jumps of comparisons lead until all lengths are known.
const (
	toPass = -1
	toFail = -2
)

// step is an instruction of a comparison; a jump whose targets are counted
// from the next one, or toPass or toFail.
type step struct {
	unix.SockFilter
	yes, no int
}

// compared is the verdict of a rule behind its comparisons.
func compared(r rule) []unix.SockFilter {
	var all [][]step
	length := 0
	for _, c := range r.when {
		s := steps(c)
		all = append(all, s)
		length += len(s)
	}
	var out []unix.SockFilter
	for _, s := range all {
		end := len(out) + len(s)
		for _, one := range s {
			at := len(out) + 1
			target := func(t int) int {
				switch t {
				case toPass:
					return end - at
				case toFail:
					return length + 1 - at // Behind the verdict.
				}
				return t
			}
			if one.Code&7 == unix.BPF_JMP {
				one.Jt, one.Jf = uint8(target(one.yes)), uint8(target(one.no)) //nolint:gosec // Six comparisons are short.
			}
			out = append(out, one.SockFilter)
		}
	}
	return append(out, ret(r.action))
}

// steps compare an argument: first its upper half, then the lower one.
func steps(c comparison) []step {
	low, high := uint32(c.value), uint32(c.value>>32) //nolint:gosec // Halves.
	at := uint32(offsetArgs + 8*c.arg)                //nolint:gosec // There are six.
	upper, lower := step{SockFilter: load(at + 4)}, step{SockFilter: load(at)}
	test := func(op uint16, k uint32, yes, no int) step {
		return step{unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, K: k}, yes, no}
	}
	switch c.op {
	case "==":
		return []step{upper, test(unix.BPF_JEQ, high, 0, toFail), lower, test(unix.BPF_JEQ, low, 0, toFail)}
	case "!=":
		return []step{upper, test(unix.BPF_JEQ, high, 0, toPass), lower, test(unix.BPF_JEQ, low, toFail, toPass)}
	case "&=":
		mask := func(m uint32) step { return step{SockFilter: alu(unix.BPF_AND, m)} }
		return []step{
			upper, mask(uint32(c.mask >> 32)), test(unix.BPF_JEQ, high, 0, toFail), //nolint:gosec // A half.
			lower, mask(uint32(c.mask)), test(unix.BPF_JEQ, low, 0, toFail), //nolint:gosec // A half.
		}
	}
	op, greater, less := uint16(unix.BPF_JGE), toPass, toFail
	if c.op == ">" || c.op == "<=" {
		op = unix.BPF_JGT
	}
	if c.op == "<" || c.op == "<=" {
		greater, less = toFail, toPass
	}
	return []step{
		upper, test(unix.BPF_JGT, high, greater, 0), test(unix.BPF_JEQ, high, 0, less),
		lower, test(op, low, greater, less),
	}
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func alu(op uint16, k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_ALU | op | unix.BPF_K, K: k}
}

func ret(a action) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(a)}
}

func jump(test uint16, k uint32, yes, no int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jt: uint8(yes), Jf: uint8(no), K: k} //nolint:gosec // Callers see to it.
}

func bytesOf(p []unix.SockFilter) []byte {
	var b bytes.Buffer
	for _, i := range p {
		_ = binary.Write(&b, binary.NativeEndian, i) // Writing to memory does not fail.
	}
	return b.Bytes()
}
