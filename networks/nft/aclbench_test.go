package nft_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"testing"

	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/testenv"
)

// manyRules are as different ones as users have: networks, lists, ports, names.
func manyRules() acl.Direction {
	const n = 250
	d := acl.Direction{Default: acl.Reject}
	for i := range n {
		a := netip.AddrFrom4([4]byte{198, byte(i >> 8), byte(i), 1})
		r := acl.Rule{
			ACL: "a", Index: i, Action: []string{acl.Drop, acl.Reject, acl.Allow}[i%3], Protocol: []string{acl.TCP, acl.UDP}[i%2], ICMPType: -1, ICMPCode: -1,
			Source: acl.Side{All: true}, Destination: acl.Side{Addresses: []acl.Range{acl.OfAddress(a)}},
			DestinationPorts: []acl.Ports{{First: uint16(i + 1), Last: uint16(i + 1)}},
		}
		switch i % 5 {
		case 0:
			r.Destination.Addresses = append(r.Destination.Addresses, acl.OfPrefix(netip.PrefixFrom(a, 24)), acl.OfPrefix(netip.MustParsePrefix("2001:db8::/64")))
		case 1:
			r.DestinationPorts = append(r.DestinationPorts, acl.Ports{First: 8000, Last: 8080})
		case 2:
			r.Destination = acl.Side{Names: []string{"friend"}}
		}
		d.Rules = append(d.Rules, r)
	}
	acl.Sort(d.Rules)
	return d
}

type emptyBook struct{}

func (emptyBook) Addresses(string) []acl.Range { return nil }

func BenchmarkApplyACL500(b *testing.B) {
	testenv.NetNS(b)
	testenv.Kernel(b, "nft")
	cfg := config()
	cfg.ACL = &acl.Policy{Network: cfg.Name, Book: emptyBook{}, Egress: manyRules(), Ingress: manyRules()}
	for b.Loop() {
		if err := nft.Apply(cfg); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRefreshPortACL500(b *testing.B) {
	testenv.NetNS(b)
	testenv.Kernel(b, "nft", "ip")
	testenv.Run(b, "ip", "link", "add", "port1", "type", "veth", "peer", "name", "inner1")
	s := nft.NewACLPorts("/bench")
	policy := &acl.Policy{Network: "br0", Book: emptyBook{}, Egress: manyRules(), Ingress: manyRules()}
	s.Serve(func(acl.Ref) (*acl.Policy, error) { return policy, nil })
	if err := s.Set(nft.ACLPort{Link: "port1", Ref: acl.Ref{Network: "br0", ACLs: []string{"a"}}}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := s.Refresh("a"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSetPortACL gives a port ACLs beside others that have the same.
func BenchmarkSetPortACL(b *testing.B) {
	for _, beside := range []int{10, 500} {
		b.Run(strconv.Itoa(beside), func(b *testing.B) {
			testenv.NetNS(b)
			testenv.Kernel(b, "nft", "ip")
			s := nft.NewACLPorts("/bench")
			d := manyRules()
			d.Rules = d.Rules[:20]
			policy := &acl.Policy{Network: "br0", Book: emptyBook{}, Egress: d, Ingress: d}
			s.Serve(func(acl.Ref) (*acl.Policy, error) { return policy, nil })
			port := func(i int) nft.ACLPort {
				return nft.ACLPort{Link: fmt.Sprintf("port%d", i), Ref: acl.Ref{Network: "br0", ACLs: []string{"a"}}}
			}
			add := func(i int) {
				testenv.Run(b, "ip", "link", "add", port(i).Link, "type", "ifb")
			}
			for i := range beside {
				add(i)
				if err := s.Set(port(i)); err != nil {
					b.Fatal(err)
				}
			}
			for n := beside; b.Loop(); n++ {
				b.StopTimer()
				add(n)
				b.StartTimer()
				if err := s.Set(port(n)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
