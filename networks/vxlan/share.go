package vxlan

import (
	"math/big"
	"net/netip"
	"slices"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/dnsmasq"
)

// view returns the members as this host knows them, sorted.
func view(o networks.Overlay, u underlay) []netip.Addr {
	all := append([]netip.Addr{u.local}, o.Peers...)
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// shared returns a family with the part of its ranges that this host gives
// addresses from. Members cut the ranges into as many parts as they know
// members. While they do not know the same, as while one more is being added,
// a host gives only from what is its own by every view that it has heard of:
// so no address is given twice.
func shared(f networks.Family, self netip.Addr, views [][]netip.Addr) networks.Family {
	if !f.Address.IsValid() || !f.DHCP {
		return f
	}
	ranges := dnsmasq.Ranges(f)
	total := new(big.Int)
	for _, r := range ranges {
		total.Add(total, size(r))
	}
	from, to := new(big.Int), new(big.Int).Set(total)
	for _, v := range views {
		i := slices.Index(v, self)
		if i < 0 {
			f.Ranges, f.Closed = nil, true
			return f
		}
		from = highest(from, cut(total, i, len(v)))
		to = lowest(to, cut(total, i+1, len(v)))
	}
	f.Ranges = pick(ranges, from, to)
	f.Closed = len(f.Ranges) == 0
	return f
}

// cut returns where part i of n begins.
func cut(total *big.Int, i, n int) *big.Int {
	at := new(big.Int).Mul(total, big.NewInt(int64(i)))
	return at.Div(at, big.NewInt(int64(n)))
}

// pick returns those addresses of ranges that have a number from from, to
// before to.
func pick(ranges []networks.Range, from, to *big.Int) []networks.Range {
	var out []networks.Range
	begin := new(big.Int)
	for _, r := range ranges {
		end := new(big.Int).Add(begin, size(r))
		first, last := highest(begin, from), lowest(end, to)
		if first.Cmp(last) < 0 {
			low := new(big.Int).Sub(first, begin)
			high := new(big.Int).Sub(last, begin)
			out = append(out, networks.Range{First: plus(r.First, low), Last: plus(r.First, high.Sub(high, big.NewInt(1)))})
		}
		begin = end
	}
	return out
}

func size(r networks.Range) *big.Int {
	n := new(big.Int).Sub(number(r.Last), number(r.First))
	return n.Add(n, big.NewInt(1))
}

func number(a netip.Addr) *big.Int { return new(big.Int).SetBytes(a.AsSlice()) }

func plus(a netip.Addr, n *big.Int) netip.Addr {
	raw := make([]byte, a.BitLen()/8)
	new(big.Int).Add(number(a), n).FillBytes(raw)
	sum, _ := netip.AddrFromSlice(raw) // Its length is an address's.
	return sum
}

func highest(a, b *big.Int) *big.Int {
	if a.Cmp(b) > 0 {
		return a
	}
	return b
}

func lowest(a, b *big.Int) *big.Int {
	if a.Cmp(b) < 0 {
		return a
	}
	return b
}
