package instances

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/devices"
	"github.com/cuib/cuib/lxd-like/internal/proxies"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/lxd-like/internal/tpm"
	"github.com/cuib/cuib/lxd-like/projectkeys"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// plan is what the devices of an instance come to, by device.
type plan map[string]devices.Plan

// into adds what is planned to what the runtime is to start.
func (p plan) into(spec *runtime.Spec) {
	for _, name := range slices.Sorted(maps.Keys(p)) {
		spec.Mounts = append(spec.Mounts, p[name].Mounts...)
		spec.Nodes = append(spec.Nodes, p[name].Nodes...)
		spec.NICs = append(spec.NICs, p[name].NICs...)
		if env := p[name].Env; env != nil {
			env = maps.Clone(env)
			maps.Copy(env, spec.Env) // What the configuration says goes first.
			spec.Env = env
		}
	}
	// One mount can be below another, which must be there first.
	slices.SortStableFunc(spec.Mounts, func(a, b runtime.Mount) int { return strings.Compare(a.Target, b.Target) })
}

func (s *Service) env(in *instance) devices.Env {
	env := devices.Env{Instance: in.Name, Devices: in.expanded.Devices, Volatile: in.Config, Link: s.Nets.Link, Volume: s.lookAtVolume}
	env.Host, env.CDI, env.TPM = s.Host, s.CDI, s.checkTPM
	env.Pin, env.CheckACLs = s.Nets.Pin, s.CheckACLs
	env.DiskPaths = s.rules(in.Name).DiskPaths()
	if s.Rules != nil {
		env.MACPattern = s.Rules.Config(project.OfInstance(in.Name), projectkeys.MACPattern)
	}
	if s.Plugins != nil {
		env.Plugins = s.Plugins.LookForPlugins
	}
	if a := s.index.get(in.Name); a != nil {
		env.IDs, env.Running = a.ids, true // Whatever the configuration says by now.
	} else if !isTrue(in.expanded.Options["security.privileged"]) {
		env.IDs = idmap.Default(0, 1) // Which ones does not matter, but that there are some.
	}
	return env
}

// plan plans the devices of an instance. What it must remember of them is
// added to its configuration in memory, and returned.
func (s *Service) plan(ctx context.Context, in *instance) (plan, map[string]string, error) {
	return s.planFrom(ctx, nil, in)
}

// planFrom is plan for what an instance is to become that is there: what the host
// has lost of a device that stays as it is, is in the way of a start, and of
// nothing else.
func (s *Service) planFrom(ctx context.Context, before, in *instance) (plan, map[string]string, error) {
	out, keys := plan{}, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(in.expanded.Devices)) {
		p, err := devices.Make(ctx, name, in.expanded.Devices[name], s.env(in))
		if err != nil && stays(before, in, name) {
			p, err = devices.Recall(ctx, name, in.expanded.Devices[name], s.env(in)), nil
		}
		if err != nil {
			s.unplan(out)
			return nil, nil, errs.Newf(errs.KindOf(err), "%w", &deviceError{name, err})
		}
		out[name] = p
		maps.Copy(keys, p.Volatile)
		in.apply(p.Volatile)
	}
	return out, keys, nil
}

// A deviceError says which device cannot be had.
type deviceError struct {
	name string
	err  error
}

func (e *deviceError) Error() string { return fmt.Sprintf("device %q: %v", e.name, e.err) }
func (e *deviceError) Unwrap() error { return e.err }

// stays reports whether an instance has a device already as it is to be. What a
// proxy is depends on others.
func stays(before, in *instance, name string) bool {
	if before == nil {
		return false
	}
	dev := in.expanded.Devices[name]
	return dev["type"] != "proxy" && before.expanded.Devices[name] != nil && maps.Equal(before.expanded.Devices[name], dev)
}

// recall is what an instance was given when it was planned last.
func (s *Service) recall(ctx context.Context, in *instance) plan {
	out := plan{}
	for name, dev := range in.expanded.Devices {
		out[name] = devices.Recall(ctx, name, dev, s.env(in))
	}
	s.recallNodes(in, out)
	return out
}

// name gives the NICs of a new instance their addresses and names.
func (s *Service) name(ctx context.Context, in *instance) {
	for _, name := range slices.Sorted(maps.Keys(in.expanded.Devices)) {
		in.apply(devices.Recall(ctx, name, in.expanded.Devices[name], s.env(in)).Volatile)
	}
}

// startDevices plans the devices.
func (s *Service) startDevices(ctx context.Context, l *launch, _ *undo.Stack) error {
	if err := s.checkVolumes(ctx, l.in); err != nil {
		return err
	}
	p, keys, err := s.plan(ctx, l.in)
	l.plan = p
	maps.Copy(l.keys, keys)
	for _, one := range p {
		maps.Copy(l.keys, one.LastState)
	}
	return err
}

// startHosts tells the networks of the instance. They keep knowing it, be it
// stopped or not, until it is deleted.
func (s *Service) startHosts(ctx context.Context, l *launch, _ *undo.Stack) error {
	for _, name := range slices.Sorted(maps.Keys(l.plan)) {
		for _, h := range l.plan[name].Hosts {
			if err := s.Nets.SetHost(ctx, h.Network, h.Host); err != nil {
				return fmt.Errorf("device %q: %w", name, err)
			}
		}
	}
	return nil
}

// hosts is what the networks know of an instance.
func hosts(in *instance) []devices.NetHost {
	var out []devices.NetHost
	for _, name := range slices.Sorted(maps.Keys(in.expanded.Devices)) {
		out = append(out, devices.Hosts(name, in.expanded.Devices[name], in.Name, in.Config)...)
	}
	return out
}

// setHost tells a network of an instance, and unsetHost makes it forget it;
// both with what takes it back.
func (s *Service) setHost(ctx context.Context, h devices.NetHost, u *undo.Stack) error {
	if err := s.Nets.SetHost(ctx, h.Network, h.Host); err != nil {
		return fmt.Errorf("network %q: %w", h.Network, err)
	}
	u.Push("make network "+h.Network+" forget the instance", func(ctx context.Context) error {
		return s.Nets.UnsetHost(ctx, h.Network, h.Host)
	})
	return nil
}

func (s *Service) unsetHost(ctx context.Context, h devices.NetHost, u *undo.Stack) error {
	if err := s.Nets.UnsetHost(ctx, h.Network, h.Host); err != nil {
		return fmt.Errorf("network %q: %w", h.Network, err)
	}
	u.Push("tell network "+h.Network+" of the instance", func(ctx context.Context) error {
		return s.Nets.SetHost(ctx, h.Network, h.Host)
	})
	return nil
}

// unsetHosts makes the networks forget an instance.
func (s *Service) unsetHosts(ctx context.Context, in *instance, u *undo.Stack) error {
	for _, h := range hosts(in) {
		if err := s.unsetHost(ctx, h, u); err != nil {
			return err
		}
	}
	return nil
}

// checkParents reports devices whose pool or network is not there.
func (s *Service) checkParents(ctx context.Context, devs map[string]profiles.Device) error {
	for _, name := range slices.Sorted(maps.Keys(devs)) {
		if err := s.checkParent(ctx, devs[name]); err != nil {
			return fmt.Errorf("device %q: %w", name, err)
		}
	}
	return nil
}

func (s *Service) checkParent(ctx context.Context, dev profiles.Device) error {
	if network := dev["network"]; dev["type"] == "nic" && network != "" {
		if err := s.Nets.Exists(ctx, network); err != nil {
			return asInvalid(err)
		}
	}
	if pool := dev["pool"]; dev["type"] == "disk" && pool != "" {
		if _, err := s.Pools.Driver(ctx, pool); err != nil {
			return asInvalid(err)
		}
		return s.checkInitial(ctx, dev)
	}
	return nil
}

// checkInitial reports options that the root volume cannot have in its pool.
func (s *Service) checkInitial(ctx context.Context, dev profiles.Device) error {
	if !profiles.IsRoot(dev) {
		return nil
	}
	initial := profiles.InitialOptions(dev)
	for _, key := range slices.Sorted(maps.Keys(initial)) {
		if err := s.Pools.CheckVolumeOption(ctx, dev["pool"], key, initial[key]); err != nil {
			return fmt.Errorf("initial.%w", err)
		}
	}
	return nil
}

// asInvalid makes an error of the request of what it names and is not there.
func asInvalid(err error) error {
	if errs.Is(err, errs.NotFound) {
		return errs.Newf(errs.Invalid, "%w", err)
	}
	return err
}

// checkPlan reports what the host or the networks have against a new
// instance's devices, or against the changed ones of another. It returns what it
// has planned, which the caller makes so and unplans then.
func (s *Service) checkPlan(ctx context.Context, before, in *instance) (plan, error) {
	if _, err := settings(in); err != nil {
		return nil, err
	}
	changed := maps.Clone(in.expanded.Devices)
	maps.DeleteFunc(changed, func(name string, _ profiles.Device) bool { return stays(before, in, name) })
	if err := s.checkParents(ctx, changed); err != nil {
		return nil, err
	}
	p, _, err := s.planFrom(ctx, before, in.clone())
	if err != nil {
		return nil, err
	}
	var known []devices.NetHost
	if before != nil {
		known = hosts(before)
	}
	if err := s.checkHosts(ctx, p, known); err != nil {
		s.unplan(p)
		return nil, err
	}
	return p, nil
}

// unplan gives back the addresses that networks keep for NICs that were planned
// and did not come to be. Those that a network knows keep theirs.
func (s *Service) unplan(p plan) {
	for name, one := range p {
		if _, chosen := one.Volatile["volatile."+name+".hwaddr"]; !chosen {
			continue // It has the same address each time.
		}
		for _, h := range one.Hosts {
			s.Nets.Release(h.Network, h.Host)
		}
	}
}

// checkHosts reports what the networks have against addresses that somebody
// has chosen. Each is compared with those of all instances, which takes long:
// those that are known are not.
func (s *Service) checkHosts(ctx context.Context, p plan, known []devices.NetHost) error {
	for _, name := range slices.Sorted(maps.Keys(p)) {
		for _, h := range p[name].Hosts {
			_, random := p[name].Volatile["volatile."+name+".hwaddr"]
			if random && !h.Host.IPv4.IsValid() && !h.Host.IPv6.IsValid() || slices.Contains(known, h) {
				continue
			}
			if err := s.Nets.CheckHost(ctx, h.Network, h.Host); err != nil {
				return errs.Newf(errs.KindOf(err), "device %q: %w", name, err)
			}
		}
		for _, c := range p[name].Claims {
			if err := s.Nets.CheckClaim(ctx, c); err != nil {
				return errs.Newf(errs.KindOf(err), "device %q: %w", name, err)
			}
		}
	}
	return nil
}

// sameDevices reports whether a change leaves all devices as they are. Then
// nothing is asked of them: what the host has lost meanwhile is in the way of
// a start, and of nothing else.
func sameDevices(in, next *instance) bool {
	return reflect.DeepEqual(in.expanded.Devices, next.expanded.Devices) &&
		maps.Equal(nicKeys(in.Config), nicKeys(next.Config))
}

func nicKeys(config map[string]string) map[string]string {
	out := maps.Clone(config)
	maps.DeleteFunc(out, func(k, _ string) bool { return !isNICKey(k) })
	return out
}

// checkLive reports why a running instance cannot become next now, of which want
// is planned.
func (s *Service) checkLive(ctx context.Context, in, next *instance, want plan) error {
	if s.index.get(in.Name) == nil || sameDevices(in, next) {
		return nil
	}
	_, err := devices.Diff(s.recall(ctx, in), want)
	return err
}

// planLive plans what a running instance is to have, and reports why it cannot
// have that now. The caller unplans it, also with an error.
func (s *Service) planLive(ctx context.Context, in, next *instance) (plan, error) {
	if s.index.get(in.Name) == nil || sameDevices(in, next) {
		var none plan
		return none, nil
	}
	want, _, err := s.planFrom(ctx, in, next.clone())
	if err != nil {
		return nil, err
	}
	return want, s.checkLive(ctx, in, next, want)
}

// change makes what runs, and what the pool and the networks know, become
// next, of which want is planned; with what takes each step back.
func (s *Service) change(ctx context.Context, in, next *instance, want plan, u *undo.Stack) error {
	if err := s.changeOptions(ctx, in, next, u); err != nil {
		return err
	}
	return s.changeDevices(ctx, in, next, want, u)
}

// changeOptions is change without the devices of what runs.
func (s *Service) changeOptions(ctx context.Context, in, next *instance, u *undo.Stack) error {
	if err := s.changeSize(ctx, in, next, u); err != nil {
		return err
	}
	if err := s.changeGuest(in, next, u); err != nil {
		return err
	}
	if s.index.get(in.Name) == nil {
		return s.forgetHosts(ctx, in, next, u)
	}
	if err := changeModules(ctx, in, next); err != nil {
		return err
	}
	if err := s.changeLimits(ctx, in, next, u); err != nil {
		return err
	}
	if err := s.changeMounting(ctx, in, next, u); err != nil {
		return err
	}
	return s.changeProcesses(ctx, in, next, u)
}

// forgetHosts makes networks forget what a stopped instance is not any more.
// They learn what it is when it starts.
func (s *Service) forgetHosts(ctx context.Context, in, next *instance, u *undo.Stack) error {
	keep := hosts(next)
	for _, h := range hosts(in) {
		if slices.Contains(keep, h) {
			continue
		}
		if err := s.unsetHost(ctx, h, u); err != nil {
			return err
		}
	}
	return nil
}

// changeSize changes the limit of the root disk.
func (s *Service) changeSize(ctx context.Context, in, next *instance, u *undo.Stack) error {
	before, after := in.rootSize(), next.rootSize()
	if !after.inherited {
		next.apply(map[string]string{keyRootSize: ""})
	}
	if _, _, ok := root(next.expanded); !ok || before.text == after.text {
		return nil
	}
	d, err := s.driver(ctx, in)
	if err != nil {
		return err
	}
	was, err := profiles.ParseSize(before.text)
	if err != nil {
		return err
	}
	size, err := profiles.ParseSize(after.text)
	if err != nil {
		return fmt.Errorf("device %q: size: %w", before.device, err)
	}
	if size != 0 && (was == 0 || size < was) {
		if err := storage.MustFit(ctx, d, in.volume(), size); err != nil {
			return fmt.Errorf("device %q: %w", before.device, err)
		}
	}
	if err := setSize(ctx, d, in.volume(), size); err != nil {
		return fmt.Errorf("device %q: %w", before.device, err)
	}
	u.Push("set the size of the root disk back", func(ctx context.Context) error { return setSize(ctx, d, in.volume(), was) })
	return nil
}

// changeDevices removes what a running instance has not any more and adds
// what is new, as it is planned. A device that changed goes and comes back.
func (s *Service) changeDevices(ctx context.Context, in, next *instance, want plan, u *undo.Stack) error {
	if s.index.get(in.Name) == nil || sameDevices(in, next) {
		return nil
	}
	for _, p := range want {
		next.apply(p.Volatile)
	}
	have := s.recall(ctx, in)
	c, err := devices.Diff(have, want)
	if err != nil {
		return err
	}
	for _, name := range c.Remove {
		if err := s.detach(ctx, owner{in.Name, name}, have[name], u); err != nil {
			return fmt.Errorf("remove device %q: %w", name, err)
		}
		next.apply(devices.ForgetLastState(next.Config, name))
	}
	for _, name := range c.Add {
		if err := s.attach(ctx, owner{in.Name, name}, want[name], u); err != nil {
			return fmt.Errorf("add device %q: %w", name, err)
		}
		next.apply(want[name].LastState)
		made, err := s.plugged(owner{in.Name, name}, want[name])
		if err != nil {
			return fmt.Errorf("add device %q: %w", name, err)
		}
		next.apply(made)
	}
	s.noteLate(next)
	u.Push("look for missing disks as before", func(context.Context) error { s.noteLate(in); return nil })
	for _, name := range c.Change {
		if err := s.changeNIC(ctx, in.Name, have[name].NICs[0], want[name].NICs[0], u); err != nil {
			return fmt.Errorf("change device %q: %w", name, err)
		}
	}
	s.follow(ctx, next)
	u.Push("look for what comes and goes as before", func(ctx context.Context) error { s.follow(ctx, in); return nil })
	for _, name := range c.Hosts {
		if err := s.know(ctx, have[name].Hosts, want[name].Hosts, u); err != nil {
			return fmt.Errorf("device %q: %w", name, err)
		}
	}
	s.warnHooks(ctx, next)
	return nil
}

// changeNIC makes a NIC of a running instance another, which stays where it is.
func (s *Service) changeNIC(ctx context.Context, name string, before, after runtime.NIC, u *undo.Stack) error {
	if err := s.Runtime.ChangeNIC(ctx, name, after); err != nil {
		return err
	}
	u.Push("change it back", func(ctx context.Context) error { return s.Runtime.ChangeNIC(ctx, name, before) })
	return nil
}

// know tells networks what has changed of a NIC that stays.
func (s *Service) know(ctx context.Context, before, after []devices.NetHost, u *undo.Stack) error {
	for _, h := range before {
		if err := s.unsetHost(ctx, h, u); err != nil {
			return err
		}
	}
	for _, h := range after {
		if err := s.setHost(ctx, h, u); err != nil {
			return err
		}
	}
	return nil
}

// attach adds a device to a running instance.
func (s *Service) attach(ctx context.Context, of owner, p devices.Plan, u *undo.Stack) error {
	for _, h := range p.Hosts {
		if err := s.setHost(ctx, h, u); err != nil {
			return err
		}
	}
	for _, part := range s.parts(of, p) {
		if err := part.add(ctx); err != nil {
			return err
		}
		u.Push("remove it", part.remove)
	}
	return nil
}

// detach removes a device from a running instance.
func (s *Service) detach(ctx context.Context, of owner, p devices.Plan, u *undo.Stack) error {
	for _, part := range slices.Backward(s.parts(of, p)) {
		if err := part.remove(ctx); err != nil {
			return err
		}
		u.Push("add it", part.add)
	}
	for _, h := range p.Hosts {
		if err := s.unsetHost(ctx, h, u); err != nil {
			return err
		}
	}
	return nil
}

// part is something that a running container can be given, and lose.
type part struct {
	add, remove func(context.Context) error
}

// owner names a device of an instance.
type owner struct{ instance, device string }

func (s *Service) parts(of owner, p devices.Plan) []part {
	name := of.instance
	if p.Volume != (devices.Volume{}) {
		return []part{s.volumePart(name, of.device, p)}
	}
	if p.TPM != (tpm.Rule{}) {
		return []part{s.tpmPart(of, p)}
	}
	var out []part
	if p.Proxy != (proxies.Rule{}) {
		out = append(out, s.proxyPart(of, p))
	}
	for _, m := range p.Mounts {
		out = append(out, part{
			func(ctx context.Context) error { return s.Runtime.AddMount(ctx, name, m) },
			func(ctx context.Context) error { return s.Runtime.RemoveMount(ctx, name, m.Target) },
		})
	}
	for _, n := range p.Nodes {
		out = append(out, s.nodePart(name, n))
	}
	for _, n := range p.NICs {
		out = append(out, part{
			func(ctx context.Context) error { return s.Runtime.AddNIC(ctx, name, n) },
			func(ctx context.Context) error { return s.Runtime.RemoveNIC(ctx, name, n) },
		})
	}
	return out
}
