// Package fake is a driver of networks that are only remembered, for tests of
// what is above drivers.
package fake

import (
	"context"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/cuib/cuib/networks"
)

// A Driver remembers networks. Its zero value is ready to use.
type Driver struct {
	// Fail, if not nil, is called before each step with its name, such as
	// "apply br0"; what it returns is the step's error. A step that fails has
	// done half of its work: an Apply has made the network.
	Fail func(step string) error

	mu      sync.Mutex // Guards what follows.
	applied map[string]networks.Config
	disturb map[string]chan string
}

var (
	_ networks.Driver  = (*Driver)(nil)
	_ networks.Watcher = (*Driver)(nil)
)

// Networks returns what is applied now, by name.
func (d *Driver) Networks() map[string]networks.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.applied)
}

// Disturb loses a network, as if somebody had deleted its interface.
func (d *Driver) Disturb(name string) {
	d.mu.Lock()
	delete(d.applied, name)
	d.mu.Unlock()
	d.signal(name) <- "interface"
}

// Apply remembers the configuration.
func (d *Driver) Apply(ctx context.Context, cfg networks.Config) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	if d.applied == nil {
		d.applied = map[string]networks.Config{}
	}
	cfg.Hosts = slices.Clone(cfg.Hosts)
	d.applied[cfg.Name] = cfg
	d.mu.Unlock()
	return d.fail("apply " + cfg.Name)
}

// Remove forgets the network.
func (d *Driver) Remove(_ context.Context, cfg networks.Config) error {
	if err := d.fail("remove " + cfg.Name); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.applied, cfg.Name)
	return os.RemoveAll(cfg.Dir)
}

// SetHost remembers a host.
func (d *Driver) SetHost(_ context.Context, cfg networks.Config, h networks.Host) error {
	return d.setHosts("set "+h.Name, cfg, h, h)
}

// UnsetHost forgets a host.
func (d *Driver) UnsetHost(_ context.Context, cfg networks.Config, h networks.Host) error {
	return d.setHosts("unset "+h.Name, cfg, h)
}

// setHosts replaces the host with the MAC address of old.
func (d *Driver) setHosts(step string, cfg networks.Config, old networks.Host, now ...networks.Host) error {
	if err := d.fail(step); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	got, ok := d.applied[cfg.Name]
	if !ok {
		return nil
	}
	others := slices.DeleteFunc(slices.Clone(got.Hosts), func(h networks.Host) bool { return strings.EqualFold(h.MAC, old.MAC) })
	got.Hosts = append(others, now...)
	d.applied[cfg.Name] = got
	return nil
}

// Leases returns the static addresses of the hosts of cfg.
func (*Driver) Leases(_ context.Context, cfg networks.Config) ([]networks.Lease, error) {
	var all []networks.Lease
	for _, h := range cfg.Hosts {
		if h.IPv4.IsValid() {
			all = append(all, networks.Lease{Host: h, Address: h.IPv4, Static: true})
		}
	}
	return all, nil
}

// Watch waits for [Driver.Disturb].
func (d *Driver) Watch(ctx context.Context, cfg networks.Config) (string, error) {
	d.mu.Lock()
	got, ok := d.applied[cfg.Name]
	d.mu.Unlock()
	got.Hosts, cfg.Hosts = nil, nil
	if !ok || !reflect.DeepEqual(got, cfg) {
		return "interface", nil
	}
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case what := <-d.signal(cfg.Name):
		return what, nil
	}
}

func (d *Driver) signal(name string) chan string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.disturb == nil {
		d.disturb = map[string]chan string{}
	}
	if d.disturb[name] == nil {
		d.disturb[name] = make(chan string, 8)
	}
	return d.disturb[name]
}

func (d *Driver) fail(step string) error {
	if d.Fail == nil {
		return nil
	}
	return d.Fail(step)
}
