package bridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/errs"
)

// externalFile says which interfaces of the host became ports of the bridge:
// those that are not wanted any more are given back.
const externalFile = "external.json"

// A lent interface is one that the bridge has from the host.
type lent struct {
	networks.External

	Made bool // It is a VLAN that was made for the bridge.
	Down bool // It was down before.
}

// applyExternal makes the interfaces of the host be ports of the bridge that
// are to be, and no others any more. One that is not there now becomes one
// when it comes; see [Driver.Watch].
func applyExternal(bridge netlink.Link, cfg networks.Config) error {
	have, err := readExternal(cfg.Dir)
	if err != nil {
		return err
	}
	var want []lent
	for _, e := range cfg.External {
		l, err := lend(e, have)
		if err != nil {
			return err
		}
		want = append(want, l)
	}
	over := slices.DeleteFunc(slices.Clone(have), func(l lent) bool { return slices.Contains(want, l) })
	// What is in the file is given back after a crash.
	if err := writeExternal(cfg.Dir, have, append(slices.Clone(over), want...)); err != nil {
		return err
	}
	for _, l := range over {
		if err := l.giveBack(cfg.Name); err != nil {
			return err
		}
	}
	for _, l := range want {
		if err := l.take(bridge); err != nil {
			return err
		}
	}
	return writeExternal(cfg.Dir, append(slices.Clone(over), want...), want)
}

// releaseExternal gives all interfaces back to the host.
func releaseExternal(cfg networks.Config) error {
	have, err := readExternal(cfg.Dir)
	if err != nil || len(have) == 0 {
		return err
	}
	for _, l := range have {
		if err := l.giveBack(cfg.Name); err != nil {
			return err
		}
	}
	return writeExternal(cfg.Dir, have, nil)
}

// lend looks at an interface that the bridge is to have, which it may have
// already.
func lend(e networks.External, have []lent) (lent, error) {
	if i := slices.IndexFunc(have, func(l lent) bool { return l.External == e }); i >= 0 {
		return have[i], nil
	}
	l, err := netlink.LinkByName(e.Name)
	if missing(err) {
		return lent{External: e, Made: e.VLAN != 0}, nil
	}
	if err != nil {
		return lent{}, err
	}
	if e.VLAN != 0 && !isVLAN(l, e) {
		return lent{}, errs.Conflictf("the host has an interface %q already, which is not VLAN %d of %s: give the one for bridge.external_interfaces another name", e.Name, e.VLAN, e.Parent)
	}
	return lent{External: e, Down: l.Attrs().RawFlags&unix.IFF_UP == 0}, nil
}

func isVLAN(l netlink.Link, e networks.External) bool {
	v, ok := l.(*netlink.Vlan)
	parent, err := netlink.LinkByName(e.Parent)
	return ok && err == nil && v.VlanId == e.VLAN && v.ParentIndex == parent.Attrs().Index
}

// take makes the interface a port of the bridge, if it is there.
func (l lent) take(bridge netlink.Link) error {
	port, err := l.find()
	if port == nil || err != nil {
		return err
	}
	index := bridge.Attrs().Index
	if port.Attrs().MasterIndex != index {
		if err := free(port, index); err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(port, bridge); err != nil {
			return fmt.Errorf("attach %s: %w", l.Name, err)
		}
	}
	if err := netlink.LinkSetUp(port); err != nil {
		return fmt.Errorf("set %s up: %w", l.Name, err)
	}
	return nil
}

// find returns the interface; nil if it is not there, and cannot be made.
func (l lent) find() (netlink.Link, error) {
	port, err := netlink.LinkByName(l.Name)
	if err == nil || !missing(err) {
		return port, err
	}
	if l.VLAN == 0 {
		return nil, nil //nolint:nilnil // documented
	}
	parent, err := netlink.LinkByName(l.Parent)
	if missing(err) {
		return nil, nil //nolint:nilnil // documented
	}
	if err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = l.Name, parent.Attrs().Index
	if err := netlink.LinkAdd(&netlink.Vlan{LinkAttrs: attrs, VlanId: l.VLAN, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}); err != nil {
		return nil, fmt.Errorf("make VLAN %d of %s: %w", l.VLAN, l.Parent, err)
	}
	return netlink.LinkByName(l.Name)
}

// free reports why an interface of the host cannot be a port of the bridge.
func free(port netlink.Link, bridge int) error {
	name := port.Attrs().Name
	if master := port.Attrs().MasterIndex; master != 0 && master != bridge {
		of := fmt.Sprint(master)
		if m, err := netlink.LinkByIndex(master); err == nil {
			of = m.Attrs().Name
		}
		return errs.Conflictf("the host's interface %q of bridge.external_interfaces is a part of %s", name, of)
	}
	addrs, err := addresses(port)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", name, err)
	}
	for _, a := range addrs {
		if !isLinkLocal(a) {
			return errs.Conflictf("the host's interface %q of bridge.external_interfaces has the address %s, and a port of a bridge cannot have one: take it away first", name, a.IPNet)
		}
	}
	return nil
}

// giveBack is take, undone. It succeeds if the interface is not there.
func (l lent) giveBack(bridge string) error {
	port, err := netlink.LinkByName(l.Name)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, vlan := port.(*netlink.Vlan); l.Made && vlan {
		return netlink.LinkDel(port)
	}
	master, err := netlink.LinkByName(bridge)
	if missing(err) {
		return nil
	}
	if err != nil || port.Attrs().MasterIndex != master.Attrs().Index {
		return err
	}
	if err := netlink.LinkSetNoMaster(port); err != nil {
		return fmt.Errorf("detach %s: %w", l.Name, err)
	}
	if l.Down {
		return netlink.LinkSetDown(port)
	}
	return nil
}

// lacking returns an interface that is there and is no port of the bridge, if
// there is one.
func lacking(bridge netlink.Link, cfg networks.Config) (string, error) {
	for _, e := range cfg.External {
		name := e.Name
		l, err := netlink.LinkByName(name)
		if missing(err) && e.VLAN != 0 {
			l, err = netlink.LinkByName(e.Parent)
		}
		if missing(err) {
			continue
		}
		if err != nil {
			return "", err
		}
		if l.Attrs().Name != name || l.Attrs().MasterIndex != bridge.Attrs().Index {
			return name, nil
		}
	}
	return "", nil
}

func readExternal(dir string) (all []lent, err error) {
	data, err := os.ReadFile(filepath.Join(dir, externalFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("read which interfaces the bridge has from the host: %w", err)
	}
	return all, nil
}

func writeExternal(dir string, have, want []lent) error {
	path := filepath.Join(dir, externalFile)
	if slices.Equal(have, want) {
		return nil
	}
	if len(want) == 0 {
		return os.Remove(path)
	}
	data, err := json.Marshal(want)
	if err == nil {
		err = os.WriteFile(path+"~", data, 0o600)
	}
	if err == nil {
		err = os.Rename(path+"~", path)
	}
	return err
}
