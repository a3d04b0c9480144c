package networks

import (
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

var (
	interfaceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{1,14}$`)
	hostLabel     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
)

// reserved are the names that the kernel or users mean something else by: no
// network at all, and the host's own.
var reserved = []string{"all", "default", "host", "none"}

// CheckInterface reports what is wrong with name as the name of a network
// interface that we make.
func CheckInterface(name string) error {
	if !interfaceName.MatchString(name) || slices.Contains(reserved, name) {
		return errs.Invalidf("network name %q is not valid: use 2 to 15 letters, digits, '-', '_' or '.', the first a letter or digit, and none of %s", name, strings.Join(reserved, ", "))
	}
	return nil
}

// CheckDomain reports what is wrong with s as a DNS domain.
func CheckDomain(s string) error {
	if len(s) > 253 {
		return errs.Invalidf("domain %q is not valid: it is longer than 253 characters", s)
	}
	for label := range strings.SplitSeq(s, ".") {
		if !hostLabel.MatchString(label) {
			return errs.Invalidf("domain %q is not valid: use labels of letters, digits and '-', separated by dots", s)
		}
	}
	return nil
}

// CheckHost reports what is wrong with a host's name and MAC address. What it
// accepts has no character that means something in a configuration file.
func CheckHost(h Host) error {
	if h.Name != "" && CheckDomain(h.Name) != nil {
		return errs.Invalidf("host name %q is not valid: use letters, digits and '-', at most 63, and more of that behind dots", h.Name)
	}
	_, err := ParseMAC(h.MAC)
	return err
}

// ParseMAC parses an Ethernet address.
func ParseMAC(s string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 || [6]byte(mac) == [6]byte{} {
		return nil, errs.Invalidf("MAC address %q is not valid: use the form 10:66:6a:01:02:03, not all zeros, and none for groups", s)
	}
	return mac, nil
}
