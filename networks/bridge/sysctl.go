package bridge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/errs"
)

// sysctls is where the kernel's settings of the network namespace are.
const sysctls = "/proc/sys/net"

// applySysctls sets what the bridge needs of the kernel. Forwarding is the
// host's; it is never turned off again, as others may need it.
func applySysctls(cfg networks.Config) error {
	if cfg.IPv4.Address.IsValid() && cfg.IPv4.Routing {
		if err := setSysctl("ipv4/ip_forward", "1"); err != nil {
			return err
		}
	}
	_, err := os.Stat(filepath.Join(sysctls, "ipv6"))
	if errors.Is(err, fs.ErrNotExist) {
		if cfg.IPv6.Address.IsValid() {
			return errs.Newf(errs.Unsupported, "the kernel has no IPv6: set ipv6.address to \"none\"")
		}
		return nil
	}
	conf := "ipv6/conf/" + cfg.Name + "/"
	if !cfg.IPv6.Address.IsValid() {
		return setSysctl(conf+"disable_ipv6", "1")
	}
	for _, s := range []struct{ key, value string }{
		{"disable_ipv6", "0"},
		{"accept_dad", "0"},
		{"accept_ra", "0"}, // Guests do not tell the host where to go.
		{"autoconf", "0"},
	} {
		if err := setSysctl(conf+s.key, s.value); err != nil {
			return err
		}
	}
	if !cfg.IPv6.Routing {
		return nil
	}
	return forwardIPv6()
}

// forwardIPv6 turns forwarding on. The kernel would then no longer listen to
// the host's router where it did; it goes on if told to in so many words.
func forwardIPv6() error {
	on, err := sysctl("ipv6/conf/all/forwarding")
	if err != nil || on == "1" {
		return err
	}
	paths, err := filepath.Glob(filepath.Join(sysctls, "ipv6/conf/*/accept_ra"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		key, err := filepath.Rel(sysctls, path)
		if err != nil {
			return err
		}
		if strings.HasPrefix(key, "ipv6/conf/all/") {
			continue
		}
		value, err := sysctl(key)
		if errors.Is(err, fs.ErrNotExist) { // The interface is gone since.
			continue
		}
		if err != nil {
			return err
		}
		if value != "1" {
			continue
		}
		if err := setSysctl(key, "2"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return setSysctl("ipv6/conf/all/forwarding", "1")
}

func sysctl(key string) (string, error) {
	data, err := os.ReadFile(filepath.Join(sysctls, key))
	return strings.TrimSpace(string(data)), err
}

// setSysctl sets a value if it is another: a host may show its settings
// read-only and have the right ones already.
func setSysctl(key, value string) error {
	got, err := sysctl(key)
	if err != nil {
		return fmt.Errorf("read sysctl: %w", err)
	}
	if got == value {
		return nil
	}
	if err := os.WriteFile(filepath.Join(sysctls, key), []byte(value), 0o644); err != nil {
		return fmt.Errorf("set sysctl: %w", err)
	}
	return nil
}
