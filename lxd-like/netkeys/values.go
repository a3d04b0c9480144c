package netkeys

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
)

// oneOf sets nothing for values that are one of all, and refuses others.
func oneOf(all ...string) func(*networks.Config, string, string) error {
	return func(_ *networks.Config, _, v string) error {
		if !slices.Contains(all, v) {
			return profiles.ErrValue
		}
		return nil
	}
}

func parseBool(v string) (bool, error) {
	on, err := profiles.ParseBool(v)
	if err != nil {
		return false, profiles.ErrValue
	}
	return on, nil
}

// address reads an IP address.
func address(v string) (netip.Addr, error) {
	a, err := netip.ParseAddr(v)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, profiles.ErrValue
	}
	return a, nil
}

// list splits a list at its commas. It has at least one element.
func list(v string) ([]string, error) {
	all := profiles.SplitList(v)
	if len(all) == 0 {
		return nil, profiles.ErrValue
	}
	return all, nil
}

// cut is strings.Cut without space around the parts.
func cut(s, sep string) (before, after string, found bool) {
	before, after, found = strings.Cut(s, sep)
	return strings.TrimSpace(before), strings.TrimSpace(after), found
}
