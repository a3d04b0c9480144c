package seccomp_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/seccomp"
)

// What the kernel makes of a call, by its own names.
const (
	killed   = 0x00000000
	trapped  = 0x00030000
	failed   = 0x00050000
	told     = 0x7fc00000
	allowed  = 0x7fff0000
	x32Call  = 0x40000000
	anything = 1 << 40
)

// call is what a process asks of the kernel.
type call struct {
	arch uint32
	nr   uint32
	args [6]uint64
}

// verdict runs a program as the kernel does.
func verdict(t *testing.T, program []byte, c call) uint32 {
	t.Helper()
	data := make([]byte, 64)
	binary.NativeEndian.PutUint32(data, c.nr)
	binary.NativeEndian.PutUint32(data[4:], c.arch)
	for i, a := range c.args {
		binary.NativeEndian.PutUint64(data[16+8*i:], a)
	}
	list := make([]unix.SockFilter, len(program)/8)
	if _, err := binary.Decode(program, binary.NativeEndian, list); err != nil {
		t.Fatal(err)
	}
	var acc uint32
	for pc := 0; pc < len(list); pc++ {
		i := list[pc]
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = binary.NativeEndian.Uint32(data[i.K:])
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= i.K
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
		default:
			yes := map[uint16]bool{unix.BPF_JEQ: acc == i.K, unix.BPF_JGT: acc > i.K, unix.BPF_JGE: acc >= i.K, unix.BPF_JSET: acc&i.K != 0}
			if yes[i.Code&0xf0] {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
		}
	}
	t.Fatal("the program has no end")
	return 0
}

// strictest is what the kernel makes of both programs.
func strictest(t *testing.T, p seccomp.Programs, c call) uint32 {
	t.Helper()
	v := verdict(t, p.Main, c)
	if len(p.Notify) == 0 {
		return v
	}
	return min(v, verdict(t, p.Notify, c))
}

func compile(t *testing.T, p seccomp.Policy) seccomp.Programs {
	t.Helper()
	out, err := p.Compile("amd64")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const (
	native = unix.AUDIT_ARCH_X86_64
	compat = unix.AUDIT_ARCH_I386
)

func TestPolicies(t *testing.T) {
	t.Parallel()
	eperm, enosys := uint32(failed|unix.EPERM), uint32(failed|unix.ENOSYS)
	read, kexec := call{arch: native, nr: 0}, call{arch: native, nr: 246}
	nodeCall := func(mode uint64) call { return call{arch: native, nr: 133, args: [6]uint64{anything, mode, 0x103}} }
	mountCall := func(flags uint64) call { return call{arch: native, nr: 165, args: [6]uint64{0, 0, 0, flags}} }
	tests := map[string]struct {
		policy seccomp.Policy
		want   map[call]uint32
	}{
		"as usual": {seccomp.Policy{}, map[call]uint32{
			read: allowed, kexec: eperm,
			{arch: native, nr: 528 | x32Call}: eperm, {arch: native, nr: 246 | x32Call}: allowed,
			{arch: compat, nr: 283}: eperm, {arch: compat, nr: 3}: allowed,
			{arch: native, nr: 166, args: [6]uint64{0, unix.MNT_FORCE | unix.MNT_DETACH}}: failed | uint32(unix.EACCES),
			{arch: native, nr: 166, args: [6]uint64{0, unix.MNT_DETACH}}:                  allowed,
			{arch: compat, nr: 52, args: [6]uint64{0, unix.MNT_FORCE}}:                    failed | uint32(unix.EACCES),
		}},
		"not as usual": {seccomp.Policy{NoDefault: true}, map[call]uint32{read: allowed, kexec: allowed}},
		"denied":       {seccomp.Policy{Deny: "read errno 5\n# getpid\nkexec_load\nwrite trap"}, map[call]uint32{read: failed | 5, kexec: killed, {arch: native, nr: 1}: trapped, {arch: native, nr: 39}: allowed}},
		"allowed alone": {seccomp.Policy{Allow: "read\nwrite\nclose"}, map[call]uint32{
			read: allowed, kexec: killed, {arch: native, nr: 2}: killed, {arch: native, nr: 3}: allowed, {arch: compat, nr: 3}: allowed, {arch: compat, nr: 5}: killed,
		}},
		"one architecture": {seccomp.Policy{Compat: seccomp.DenyCompat}, map[call]uint32{
			read: allowed, kexec: eperm, {arch: compat, nr: 3}: enosys, {arch: native, nr: x32Call}: enosys,
		}},
		"nodes": {seccomp.Policy{Intercept: []string{"mknod"}}, map[call]uint32{
			nodeCall(unix.S_IFCHR | 0o666): told, nodeCall(unix.S_IFBLK | 0o666): allowed, nodeCall(unix.S_IFIFO): allowed, kexec: eperm,
		}},
		"nodes that are denied": {seccomp.Policy{Intercept: []string{"mknod"}, Deny: "mknod errno 1"}, map[call]uint32{nodeCall(unix.S_IFCHR): eperm}},
		"nodes that are allowed": {seccomp.Policy{Intercept: []string{"mknod"}, Allow: "read"}, map[call]uint32{
			nodeCall(unix.S_IFCHR): told, nodeCall(unix.S_IFIFO): killed, read: allowed, {arch: native, nr: 1}: killed,
		}},
		"nodes among all": {seccomp.Policy{Intercept: []string{"mknod"}, Allow: "mknod"}, map[call]uint32{
			nodeCall(unix.S_IFCHR): told, nodeCall(unix.S_IFIFO): allowed, read: killed,
		}},
		"mounts": {seccomp.Policy{Intercept: []string{"mount"}}, map[call]uint32{
			mountCall(0): told, mountCall(unix.MS_RDONLY | unix.MS_NOSUID): told, mountCall(unix.MS_BIND | unix.MS_REC): allowed,
			mountCall(unix.MS_REMOUNT): allowed, mountCall(unix.MS_SLAVE): allowed, {arch: native, nr: 430}: enosys,
		}},
		"the rest": {seccomp.Policy{Intercept: []string{"setxattr", "bpf", "sched_setscheduler", "sysinfo"}}, map[call]uint32{
			{arch: native, nr: 188, args: [6]uint64{0, 0, 0, 1}}: told, {arch: native, nr: 188, args: [6]uint64{0, 0, 0, 2}}: allowed,
			{arch: native, nr: 321, args: [6]uint64{5}}: told, {arch: native, nr: 321, args: [6]uint64{0}}: allowed,
			{arch: native, nr: 144, args: [6]uint64{0, 1}}: told, {arch: native, nr: 144, args: [6]uint64{0, 2 | 0x40000000}}: told, {arch: native, nr: 144, args: [6]uint64{0, 3}}: allowed,
			{arch: native, nr: 99}: told, {arch: compat, nr: 116}: told,
		}},
		"raw":      {seccomp.Policy{Raw: "2\nallowlist errno 7\n[all]\nread\n", NoDefault: true}, map[call]uint32{read: allowed, kexec: failed | 7}},
		"raw of 1": {seccomp.Policy{Raw: "1\nwhitelist\n0\n1\n"}, map[call]uint32{read: allowed, {arch: native, nr: 2}: killed}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := compile(t, tt.policy)
			for c, want := range tt.want {
				if got := strictest(t, p, c); got != want {
					t.Errorf("%+v: got %#x, want %#x", c, got, want)
				}
			}
		})
	}
}

// Comparisons are of all 64 bits.
func TestComparisons(t *testing.T) {
	t.Parallel()
	values := []uint64{0, 1, 5, 6, 1<<32 - 1, 1 << 32, 1<<32 + 5, 1<<63 + 5, 1<<64 - 1}
	ops := map[string]func(a, b uint64) bool{
		"==": func(a, b uint64) bool { return a == b }, "!=": func(a, b uint64) bool { return a != b },
		"<": func(a, b uint64) bool { return a < b }, "<=": func(a, b uint64) bool { return a <= b },
		">": func(a, b uint64) bool { return a > b }, ">=": func(a, b uint64) bool { return a >= b },
		"&=": func(a, b uint64) bool { return a&b == b },
	}
	for op, holds := range ops {
		for _, b := range values {
			rule := strings.NewReplacer("VALUE", num(b), "OP", op).Replace("read errno 9 [2,VALUE,OP,VALUE]")
			p := compile(t, seccomp.Policy{NoDefault: true, Deny: rule})
			for _, a := range values {
				want := uint32(allowed)
				if holds(a, b) {
					want = failed | 9
				}
				if got := verdict(t, p.Main, call{arch: native, args: [6]uint64{0, 0, a}}); got != want {
					t.Errorf("%d %s %d: got %#x, want %#x", a, op, b, got, want)
				}
			}
		}
	}
}

func num(n uint64) string {
	const digits = "0123456789"
	if n < 10 {
		return digits[n : n+1]
	}
	return num(n/10) + digits[n%10:n%10+1]
}

// A profile with a rule for each call is not too long, also where all calls
// but one compare.
func TestMany(t *testing.T) {
	t.Parallel()
	p := compile(t, seccomp.Policy{Allow: "read [0,3,SCMP_CMP_EQ] [1,4,SCMP_CMP_NE] [2,5,SCMP_CMP_GE]\n" + strings.Repeat("read [0,3,SCMP_CMP_EQ]\n", 60)})
	if got := verdict(t, p.Main, call{arch: native, args: [6]uint64{3}}); got != allowed {
		t.Errorf("got %#x", got)
	}
	_, err := seccomp.Policy{Allow: strings.Repeat("read [0,3,SCMP_CMP_EQ]\n", 900)}.Compile("amd64")
	if !errs.Is(err, errs.Invalid) {
		t.Errorf("too long: %v", err)
	}
}

func TestWrong(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                      "line 2",
		"2":                                     "line 2",
		"3\ndenylist\n":                         "line 1",
		"2\nsomelist\n":                         "line 2",
		"2\ndenylist notify\n":                  "single",
		"2\ndenylist perhaps\n":                 "perhaps",
		"1\ndenylist\n1\n":                      "allowlist only",
		"1\nallowlist\nread\n":                  "line 3",
		"2\ndenylist\n[all]\nno_such\n":         "line 4",
		"2\ndenylist\n[vax]\n":                  "architecture",
		"2\ndenylist\nread errno\n":             "line 3",
		"2\ndenylist\nread errno 4096\n":        "4095",
		"2\ndenylist\nread [6,1,==]\n":          "comparison",
		"2\ndenylist\nread [0,1,~]\n":           "comparison",
		"2\ndenylist\nread [0,x,==]\n":          "comparison",
		"2\ndenylist\nread [0,1,&=,x]\n":        "comparison",
		"2\ndenylist\nread 0,1,==]\n":           "no action",
		"2\ndenylist\nread allow no\n":          "no action",
		"2\ndenylist\nread" + seven("[0,1,==]"): "at most 6",
	} {
		err := seccomp.Check(text)
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	if err := seccomp.CheckRules("read\nno_such"); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Error(err)
	}
	if _, err := (seccomp.Policy{Allow: "read", Deny: "write"}).Compile("amd64"); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
	if _, err := (seccomp.Policy{}).Compile("vax"); !errs.Is(err, errs.Unsupported) {
		t.Error(err)
	}
}

func seven(s string) string { return " " + strings.Repeat(s, 7) }

// What LXD and Incus write as rules is understood.
func TestOthersRules(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"2\nblacklist\nreject_force_umount  # comment\n[all]\nkexec_load errno 38\nopen_by_handle_at errno 38\n",
		"2\ndenylist\n[all]\nmknod notify [1,8192,SCMP_CMP_MASKED_EQ,61440]\nmknodat notify [2,24576,SCMP_CMP_MASKED_EQ,61440]\n",
		"2\nwhitelist kill\n[x86_64]\nread\n[arm]\nwrite\n[ppc]\nwhatever\n",
	} {
		if err := seccomp.Check(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, arch := range []string{"amd64", "arm64"} {
		if _, err := (seccomp.Policy{Intercept: seccomp.Interceptable()}).Compile(arch); err != nil {
			t.Error(err)
		}
	}
}

// FuzzCheck finds no text that makes a program without an end.
func FuzzCheck(f *testing.F) {
	f.Add("2\ndenylist\n[all]\nread errno 1 [0,1,SCMP_CMP_GE] [1,2,!=]\n")
	f.Add("1\nallowlist\n1\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := seccomp.Policy{Raw: text}.Compile("amd64")
		if err != nil || text == "" {
			return
		}
		for _, nr := range []uint32{0, 1, 133, 165, 321} {
			strictest(t, p, call{arch: native, nr: nr, args: [6]uint64{1, 2, 3, 4, 5, 6}})
			strictest(t, p, call{arch: compat, nr: nr})
		}
	})
}
