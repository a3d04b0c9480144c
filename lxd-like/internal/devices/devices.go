// Package devices turns the devices of a configuration into what the runtime
// gives a container: mounts, device nodes and network interfaces.
//
// It plans and does nothing: [Make] looks at the host and says what a
// container is to have of one device, and [Diff] what lies between two sets of
// such plans.
package devices

import (
	"context"
	"fmt"
	"path"

	machine "github.com/cuib/cuib/lxd-like/internal/host"
	"github.com/cuib/cuib/lxd-like/internal/proxies"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/lxd-like/internal/tpm"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
)

// Env is what a device is planned for.
type Env struct {
	Instance string
	IDs      idmap.Map                  // Nil: privileged.
	Devices  map[string]profiles.Device // All of the instance's, expanded and valid.
	Volatile map[string]string          // The instance's own options; of them volatile.* is read, which keeps names and addresses.

	Host machine.Host // Whose hardware there is.
	CDI  []string     // Directories with specifications of the Container Device Interface.

	// TPM reports what the host lacks to have TPMs.
	TPM func(ctx context.Context) error

	// DiskPaths are the directories of the host that sources of disks can be in;
	// nil for any. MACPattern is the form of addresses that are made for NICs;
	// empty for the usual one.
	DiskPaths  []string
	MACPattern string

	Running bool // It has its devices, or gets them now.

	// Link says what a NIC on a managed network is connected to.
	Link func(ctx context.Context, network string) (networks.Link, error)

	// Pin has a managed network choose addresses that a host is held to; those
	// that the host has are kept if they can be.
	Pin func(ctx context.Context, network string, h networks.Host, want networks.Pin) (networks.Host, error)

	// Plugins reports why network plugins cannot make a NIC of an instance.
	Plugins func(ctx context.Context, instance string, n runtime.NIC) error

	// CheckACLs refuses network ACLs that are not there.
	CheckACLs func(ctx context.Context, names []string) error

	// Volume says what the source of a disk with a pool is: VOLUME or
	// VOLUME/SNAPSHOT.
	Volume func(ctx context.Context, pool, source string) (api.StorageVolume, error)
}

// A Plan is what one device comes to. That of a root disk is empty: its pool
// has it.
type Plan struct {
	Mounts   []runtime.Mount
	Volume   Volume // That the mount is of. Until it is attached the mount has no source.
	Nodes    []runtime.Node
	NICs     []runtime.NIC
	Env      map[string]string // Of what is started in the container, where the configuration has nothing else.
	Proxy    proxies.Rule      // A zero one is none.
	TPM      tpm.Rule          // A zero one is none. Its nodes are not known before it starts.
	Hosts    []NetHost         // What managed networks are to know of the instance.
	Claims   []networks.Claim  // What it alone is to have elsewhere.
	Volatile map[string]string // Options that the instance must keep from now on.

	// LastState are options that the instance keeps while it has the device.
	LastState map[string]string
}

// Volume is a custom volume of a pool; a zero one is none.
type Volume struct {
	Pool   string
	Source string // VOLUME or VOLUME/SNAPSHOT
}

// NetHost is an instance as a managed network is to know it.
type NetHost struct {
	Network string
	Host    networks.Host
}

// An AbsentError says that the host does not have what a device is of, which can
// come again.
type AbsentError struct{ what string }

func (e *AbsentError) Error() string { return e.what }

// absent is an [AbsentError] of an option.
func absent(option, format string, args ...any) error {
	return errs.Newf(errs.Invalid, "%s%w", option, &AbsentError{fmt.Sprintf(format, args...)})
}

// Make plans a device. It refuses what the host lacks: the source of a disk
// that is required, the interface below a NIC.
func Make(ctx context.Context, name string, dev profiles.Device, env Env) (Plan, error) {
	switch dev["type"] {
	case "disk":
		if profiles.IsRoot(dev) {
			return Plan{}, nil
		}
		if profiles.IsVolume(dev) {
			return volumeDisk(ctx, dev, env)
		}
		return disk(ctx, dev, env)
	case "unix-char", "unix-block":
		return node(name, dev)
	case "usb", "unix-hotplug":
		return hardware(name, dev, env)
	case "gpu":
		if profiles.IsCDI(dev) {
			return named(name, dev, env)
		}
		return hardware(name, dev, env)
	case "nic":
		return planNIC(ctx, name, dev, env)
	case "proxy":
		return proxy(ctx, dev, env)
	case "tpm":
		return tpmPlan(dev), env.TPM(ctx)
	case "none":
		return Plan{}, nil
	}
	return Plan{}, errs.Invalidf("got type %q, which is unknown", dev["type"])
}

// Recall is [Make] for a device that a running instance has been given. It
// refuses nothing: what the host has lost since then is still the instance's.
func Recall(ctx context.Context, name string, dev profiles.Device, env Env) Plan {
	if p, err := Make(ctx, name, dev, env); err == nil {
		return p
	}
	switch dev["type"] {
	case "disk":
		if profiles.IsVolume(dev) {
			return volumePlan(dev, env)
		}
		return Plan{Mounts: []runtime.Mount{mount(dev, env)}}
	case "unix-char", "unix-block":
		n, _, err := numbers(dev)
		if err != nil {
			return Plan{}
		}
		n.Device = name
		return Plan{Nodes: []runtime.Node{n}}
	case "nic":
		return recallNIC(name, dev, env)
	case "proxy":
		return Plan{Proxy: ProxyRule(dev)}
	case "tpm":
		return tpmPlan(dev)
	}
	return Plan{}
}

func tpmPlan(dev profiles.Device) Plan {
	return Plan{TPM: tpm.Rule{Path: path.Clean(dev["path"]), Manager: path.Clean(dev["pathrm"])}}
}

// Hosts says what a managed network knows of an instance by one of its
// devices. options are the instance's own.
func Hosts(name string, dev profiles.Device, instance string, options map[string]string) []NetHost {
	env := Env{Instance: instance, Volatile: options}
	mac := given(name, dev, env, "hwaddr")
	if dev["type"] != "nic" || dev["network"] == "" || mac == "" || !attached(dev) {
		return nil
	}
	h, err := host(name, dev, env, mac)
	if err != nil {
		return nil // It is not valid, so no network knows it.
	}
	return []NetHost{{dev["network"], h}}
}

// given returns an option that the device has, or that the instance keeps for
// it.
func given(name string, dev profiles.Device, env Env, option string) string {
	if v := dev[option]; v != "" {
		return v
	}
	return env.Volatile[volatile(name, option)]
}

func volatile(device, option string) string { return "volatile." + device + "." + option }

func yes(dev profiles.Device, option string) bool {
	b, _ := profiles.ParseBool(dev[option]) // It is valid.
	return b
}

// required reports whether an instance cannot start without the device.
func required(dev profiles.Device) bool {
	if dev["optional"] != "" {
		return !yes(dev, "optional")
	}
	return dev["required"] == "" || yes(dev, "required")
}
