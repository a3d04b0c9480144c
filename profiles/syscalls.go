package profiles

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/seccomp"
)

// Mounting says what an instance may mount whose mount(2) is intercepted.
type Mounting struct {
	FileSystems []string
	Programs    map[string]string // Of file systems in user space, by file system.
	Shift       bool
}

// Syscalls say which system calls an instance may make, and what is done for
// it.
type Syscalls struct {
	Policy         seccomp.Policy
	DevicePrograms bool
	Mounting       Mounting
}

// current returns options with the newer names of keys of system calls.
func (o options) current() (options, error) {
	out := options{}
	for _, name := range []string{keyAllow, keyDeny, keyDenyDefault, keyDenyCompat, keyRawSeccomp} {
		out[name] = o[name]
	}
	for old, name := range oldSyscallKeys {
		switch {
		case o[old] == "":
		case o[name] != "" && o[name] != o[old]:
			return nil, errs.Invalidf("%s and %s are one key by two names, want one of them", old, name)
		default:
			out[name] = o[old]
		}
	}
	return out, nil
}

// policy returns what options mean for calls that may be made.
func (o options) policy() (seccomp.Policy, error) {
	c, err := o.current()
	if err != nil {
		return seccomp.Policy{}, err
	}
	p := seccomp.Policy{
		Raw: c[keyRawSeccomp], Allow: strings.TrimSpace(c[keyAllow]), Deny: strings.TrimSpace(c[keyDeny]),
		NoDefault: c[keyDenyDefault] != "" && !c.bool(keyDenyDefault),
	}
	if c.bool(keyDenyCompat) {
		p.Compat = seccomp.DenyCompat
	}
	denies := p.Deny != "" || c[keyDenyDefault] != "" || p.Compat == seccomp.DenyCompat
	switch {
	case p.Raw != "" && (p.Allow != "" || denies):
		err = errs.Invalidf("raw.seccomp is the whole profile, want it or security.syscalls.allow and .deny*")
	case p.Allow != "" && denies:
		err = errs.Invalidf("security.syscalls.allow denies all others, want it or security.syscalls.deny*")
	}
	return p, err
}

// syscalls returns what options mean for system calls.
func (o options) syscalls() (Syscalls, error) {
	p, err := o.policy()
	if err != nil {
		return Syscalls{}, err
	}
	for _, name := range seccomp.Interceptable() {
		if o.bool(intercept+name) && (name == "sysinfo" || !o.bool("security.privileged")) {
			p.Intercept = append(p.Intercept, name)
		}
	}
	if !p.IsDefault() {
		if _, err := p.Compile("amd64"); err != nil {
			return Syscalls{}, fmt.Errorf("security.syscalls.* or raw.seccomp: %w", err)
		}
	}
	return Syscalls{Policy: p, DevicePrograms: o.bool(keyBPFDevices), Mounting: o.mounting()}, nil
}

// mounting returns what valid options mean for mounts.
func (o options) mounting() Mounting {
	m := Mounting{Shift: o.bool(keyMountShift)}
	if v := o[keyMountAllowed]; v != "" {
		m.FileSystems, _ = parseFileSystems(v)
	}
	if v := o[keyMountFUSE]; v != "" {
		m.Programs, _ = parseFUSE(v)
	}
	return m
}

// SameMounting reports whether nothing has changed of what may be mounted.
func SameMounting(before, after map[string]string) bool {
	return !slices.ContainsFunc([]string{keyMountAllowed, keyMountFUSE, keyMountShift}, func(k string) bool { return before[k] != after[k] })
}
