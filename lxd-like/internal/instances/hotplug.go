package instances

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/devices"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/lxd-like/internal/tpm"
	"github.com/cuib/cuib/lxd-like/internal/uevents"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
)

// plugs is what there is to know of devices that come and go. The zero value
// is ready to use.
type plugs struct {
	mu    sync.Mutex                            // Guards what follows.
	wants map[string]map[string]profiles.Device // Devices of instances that run, by instance.
	told  map[string]map[string]uevents.Event   // What guests know of nodes, by instance and path.
	fresh map[string]bool                       // Instances that were not looked at yet.
	busy  map[string]bool                       // Those that somebody looks at; true if it is to be done again.
	wake  chan struct{}

	hear func() (*uevents.Listener, error) // Nil for [uevents.Listen]: tests have it fail.
}

// follow notes which devices of a running instance come and go. Whatever has
// happened to them since they were planned is found out at once.
func (s *Service) follow(ctx context.Context, in *instance) {
	wants := map[string]profiles.Device{}
	for name, dev := range in.expanded.Devices {
		if dev = devices.Lent(ctx, name, dev, s.env(in)); devices.Comes(dev) || devices.Returns(dev) {
			wants[name] = dev
		}
	}
	if s.plugs.note(in.Name, wants) {
		s.plugs.poke()
	}
}

// note notes what an instance wants, and reports whether that concerns anybody.
func (p *plugs) note(instance string, wants map[string]profiles.Device) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(wants) == 0 && p.wants[instance] == nil {
		return false
	}
	if len(wants) == 0 {
		delete(p.wants, instance)
		delete(p.fresh, instance)
		return true
	}
	if p.wants == nil {
		p.wants, p.fresh = map[string]map[string]profiles.Device{}, map[string]bool{}
	}
	p.wants[instance], p.fresh[instance] = wants, true
	return true
}

// drop forgets an instance that has ended.
func (p *plugs) drop(instance string) {
	p.mu.Lock()
	delete(p.told, instance)
	p.mu.Unlock()
	if p.note(instance, nil) {
		p.poke()
	}
}

// poke has who looks after devices look at what has changed.
func (p *plugs) poke() {
	select {
	case p.waker() <- struct{}{}:
	default: // It will.
	}
}

func (p *plugs) waker() chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wake == nil {
		p.wake = make(chan struct{}, 1)
	}
	return p.wake
}

// unseen returns the instances that were not looked at yet, which they then
// are, and paths returns where on the host devices of all come and go.
func (p *plugs) unseen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := slices.Collect(maps.Keys(p.fresh))
	clear(p.fresh)
	return names
}

func (p *plugs) paths() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, wants := range p.wants {
		for _, dev := range wants {
			if strings.HasPrefix(dev["type"], "unix-") && dev["type"] != "unix-hotplug" {
				out = append(out, cmp.Or(dev["source"], dev["path"]))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// who returns the instances with a device for which concerns is true.
func (p *plugs) who(concerns func(dev profiles.Device) bool) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for name, wants := range p.wants {
		for _, dev := range wants {
			if concerns(dev) {
				out = append(out, name)
				break
			}
		}
	}
	return out
}

func (p *plugs) any() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.wants) > 0
}

// begin reports whether nobody looks at an instance yet. If somebody does, it
// is looked at once more.
func (p *plugs) begin(instance string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy == nil {
		p.busy = map[string]bool{}
	}
	if _, looks := p.busy[instance]; looks {
		p.busy[instance] = true
		return false
	}
	p.busy[instance] = false
	return true
}

// again ends a look at an instance, or reports that there is to be another.
func (p *plugs) again(instance string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy[instance] {
		p.busy[instance] = false
		return true
	}
	delete(p.busy, instance)
	return false
}

// know notes what the guest knows of a node, and known returns it.
func (p *plugs) know(instance, path string, e uevents.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.told == nil {
		p.told = map[string]map[string]uevents.Event{}
	}
	if p.told[instance] == nil {
		p.told[instance] = map[string]uevents.Event{}
	}
	p.told[instance][path] = e
}

func (p *plugs) known(instance, path string) (uevents.Event, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.told[instance][path]
	return e, ok
}

func (p *plugs) forget(instance, path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.told[instance], path)
}

// Hotplug gives running instances the devices that come to the host, and takes
// those that go, until ctx ends. It listens only while an instance wants that.
func (s *Service) Hotplug(ctx context.Context) error {
	var missed []string // Instances of which nobody knows what has come or gone.
	for {
		for !s.plugs.any() {
			select {
			case <-ctx.Done():
				return nil
			case <-s.plugs.waker():
			}
		}
		err := s.listen(ctx, missed)
		missed = nil
		if err != nil && ctx.Err() == nil {
			s.Logger.ErrorContext(ctx, "devices that come and go are not noticed for a while", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(listenAgain):
			}
			missed = s.plugs.who(func(profiles.Device) bool { return true })
		}
		select {
		case <-ctx.Done():
			return nil
		default:
		}
	}
}

// listenAgain is how long it takes until the kernel is asked again to tell of
// devices, such as when it had no room for that.
const listenAgain = 5 * time.Second

// sources are where one hears of devices.
type sources struct {
	kernel *uevents.Listener
	paths  *uevents.Paths
	heard  chan func(profiles.Device) bool // Which devices are to be looked at.
}

// listen follows devices for as long as an instance has some, and looks first at
// those of the instances that are given.
func (s *Service) listen(ctx context.Context, first []string) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var from sources
	hear := s.plugs.hear
	if hear == nil {
		hear = uevents.Listen
	}
	if from.kernel, err = hear(); err != nil {
		return err
	}
	defer from.kernel.Close()
	if from.paths, err = uevents.WatchPaths(); err != nil {
		return err
	}
	defer from.paths.Close()
	from.heard = make(chan func(profiles.Device) bool)
	failed := make(chan error, 2)
	go func() { failed <- from.hear(ctx) }()
	go func() { failed <- from.look(ctx) }()
	for _, name := range first {
		s.replugSoon(ctx, name)
	}
	for s.plugs.any() {
		if err := from.paths.Set(s.plugs.paths()); err != nil {
			s.Logger.WarnContext(ctx, "not all places of devices are watched", "err", err)
		}
		for _, name := range s.plugs.unseen() {
			s.replugSoon(ctx, name)
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-s.plugs.waker():
		case concerns := <-from.heard:
			for _, name := range s.plugs.who(concerns) {
				s.replugSoon(ctx, name)
			}
		}
	}
	return nil
}

// hear hands on what the kernel and udev tell.
func (f *sources) hear(ctx context.Context) error {
	for {
		e, err := f.kernel.Next()
		concerns := concernedBy(e)
		switch {
		case errors.Is(err, uevents.ErrLost):
			concerns = func(profiles.Device) bool { return true }
		case err != nil:
			return err
		case concerns == nil:
			continue
		}
		select {
		case f.heard <- concerns:
		case <-ctx.Done():
			return nil
		}
	}
}

// look hands on that something has happened at a path.
func (f *sources) look(ctx context.Context) error {
	for {
		if err := f.paths.Next(); err != nil {
			return err
		}
		select {
		case f.heard <- func(dev profiles.Device) bool { return strings.HasPrefix(dev["type"], "unix-") }:
		case <-ctx.Done():
			return nil
		}
	}
}

// concernedBy says which devices an event can change; nil for none.
func concernedBy(e uevents.Event) func(profiles.Device) bool {
	if e.Action != "add" && e.Action != "remove" && e.Action != "move" {
		return nil
	}
	subsystem := e.Get("SUBSYSTEM")
	if subsystem == "net" {
		return func(dev profiles.Device) bool { return devices.Returns(dev) && dev["parent"] == e.Get("INTERFACE") }
	}
	node := e.Get("DEVNAME") != ""
	switch {
	case subsystem == "module" || subsystem == "pci" || subsystem == "drm": // NVIDIA's nodes have no events of their own.
		return func(dev profiles.Device) bool { return dev["type"] == "gpu" || node && dev["type"] != "usb" }
	case subsystem == "usb" && node:
		return func(dev profiles.Device) bool { return dev["type"] != "gpu" }
	case node:
		return func(dev profiles.Device) bool { return strings.HasPrefix(dev["type"], "unix-") }
	}
	return nil
}

// replugSoon looks at what has come and gone of an instance's devices as soon as
// nobody else changes the instance.
func (s *Service) replugSoon(ctx context.Context, name string) {
	if !s.plugs.begin(name) {
		return
	}
	ctx = context.WithoutCancel(ctx)
	go func() {
		for {
			if err := s.replug(ctx, name); err != nil {
				s.Logger.ErrorContext(ctx, "an instance lacks devices that have come, or has some that have gone", "instance", name, "err", err)
			}
			if !s.plugs.again(name) {
				return
			}
		}
	}()
}

// replug gives a running instance what there is of its devices now.
func (s *Service) replug(ctx context.Context, name string) error {
	unlock := s.locks.Lock(name)
	defer unlock()
	if s.index.get(name) == nil {
		return nil
	}
	in, err := s.load(ctx, name)
	if err != nil {
		return err
	}
	have := s.recall(ctx, in)
	var failed error
	for _, device := range slices.Sorted(maps.Keys(in.expanded.Devices)) {
		switch dev := devices.Lent(ctx, device, in.expanded.Devices[device], s.env(in)); {
		case devices.Comes(dev):
			failed = errors.Join(failed, s.replugDevice(ctx, in, device, have[device].Nodes))
		case devices.Returns(dev) && devices.OnHost(dev):
			failed = errors.Join(failed, s.retakeNIC(ctx, in, device, have[device].NICs))
		}
	}
	return failed
}

// replugDevice takes nodes of a device that have gone and gives those that have
// come.
func (s *Service) replugDevice(ctx context.Context, in *instance, device string, have []runtime.Node) error {
	dev := in.expanded.Devices[device]
	p, err := devices.Now(device, dev, s.env(in))
	if err != nil {
		return fmt.Errorf("device %q: %w", device, err)
	}
	failed, changed := error(nil), false
	for _, n := range have {
		if !slices.Contains(p.Nodes, n) {
			changed = true
			failed = errors.Join(failed, s.nodePart(in.Name, n).remove(ctx))
		} else if _, known := s.plugs.known(in.Name, n.Path); !known {
			s.plugs.know(in.Name, n.Path, s.eventOf(n))
		}
	}
	for _, n := range p.Nodes {
		if !slices.Contains(have, n) {
			changed = true
			failed = errors.Join(failed, s.nodePart(in.Name, n).add(ctx))
		}
	}
	if !changed {
		return nil
	}
	if failed == nil && len(p.Nodes) > 0 && dev["type"] == "unix-block" {
		failed = s.relimit(ctx, in)
	}
	if failed != nil {
		return fmt.Errorf("device %q: %w", device, failed)
	}
	s.tellPlugged(in, device, len(have), len(p.Nodes))
	return nil
}

// relimit limits what goes through disks, of which one has come.
func (s *Service) relimit(ctx context.Context, in *instance) error {
	l, err := s.kept(ctx, in)
	if err != nil || len(l.Disks) == 0 {
		return err
	}
	return s.Runtime.SetLimits(ctx, in.Name, l)
}

// tellPlugged tells the guest API that a device has come or gone: with how many
// nodes before and after.
func (s *Service) tellPlugged(in *instance, device string, before, after int) {
	e := api.GuestDeviceEvent{Action: "updated", Name: device, Config: guestDevices(in)[device]}
	switch {
	case before == 0:
		e.Action = "added"
	case after == 0:
		e.Action = "removed"
	}
	if s.Guests != nil {
		s.Guests.Tell(in.Name, "device", e)
	}
}

// recallNodes puts right which nodes a running instance was given: the host can
// have others by now, or none.
func (s *Service) recallNodes(in *instance, p plan) {
	given, err := s.Runtime.Given(in.Name)
	if err != nil {
		return // It has ended.
	}
	for name, one := range p {
		one.Nodes = nil
		if profiles.IsCDI(in.expanded.Devices[name]) {
			one.Mounts = nil
		}
		p[name] = one
	}
	for _, n := range given.Nodes {
		if one, ok := p[n.Device]; ok && one.TPM == (tpm.Rule{}) {
			one.Nodes = append(one.Nodes, n)
			p[n.Device] = one
		}
	}
	for _, m := range given.Mounts {
		if one, ok := p[m.Device]; ok {
			one.Mounts = append(one.Mounts, m)
			p[m.Device] = one
		}
	}
}

// nodePart is a device node that a running instance can be given, and lose,
// with what its programs are told of it.
func (s *Service) nodePart(instance string, n runtime.Node) part {
	return part{
		add: func(ctx context.Context) error {
			if err := s.Runtime.AddNode(ctx, instance, n); err != nil {
				return err
			}
			e := s.eventOf(n)
			s.plugs.know(instance, n.Path, e)
			s.tellEvent(ctx, instance, "add", e)
			return nil
		},
		remove: func(ctx context.Context) error {
			if err := s.Runtime.RemoveNode(ctx, instance, n); err != nil {
				return err
			}
			e, known := s.plugs.known(instance, n.Path)
			if !known {
				e = s.eventOf(n)
			}
			s.plugs.forget(instance, n.Path)
			s.tellEvent(ctx, instance, "remove", e)
			return nil
		},
	}
}

// eventOf is what the kernel has to tell of a node, without an action; nothing
// if no driver has it any more.
func (s *Service) eventOf(n runtime.Node) uevents.Event {
	if s.Host.Files == nil {
		return uevents.Event{}
	}
	d, ok := s.Host.NodeOf(n.Block, n.Major, n.Minor)
	if !ok {
		return uevents.Event{}
	}
	// Where it is inside, which the configuration can say.
	properties := slices.DeleteFunc(slices.Clone(d.Properties), func(p string) bool { return strings.HasPrefix(p, "DEVNAME=") })
	return uevents.Event{Path: d.Path, Properties: append(properties, "SUBSYSTEM="+d.Subsystem, "DEVNAME="+n.Path)}
}

// tellEvent tells programs in an instance. They see the node without it.
func (s *Service) tellEvent(ctx context.Context, instance, action string, e uevents.Event) {
	if e.Path == "" {
		return
	}
	e.Action = action
	if err := s.Runtime.Tell(instance, e); err != nil {
		s.Logger.WarnContext(ctx, "a guest was not told of a device", "instance", instance, "err", err)
	}
}
