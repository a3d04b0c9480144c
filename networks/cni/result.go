package cni

import (
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// Result is what the plugins have made.
type Result struct {
	Interfaces []Interface
	Addresses  []Address
	Routes     []Route
	DNS        DNS
}

// Interface is one that a plugin has made or used.
type Interface struct {
	Name, MAC string
	Inside    bool // In the instance, not on the host.
}

// Address is one of the instance.
type Address struct {
	Prefix    netip.Prefix
	Gateway   netip.Addr // Not valid for none.
	Interface string     // That has it; empty if the plugin does not say.
}

// Route is one of the instance.
type Route struct {
	To      netip.Prefix
	Gateway netip.Addr // Not valid for that of the addresses.
}

// DNS says whom the instance may ask for names.
type DNS struct {
	Nameservers     []string
	Domain          string
	Search, Options []string
}

// HostName is the host's end of the interface; empty for none.
func (r *Result) HostName() string {
	// The last one: a bridge comes before the end that is its port.
	for _, i := range slices.Backward(r.Interfaces) {
		if !i.Inside {
			return i.Name
		}
	}
	return ""
}

func newResult(from types.Result) (*Result, error) {
	got, err := current.GetResult(from)
	if err != nil {
		return nil, err
	}
	out := &Result{DNS: DNS{got.DNS.Nameservers, got.DNS.Domain, got.DNS.Search, got.DNS.Options}}
	for _, i := range got.Interfaces {
		out.Interfaces = append(out.Interfaces, Interface{Name: i.Name, MAC: i.Mac, Inside: i.Sandbox != ""})
	}
	for _, ip := range got.IPs {
		a := Address{}
		if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			ones, _ := ip.Address.Mask.Size()
			a.Prefix = netip.PrefixFrom(addr.Unmap(), ones)
		}
		if gw, ok := netip.AddrFromSlice(ip.Gateway); ok {
			a.Gateway = gw.Unmap()
		}
		if ip.Interface != nil && *ip.Interface >= 0 && *ip.Interface < len(out.Interfaces) {
			a.Interface = out.Interfaces[*ip.Interface].Name
		}
		out.Addresses = append(out.Addresses, a)
	}
	for _, r := range got.Routes {
		one := Route{}
		if addr, ok := netip.AddrFromSlice(r.Dst.IP); ok {
			ones, _ := r.Dst.Mask.Size()
			one.To = netip.PrefixFrom(addr.Unmap(), ones)
		}
		if gw, ok := netip.AddrFromSlice(r.GW); ok {
			one.Gateway = gw.Unmap()
		}
		out.Routes = append(out.Routes, one)
	}
	return out, nil
}
