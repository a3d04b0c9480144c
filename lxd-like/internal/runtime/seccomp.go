package runtime

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// A denied system call fails with EPERM, in all containers: each would, or
// once did, reach the host from inside. The numbers are those of 64 and of 32
// bits on x86.
type denied struct {
	name   string
	amd64  uint32
	i386   uint32
	i386OK bool
}

var deniedCalls = []denied{
	{"kexec_load", 246, 283, true},
	{"kexec_file_load", 320, 0, false},
	{"open_by_handle_at", 304, 342, true},
	{"init_module", 175, 128, true},
	{"finit_module", 313, 350, true},
	{"delete_module", 176, 129, true},
}

const (
	profileFile = "seccomp.profile"
	filterFile  = "seccomp.bpf"

	archAMD64 = unix.AUDIT_ARCH_X86_64
	archI386  = unix.AUDIT_ARCH_I386
	x32Bit    = 0x40000000

	retAllow = 0x7fff0000
	retEPERM = 0x00050000 | uint32(unix.EPERM)
)

// seccompProfile is the profile in liblxc's terms.
func seccompProfile() string {
	var b strings.Builder
	b.WriteString("2\ndenylist\nreject_force_umount\n[all]\n")
	for _, d := range deniedCalls {
		fmt.Fprintf(&b, "%s errno %d\n", d.name, int(unix.EPERM))
	}
	return b.String()
}

// seccompFilter is the same as a program for the kernel, which cuib-shim
// gives to what it runs in containers without liblxc. It is empty on
// machines that it is not written for.
func seccompFilter() []byte {
	if runtime.GOARCH != "amd64" {
		return nil
	}
	var p program
	p.load(4) // The architecture.
	toNative := p.jumpIf(unix.BPF_JEQ, archAMD64)
	toI386 := p.jumpIf(unix.BPF_JEQ, archI386)
	p.ret(retAllow)

	p.land(toNative)
	p.load(0) // The call.
	p.alu(unix.BPF_AND, ^uint32(x32Bit))
	for _, d := range deniedCalls {
		p.deny(d.amd64)
	}
	// umount2(target, flags): MNT_FORCE of a guest can hurt others.
	notUmount := p.jumpUnless(unix.BPF_JEQ, unix.SYS_UMOUNT2)
	p.load(24) // The second argument's lower half.
	notForced := p.jumpUnless(unix.BPF_JSET, unix.MNT_FORCE)
	p.ret(0x00050000 | uint32(unix.EACCES))
	p.land(notUmount)
	p.land(notForced)
	p.ret(retAllow)

	p.land(toI386)
	p.load(0)
	for _, d := range deniedCalls {
		if d.i386OK {
			p.deny(d.i386)
		}
	}
	p.ret(retAllow)
	return p.bytes()
}

// A program is one in the kernel's classic BPF.
type program []unix.SockFilter

func (p *program) add(code uint16, k uint32) int {
	*p = append(*p, unix.SockFilter{Code: code, K: k})
	return len(*p) - 1
}

func (p *program) load(offset uint32)        { p.add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset) }
func (p *program) ret(value uint32)          { p.add(unix.BPF_RET|unix.BPF_K, value) }
func (p *program) alu(op uint16, k uint32)   { p.add(unix.BPF_ALU|op|unix.BPF_K, k) }
func (p *program) deny(call uint32)          { p.land2(p.jumpUnless(unix.BPF_JEQ, call), retEPERM) }
func (p *program) land2(at int, then uint32) { p.ret(then); p.land(at) }

// A jump is an instruction whose target is not known yet: at is positive for
// one that jumps if the test is true.
func (p *program) jumpIf(test uint16, k uint32) int {
	return p.add(unix.BPF_JMP|test|unix.BPF_K, k)<<1 | 1
}

func (p *program) jumpUnless(test uint16, k uint32) int {
	return p.add(unix.BPF_JMP|test|unix.BPF_K, k) << 1
}

// land makes the next instruction the target of a jump.
func (p *program) land(jump int) {
	at := jump >> 1
	distance := uint8(len(*p) - at - 1) //nolint:gosec // The program is short.
	if jump&1 == 1 {
		(*p)[at].Jt = distance
	} else {
		(*p)[at].Jf = distance
	}
}

func (p *program) bytes() []byte {
	var b bytes.Buffer
	for _, i := range *p {
		// Writing to memory does not fail.
		_ = binary.Write(&b, binary.NativeEndian, i)
	}
	return b.Bytes()
}

// writeSeccomp writes the profile and the filter into Dir and returns the
// profile's path.
func (r *Runtime) writeSeccomp() (profile string, err error) {
	profile = filepath.Join(r.Dir, profileFile)
	for path, content := range map[string][]byte{
		profile: []byte(seccompProfile()), filepath.Join(r.Dir, filterFile): seccompFilter(),
	} {
		old, rerr := os.ReadFile(path)
		if rerr == nil && bytes.Equal(old, content) {
			continue
		}
		err = errors.Join(err, replaceFile(path, content))
	}
	return profile, err
}

// filterArg is the filter as cuib-shim's attach mode takes it.
func (r *Runtime) filterArg() string {
	if len(seccompFilter()) == 0 {
		return "-"
	}
	return filepath.Join(r.Dir, filterFile)
}

// replaceFile writes a file at once: nobody sees half of it.
func replaceFile(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err == nil {
		return nil
	}
	err = errors.Join(err, os.Remove(tmp.Name()))
	if errors.Is(err, unix.ENOSPC) && overwrite(path, content) == nil {
		return nil
	}
	return err
}

// overwrite changes a file in its place, with the blocks that it has: on a
// full disk this is how a change can still be taken back.
func overwrite(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if blocks := (info.Size() + blockSize - 1) / blockSize; int64(len(content)) > blocks*blockSize {
		return unix.ENOSPC
	}
	if _, err := f.WriteAt(content, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(content)))
}

// blockSize is at most what file systems give a file that has a byte.
const blockSize = 1024
