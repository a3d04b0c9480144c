package nic_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/networks/nic"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

// numbered is a NIC with filters, with the names and addresses of its number.
func numbered(i int) nic.NIC {
	n := bridged("x")
	n.Device, n.HostName, n.Name = fmt.Sprintf("d%d", i), fmt.Sprintf("vm%d", i), fmt.Sprintf("eth%d", i)
	n.MAC = fmt.Sprintf("10:66:6a:01:%02x:%02x", i>>8, i&0xff)
	n.FilterMAC = true
	four := netip.AddrFrom4([4]byte{10, 9, byte(4 + i>>8), byte(i)})
	n.IPv4 = nic.Family{Only: true, Addresses: []netip.Prefix{netip.PrefixFrom(four, 32)}}
	n.IPv6 = nic.Family{}
	return n
}

// TestThousandNICs has as many NICs on a bridge as the kernel allows, all with
// filters, and says how long one more takes. The next one is refused.
func TestThousandNICs(t *testing.T) {
	const most, part = 1023, 100 // BR_MAX_PORTS of net/bridge/br_private.h, less one.
	h := newHost(t)
	g := newGuest(t)
	// They are in one namespace, where each would answer for all others.
	g.Must(t, func() error {
		return errors.Join(os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0o644),
			os.WriteFile("/proc/sys/net/ipv4/conf/all/arp_ignore", []byte("1"), 0o644))
	})
	times := make([]time.Duration, 0, most)
	for i := range most {
		begun := time.Now()
		if err := h.Make(t.Context(), numbered(i), g.Guest); err != nil {
			t.Fatalf("NIC %d: %v", i, err)
		}
		times = append(times, time.Since(begun))
	}
	first, end := times[:part], times[most-part:]
	t.Logf("one takes %v at first, and %v at the end; at least %v, and %v", median(first), median(end), slices.Min(first), slices.Min(end))
	err := h.Make(t.Context(), numbered(most), g.Guest)
	if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "br0 has as many ports as a bridge can have") {
		t.Errorf("one too many: %v", err)
	}
	if err := h.Remove(numbered(most), g.Guest, unused); err != nil {
		t.Error(err)
	}
	if missing, err := h.Ports.Restore(); err != nil || missing {
		t.Errorf("rules are missing: %t, %v", missing, err)
	}
	last := numbered(most - 1)
	g.ip(t, "addr add "+last.IPv4.Addresses[0].Addr().String()+"/16 dev "+last.Name)
	ip(t, "addr add 10.9.255.1/16 dev br0")
	if err := reach(last.IPv4.Addresses[0].Addr().String()); err != nil {
		t.Errorf("the last one: %v", err)
	}
	// The kernel waits for all processors at the end of each: some are enough,
	// and the others end with the namespace.
	const gone = 20
	begun := time.Now()
	for i := range gone {
		if err := h.Remove(numbered(i), g.Guest, unused); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("their end takes %v each", time.Since(begun)/gone)
	if left := strings.Count(ip(t, "-br link show master br0"), "vm"); left != most-gone {
		t.Errorf("%d links are left, want %d", left, most-gone)
	}
	if rules := testenv.Run(t, "nft", "list", "ruleset"); strings.Contains(rules, "filter_vm7_") || !strings.Contains(rules, "filter_vm700_") {
		t.Error("rules of ports that are gone are there, or those of others are not")
	}
}

func median(all []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(all))[len(all)/2]
}
