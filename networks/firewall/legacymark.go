package firewall

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Nobody announces changes of tables of iptables-legacy. To ask the kernel for
// their rules takes a few microseconds; what they say is read by a program, if
// they are others.

// The options of sockets by which the kernel tells of a table, of
// linux/netfilter_ipv4/ip_tables.h, and how long their answers are.
const (
	getInfo     = 64
	getEntries  = 65
	infoLength  = 84
	entriesHead = 40 // The name, the length, and what aligns the rules.
	lengthAt    = 32
	tableLength = 80 // Of the table, in the answer to getInfo.
)

// An entryLayout says where in a rule of a family there is what is needed.
type entryLayout struct {
	domain, level int
	next          int // How long the rule is.
	counters      int // What it has counted.
}

var entryLayouts = map[nftables.TableFamily]entryLayout{
	nftables.TableFamilyIPv4: {unix.AF_INET, unix.SOL_IP, 90, 96},
	nftables.TableFamilyIPv6: {unix.AF_INET6, unix.SOL_IPV6, 142, 152},
}

// LegacyMark returns a text that is another one when the rules of
// iptables-legacy are others; an empty one where there are none. It does not
// look at what rules have counted.
func LegacyMark() (string, error) {
	sum := sha256.New()
	some := false
	for _, t := range legacyTools {
		used, err := t.used()
		if err != nil {
			return "", err
		}
		if !used {
			continue
		}
		some = true
		if err := entryLayouts[t.family].write(sum); err != nil {
			return "", fmt.Errorf("look at the rules of iptables-legacy (%s): %w", t.names, err)
		}
	}
	if !some {
		return "", nil
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// A LegacyWatch tells whether the rules of iptables-legacy have changed. Its zero
// value knows of none.
type LegacyWatch struct{ mark string }

// Changed reports whether they are others than when it was called last. Where
// they cannot be looked at, they may be.
func (w *LegacyWatch) Changed() bool {
	mark, err := LegacyMark()
	changed := err != nil || mark != w.mark
	w.mark = mark
	return changed
}

// write writes the rules of the table "filter" without what they have counted.
func (l entryLayout) write(to io.Writer) error {
	fd, err := unix.Socket(l.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }() // Nothing was written to it.
	for {
		info := make([]byte, infoLength)
		copy(info, "filter")
		if err := ask(fd, l.level, getInfo, info); err != nil {
			return err
		}
		size := binary.NativeEndian.Uint32(info[tableLength:])
		rules := make([]byte, entriesHead+size)
		copy(rules, "filter")
		binary.NativeEndian.PutUint32(rules[lengthAt:], size)
		err := ask(fd, l.level, getEntries, rules)
		if errors.Is(err, unix.EAGAIN) { // It has changed in between.
			continue
		}
		if err != nil {
			return err
		}
		for rest := rules[entriesHead:]; len(rest) >= l.counters+16; {
			clear(rest[l.counters : l.counters+16])
			n := int(binary.NativeEndian.Uint16(rest[l.next:]))
			if n == 0 || n > len(rest) {
				break
			}
			rest = rest[n:]
		}
		_, err = to.Write(rules[lengthAt:])
		return err
	}
}

// ask has the kernel fill in an answer, which begins with what is asked.
func ask(fd, level, option int, answer []byte) error {
	length := uint32(len(answer)) //nolint:gosec // The kernel has said how long it is.
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&answer[0])), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return os.NewSyscallError("getsockopt", errno)
	}
	return nil
}
