package cni_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/cuib/cuib/networks/cni"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

const debian = "/usr/lib/cni"

// bridged is a list of the plugins that hosts have most, with what there is in
// addition at its end.
const bridged = `{"cniVersion": "1.0.0", "name": "NAME", "plugins": [
	{"type": "bridge", "bridge": "br0", "isGateway": true, "capabilities": {"mac": true, "ips": true}, "ipam": {
		"type": "host-local", "ranges": [[{"subnet": "10.97.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "DIR"}},
	{"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
	{"type": "firewall", "backend": "iptables"}%s]}`

// world is a host with configurations, in a network namespace of its own.
type world struct {
	*cni.Plugins

	configs, leases string
}

func newWorld(t *testing.T) world {
	t.Helper()
	testenv.Kernel(t, "iptables", debian+"/bridge")
	testenv.NetNS(t)
	testenv.Run(t, "ip", "link", "set", "lo", "up")
	w := world{configs: t.TempDir(), leases: t.TempDir()}
	dirs := cni.Dirs{Config: w.configs, Plugins: []string{debian, w.configs}}
	w.Plugins = &cni.Plugins{
		Dir:  filepath.Join(t.TempDir(), "cni"),
		Dirs: func(context.Context) (cni.Dirs, error) { return dirs, nil },
	}
	w.config(t, "10-web.conflist", "web", bridged, "")
	return w
}

func (w world) config(t *testing.T, file, name, text, more string) {
	t.Helper()
	text = fmt.Sprintf(strings.NewReplacer("NAME", name, "DIR", w.leases).Replace(text), more)
	if err := os.WriteFile(filepath.Join(w.configs, file), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// plugin makes a plugin of a script.
func (w world) plugin(t *testing.T, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.configs, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil { //nolint:gosec // It is a program.
		t.Fatal(err)
	}
}

// left is all that plugins leave on a host.
func (w world) left(t *testing.T) string {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range links {
		if l.Attrs().Name != "br0" { // The plugin's, which it keeps.
			out = append(out, l.Attrs().Name)
		}
	}
	for line := range strings.Lines(testenv.Run(t, "iptables-save")) {
		if strings.HasPrefix(line, "-A") && strings.Contains(line, "10.97.0.") {
			out = append(out, line)
		}
	}
	_ = filepath.WalkDir(w.leases, func(path string, _ os.DirEntry, _ error) error {
		if base := filepath.Base(path); strings.HasPrefix(base, "10.") {
			out = append(out, base)
		}
		return nil
	})
	records, err := os.ReadDir(w.Dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range records {
		if !e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return strings.Join(out, "\n")
}

func path(n *networkstest.NS) string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.File().Fd())
}

func web() cni.Attachment {
	return cni.Attachment{Instance: "c1", Network: "web", Interface: "eth0"}
}

// TestPlugins runs Debian's plugins from the beginning to the end.
func TestPlugins(t *testing.T) {
	w := newWorld(t)
	before := w.left(t)
	outside := networkstest.World(t)
	outside.Must(t, func() error { return networkstest.Route(netip.MustParseAddr("192.0.2.1")) })
	guest := networkstest.New(t)
	a := web()
	a.MAC, a.Addresses = "10:66:6a:00:00:07", []netip.Addr{netip.MustParseAddr("10.97.0.77")}
	a.Ports = []cni.Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
	got, err := w.Add(t.Context(), a, path(guest))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Addresses) != 1 || got.Addresses[0].Prefix.String() != "10.97.0.77/24" || got.Addresses[0].Gateway.String() != "10.97.0.1" ||
		got.Addresses[0].Interface != "eth0" || len(got.Routes) != 1 || !strings.HasPrefix(got.HostName(), "veth") {
		t.Errorf("got %+v", got)
	}
	again, err := w.Result(a)
	if err != nil || fmt.Sprint(again) != fmt.Sprint(got) {
		t.Errorf("kept is %+v, %v, want %+v", again, err, got)
	}
	guest.Must(t, func() error {
		l, err := netlink.LinkByName("eth0")
		if err == nil && l.Attrs().HardwareAddr.String() != a.MAC {
			t.Errorf("it has the address %s", l.Attrs().HardwareAddr)
		}
		return err
	})
	answers(t, guest, outside)
	for range 2 {
		if err := w.Del(t.Context(), a, path(guest)); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Run(t, "ip", "link", "del", "uplink")
	if left := w.left(t); left != before {
		t.Errorf("left over:\n%s\nwant\n%s", left, before)
	}
	if _, err := w.Result(a); !errs.Is(err, errs.NotFound) {
		t.Errorf("got %v", err)
	}
}

// TestCheck has no ports: portmap of Debian 12 misses rules of IPv6 for them
// that it did not make.
func TestCheck(t *testing.T) {
	w, guest := newWorld(t), networkstest.New(t)
	if _, err := w.Add(t.Context(), web(), path(guest)); err != nil {
		t.Fatal(err)
	}
	if err := w.Check(t.Context(), web(), path(guest)); err != nil {
		t.Errorf("check: %v", err)
	}
	guest.Must(t, func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(l) // Its routes go.
	})
	if err := w.Check(t.Context(), web(), path(guest)); err == nil || !strings.Contains(err.Error(), `CNI configuration "web": `) {
		t.Errorf("check without routes: %v", err)
	}
	if err := w.Del(t.Context(), web(), path(guest)); err != nil {
		t.Fatal(err)
	}
}

// answers connects from outside to the host's port, and has the guest answer.
func answers(t *testing.T, guest, outside *networkstest.NS) {
	t.Helper()
	var l net.Listener
	guest.Must(t, func() (err error) {
		l, err = net.Listen("tcp4", "0.0.0.0:80")
		return err
	})
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			fmt.Fprint(c, "hello")
			_ = c.Close()
		}
	}()
	outside.Must(t, func() error {
		c, err := net.Dial("tcp4", "192.0.2.1:8080")
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		b := make([]byte, 5)
		if _, err := c.Read(b); err != nil || string(b) != "hello" {
			return fmt.Errorf("got %q, %w", b, err)
		}
		return nil
	})
}

// TestPluginFails has the last plugin of a list fail: those before it take back
// what they did, and all that it says is heard.
func TestPluginFails(t *testing.T) {
	w := newWorld(t)
	before := w.left(t)
	w.plugin(t, "broken", `[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{"cniVersion": "1.0.0", "code": 103, "msg": "no room for this", "details": "the rack is full"}'; exit 1`)
	w.config(t, "20-broken.conflist", "broken", bridged, `, {"type": "broken"}`)
	w.plugin(t, "mute", `[ "$CNI_COMMAND" = ADD ] || exit 0
echo "line one
line two" >&2; exit 3`)
	w.config(t, "30-mute.conflist", "mute", bridged, `, {"type": "mute"}`)
	for name, want := range map[string]string{
		"broken": `CNI configuration "broken": plugin type="broken" failed (add): no room for this; the rack is full (code 103)`,
		"mute":   `line one\nline two`,
	} {
		a := web()
		a.Network = name
		guest := networkstest.New(t)
		if _, err := w.Add(t.Context(), a, path(guest)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", name, err)
		}
		if left := w.left(t); left != before {
			t.Errorf("%s: left over:\n%s\nwant\n%s", name, left, before)
		}
	}
}

// TestLeftOver is for what a daemon that was killed leaves: the instance has
// ended, the configuration has gone meanwhile.
func TestLeftOver(t *testing.T) {
	w := newWorld(t)
	before := w.left(t)
	guest := networkstest.New(t)
	if _, err := w.Add(t.Context(), web(), path(guest)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(w.configs, "10-web.conflist")); err != nil {
		t.Fatal(err)
	}
	later := &cni.Plugins{Dir: w.Dir, Dirs: w.Dirs}
	if err := later.Settle(t.Context(), func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if w.left(t) == before {
		t.Error("an instance that runs has lost its interface")
	}
	guest.Must(t, func() error { // As with the end of the namespace.
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
	for range 2 {
		if err := later.Settle(t.Context(), func(string) bool { return false }); err != nil {
			t.Fatal(err)
		}
	}
	if left := w.left(t); left != before {
		t.Errorf("left over:\n%s\nwant\n%s", left, before)
	}
}

// TestAddAgain is for a start that was cut short: the record is there, and what
// some plugins have made.
func TestAddAgain(t *testing.T) {
	w := newWorld(t)
	before := w.left(t)
	w.plugin(t, "stuck", `[ -e "$(dirname "$0")/works" ] && cat >/dev/null && exit 0
echo "it is $CNI_COMMAND" >&2; exit 1`)
	w.config(t, "20-stuck.conflist", "stuck", bridged, `, {"type": "stuck"}`)
	a := web()
	a.Network = "stuck"
	guest := networkstest.New(t)
	if _, err := w.Add(t.Context(), a, path(guest)); err == nil || !strings.Contains(err.Error(), "it is ADD") || !strings.Contains(err.Error(), "it is DEL") {
		t.Errorf("got %v", err)
	}
	if w.left(t) == before {
		t.Error("nothing is left over")
	}
	if err := os.WriteFile(filepath.Join(w.configs, "works"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := w.Add(t.Context(), web(), path(guest))
	if err != nil || len(got.Addresses) != 1 {
		t.Fatalf("got %+v, %v", got, err)
	}
	if err := w.Del(t.Context(), web(), path(guest)); err != nil {
		t.Fatal(err)
	}
	if left := w.left(t); left != before {
		t.Errorf("left over:\n%s\nwant\n%s", left, before)
	}
}

func TestLook(t *testing.T) {
	w := newWorld(t)
	w.config(t, "05-one.conf", "one", `{"cniVersion": "0.3.1", "name": "NAME", "type": "bridge"%s}`, "")
	w.config(t, "40-gone.conf", "gone", `{"cniVersion": "1.0.0", "name": "NAME", "type": "no-such"%s}`, "")
	w.config(t, "50-path.conf", "path", `{"cniVersion": "1.0.0", "name": "NAME", "type": "../cni/bridge"%s}`, "")
	for name, want := range map[string]string{
		"web": "", "one": "",
		"none":                `there is no CNI configuration "none" in ` + w.configs + ", which has one, web, gone, path",
		"../10-web.conflist":  "there is no CNI configuration",
		"gone":                `there is no plugin "no-such"`,
		"path":                `there is no plugin "../cni/bridge"`,
		w.configs + "/10-web": "there is no CNI configuration",
	} {
		a := web()
		a.Network = name
		err := w.Look(t.Context(), a)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || errs.Is(err, errs.Internal)) {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
	a := web()
	a.Network, a.MAC = "one", "10:66:6a:00:00:01"
	if err := w.Look(t.Context(), a); err == nil || !strings.Contains(err.Error(), `hwaddr: CNI configuration "one" has no plugin with the capability "mac"`) {
		t.Errorf("got %v", err)
	}
	if err := os.Chmod(filepath.Join(w.configs, "10-web.conflist"), 0o666); err != nil { //nolint:gosec // That is what is wrong.
		t.Fatal(err)
	}
	if err := w.Look(t.Context(), web()); err == nil || !strings.Contains(err.Error(), "is not root's alone") {
		t.Errorf("got %v", err)
	}
}

// TestPortsOnTheWire has the names that plugins read.
func TestPortsOnTheWire(t *testing.T) {
	text, err := json.Marshal(cni.Port{HostPort: 1, ContainerPort: 2, Protocol: "udp"})
	if want := `{"hostPort":1,"containerPort":2,"protocol":"udp"}`; err != nil || string(text) != want {
		t.Errorf("got %s, %v", text, err)
	}
}
