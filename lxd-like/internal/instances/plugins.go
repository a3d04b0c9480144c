package instances

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/devices"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/networks/cni"
	"github.com/cuib/cuib/networks/nic"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// A pluginKeeper is what instances need of those who run network plugins.
type pluginKeeper interface {
	// LookForPlugins reports why plugins cannot make a NIC of an instance.
	LookForPlugins(ctx context.Context, name string, n runtime.NIC) error
	// Plugged returns what they have made.
	Plugged(name string, n runtime.NIC) (*cni.Result, error)
	// CheckNIC asks them whether it is still so.
	CheckNIC(ctx context.Context, name string, n runtime.NIC) error
}

// plugged are the options by which an instance keeps what plugins have made of
// a device.
func (s *Service) plugged(of owner, p devices.Plan) (map[string]string, error) {
	out := map[string]string{}
	for _, n := range p.NICs {
		if n.Kind != nic.CNI || s.Plugins == nil {
			continue
		}
		got, err := s.Plugins.Plugged(of.instance, n)
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(apiPlugged(n, got))
		if err != nil {
			return nil, err
		}
		out[devices.LastPlugins(of.device)] = string(text)
	}
	return out, nil
}

// allPlugged is plugged for all devices.
func (s *Service) allPlugged(instance string, all plan) (map[string]string, error) {
	out := map[string]string{}
	for device, p := range all {
		some, err := s.plugged(owner{instance, device}, p)
		if err != nil {
			return nil, err
		}
		maps.Copy(out, some)
	}
	return out, nil
}

// fillPlugged says in the state of a running instance what plugins have made.
func (s *Service) fillPlugged(st *api.InstanceState, name string) {
	if s.Plugins == nil {
		return
	}
	spec, err := s.Runtime.Given(name)
	if err != nil {
		return // It has ended.
	}
	for _, n := range spec.NICs {
		link, some := st.Network[n.Name]
		if n.Kind != nic.CNI || !some {
			continue
		}
		if got, err := s.Plugins.Plugged(name, n); err == nil {
			link.CNI = apiPlugged(n, got)
			st.Network[n.Name] = link
		}
	}
}

// Examine asks the plugins of an instance's NICs whether all is as they have
// made it, and names what is the host's network.
func (s *Service) Examine(ctx context.Context, name string) ([]api.NetworkCheck, error) {
	in, unlock, err := s.locked(ctx, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if s.index.get(in.Name) == nil {
		return nil, errs.Conflictf("instance %q is not running", name)
	}
	spec, err := s.Runtime.Given(name)
	if err != nil {
		return nil, err
	}
	out := []api.NetworkCheck{}
	for _, n := range slices.Clone(spec.NICs) {
		if n.Kind == nic.Shared {
			out = append(out, api.NetworkCheck{Name: n.Device, Status: "ok", Detail: "the host's own network"})
		}
		if n.Kind != nic.CNI || s.Plugins == nil {
			continue
		}
		check := api.NetworkCheck{Name: n.Name, Status: "ok", Detail: "CNI configuration " + n.Plugins.Config}
		if err := s.Plugins.CheckNIC(ctx, name, n); errs.Is(err, errs.Unsupported) {
			check.Status, check.Detail = "skipped", err.Error()
		} else if err != nil {
			check.Status, check.Detail = "failed", err.Error()
			check.Remedy = "cuib restart " + name
		}
		out = append(out, check)
	}
	return out, nil
}

func apiPlugged(n runtime.NIC, from *cni.Result) *api.InstanceStateNetworkCNI {
	out := &api.InstanceStateNetworkCNI{
		Config: n.Plugins.Config, Interfaces: []api.InstanceStateCNIInterface{}, Addresses: []api.InstanceStateCNIAddress{},
		Routes: []api.InstanceStateCNIRoute{}, DNS: api.InstanceStateCNIDNS(from.DNS),
	}
	for _, i := range from.Interfaces {
		out.Interfaces = append(out.Interfaces, api.InstanceStateCNIInterface{Name: i.Name, Hwaddr: i.MAC, Inside: i.Inside})
	}
	for _, a := range from.Addresses {
		one := api.InstanceStateCNIAddress{Address: a.Prefix.String(), Interface: a.Interface}
		if a.Gateway.IsValid() {
			one.Gateway = a.Gateway.String()
		}
		out.Addresses = append(out.Addresses, one)
	}
	for _, r := range from.Routes {
		one := api.InstanceStateCNIRoute{To: r.To.String()}
		if r.Gateway.IsValid() {
			one.Gateway = r.Gateway.String()
		}
		out.Routes = append(out.Routes, one)
	}
	return out
}
