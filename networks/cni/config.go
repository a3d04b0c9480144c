package cni

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// Look reports what is wrong with an interface before there is one: there is no
// such configuration, a plugin is missing, or it cannot do what is asked for.
func (p *Plugins) Look(ctx context.Context, a Attachment) error {
	_, _, err := p.find(ctx, a)
	return err
}

// find reads the configuration of a network.
func (p *Plugins) find(ctx context.Context, a Attachment) (*libcni.NetworkConfigList, Dirs, error) {
	dirs, err := p.Dirs(ctx)
	if err != nil {
		return nil, dirs, err
	}
	list, err := load(dirs.Config, a.Network)
	if err == nil {
		err = check(list, dirs, a)
	}
	return list, dirs, err
}

// load reads the configuration with a name. The name is compared with those in
// the files, of which the first by its name counts, as the CNI has it.
func load(dir, name string) (*libcni.NetworkConfigList, error) {
	files, err := libcni.ConfFiles(dir, []string{".conf", ".conflist", ".json"})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	slices.Sort(files)
	var names []string
	var broken error
	for _, file := range files {
		list, err := loadFile(file)
		switch {
		case err != nil:
			broken = errors.Join(broken, err)
		case list.Name == name:
			return list, nil
		default:
			names = append(names, list.Name)
		}
	}
	if broken != nil {
		return nil, errs.Invalidf("cni.config: there is no CNI configuration %q in %s, where %w", name, dir, broken)
	}
	if len(names) == 0 {
		return nil, errs.Invalidf("cni.config: there is no CNI configuration %q: %s has none", name, dir)
	}
	return nil, errs.Invalidf("cni.config: there is no CNI configuration %q in %s, which has %s", name, dir, strings.Join(names, ", "))
}

func loadFile(file string) (*libcni.NetworkConfigList, error) {
	if err := trusted(file); err != nil {
		return nil, err
	}
	var list *libcni.NetworkConfigList
	var err error
	if filepath.Ext(file) == ".conflist" {
		list, err = libcni.ConfListFromFile(file)
	} else {
		var one *libcni.NetworkConfig
		if one, err = libcni.ConfFromFile(file); err == nil {
			list, err = libcni.ConfListFromConf(one)
		}
	}
	if err != nil {
		return nil, errs.Invalidf("file %s is wrong: %w", file, err)
	}
	return list, nil
}

// trusted reports why root should not do what a file says: somebody else can
// write to it.
func trusted(file string) error {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: file, Err: err}
	}
	const othersWrite = 0o022
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() || st.Mode&othersWrite != 0 {
		return errs.Invalidf("file %s is not root's alone: its owner is %d and its mode %o", file, st.Uid, st.Mode&0o7777)
	}
	return nil
}

// check reports what the plugins of a configuration lack.
func check(list *libcni.NetworkConfigList, dirs Dirs, a Attachment) error {
	for _, c := range list.Plugins {
		if c.Network.Type != filepath.Base(c.Network.Type) || !slices.ContainsFunc(dirs.Plugins, func(dir string) bool {
			st, err := os.Stat(filepath.Join(dir, c.Network.Type))
			return err == nil && st.Mode().IsRegular()
		}) {
			return errs.Newf(errs.Unsupported, "CNI configuration %q: there is no plugin %q in %s: install Debian's package containernetworking-plugins, or set cni.plugin_dirs", list.Name, c.Network.Type, strings.Join(dirs.Plugins, ", "))
		}
	}
	options := map[string]string{"mac": "hwaddr", "ips": "ipv4.address and ipv6.address", "portMappings": "cni.ports"}
	for _, capability := range slices.Sorted(maps.Keys(a.arguments())) {
		if !can(list, capability) {
			return errs.Invalidf("%s: CNI configuration %q has no plugin with the capability %q", options[capability], list.Name, capability)
		}
	}
	return nil
}
