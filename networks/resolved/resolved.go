// Package resolved tells the host's systemd-resolved which names the networks'
// own resolvers know, so that programs of the host find instances by name.
//
// Where there is no D-Bus or no resolved, nothing happens; when one comes, or
// comes again, it is told.
package resolved

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"strconv"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/announce"
)

// A Link is an interface of the host with a resolver that knows some domains.
type Link struct {
	Name    string
	Servers []netip.Addr
	Domains []string
}

// Bus is where the host has D-Bus.
const Bus = "unix:path=/run/dbus/system_bus_socket"

// A Registrar keeps links registered. Its fields are set before it runs.
type Registrar struct {
	Bus string // The address of D-Bus; empty for [Bus].
	Log *slog.Logger

	// Index returns the number of an interface, 0 if there is none; nil for
	// what the kernel says.
	Index func(name string) (int, error)

	mu   sync.Mutex // Guards what follows.
	want []Link
	wake chan error // Has one element when want has changed.
}

// Set says which links are to be registered, and no others.
func (r *Registrar) Set(links []Link) {
	r.mu.Lock()
	r.want = links
	r.mu.Unlock()
	announce.Post(r.woken(), nil)
}

func (r *Registrar) wanted() []Link {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.want
}

func (r *Registrar) woken() chan error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wake == nil {
		r.wake = make(chan error, 1)
	}
	return r.wake
}

// again is how long after its loss, or where there was none, D-Bus is looked for.
const again = 10 * time.Second

// Run keeps the links registered until ctx ends. They stay so after that.
func (r *Registrar) Run(ctx context.Context) error {
	links, err := announce.Listen(r.woken(), unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
	if err != nil {
		return err
	}
	defer links.Close()

	for ctx.Err() == nil {
		err := r.session(ctx)
		if ctx.Err() != nil {
			break
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			r.Log.DebugContext(ctx, "cannot speak with systemd-resolved", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
	return nil
}

// session keeps the links registered as long as there is D-Bus.
func (r *Registrar) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	address := r.Bus
	if address == "" {
		address = Bus
	}
	conn, err := dbus.Connect(address, dbus.WithContext(ctx))
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // It may be closed already.

	changes := make(chan *dbus.Signal, 16)
	conn.Signal(changes)
	err = conn.AddMatchSignalContext(ctx, dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, service))
	if err != nil {
		return err
	}
	s := session{r: r, bus: bus{conn}, done: map[string]registered{}}
	for {
		s.register(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-conn.Context().Done():
			return errors.New("D-Bus is gone")
		case err := <-r.woken():
			if err != nil {
				return err
			}
		case <-changes:
		}
	}
}

// A session is what one connection has told.
type session struct {
	r    *Registrar
	bus  bus
	to   string // Who was told; empty for nobody.
	done map[string]registered
}

// registered is what was told of a link.
type registered struct {
	link  Link
	index int
}

// register tells what has not been told.
func (s *session) register(ctx context.Context) {
	to, err := s.bus.resolved(ctx)
	if err != nil {
		s.r.Log.WarnContext(ctx, "cannot ask for systemd-resolved", "err", err)
		return
	}
	if to != s.to { // It knows nothing.
		s.to, s.done = to, map[string]registered{}
	}
	if to == "" {
		return
	}
	want := s.r.wanted()
	left := map[string]registered{}
	for _, l := range want {
		one := registered{link: l}
		if one.index, err = s.r.index(l.Name); err != nil || one.index == 0 {
			continue // It comes, or comes back.
		}
		if reflect.DeepEqual(s.done[l.Name], one) {
			left[l.Name] = one
			continue
		}
		if err := s.bus.set(ctx, one.index, l); err != nil {
			s.r.Log.WarnContext(ctx, "systemd-resolved does not take a network", "network", l.Name, "err", err)
		}
		left[l.Name] = one // It would be refused again.
	}
	for name, old := range s.done {
		if _, ok := left[name]; ok {
			continue
		}
		if i, err := s.r.index(name); err == nil && i == old.index {
			if err := s.bus.revert(ctx, i); err != nil {
				s.r.Log.WarnContext(ctx, "systemd-resolved does not forget a network", "network", name, "err", err)
			}
		}
	}
	s.done = left
}

func (r *Registrar) index(name string) (int, error) {
	if r.Index != nil {
		return r.Index(name)
	}
	l, err := netlink.LinkByName(name)
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return l.Attrs().Index, nil
}

// sameNet reports whether a process sees the interfaces that we see: numbers of
// interfaces mean others elsewhere.
func sameNet(pid uint32) (bool, error) {
	its, err := os.Readlink("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/ns/net")
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look where systemd-resolved runs: %w", err)
	}
	ours, err := os.Readlink("/proc/thread-self/ns/net")
	return its == ours, err
}
