package nets

import (
	"context"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/mirror"
	"github.com/cuib/cuib/profiles"
)

// A guest is what networks have to do with of an instance: its NICs, what is
// remembered of these, and its aliases. It is not changed.
type guest struct {
	Name     string
	Status   db.Status
	Expanded profiles.Config // With nothing else in it.
}

// guests are all instances, by name.
type guests []guest

// nicKeys end the keys volatile.NAME.* that are looked at.
var nicKeys = []string{".hwaddr", ".host_name", ".last_state.ip_addresses"}

func guestOf(in db.Instance, expanded profiles.Config) guest {
	g := guest{in.Name, in.Status, profiles.Config{Options: map[string]string{}, Devices: map[string]profiles.Device{}}}
	keep := func(key string) {
		if v := expanded.Options[key]; v != "" {
			g.Expanded.Options[key] = v
		}
	}
	keep(profiles.KeyAliases)
	for name, dev := range expanded.Devices {
		if dev["type"] != "nic" {
			continue
		}
		g.Expanded.Devices[name] = dev
		for _, end := range nicKeys {
			keep("volatile." + name + end)
		}
	}
	return g
}

// guests returns all instances. Those that were not changed since the last
// call are not read.
func (s *Service) guests(ctx context.Context) (guests, error) {
	s.guestsOnce.Do(func() { s.mirror = mirror.New(guestOf) })
	var out guests
	err := s.mirror.Read(ctx, s.DB, func(names []string, all map[string]guest) {
		out = make(guests, 0, len(names))
		for _, name := range names {
			out = append(out, all[name])
		}
	})
	return out, err
}
