package host

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
)

// listening is TCP_LISTEN of include/net/tcp_states.h.
const listening = 10

// A socket is one of the host that waits for clients.
type socket struct {
	local netip.AddrPort
	inode uint32
}

// Listener returns which process of the host waits for clients at ports of e,
// such as "process 812 (sshd), which listens on 192.0.2.1:22"; an empty string
// if none does. Who listens at all addresses is not in the way of one that was
// chosen, and who listens on the loopback alone is in nobody's.
func (Kernel) Listener(e networks.Published) (string, error) {
	sockets, err := waiting(e.Protocol)
	if err != nil {
		return "", fmt.Errorf("list the host's sockets: %w", err)
	}
	i := slices.IndexFunc(sockets, func(s socket) bool {
		port, addr := s.local.Port(), s.local.Addr()
		if port < e.First || port > e.Last || addr.IsLoopback() {
			return false
		}
		if e.Listen.IsUnspecified() { // The socket of all addresses of IPv6 takes those of IPv4 too.
			return addr.Is4() == e.Listen.Is4() || addr == netip.IPv6Unspecified()
		}
		return addr == e.Listen
	})
	if i < 0 {
		return "", nil
	}
	return fmt.Sprintf("%s, which listens on %s", process(sockets[i].inode), sockets[i].local), nil
}

// waiting returns the sockets of a protocol that have no client yet.
func waiting(protocol uint8) ([]socket, error) {
	dump := map[uint8]func(uint8) ([]*netlink.Socket, error){
		unix.IPPROTO_TCP: netlink.SocketDiagTCP, unix.IPPROTO_UDP: netlink.SocketDiagUDP,
	}[protocol]
	if dump == nil {
		return nil, nil
	}
	var out []socket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		var all []*netlink.Socket
		err := retry(func() (err error) {
			all, err = dump(family)
			return err
		})
		switch {
		case errors.Is(err, unix.ENOENT): // A kernel without INET_DIAG cannot tell, and is no reason to publish nothing.
			return nil, nil
		case err != nil && !errors.Is(err, netlink.ErrDumpInterrupted): // Clients come and go.
			return nil, err
		}
		for _, s := range all {
			addr, ok := netip.AddrFromSlice(s.ID.Source)
			if !ok || protocol == unix.IPPROTO_TCP && s.State != listening || s.ID.DestinationPort != 0 {
				continue
			}
			if family == unix.AF_INET {
				addr = addr.Unmap()
			}
			out = append(out, socket{netip.AddrPortFrom(addr, s.ID.SourcePort), s.INode})
		}
	}
	return out, nil
}

// Holder names the process of the host that waits for clients at a port, whatever
// the address is; "somebody" if that cannot be seen.
func (Kernel) Holder(protocol uint8, port uint16) string {
	sockets, _ := waiting(protocol) // Then nothing can be seen.
	for _, s := range sockets {
		if s.local.Port() == port {
			return process(s.inode)
		}
	}
	return somebody
}

const somebody = "somebody"

// process names who has a socket open. To look takes as long as the host has
// processes; nobody looks who gets the port.
func process(inode uint32) string {
	want := fmt.Sprintf("socket:[%d]", inode)
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		entries, err := os.ReadDir(filepath.Join(dir, "fd"))
		if err != nil {
			continue // It has ended.
		}
		for _, e := range entries {
			if to, _ := os.Readlink(filepath.Join(dir, "fd", e.Name())); to != want {
				continue
			}
			name, _ := os.ReadFile(filepath.Join(dir, "comm"))
			return fmt.Sprintf("process %s (%s)", filepath.Base(dir), strings.TrimSpace(string(name)))
		}
	}
	return somebody
}
