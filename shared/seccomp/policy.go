package seccomp

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// Compat says what becomes of programs for another architecture that the
// machine can run, as those of 32 bits.
type Compat uint8

// The values of [Compat].
const (
	AllowCompat Compat = iota
	DenyCompat         // The kernel seems to have none of their calls.
)

// A Policy is which system calls an instance may make.
type Policy struct {
	Raw       string // A whole profile; the rest then has no say but for Compat.
	Allow     string // Lines of rules; nothing else is allowed.
	Deny      string // Lines of rules beside the usual ones.
	NoDefault bool   // Without the usual rules.
	Compat    Compat
	Intercept []string // Of what somebody else does for the instance, see [Interceptable].
}

// IsDefault reports whether it is that of instances that ask for nothing else.
func (p Policy) IsDefault() bool {
	return p.Raw == "" && p.Allow == "" && p.Deny == "" && !p.NoDefault && p.Compat == AllowCompat && len(p.Intercept) == 0
}

// usual are denied in all containers: each would, or once did, reach the host
// from inside.
var usual = []string{"kexec_load", "kexec_file_load", "open_by_handle_at", "init_module", "finit_module", "delete_module"}

// newMount is how all kinds of mounts begin that are not made by mount(2). Who
// finds that the kernel lacks it uses that.
var newMount = []string{"fsopen", "fspick", "fsconfig", "fsmount"}

// otherMounts are the flags with which mount(2) mounts no file system.
const otherMounts = unix.MS_REMOUNT | unix.MS_BIND | unix.MS_MOVE | unix.MS_UNBINDABLE | unix.MS_PRIVATE | unix.MS_SLAVE | unix.MS_SHARED

// intercepts are the rules of what can be intercepted. They leave out what is
// of no interest: each call that is told of takes much longer.
var intercepts = map[string][]string{
	"mknod": {
		fmt.Sprintf("mknod notify [1,%d,SCMP_CMP_MASKED_EQ,%d]", unix.S_IFCHR, unix.S_IFMT),
		fmt.Sprintf("mknodat notify [2,%d,SCMP_CMP_MASKED_EQ,%d]", unix.S_IFCHR, unix.S_IFMT),
	},
	"setxattr": { // The values have one letter.
		"setxattr notify [3,1,SCMP_CMP_EQ]", "lsetxattr notify [3,1,SCMP_CMP_EQ]", "fsetxattr notify [3,1,SCMP_CMP_EQ]",
	},
	"mount": {fmt.Sprintf("mount notify [3,0,SCMP_CMP_MASKED_EQ,%d]", otherMounts)},
	"bpf": {
		fmt.Sprintf("bpf notify [0,%d,SCMP_CMP_EQ]", unix.BPF_PROG_LOAD),
		fmt.Sprintf("bpf notify [0,%d,SCMP_CMP_EQ]", unix.BPF_PROG_ATTACH),
		fmt.Sprintf("bpf notify [0,%d,SCMP_CMP_EQ]", unix.BPF_PROG_DETACH),
	},
	"sched_setscheduler": { // SCHED_FIFO and SCHED_RR, with or without SCHED_RESET_ON_FORK.
		"sched_setscheduler notify [1,1,SCMP_CMP_MASKED_EQ,0xbfffffff]", "sched_setscheduler notify [1,2,SCMP_CMP_MASKED_EQ,0xbfffffff]",
	},
	"sysinfo": {"sysinfo notify"},
}

// Interceptable are the names that [Policy] takes to intercept, in order.
func Interceptable() []string {
	return []string{"mknod", "setxattr", "mount", "bpf", "sched_setscheduler", "sysinfo"}
}

// Text is the policy as a profile in liblxc's language. DenyCompat is the one
// thing that it has no words for.
func (p Policy) Text() string {
	if p.Raw != "" {
		return p.Raw
	}
	lines := []string{"2", "denylist", "[all]"}
	if p.Allow != "" {
		lines = []string{"2", "allowlist", "[all]", strings.TrimSpace(p.Allow), "[all]"}
	} else if !p.NoDefault {
		lines = append(lines, forceUmount)
		for _, name := range usual {
			lines = append(lines, fmt.Sprintf("%s errno %d", name, int(unix.EPERM)))
		}
	}
	for _, name := range Interceptable() {
		if !slices.Contains(p.Intercept, name) {
			continue
		}
		lines = append(lines, intercepts[name]...)
		if name == "mount" {
			for _, call := range newMount {
				lines = append(lines, fmt.Sprintf("%s errno %d", call, int(unix.ENOSYS)))
			}
		}
	}
	if p.Allow == "" && p.Deny != "" {
		lines = append(lines, strings.TrimSpace(p.Deny))
	}
	return strings.Join(lines, "\n") + "\n"
}

// Compile makes the policy's programs for a machine, as runtime.GOARCH names
// it.
func (p Policy) Compile(goarch string) (Programs, error) {
	if p.Allow != "" && (p.Deny != "" || p.Compat == DenyCompat) {
		return Programs{}, errs.Invalidf("who allows some system calls has denied all others")
	}
	parsed, err := parse(p.Text())
	if err != nil {
		return Programs{}, err
	}
	return compile(parsed, goarch, p.Compat)
}
