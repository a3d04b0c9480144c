package host_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

func TestKernel(t *testing.T) {
	testenv.NetNS(t)
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", "br0", "type", "bridge"},
		{"link", "add", "veth1", "type", "veth", "peer", "name", "veth2"},
		{"link", "set", "veth1", "master", "br0"},
		{"link", "set", "br0", "up", "mtu", "1400"},
		{"addr", "add", "10.1.2.1/24", "dev", "br0"},
		{"link", "set", "veth2", "up"},
		{"addr", "add", "192.0.2.9/28", "dev", "veth2"},
		{"route", "add", "198.51.100.0/24", "via", "192.0.2.1"},
		{"route", "add", "default", "via", "192.0.2.1"},
	} {
		testenv.Run(t, append([]string{"ip"}, args...)...)
	}
	k := host.Kernel{}
	l, err := k.Find("br0")
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(l.Kind, l.MTU, l.Up, l.Ports, slices.Contains(text(l.Addresses), "10.1.2.1/24"))
	if want := "bridge 1400 true [veth1] true\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := k.Find("br9"); !errs.Is(err, errs.NotFound) {
		t.Errorf("unknown: got %v", err)
	}
	used, err := k.Used("br0")
	if err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string]bool{
		"192.0.2.0/28": true, "198.51.100.0/24": true, "127.0.0.0/8": true, "10.1.2.0/24": false, "0.0.0.0/0": false,
	} {
		if got := slices.Contains(text(used), prefix); got != want {
			t.Errorf("%s used: got %v, want %v, in %v", prefix, got, want, used)
		}
	}
}

func text[T fmt.Stringer](all []T) []string {
	var out []string
	for _, v := range all {
		out = append(out, v.String())
	}
	return out
}
