package tree

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxAttrs is how many bytes the names of a file's extended attributes can
// have together, and the value of each.
const maxAttrs = 64 << 10

// dress gives the open file out the owner, mode, times and extended attributes
// of in.
func dress(out, in int, st *unix.Stat_t, buf *[chunk]byte) error {
	if err := unix.Fchown(out, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	n, err := unix.Flistxattr(in, buf[:maxAttrs])
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	for name := range bytes.SplitSeq(buf[:max(n, 0)], []byte{0}) { // After the owner: its change drops capabilities.
		if len(name) == 0 {
			continue
		}
		if err := dressAttr(out, in, string(name), buf[maxAttrs:2*maxAttrs]); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(out, st.Mode&0o7777); err != nil {
		return err
	}
	times := [2]unix.Timespec{st.Atim, st.Mtim}
	if _, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(out), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func dressAttr(out, in int, name string, buf []byte) error {
	n, err := unix.Fgetxattr(in, name, buf)
	if errors.Is(err, unix.ENODATA) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("get %s: %w", name, err)
	}
	err = unix.Fsetxattr(out, name, buf[:n], 0)
	if errors.Is(err, unix.EOPNOTSUPP) && ofPlace(name) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}
