package vxlan_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/shared/testenv"
)

// BenchmarkOverlay compares what passes between guests of two hosts with what
// passes a network of the same shape that is made by hand: bridges, pairs, and
// ports of VXLAN. They take turns.
func BenchmarkOverlay(b *testing.B) {
	testenv.Kernel(b)
	all := hosts(b, []string{"192.0.2.2/26", "192.0.2.66/26"})
	one, two := all[0].add("one", mac1), all[1].add("two", mac2)
	all[0].in(func() { smaller(b, one) })
	all[1].in(func() { smaller(b, two) })
	lease(b, one, mac1)
	to := lease(b, two, mac2)
	exchange(b, all)
	exchange(b, all)
	handOne := byHand(b, all[0], "192.0.2.66", "10.7.9.2/24")
	handTwo := byHand(b, all[1], "192.0.2.2", "10.7.9.3/24")

	var ours, hand, ratios []float64
	for i := 0; b.Loop(); i++ {
		measured := []func(){
			func() { ours = append(ours, stream(b, one, two, to.String()+":7000")) },
			func() { hand = append(hand, stream(b, handOne, handTwo, "10.7.9.3:7000")) },
		}
		if i%2 == 1 {
			slices.Reverse(measured)
		}
		for _, fn := range measured {
			fn()
		}
		ratios = append(ratios, ours[i]/hand[i])
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(middle(ours), "Gbit/s")
	b.ReportMetric(middle(hand), "by-hand-Gbit/s")
	b.ReportMetric(middle(ratios), "ratio")
}

func middle(all []float64) float64 { return slices.Sorted(slices.Values(all))[len(all)/2] }

// smaller gives a guest the MTU that instances have.
func smaller(b *testing.B, guest *networkstest.NS) {
	b.Helper()
	guest.Must(b, func() error {
		testenv.Run(b, "ip", "link", "set", "eth0", "mtu", "1450")
		return nil
	})
}

// byHand makes a network on a host, and returns its guest.
func byHand(b *testing.B, h *host, remote, address string) *networkstest.NS {
	b.Helper()
	var guest *networkstest.NS
	h.in(func() {
		for _, args := range [][]string{
			{"ip", "link", "add", "hand0", "type", "bridge"},
			{"ip", "link", "set", "hand0", "up"},
			{"ip", "link", "add", "handvx", "type", "vxlan", "id", "9", "dstport", "4790", "remote", remote},
			{"ip", "link", "set", "handvx", "master", "hand0", "up"},
		} {
			testenv.Run(b, args...)
		}
		guest = networkstest.Guest(b, "hand0", "hand1", "")
	})
	smaller(b, guest)
	guest.Must(b, func() error { return networkstest.Address("eth0", address) })
	return guest
}

// stream sends from one guest to another for a while, and returns how much has
// come, in Gbit/s.
func stream(b *testing.B, from, to *networkstest.NS, address string) float64 {
	b.Helper()
	var l net.Listener
	to.Must(b, func() (err error) {
		l, err = new(net.ListenConfig).Listen(b.Context(), "tcp", address)
		return err
	})
	var near net.Conn
	from.Must(b, func() (err error) {
		near, err = (&net.Dialer{Timeout: 10 * time.Second}).DialContext(b.Context(), "tcp", address)
		return err
	})
	far, err := l.Accept()
	must(b, err)
	go func() {
		data := make([]byte, 128<<10)
		for {
			if _, err := near.Write(data); err != nil {
				return
			}
		}
	}()
	total, data, begun := 0, make([]byte, 256<<10), time.Now()
	for time.Since(begun) < 700*time.Millisecond {
		n, err := far.Read(data)
		if err != nil && !errors.Is(err, unix.EINTR) {
			b.Fatal(fmt.Errorf("read: %w", err))
		}
		total += n
	}
	rate := float64(total) * 8 / float64(time.Since(begun).Nanoseconds())
	must(b, errors.Join(near.Close(), far.Close(), l.Close()))
	return rate
}
