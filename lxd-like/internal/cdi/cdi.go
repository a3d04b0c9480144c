// Package cdi reads specifications of the Container Device Interface, in which
// vendors and their tools say what a container needs for a device.
//
// What is read are device nodes, mounts and the environment. Hooks are programs
// of the host that a container's runtime would run: nobody runs them here.
package cdi

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/cuib/cuib/shared/errs"
)

// Dirs returns the directories that specifications are in. What a later one
// says goes before what an earlier one does.
func Dirs() []string { return []string{"/etc/cdi", "/var/run/cdi"} }

// Edits are what a container is to have for a device.
type Edits struct {
	Env    []string `yaml:"env"` // NAME=VALUE
	Nodes  []Node   `yaml:"deviceNodes"`
	Mounts []Mount  `yaml:"mounts"`
	Hooks  []Hook   `yaml:"hooks"` // Which nobody runs.
}

// A Hook is a program of the host that a runtime would run for a container.
type Hook struct {
	Name string   `yaml:"hookName"` // When it would be run, such as "createContainer".
	Path string   `yaml:"path"`
	Args []string `yaml:"args"` // With its name as the first.
}

// String returns what the hook is to do: its arguments, or its path where it
// has none.
func (h Hook) String() string {
	if len(h.Args) < 2 {
		return fmt.Sprintf("%s %q", h.Name, h.Path)
	}
	return fmt.Sprintf("%s %q", h.Name, strings.Join(h.Args, " "))
}

// A Node is a device node.
type Node struct {
	Path     string       `yaml:"path"`     // Inside.
	HostPath string       `yaml:"hostPath"` // Empty where it is the same.
	Type     string       `yaml:"type"`     // b, c or u; empty where the host's node says it.
	Major    int64        `yaml:"major"`    // With the minor number 0 where the host's node says both.
	Minor    int64        `yaml:"minor"`
	Mode     *fs.FileMode `yaml:"fileMode"`
	UID      *int64       `yaml:"uid"`
	GID      *int64       `yaml:"gid"`
}

// A Mount is a file or directory of the host.
type Mount struct {
	HostPath      string   `yaml:"hostPath"`
	ContainerPath string   `yaml:"containerPath"`
	Options       []string `yaml:"options"`
}

// specification is a file.
type specification struct {
	Kind    string `yaml:"kind"` // VENDOR/CLASS
	Devices []struct {
		Name  string `yaml:"name"`
		Edits Edits  `yaml:"containerEdits"`
	} `yaml:"devices"`
	Edits Edits `yaml:"containerEdits"` // For each of the devices.
}

// Find returns what the device with a name, such as "vendor.com/class=name",
// needs by the specifications in some directories.
func Find(dirs []string, name string) (Edits, error) {
	known, failed := map[string]bool{}, error(nil)
	for _, dir := range slices.Backward(dirs) {
		found, err := findIn(dir, name, known)
		failed = errors.Join(failed, err)
		switch len(found) {
		case 0:
		case 1:
			return found[0], check(found[0], name)
		default:
			return Edits{}, errs.Conflictf("%d specifications in %s have %s, want one", len(found), dir, name)
		}
	}
	err := errs.NotFoundf("no CDI specification in %s has %s", strings.Join(dirs, " or "), name)
	if len(known) > 0 {
		err = errs.NotFoundf("%w, there are %s", err, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
	}
	if failed != nil {
		err = errs.NotFoundf("%w; %w", err, failed)
	}
	return Edits{}, err
}

// findIn returns what specifications in a directory say of a device, and adds
// the names of all devices to known.
func findIn(dir, name string, known map[string]bool) (found []Edits, failed error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext != ".json" && ext != ".yaml" {
			continue
		}
		spec, err := read(filepath.Join(dir, e.Name()))
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		for _, d := range spec.Devices {
			full := spec.Kind + "=" + d.Name
			known[full] = true
			if full == name {
				found = append(found, join(spec.Edits, d.Edits))
			}
		}
	}
	return found, failed
}

func read(file string) (specification, error) {
	var s specification
	data, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(data, &s) // JSON is YAML too.
	}
	if err != nil {
		return s, fmt.Errorf("%s cannot be read: %w", file, err)
	}
	return s, nil
}

func join(a, b Edits) Edits {
	return Edits{
		Env: slices.Concat(a.Env, b.Env), Nodes: slices.Concat(a.Nodes, b.Nodes),
		Mounts: slices.Concat(a.Mounts, b.Mounts), Hooks: slices.Concat(a.Hooks, b.Hooks),
	}
}

// check reports paths that no container can have.
func check(e Edits, name string) error {
	for _, n := range e.Nodes {
		if !isPath(n.Path) || n.HostPath != "" && !isPath(n.HostPath) {
			return errs.Invalidf("%s: the device node %q of the CDI specification has no absolute path", name, n.Path)
		}
	}
	for _, m := range e.Mounts {
		if !isPath(m.HostPath) || !isPath(m.ContainerPath) {
			return errs.Invalidf("%s: the mount of %q on %q of the CDI specification has no absolute paths", name, m.HostPath, m.ContainerPath)
		}
	}
	for _, v := range e.Env {
		if key, _, ok := strings.Cut(v, "="); !ok || key == "" || strings.ContainsAny(v, "\n\x00") {
			return errs.Invalidf("%s: the environment of the CDI specification has %q, want NAME=VALUE", name, v)
		}
	}
	return nil
}

func isPath(p string) bool {
	return filepath.IsAbs(p) && filepath.Clean(p) != "/" && !strings.ContainsAny(p, "\n\r\x00") &&
		!slices.Contains(strings.Split(p, "/"), "..")
}
