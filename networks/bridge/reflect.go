package bridge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/cuib/cuib/networks"
)

// reflect has the ports of a bridge send back where it came from what guests
// send to what is published, and what is led to themselves. Where the kernel
// filters bridges it is the bridge that has to; else the host does, which is
// above it. The kernel tells what comes back of its own from that of others
// (RFC 7527, RFC 5227).
func reflect(cfg networks.Config) error {
	if len(cfg.Published) == 0 {
		return nil
	}
	on, err := filtersBridges()
	if err != nil || !on {
		return err
	}
	l, err := netlink.LinkByName(cfg.Name)
	if missing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ports of bridge %s: %w", cfg.Name, err)
	}
	all, err := netlink.LinkList()
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil // It changes now: the next event tells.
	}
	if err != nil {
		return fmt.Errorf("ports of bridge %s: %w", cfg.Name, err)
	}
	for _, port := range all {
		a := port.Attrs()
		if a.MasterIndex != l.Attrs().Index || a.Protinfo != nil && a.Protinfo.Hairpin {
			continue
		}
		if err := netlink.LinkSetHairpin(port, true); err != nil && !missing(err) {
			return fmt.Errorf("port %s of bridge %s: %w", a.Name, cfg.Name, err)
		}
	}
	return nil
}

// filtersBridges tells whether what passes bridges goes through the rules for
// IP.
func filtersBridges() (bool, error) {
	for _, name := range []string{"iptables", "ip6tables"} {
		on, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-" + name)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if strings.TrimSpace(string(on)) != "0" {
			return true, nil
		}
	}
	return false, nil
}
