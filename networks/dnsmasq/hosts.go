package dnsmasq

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cuib/cuib/networks"
)

// SetHost tells dnsmasq of a host. A new one without names of its own is noticed
// without a reload.
func SetHost(cfg networks.Config, h networks.Host) error {
	if !wanted(cfg) {
		return nil
	}
	leases, err := leasesFor(cfg, h)
	if err != nil {
		return err
	}
	changed, err := setHost(cfg, h, leases)
	if err != nil || !changed {
		return err
	}
	return reload(cfg)
}

// UnsetHost makes dnsmasq forget a host and its leases.
func UnsetHost(ctx context.Context, cfg networks.Config, h networks.Host) error {
	name, err := fileName(h)
	if err != nil {
		return err
	}
	forgot := false
	for _, dir := range []string{hostsDir, namesDir} {
		err := os.Remove(filepath.Join(cfg.Dir, dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		forgot = forgot || err == nil
	}
	if forgot {
		// A file that is gone is not noticed.
		if err := reload(cfg); err != nil {
			return err
		}
	}
	return release(ctx, cfg, h)
}

// reload makes the network's dnsmasq, if it runs, read its hosts anew.
func reload(cfg networks.Config) error {
	p, err := Find(cfg)
	if p == nil || err != nil {
		return err
	}
	defer p.Close()
	return p.reload()
}

// setHosts makes the files of hosts be those of cfg. It reports whether
// dnsmasq has to forget what was there.
func setHosts(cfg networks.Config) (forgot bool, err error) {
	for _, dir := range []string{"", hostsDir, namesDir} {
		path := filepath.Join(cfg.Dir, dir)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return false, err
		}
		if err := os.Chmod(path, 0o755); err != nil { // Whatever the umask is.
			return false, err
		}
	}
	leases, err := leasesFor(cfg, cfg.Hosts...)
	if err != nil {
		return false, err
	}
	var keep []string
	for _, h := range cfg.Hosts {
		changed, err := setHost(cfg, h, leases)
		if err != nil {
			return false, err
		}
		name, err := fileName(h)
		if err != nil {
			return false, err
		}
		keep = append(keep, name)
		forgot = forgot || changed
	}
	pruned, err := prune(cfg, keep)
	return forgot || pruned, err
}

// prune removes the files of hosts other than those to keep. It reports
// whether there were any.
func prune(cfg networks.Config, keep []string) (forgot bool, err error) {
	for _, dir := range []string{hostsDir, namesDir} {
		entries, err := os.ReadDir(filepath.Join(cfg.Dir, dir))
		if err != nil {
			return false, err
		}
		for _, e := range entries {
			if slices.Contains(keep, e.Name()) {
				continue
			}
			if err := os.Remove(filepath.Join(cfg.Dir, dir, e.Name())); err != nil {
				return false, err
			}
			forgot = true
		}
	}
	return forgot, nil
}

// setHost writes a host's files. It reports whether they said something else
// before, which dnsmasq has to forget, or have names, which it does not see.
func setHost(cfg networks.Config, h networks.Host, leases []lease) (changed bool, err error) {
	name, err := fileName(h)
	if err != nil {
		return false, err
	}
	dhcp, names, err := hostLine(cfg, h, givenTo(cfg, h, leases))
	if err != nil {
		return false, err
	}
	for dir, text := range map[string]string{hostsDir: dhcp, namesDir: names} {
		old, err := os.ReadFile(filepath.Join(cfg.Dir, dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
		if err == nil && string(old) == text || err != nil && text == "" {
			continue
		}
		changed = changed || err == nil || dir == namesDir
		if err := writeFile(filepath.Join(cfg.Dir, dir), name, text); err != nil {
			return false, err
		}
	}
	return changed, nil
}

// leasesFor reads the leases if there is one among hosts that is known by the
// addresses that it is given.
func leasesFor(cfg networks.Config, hosts ...networks.Host) ([]lease, error) {
	if !slices.ContainsFunc(hosts, isBelow) {
		return nil, nil
	}
	found, err := readLeases(cfg)
	return found.all, err
}

// givenTo are the addresses that a host has of leases, or makes itself, if it is
// to be known by them.
func givenTo(cfg networks.Config, h networks.Host, leases []lease) (all []netip.Addr) {
	mac, err := networks.ParseMAC(h.MAC)
	if err != nil || !isBelow(h) {
		return nil
	}
	for _, l := range leases {
		if l.mac == mac.String() && current(cfg, l.addr) {
			all = append(all, l.addr)
		}
	}
	if a := networks.Autoconf(cfg.IPv6, h.MAC); a.IsValid() && !h.IPv6.IsValid() {
		all = append(all, a)
	}
	return all
}

// fileName returns the name of a host's files. Nothing in it is the user's
// choice.
func fileName(h networks.Host) (string, error) {
	mac, err := networks.ParseMAC(h.MAC)
	return strings.ReplaceAll(mac.String(), ":", "-"), err
}

// Leases returns the static addresses of cfg.Hosts, and what dnsmasq has
// given out.
func Leases(cfg networks.Config) ([]networks.Lease, error) {
	var all []networks.Lease
	static := map[netip.Addr]bool{}
	byMAC := map[string]networks.Host{}
	for _, h := range cfg.Hosts {
		mac, err := networks.ParseMAC(h.MAC)
		if err != nil {
			return nil, err
		}
		byMAC[mac.String()] = h
		for _, a := range []netip.Addr{h.IPv4, h.IPv6} {
			if a.IsValid() {
				static[a] = true
				all = append(all, networks.Lease{Host: h, Address: a, Static: true})
			}
		}
	}
	leases, err := readLeases(cfg)
	if err != nil {
		return nil, err
	}
	for _, l := range leases.all {
		if static[l.addr] {
			continue
		}
		h, ok := byMAC[l.mac]
		if !ok {
			h = networks.Host{Name: l.name, MAC: l.mac}
		}
		all = append(all, networks.Lease{Host: h, Address: l.addr})
	}
	return all, nil
}

// current reports whether the network has the address.
func current(cfg networks.Config, a netip.Addr) bool {
	for _, p := range []netip.Prefix{cfg.IPv4.Address, cfg.IPv6.Address} {
		if p.IsValid() && p.Masked().Contains(a) {
			return true
		}
	}
	return false
}

// release ends the leases of a host, and waits until they have ended: its
// address may be wanted by another at once.
func release(ctx context.Context, cfg networks.Config, h networks.Host) error {
	mac, err := networks.ParseMAC(h.MAC)
	if err != nil {
		return err
	}
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	for {
		found, err := readLeases(cfg)
		if err != nil {
			return err
		}
		// What was given out before the network had other addresses is
		// nobody's any more, and dnsmasq does not hear of its end.
		mine := slices.DeleteFunc(found.all, func(l lease) bool { return l.mac != mac.String() || !current(cfg, l.addr) })
		if len(mine) == 0 {
			return nil
		}
		ok, err := Intact(cfg)
		if err != nil {
			return err
		}
		if !ok {
			return dropLeases(cfg, mac.String())
		}
		for _, l := range mine {
			if err := sendRelease(ctx, cfg, found.server, l); err != nil {
				return fmt.Errorf("end the lease of %s: %w", l.addr, err)
			}
		}
		select {
		case <-ctx.Done():
			return forceRelease(parent, cfg, mac.String())
		case <-time.After(releasePause):
		}
	}
}

// forceRelease ends the leases of a MAC address where dnsmasq does not hear that
// they are given up, as where the host's firewall drops that.
func forceRelease(ctx context.Context, cfg networks.Config, mac string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("end the leases of %s: %w", mac, err)
	}
	ctx = context.WithoutCancel(ctx) // What is stopped is started again.
	p, err := Find(cfg)
	if err != nil {
		return err
	}
	if p == nil {
		return dropLeases(cfg, mac)
	}
	defer p.Close()

	if err := p.stop(ctx); err != nil {
		return err
	}
	// It is started whatever becomes of the leases.
	return errors.Join(dropLeases(cfg, mac), launch(ctx, cfg))
}
