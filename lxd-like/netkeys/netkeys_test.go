package netkeys_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// base is what a network of a type needs to be one, and what some keys need.
func base(typ string) map[string]string {
	if netkeys.HasBridge(typ) {
		return map[string]string{"ipv4.address": "10.1.2.1/24", "ipv6.address": "fd42::1/64"}
	}
	return map[string]string{"parent": "eth0"}
}

func parse(typ, name, value string) error {
	config := base(typ)
	config[name] = value
	_, err := netkeys.Parse(typ, config)
	return err
}

// TestRows looks whether all rows say what they are.
func TestRows(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range netkeys.Keys() {
		if seen[k.Name] || k.Group == "" || k.Type == "" || len(k.Types) == 0 || !strings.HasSuffix(k.Doc, ".") {
			t.Errorf("%s: twice, or something is missing", k.Name)
		}
		seen[k.Name] = true
		for _, typ := range k.Types {
			if !slices.Contains(netkeys.Types(), typ) {
				t.Errorf("%s: %q is no type", k.Name, typ)
			}
		}
		if (k.Set == nil) != (k.Allowed == "") {
			t.Errorf("%s: what is allowed, and what checks it", k.Name)
		}
	}
}

// TestWrongValues gives each key of each type of network values that it cannot
// have: it is refused in words that name the key, what was given and what is
// allowed.
func TestWrongValues(t *testing.T) {
	for _, k := range netkeys.Keys() {
		for _, typ := range k.Types {
			name := strings.ReplaceAll(k.Name, "*", "x")
			for _, value := range wrong(k) {
				err := parse(typ, name, value)
				if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "got ") || !strings.Contains(err.Error(), "want ") {
					t.Errorf("%s, %s: %.100q: got %.300v", typ, name, value, err)
				}
				if err != nil && len(err.Error()) > 2000 {
					t.Errorf("%s, %s: the error is %d bytes long", typ, name, len(err.Error()))
				}
			}
			if err := parse(typ, name, ""); err != nil && name != "parent" {
				t.Errorf("%s, %s: unset: %v", typ, name, err)
			}
		}
	}
}

// wrong are values that a row cannot have.
func wrong(k netkeys.Key) []string {
	all := []string{"a\x00b", strings.Repeat("x", 512<<10+1)}
	if k.Type == profiles.Blob {
		return all
	}
	all = append(all, "\n", "a\nb", "1\n", "true\n", "auto\n", "none\nlog-queries", "10.1.2.1/24\ndhcp-script=/x", " ", ",,\x1b", strings.Repeat("x", 5000), "../x", "a b", "ä", "$(id)", "-", "10.1.2/24", "fd42::g", "1/2/3/4")
	switch k.Type {
	case profiles.Bool:
		all = append(all, "maybe", "2", " true", "ｔrue")
	case profiles.Integer:
		all = append(all, "abc", "1.5", "1e3", "0x10", " 1", "--1", "99999999999999999999", "٣", "-1")
	case profiles.String, profiles.Blob:
	}
	return all
}

// TestNames gives a network keys that its type does not have.
func TestNames(t *testing.T) {
	tests := map[string]struct {
		typ, name, value, want string
	}{
		"misspelt":   {netkeys.Bridge, "ipv4.adress", "x", `did you mean "ipv4.address"?`},
		"unknown":    {netkeys.Bridge, "such.a.thing", "x", `unknown configuration key "such.a.thing"`},
		"other type": {netkeys.Macvlan, "ipv4.nat", "true", "only one of type bridge"},
		"refused":    {netkeys.Bridge, "bgp.peers.a.address", "10.0.0.1", "BGP"},
		"refused v":  {netkeys.Bridge, "bridge.driver", "openvswitch", "Open vSwitch"},
		"no text":    {netkeys.Bridge, "user.", "x", "unknown configuration key"},
		"control":    {netkeys.Bridge, "user.\n", "x", "without control characters"},
		"long":       {netkeys.Bridge, "user." + strings.Repeat("x", 300), "x", "at most 255"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := parse(tt.typ, tt.name, tt.value)
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestRefusalsAreNoRows looks whether what is refused is served nowhere.
func TestRefusalsAreNoRows(t *testing.T) {
	for _, r := range netkeys.Refusals() {
		for _, k := range netkeys.Keys() {
			both := len(r.Types) == 0 || slices.ContainsFunc(k.Types, func(typ string) bool { return slices.Contains(r.Types, typ) })
			if r.Value == "" && both && profiles.Matches(r.Name, k.Name) {
				t.Errorf("%s is served, and refused", k.Name)
			}
		}
	}
}

func TestMetadata(t *testing.T) {
	all := netkeys.Metadata()
	for _, typ := range netkeys.Types() {
		g := all["network-"+typ]["network-conf"]
		names := map[string]bool{}
		for _, k := range g.Keys {
			for name, doc := range k {
				names[name] = true
				if doc.Live != "yes" || doc.Short == "" {
					t.Errorf("%s: got %+v", name, doc)
				}
			}
		}
		if !names["user.*"] || names["ipv4.nat"] != netkeys.HasBridge(typ) {
			t.Errorf("%s: got %v", typ, slices.Sorted(maps.Keys(names)))
		}
	}
}

// TestRangesOverlap has addresses in several ranges: they are in one.
func TestRangesOverlap(t *testing.T) {
	config := base(netkeys.Vxlan)
	config["ipv4.dhcp.ranges"] = "10.1.2.50-10.1.2.60, 10.1.2.10-10.1.2.20,10.1.2.15-10.1.2.30,10.1.2.12-10.1.2.13"
	cfg, err := netkeys.Parse(netkeys.Vxlan, config)
	if got := fmt.Sprint(cfg.IPv4.Ranges); err != nil || got != "[{10.1.2.10 10.1.2.30} {10.1.2.50 10.1.2.60}]" {
		t.Errorf("got %s, %v", got, err)
	}
}
