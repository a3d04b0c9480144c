package runtime

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/lxcfs"
	"github.com/cuib/cuib/networks/nic"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
)

// A Host is what the configuration of containers depends on besides the spec.
type Host struct {
	Cgroups  Cgroups
	AppArmor bool // The kernel confines by AppArmor profiles.
	// AppArmorParser is the program that loads profiles; empty for none.
	AppArmorParser string
	LXCFS          lxcfs.Served
}

// Files are the paths that a configuration names.
type Files struct {
	Dir     string // Dir/NAME of the runtime.
	Seccomp string // The profile; empty for none.
	Shim    string // The program of hooks.
	// Staged are the places where the sources of the spec's mounts and nodes
	// are, in order, for the container to bind.
	Staged []Staged
	// OnlyV2 is for guests that want nothing but cgroup2.
	OnlyV2 bool
	// Systemd is for guests with that init, whose services have mounts of
	// their own.
	Systemd bool
	// Sys is what a container in the host's network has as /sys, and WholeSys
	// what containers in it may mount the like of; empty for the usual ones.
	Sys, WholeSys string
}

// Staged is a mount's source, ready to be bound.
type Staged struct {
	Source, Target string
	File           bool   // Neither is a directory.
	Propagation    string // Of the container's mount, as mount(8) has it; empty for private.
}

// A conf collects lines of lxc.conf.
type conf struct {
	text strings.Builder
	err  error
}

// add adds a line. Values come from users: none gets out of its line.
func (c *conf) add(key, value string) {
	if strings.ContainsAny(key+value, "\n\r\x00") {
		if c.err == nil {
			c.err = errs.Invalidf("value %q of %s has a line break or a NUL character", value, key)
		}
		return
	}
	c.text.WriteString(key + " = " + value + "\n")
}

// Render returns the configuration with which liblxc starts the container.
func Render(s Spec, h Host, f Files) (string, error) {
	c := &conf{}
	renderBasics(c, s, f)
	renderRoot(c, s, f)
	renderSecurity(c, s, h, f)
	renderMounts(c, s, h, f)
	if err := renderNICs(c, s, f); err != nil {
		return "", err
	}
	if err := renderLimits(c, s, h.Cgroups); err != nil {
		return "", err
	}
	if c.err != nil {
		return "", c.err
	}
	if err := checkRaw(s.Raw); err != nil {
		return "", err
	}
	return c.text.String() + s.Raw + "\n", nil
}

func renderBasics(c *conf, s Spec, f Files) {
	c.add("lxc.uts.name", s.Hostname)
	if s.Arch != "" {
		c.add("lxc.arch", s.Arch)
	}
	c.add("lxc.log.file", path.Join(f.Dir, lxcLogFile))
	c.add("lxc.log.level", "WARN")
	c.add("lxc.console.logfile", path.Join(f.Dir, consoleFile))
	c.add("lxc.console.size", "1MB")
	c.add("lxc.console.rotate", "1")
	c.add("lxc.tty.max", "0")
	c.add("lxc.pty.max", "1024")
}

func renderRoot(c *conf, s Spec, f Files) {
	for _, e := range s.IDs {
		for _, k := range []struct {
			wanted bool
			letter string
		}{{e.UID, "u"}, {e.GID, "g"}} {
			if k.wanted {
				c.add("lxc.idmap", fmt.Sprintf("%s %d %d %d", k.letter, e.Inside, e.Host, e.Size))
			}
		}
	}
	root := path.Join(f.Dir, rootDir)
	c.add("lxc.rootfs.path", "dir:"+root) // Mapped already.
	c.add("lxc.rootfs.mount", root)       // The usual place is in a package that nothing else here needs.
}

// allowedDevices are those of every container's minimal /dev, its terminals,
// and those that are safe inside a user namespace.
var allowedDevices = []string{
	"c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", // null, zero, full, random, urandom
	"c 5:0 rwm", "c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm", // tty, console, ptmx, pts/*
	"c 10:229 rwm", "c 10:200 rwm", // fuse, net/tun
	"c *:* m", "b *:* m", // Making a node that cannot be opened is harmless, and unpacking does it.
}

// devicesKey is the key prefix of the device controller that the host has.
func devicesKey(h Cgroups) string {
	switch {
	case h.V1["devices"] != "":
		return "lxc.cgroup.devices."
	case h.V2 != "":
		return "lxc.cgroup2.devices."
	}
	return ""
}

func renderSecurity(c *conf, s Spec, h Host, f Files) {
	if f.Seccomp != "" {
		c.add("lxc.seccomp.profile", f.Seccomp)
		c.add("lxc.seccomp.allow_nesting", "1") // Also where we run in a container ourselves.
	}
	// In a user namespace these are worth nothing, but guests look at them to
	// know what they are to do.
	drop := "sys_time sys_module sys_rawio"
	if s.IDs == nil {
		drop += " mac_admin mac_override"
	}
	c.add("lxc.cap.drop", drop)
	switch {
	case h.AppArmor && h.AppArmorParser == "":
		c.add("lxc.apparmor.profile", "unconfined")
	case h.AppArmor:
		c.add("lxc.apparmor.profile", "generated")
		// Systemd's services do not start where they must not mount.
		if s.Nesting || s.IDs != nil || f.Systemd {
			c.add("lxc.apparmor.allow_nesting", "1")
		}
		for _, rule := range s.AppArmor {
			c.add("lxc.apparmor.raw", rule)
		}
	}
	key := devicesKey(h.Cgroups)
	if key == "" {
		return
	}
	c.add(key+"deny", "a")
	for _, d := range allowedDevices {
		c.add(key+"allow", d)
	}
	for _, n := range s.Nodes {
		c.add(key+"allow", n.rule())
	}
}

// autoMounts are what liblxc mounts itself. In a user namespace all of /proc may
// be writable: the kernel asks for the host's privileges where it matters.
func autoMounts(s Spec, f Files) string {
	auto := []string{"proc:mixed"}
	if s.IDs != nil {
		auto[0] = "proc:rw"
	}
	if f.Sys == "" {
		auto = append(auto, "sys:mixed")
	}
	switch {
	case f.OnlyV2:
	case s.Nesting: // Also hierarchies that the guest's init does not know how to mount.
		auto = append(auto, "cgroup:rw:force")
	default:
		auto = append(auto, "cgroup:mixed")
	}
	return strings.Join(auto, " ")
}

// renderMounts adds what liblxc mounts.
func renderMounts(c *conf, s Spec, h Host, f Files) {
	c.add("lxc.mount.auto", autoMounts(s, f))
	entry := func(fields ...string) { c.add("lxc.mount.entry", strings.Join(fields, " ")+" 0 0") }
	if f.Sys != "" { // liblxc mounts cgroups there after what is in entries.
		entry(escape(f.Sys), "sys", "none", "bind,create=dir")
	}
	if f.OnlyV2 {
		entry("cgroup2", "sys/fs/cgroup", "cgroup2", "rw,nosuid,nodev,noexec,relatime")
	}
	entry("tmpfs", "dev/shm", "tmpfs", "rw,nosuid,nodev,mode=1777,create=dir")
	entry("mqueue", "dev/mqueue", "mqueue", "rw,nosuid,nodev,noexec,relatime,create=dir,optional")
	if s.Nesting { // The kernel mounts a new proc only where a whole one is visible.
		entry("proc", "dev/.cuib/proc", "proc", "rw,nosuid,nodev,noexec,create=dir,optional")
		if f.WholeSys != "" {
			entry(escape(f.WholeSys), "dev/.cuib/sys", "none", "bind,create=dir")
		} else {
			entry("sysfs", "dev/.cuib/sys", "sysfs", "rw,nosuid,nodev,noexec,create=dir,optional")
		}
	}
	if s.BPF.Path != "" {
		// liblxc takes a quote away from the beginning, and puts "exec" there.
		c.add("lxc.hook.start-host", fmt.Sprintf(`/bin/sh -c 'exec "$0" bpffs "$1"' %s %s`, quoted(f.Shim), quoted(f.Dir)))
	}
	renderCredentials(c, s, f)
	for _, name := range h.LXCFS.Files {
		entry(escape(h.LXCFS.Dir+"/"+name), name, "none", "bind,optional")
	}
	if s.Guest != "" {
		for _, target := range []string{"dev/incus", "dev/lxd"} {
			entry(escape(s.Guest), target, "none", "bind,ro,nosuid,nodev,noexec,create=dir,optional")
		}
	}
	for _, m := range f.Staged {
		kind := "create=dir"
		if m.File {
			kind = "create=file"
		}
		if m.Propagation != "" {
			kind += "," + m.Propagation
		}
		entry(escape(m.Source), escape(inside(m.Target)), "none", "rbind,"+kind)
	}
}

// quoted is one word of a shell's.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// inside returns an absolute path of a container as relative to its root.
func inside(target string) string {
	return strings.TrimPrefix(path.Clean("/"+target), "/")
}

var fstabEscapes = strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`)

func escape(path string) string { return fstabEscapes.Replace(path) }

func renderNICs(c *conf, s Spec, f Files) error {
	if err := checkShared(s); err != nil {
		return err
	}
	if sharesHost(s) {
		c.add("lxc.net.0.type", "none")
		return nil
	}
	if len(s.NICs) == len(pluginNICs(s)) {
		c.add("lxc.net.0.type", "empty")
	}
	if len(pluginNICs(s)) > 0 {
		c.add("lxc.hook.start-host", fmt.Sprintf(`/bin/sh -c 'exec "$0" network "$1"' %s %s`, quoted(f.Shim), quoted(f.Dir)))
	}
	for i, n := range s.NICs {
		if n.Kind == nic.CNI {
			continue
		}
		if err := renderNIC(c, i, n); err != nil {
			return err
		}
	}
	return nil
}

func renderNIC(c *conf, i int, n NIC) error {
	prefix := fmt.Sprintf("lxc.net.%d.", i)
	switch {
	case !slices.Contains(nic.Kinds(), n.Kind):
		return errs.Invalidf("nic %q has kind %q, want one of %s", n.Device, n.Kind, strings.Join(nic.Kinds(), ", "))
	case n.Prepared():
		c.add(prefix+"type", "phys")
		c.add(prefix+"link", n.Start())
	case n.Kind == nic.Bridged:
		c.add(prefix+"type", "veth")
		c.add(prefix+"link", n.Parent)
		c.add(prefix+"veth.pair", n.HostName)
	default:
		c.add(prefix+"type", "macvlan")
		c.add(prefix+"link", n.Parent)
		mode := n.Mode
		if mode == "" {
			mode = "bridge"
		}
		c.add(prefix+"macvlan.mode", mode)
	}
	c.add(prefix+"name", n.Name)
	c.add(prefix+"flags", "up")
	if n.Prepared() { // They have both already.
		renderAddresses(c, prefix, n)
		return nil
	}
	if n.MAC != "" {
		c.add(prefix+"hwaddr", n.MAC)
	}
	if n.MTU > 0 {
		c.add(prefix+"mtu", strconv.Itoa(n.MTU))
	}
	return nil
}

// renderAddresses is for guests that have their addresses from their start.
func renderAddresses(c *conf, prefix string, n NIC) {
	if n.Kind != nic.Routed && n.Kind != nic.IPVlan {
		return
	}
	for _, f := range []struct {
		nic.Family

		key string
	}{{n.IPv4, prefix + "ipv4."}, {n.IPv6, prefix + "ipv6."}} {
		for _, a := range f.Addresses {
			c.add(f.key+"address", a.String())
		}
		switch {
		case f.Gateway.IsValid():
			c.add(f.key+"gateway", f.Gateway.String())
		case f.Onlink:
			c.add(f.key+"gateway", "dev")
		}
	}
}

// setV2 sets values in the container's cgroup of v2 before its init runs, where
// v1 is there too: liblxc then says nothing, and does nothing.
const setV2 = `/bin/sh -c 'while IFS=: read -r n c p; do [ "$n$c" != 0 ] || { %s; } || exit 1; done </proc/$LXC_PID/cgroup'`

func renderLimits(c *conf, s Spec, h Cgroups) error {
	settings, err := s.Limits.Settings(h)
	if err != nil {
		return err
	}
	var late []string
	for _, l := range settings {
		if l.Default {
			continue
		}
		if l.V2 && len(h.V1) > 0 {
			late = append(late, fmt.Sprintf(`echo %s >"%s$p/%s"`, l.text(), h.V2, l.File))
			continue
		}
		key := "lxc.cgroup."
		if l.V2 {
			key = "lxc.cgroup2."
		}
		c.add(key+l.File, l.text())
	}
	if len(late) > 0 {
		c.add("lxc.hook.start-host", fmt.Sprintf(setV2, strings.Join(late, " && ")))
	}
	for _, name := range sortedKeys(s.Rlimits) {
		c.add("lxc.prlimit."+name, s.Rlimits[name])
	}
	for _, name := range sortedKeys(s.Sysctls) {
		c.add("lxc.sysctl."+name, s.Sysctls[name])
	}
	if s.OOMScore != 0 {
		c.add("lxc.proc.oom_score_adj", strconv.Itoa(s.OOMScore))
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// refusedKeys are keys that raw.lxc may not have, with all below them: they
// would break what the runtime relies on to find, watch and end containers.
var refusedKeys = []string{
	"lxc.arch", "lxc.cgroup.dir", "lxc.cgroup.relative", "lxc.console", "lxc.ephemeral", "lxc.execute", "lxc.group",
	"lxc.hook.post-stop", "lxc.hook.version", "lxc.idmap", "lxc.id_map", "lxc.include", "lxc.init", "lxc.log",
	"lxc.logfile", "lxc.loglevel", "lxc.monitor", "lxc.namespace", "lxc.network", "lxc.pty", "lxc.rebootsignal",
	"lxc.rootfs", "lxc.seccomp", "lxc.signal.stop", "lxc.start", "lxc.syslog", "lxc.tty", "lxc.uts",
}

// checkRaw checks lines that a user adds to lxc.conf.
func checkRaw(raw string) error {
	if strings.ContainsAny(raw, "\x00\r") {
		return errs.Invalidf("raw.lxc has a NUL or carriage return character")
	}
	for line := range strings.Lines(raw) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, _, ok := strings.Cut(line, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok || !strings.HasPrefix(key, "lxc.") {
			return errs.Invalidf("raw.lxc line %q: lines such as \"lxc.key = value\" are allowed", line)
		}
		for _, refused := range refusedKeys {
			if key == refused || strings.HasPrefix(key, refused+".") {
				return errs.Invalidf("raw.lxc key %q is not allowed", key)
			}
		}
	}
	return nil
}

// hostID returns the host's id of a guest's, for making files that the guest
// is to own.
func hostID(ids idmap.Map, k idmap.Kind, id int64) (int, error) {
	host, ok := ids.ToHost(k, id)
	if !ok {
		return 0, errs.Invalidf("id %d is not one of the instance's", id)
	}
	return int(host), nil
}
