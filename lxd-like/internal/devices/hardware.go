package devices

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	machine "github.com/cuib/cuib/lxd-like/internal/host"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
)

// Comes reports whether what a device stands for comes and goes on the host
// while the instance runs.
func Comes(dev profiles.Device) bool {
	switch dev["type"] {
	case "usb", "unix-hotplug":
		return true
	case "gpu":
		return !profiles.IsCDI(dev)
	case "unix-char", "unix-block":
		return !required(dev) && dev["major"] == ""
	}
	return false
}

// Now returns the nodes that a device which [Comes] has at the moment, which
// may be none.
func Now(name string, dev profiles.Device, env Env) (Plan, error) {
	switch dev["type"] {
	case "usb":
		return usb(name, dev, env), nil
	case "unix-hotplug":
		return hotplug(name, dev, env)
	case "gpu":
		return gpu(name, dev, env), nil
	case "unix-char", "unix-block":
		return node(name, dev)
	}
	return Plan{}, nil
}

// hardware is [Now] for who starts: it refuses what the instance cannot start
// without.
func hardware(name string, dev profiles.Device, env Env) (Plan, error) {
	p, err := Now(name, dev, env)
	if err != nil || len(p.Nodes) > 0 {
		return p, err
	}
	switch {
	case dev["type"] == "gpu":
		return p, absent("", "%s", missing("graphics card", dev, "id", "pci", "vendorid", "productid"))
	case dev["type"] == "usb" && yes(dev, "required") && attached(dev):
		return p, absent("required: ", "%s", missing("USB device", dev, "vendorid", "productid", "serial", "busnum", "devnum"))
	case dev["type"] == "unix-hotplug" && yes(dev, "required"):
		return p, absent("required: ", "%s", missing("device node", dev, "vendorid", "productid", "subsystem", "pci"))
	}
	return p, nil
}

// missing says what the host has not.
func missing(what string, dev profiles.Device, options ...string) string {
	var with []string
	for _, o := range options {
		if dev[o] != "" {
			with = append(with, o+" "+dev[o])
		}
	}
	if len(with) == 0 {
		return "the host has no " + what
	}
	return "the host has no " + what + " with " + strings.Join(with, " and ")
}

// attached reports whether a device is plugged in as far as the
// configuration goes.
func attached(dev profiles.Device) bool { return dev["attached"] == "" || yes(dev, "attached") }

func usb(name string, dev profiles.Device, env Env) Plan {
	var p Plan
	if !attached(dev) {
		return p
	}
	for _, d := range env.Host.USBDevices() {
		if isID(dev["vendorid"], d.Vendor) && isID(dev["productid"], d.Product) && is(dev["serial"], d.Serial) &&
			isNumber(dev["busnum"], d.Bus) && isNumber(dev["devnum"], d.Device) {
			p.Nodes = append(p.Nodes, owned(name, dev, d.Node))
		}
	}
	return p
}

// is reports whether an option wants what there is; nothing wants all.
func is(want, have string) bool { return want == "" || want == have }

func isID(want, have string) bool { return want == "" || strings.EqualFold(want, have) }

func isNumber(want string, have uint64) bool {
	n, err := strconv.ParseUint(want, 10, 64)
	return want == "" || err == nil && n == have
}

// hotplug plans nodes that drivers have for USB devices, or of a subsystem.
// The nodes of USB devices themselves are those of devices of type usb.
func hotplug(name string, dev profiles.Device, env Env) (Plan, error) {
	var p Plan
	ofUSB := dev["vendorid"] != "" || dev["productid"] != "" || dev["pci"] != ""
	for _, n := range env.Host.Nodes(func(s string) bool { return is(dev["subsystem"], s) && (!ofUSB || s != "usb") }) {
		if ofUSB {
			d, controller, ok := env.Host.USBOf(n)
			if !ok || !isID(dev["vendorid"], d.Vendor) || !isID(dev["productid"], d.Product) || !is(profiles.PCIAddress(dev["pci"]), controller) {
				continue
			}
		}
		one := owned(name, dev, n)
		if yes(dev, "ownership.inherit") {
			if err := inherit(&one, env); err != nil {
				return p, err
			}
		}
		p.Nodes = append(p.Nodes, one)
	}
	return p, nil
}

// inherit gives a node the mode that it has on the host, and the owners as far
// as the instance has their ids. Between the event and the node udev may still
// be about to set them.
func inherit(n *runtime.Node, env Env) error {
	st, err := env.stat(n.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return errs.Invalidf("ownership.inherit: %w", err)
	}
	n.Mode = fs.FileMode(st.Mode).Perm()
	n.UID, n.GID = guestID(env.IDs, idmap.User, st.Uid), guestID(env.IDs, idmap.Group, st.Gid)
	return nil
}

// guestID is an id that the instance has of itself, by the number that it has
// on the host; its root where it does not have that number.
func guestID(ids idmap.Map, kind idmap.Kind, id uint32) int64 {
	if _, ok := ids.ToHost(kind, int64(id)); ids != nil && !ok {
		return 0
	}
	return int64(id)
}

// owned is a node of the host as the instance is to have it.
func owned(name string, dev profiles.Device, n machine.Node) runtime.Node {
	out := runtime.Node{Device: name, Block: n.Block, Major: n.Major, Minor: n.Minor, Path: path.Join("/dev", n.Name)}
	own(dev, &out)
	return out
}

// own sets what options say of a node's owner and mode.
func own(dev profiles.Device, n *runtime.Node) {
	n.Mode = defaultMode
	number := func(option string, base int, to *int64) {
		if v, err := strconv.ParseInt(dev[option], base, 64); err == nil { // It is valid, or nothing.
			*to = v
		}
	}
	mode := int64(n.Mode)
	number("uid", 10, &n.UID)
	number("gid", 10, &n.GID)
	number("mode", 8, &mode)
	n.Mode = fs.FileMode(mode) //nolint:gosec // It is an octal mode of three digits.
}

// gpu plans the nodes of graphics cards.
func gpu(name string, dev profiles.Device, env Env) Plan {
	var p Plan
	nvidia := false
	for _, g := range env.Host.GPUs() {
		if !is(dev["id"], g.ID) || !isID(profiles.PCIAddress(dev["pci"]), g.PCI) || !isID(dev["vendorid"], g.Vendor) || !isID(dev["productid"], g.Product) {
			continue
		}
		for _, n := range g.Nodes {
			p.Nodes = append(p.Nodes, owned(name, dev, n))
		}
		if g.Nvidia != "" {
			nvidia = true
			p.Nodes = append(p.Nodes, found(name, dev, env, "/dev/nvidia"+g.Nvidia)...)
		}
	}
	if nvidia {
		p.Nodes = append(p.Nodes, shared(name, dev, env)...)
	}
	return p
}

// shared are the nodes that all of NVIDIA's cards share: those with another
// name than a number.
func shared(name string, dev profiles.Device, env Env) []runtime.Node {
	var out []runtime.Node
	for _, dir := range []string{"dev", "dev/nvidia-caps"} {
		entries, err := fs.ReadDir(env.Host.Files, dir)
		if err != nil {
			continue // There is none.
		}
		for _, e := range entries {
			rest, ok := strings.CutPrefix(e.Name(), "nvidia")
			if _, err := strconv.Atoi(rest); ok && err != nil && !e.IsDir() {
				out = append(out, found(name, dev, env, path.Join("/", dir, e.Name()))...)
			}
		}
	}
	slices.SortFunc(out, func(a, b runtime.Node) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// found is a character device that the host has at a path, or nothing.
func found(name string, dev profiles.Device, env Env, at string) []runtime.Node {
	st, err := env.stat(at)
	if err != nil {
		return nil
	}
	n, ok := nodeOf(st, at)
	if !ok || n.Block {
		return nil
	}
	n.Device = name
	own(dev, &n)
	return []runtime.Node{n}
}
