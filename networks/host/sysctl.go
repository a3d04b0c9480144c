package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sysctls is where the kernel's settings of the network namespace are.
const sysctls = "/proc/sys/net"

// Sysctl returns a setting of the kernel below net, as ipv4/ip_forward.
func Sysctl(key string) (string, error) {
	data, err := os.ReadFile(filepath.Join(sysctls, key))
	return strings.TrimSpace(string(data)), err
}

// SetSysctl sets a value if it is another: a host may show its settings
// read-only and have the right ones already.
func SetSysctl(key, value string) error {
	got, err := Sysctl(key)
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

// ForwardIPv4 turns forwarding on. It is the host's, and is never turned off
// again, as others may need it.
func ForwardIPv4() error { return SetSysctl("ipv4/ip_forward", "1") }

// ForwardIPv6 is the same for IPv6. The kernel would then no longer listen to
// the host's router where it did; it goes on if told to in so many words.
func ForwardIPv6() error {
	on, err := Sysctl("ipv6/conf/all/forwarding")
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
		value, err := Sysctl(key)
		if errors.Is(err, fs.ErrNotExist) { // The interface is gone since.
			continue
		}
		if err != nil {
			return err
		}
		if value != "1" {
			continue
		}
		if err := SetSysctl(key, "2"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return SetSysctl("ipv6/conf/all/forwarding", "1")
}
