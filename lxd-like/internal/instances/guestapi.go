package instances

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/shared/uuid"
)

// keyReady says whether the guest said that it is ready.
const keyReady = "volatile.last_state.ready"

// A Guest is an instance that runs, as who listens to guests knows it.
type Guest struct {
	Name string
	Root uint32 // The host's id of the guest's root, who alone may ask.
	Off  bool   // Nobody is to listen to it.
}

// A GuestView is what a guest may know of its instance.
type GuestView struct {
	CloudInitID string
	Ready       bool
	Images      bool              // It may have images of the host,
	ImagesOf    string            // namely those of this project.
	Config      map[string]string // The keys for which [ForGuest] holds.
	Devices     api.DevicesMap
}

// Ready says whether a guest is ready, as it says itself.
type Ready bool

// The values of [Ready].
const (
	NotReady Ready = false
	IsReady  Ready = true
)

// A guestListener listens to guests.
type guestListener interface {
	// Open makes the directory that the guest gets, with a socket in it if
	// somebody is to listen; for one that has it, it takes on what has changed.
	Open(g Guest) (dir string, err error)
	// Shut removes the directory.
	Shut(name string) error
	// Keep removes the directories of all others.
	Keep(names []string) error
	// Tell tells the guest of an event, if it listens.
	Tell(name, typ string, metadata any)
}

// ForGuest reports whether guests may read a key of their configuration.
func ForGuest(key string) bool {
	return strings.HasPrefix(key, "user.") || strings.HasPrefix(key, "cloud-init.")
}

// GuestView returns what the guest of an instance may know.
func (s *Service) GuestView(ctx context.Context, name string) (GuestView, error) {
	in, err := s.load(ctx, name)
	if err != nil {
		return GuestView{}, err
	}
	view, err := s.Projects.View(ctx, project.OfInstance(name))
	if err != nil {
		return GuestView{}, err
	}
	v := GuestView{
		CloudInitID: in.Config[keyCloudInitID],
		Ready:       s.code(name) == api.Ready,
		Images:      profiles.ParseGuestAPI(in.expanded.Options).Images,
		ImagesOf:    view.Images,
		Config:      maps.Clone(profiles.CloudInit(in.expanded)), Devices: guestDevices(in),
	}
	maps.DeleteFunc(v.Config, func(key, _ string) bool { return !ForGuest(key) })
	if v.CloudInitID == "" {
		v.CloudInitID = name // It is older than the key.
	}
	return v, nil
}

// guestDevices are an instance's devices, with the addresses that NICs were
// given: by them a guest knows which is which.
func guestDevices(in *instance) api.DevicesMap {
	out := api.DevicesMap{}
	for name, dev := range in.expanded.Devices {
		out[name] = api.ConfigMap(maps.Clone(dev))
		if mac := in.Config["volatile."+name+".hwaddr"]; dev["type"] == "nic" && dev["hwaddr"] == "" && mac != "" && !profiles.IsHostNIC(dev) {
			out[name]["hwaddr"] = mac
		}
	}
	all := struct {
		Devices api.DevicesMap `key:"devices"`
	}{out}
	scope.Out(&all) // A guest knows what it has by its name.
	return all.Devices
}

// SetReady takes note of what a guest says of itself. It holds until the guest
// boots again.
func (s *Service) SetReady(ctx context.Context, name string, ready Ready) error {
	unlock, err := s.locks.LockContext(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	in, err := s.load(ctx, name)
	if err != nil {
		return err
	}
	run, err := s.Runtime.Get(name)
	if err != nil {
		return err
	}
	if s.index.get(name) == nil {
		return errs.Conflictf("instance %q is not running", name)
	}
	pid := 0
	if ready {
		pid = run.PID
	}
	if value := strconv.FormatBool(bool(ready)); in.Config[keyReady] != value {
		if err := s.patch(ctx, in, map[string]string{keyReady: value}); err != nil {
			return err
		}
	}
	if was := s.index.setReady(name, pid); pid != 0 && was != pid {
		s.event("instance-ready", name, nil)
	}
	return nil
}

// openGuest has somebody listen to the guest of an instance with these ids, if
// its configuration allows it. It returns the directory for the guest.
func (s *Service) openGuest(in *instance, ids idmap.Map) (dir string, err error) {
	if s.Guests == nil {
		return "", nil
	}
	g := Guest{Name: in.Name, Off: profiles.ParseGuestAPI(in.expanded.Options).Off}
	if ids != nil {
		root, ok := ids.ToHost(idmap.User, 0)
		if !ok {
			return "", errs.Invalidf("the instance has no root: no id of the host is its 0")
		}
		g.Root = uint32(root) //nolint:gosec // Ids have 32 bits.
	}
	return s.Guests.Open(g)
}

func (s *Service) shutGuest(name string) error {
	if s.Guests == nil {
		return nil
	}
	return s.Guests.Shut(name)
}

// startGuest makes the directory where the guest can ask, from the first
// moment on.
func (s *Service) startGuest(_ context.Context, l *launch, u *undo.Stack) (err error) {
	if l.guest, err = s.openGuest(l.in, l.ids); err != nil {
		return err
	}
	u.Push("stop listening to the guest", func(context.Context) error { return s.shutGuest(l.in.Name) })
	l.keys[keyReady] = ""
	return nil
}

// recoverGuest listens to the guest of an instance, if it runs already.
func (s *Service) recoverGuest(in *instance) error {
	a := s.index.get(in.Name)
	if a == nil {
		return nil
	}
	if _, err := s.openGuest(in, a.ids); err != nil {
		return fmt.Errorf("listen to the guest: %w", err)
	}
	return nil
}

// keepGuests removes what is left of instances that do not run any more.
func (s *Service) keepGuests(ctx context.Context) {
	if s.Guests == nil {
		return
	}
	if err := s.Guests.Keep(s.index.names()); err != nil {
		s.Logger.WarnContext(ctx, "something is left of the sockets of guests", "err", err)
	}
}

// changeGuest makes a running instance's socket, and what its cloud-init goes
// by, what next says.
func (s *Service) changeGuest(in, next *instance, u *undo.Stack) error {
	if profiles.NewToCloudInit(in.expanded, next.expanded) {
		next.apply(map[string]string{keyCloudInitID: uuid.New()})
	}
	a := s.index.get(in.Name)
	if a == nil || profiles.ParseGuestAPI(in.expanded.Options).Off == profiles.ParseGuestAPI(next.expanded.Options).Off {
		return nil
	}
	if _, err := s.openGuest(next, a.ids); err != nil {
		return err
	}
	u.Push("open or shut the guest's socket again", func(context.Context) error {
		_, err := s.openGuest(in, a.ids)
		return err
	})
	return nil
}

// tellGuest tells the guest of a running instance what has changed of what it
// may know.
func (s *Service) tellGuest(before, after *instance) {
	name := after.Name
	if s.Guests == nil || s.index.get(name) == nil {
		return
	}
	was, is := before.expanded.Options, after.expanded.Options
	for _, key := range changedNames(was, is, func(a, b string) bool { return a == b }) {
		if ForGuest(key) {
			s.Guests.Tell(name, "config", api.GuestConfigEvent{Key: key, OldValue: was[key], Value: is[key]})
		}
	}
	had, has := guestDevices(before), guestDevices(after)
	for _, device := range changedNames(had, has, maps.Equal[api.ConfigMap, api.ConfigMap]) {
		e := api.GuestDeviceEvent{Action: "updated", Name: device, Config: has[device]}
		switch {
		case had[device] == nil:
			e.Action = "added"
		case has[device] == nil:
			e.Action, e.Config = "removed", had[device]
		}
		s.Guests.Tell(name, "device", e)
	}
}

// changedNames returns the keys whose values differ, in order.
func changedNames[M ~map[string]V, V any](a, b M, same func(V, V) bool) []string {
	var names []string
	for k, v := range a {
		if w, ok := b[k]; !ok || !same(v, w) {
			names = append(names, k)
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			names = append(names, k)
		}
	}
	slices.Sort(names)
	return names
}

// setReady notes which init of an instance is ready, 0 for none, and returns
// which one was.
func (x *index) setReady(name string, pid int) (was int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if a := x.running[name]; a != nil {
		was, a.ready = a.ready, pid
	}
	return was
}

// isReady reports whether the init of an instance is one that is ready.
func (x *index) isReady(name string, pid int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	a := x.running[name]
	return a != nil && pid != 0 && a.ready == pid
}

func (x *index) names() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Collect(maps.Keys(x.running))
}
