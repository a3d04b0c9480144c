package netkeys

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// overlays are the types of network that are one over several hosts.
var overlays = []string{Vxlan}

const wantPort = "a port from 1 to 65535"

func vxlanKeys() []Key {
	return []Key{
		{Key: profiles.Key{Name: "vxlan.encryption", Type: profiles.String, Default: networks.EncryptAuto, Allowed: "auto, none or wireguard", Doc: "How packets between the hosts are encrypted; the same on all. auto is WireGuard, and refused where the kernel has none; nothing is encrypted without peers."}, Types: overlays, Set: func(cfg *networks.Config, _, v string) error {
			cfg.Overlay.Encryption = v
			return oneOf(networks.EncryptAuto, networks.EncryptNone, networks.EncryptWireGuard)(cfg, "", v)
		}},
		{Key: profiles.Key{Name: "vxlan.encryption.port", Type: profiles.Integer, Default: "51820", Allowed: wantPort, Doc: "The UDP port of the hosts for WireGuard; the same on all, and another for each network."}, Types: overlays, Set: func(cfg *networks.Config, _, v string) (err error) {
			cfg.Overlay.WirePort, err = portNumber(v)
			return err
		}},
		{Key: profiles.Key{Name: "vxlan.id", Type: profiles.Integer, Default: "one made of the name", Allowed: "a number from 1 to 16777215", Doc: "What tells the network from others between the same hosts; the same on all."}, Types: overlays, Set: func(cfg *networks.Config, _, v string) (err error) {
			cfg.Overlay.ID, err = vni(v)
			return err
		}},
		{Key: profiles.Key{Name: "vxlan.interface", Type: profiles.String, Default: "that of the route", Allowed: "the name of an interface of the host", Doc: "The interface that packets to the other hosts leave by."}, Types: overlays, Set: func(cfg *networks.Config, _, v string) error {
			cfg.Overlay.Interface = v
			return ifname(v)
		}},
		{Key: profiles.Key{Name: "vxlan.key", Type: profiles.String, Allowed: "16 to 256 letters, digits and characters of +/=_-, as openssl rand -hex 32 makes them", Doc: "The secret that the hosts know each other by, and encrypt with; the same on all. Required with vxlan.peers."}, Types: overlays, Set: func(cfg *networks.Config, _, v string) error {
			if !secret.MatchString(v) {
				return profiles.ErrValue
			}
			cfg.Overlay.Key = v
			return nil
		}},
		{Key: profiles.Key{Name: "vxlan.local", Type: profiles.String, Default: "that of the route to the other hosts", Allowed: "an IP address", Doc: "The address of this host that the others have in their vxlan.peers."}, Types: overlays, Set: func(cfg *networks.Config, _, v string) (err error) {
			cfg.Overlay.Local, err = address(v)
			return err
		}},
		{Key: profiles.Key{Name: "vxlan.peers", Type: profiles.String, Allowed: "IP addresses with commas between them", Doc: "The addresses of the other hosts of the network."}, Types: overlays, Set: setPeers},
		{Key: profiles.Key{Name: "vxlan.port", Type: profiles.Integer, Default: "4789", Allowed: wantPort, Doc: "The port of the hosts for VXLAN (UDP), and for what they tell each other (TCP); the same on all."}, Types: overlays, Set: func(cfg *networks.Config, _, v string) (err error) {
			cfg.Overlay.Port, err = portNumber(v)
			return err
		}},
	}
}

var secret = regexp.MustCompile(`^[A-Za-z0-9+/=_-]{16,256}$`)

// overlayDefaults is what a network of several hosts has that says nothing.
var overlayDefaults = networks.Overlay{Port: 4789, WirePort: 51820}

func setPeers(cfg *networks.Config, _, v string) error {
	all, err := list(v)
	if err != nil {
		return err
	}
	for _, s := range all {
		a, err := host(s)
		if err != nil {
			return err
		}
		if slices.Contains(cfg.Overlay.Peers, a) {
			return errs.Invalidf("got %q, but %s is in it twice", v, a)
		}
		cfg.Overlay.Peers = append(cfg.Overlay.Peers, a)
	}
	return nil
}

// host reads an address that one host has.
func host(v string) (netip.Addr, error) {
	a, err := address(v)
	if err != nil || a.IsMulticast() || a.IsUnspecified() || a.IsLoopback() || a.Is6() && a.IsLinkLocalUnicast() {
		return a, profiles.ErrValue
	}
	return a, nil
}

func portNumber(v string) (uint16, error) {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n == 0 {
		return 0, profiles.ErrValue
	}
	return uint16(n), nil
}

// vni reads the number of a network of VXLAN.
func vni(v string) (uint32, error) {
	n, err := strconv.ParseUint(v, 10, 24)
	if err != nil || n == 0 {
		return 0, profiles.ErrValue
	}
	return uint32(n), nil
}

func consistentOverlay(o networks.Overlay) error {
	if len(o.Peers) > 0 && o.Key == "" {
		return errs.Invalidf(`configuration key "vxlan.key" is missing: the hosts of vxlan.peers need a secret that they know each other by, such as openssl rand -hex 32 makes`)
	}
	if o.Port == o.WirePort && o.Encryption != networks.EncryptNone {
		return errs.Invalidf(`configuration key "vxlan.encryption.port": got %d, which is vxlan.port`, o.WirePort)
	}
	return nil
}
