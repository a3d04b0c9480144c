package resolved_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/cuib/cuib/networks/resolved"
	"github.com/cuib/cuib/shared/testenv"
)

// bus starts a D-Bus of the test's own, and returns its address.
func bus(t *testing.T) (address string, stop func()) {
	t.Helper()
	dir := t.TempDir()
	address = "unix:path=" + filepath.Join(dir, "bus")
	conf := `<busconfig><type>system</type><listen>` + address + `</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/>
<allow send_requested_reply="true" send_type="method_return"/><allow send_requested_reply="true" send_type="error"/>
<allow receive_type="method_call"/><allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/></policy></busconfig>`
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "dbus-daemon", "--config-file="+filepath.Join(dir, "conf"), "--nofork", "--nopidfile")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(stop)
	testenv.Eventually(t, "D-Bus is there", func() bool {
		c, err := dbus.Connect(address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return address, stop
}

// fake is a systemd-resolved that writes down what it is told of links.
type fake struct {
	conn *dbus.Conn

	mu    sync.Mutex
	links map[int32]map[string]string
}

type server struct {
	Family  int32
	Address []byte
}

type domain struct {
	Name  string
	Route bool
}

func (f *fake) note(link int32, what string, value any) *dbus.Error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.links[link] == nil {
		f.links[link] = map[string]string{}
	}
	f.links[link][what] = fmt.Sprint(value)
	return nil
}

func (f *fake) SetLinkDNS(link int32, all []server) *dbus.Error { return f.note(link, "servers", all) }

func (f *fake) SetLinkDomains(link int32, all []domain) *dbus.Error {
	return f.note(link, "domains", all)
}

func (f *fake) SetLinkDNSSEC(link int32, mode string) *dbus.Error {
	return f.note(link, "dnssec", mode)
}

func (f *fake) SetLinkDefaultRoute(link int32, on bool) *dbus.Error {
	return f.note(link, "default", on)
}

func (f *fake) RevertLink(link int32) *dbus.Error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.links, link)
	return nil
}

func (f *fake) told() map[int32]map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[int32]map[string]string{}
	for i, l := range f.links {
		out[i] = maps.Clone(l)
	}
	return out
}

// start starts a resolved. It has no SetLinkDNSOverTLS, as old ones.
func start(t *testing.T, address string) *fake {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	f := &fake{conn: conn, links: map[int32]map[string]string{}}
	if err := conn.Export(f, "/org/freedesktop/resolve1", "org.freedesktop.resolve1.Manager"); err != nil {
		t.Fatal(err)
	}
	if reply, err := conn.RequestName("org.freedesktop.resolve1", dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(reply, err)
	}
	return f
}

// host has the numbers of interfaces.
type host struct {
	mu  sync.Mutex
	all map[string]int
}

func (h *host) set(name string, index int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all[name] = index
}

func (h *host) index(name string) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all[name], nil
}

func run(t *testing.T, r *resolved.Registrar) {
	t.Helper()
	r.Log = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func link(name, server string, domains ...string) resolved.Link {
	return resolved.Link{Name: name, Servers: []netip.Addr{netip.MustParseAddr(server)}, Domains: domains}
}

func TestRegistrar(t *testing.T) {
	testenv.Kernel(t, "dbus-daemon")
	address, _ := bus(t)
	h := &host{all: map[string]int{"br0": 7}}
	r := &resolved.Registrar{Bus: address, Index: h.index}
	run(t, r)
	r.Set([]resolved.Link{link("br0", "10.1.2.1", "cuib", "2.1.10.in-addr.arpa"), link("br1", "fd42::1", "lab")})

	br0 := map[string]string{"servers": "[{2 [10 1 2 1]}]", "domains": "[{cuib true} {2.1.10.in-addr.arpa true}]", "dnssec": "no", "default": "false"}
	br1 := map[string]string{"servers": "[{10 [253 66 0 0 0 0 0 0 0 0 0 0 0 0 0 1]}]", "domains": "[{lab true}]", "dnssec": "no", "default": "false"}
	knows := func(f *fake, what string, want map[int32]map[string]string) {
		t.Helper()
		testenv.Eventually(t, what, func() bool { return reflect.DeepEqual(f.told(), want) })
	}
	f := start(t, address) // Later than we.
	knows(f, "the bridge that is there", map[int32]map[string]string{7: br0})
	h.set("br1", 9)
	r.Set([]resolved.Link{link("br0", "10.1.2.1", "cuib", "2.1.10.in-addr.arpa"), link("br1", "fd42::1", "lab")})
	knows(f, "a bridge that comes", map[int32]map[string]string{7: br0, 9: br1})

	// A bridge that was made anew has another number, and resolved has
	// forgotten the old one.
	h.set("br0", 11)
	_ = f.RevertLink(7)
	r.Set([]resolved.Link{link("br0", "10.1.2.1", "cuib", "2.1.10.in-addr.arpa"), link("br1", "fd42::1", "lab")})
	knows(f, "a bridge that is another", map[int32]map[string]string{11: br0, 9: br1})

	// A resolved that starts again knows nothing.
	if err := f.conn.Close(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the name is free", func() bool {
		c, err := dbus.Connect(address)
		if err != nil {
			return false
		}
		defer func() { _ = c.Close() }()
		var has bool
		err = c.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, "org.freedesktop.resolve1").Store(&has)
		return err == nil && !has
	})
	f = start(t, address)
	knows(f, "all, after a restart", map[int32]map[string]string{11: br0, 9: br1})

	// Networks go, and are changed.
	r.Set([]resolved.Link{link("br0", "10.1.2.1", "lab")})
	changed := map[string]string{"servers": br0["servers"], "domains": "[{lab true}]", "dnssec": "no", "default": "false"}
	knows(f, "one that is left", map[int32]map[string]string{11: changed})
	r.Set(nil)
	knows(f, "none", map[int32]map[string]string{})
}

// TestWithout runs where there is no D-Bus, and where there is none any more.
func TestWithout(t *testing.T) {
	testenv.Kernel(t, "dbus-daemon")
	nowhere := &resolved.Registrar{Bus: "unix:path=" + filepath.Join(t.TempDir(), strings.Repeat("x", 10))}
	run(t, nowhere)
	nowhere.Set([]resolved.Link{link("br0", "10.1.2.1", "cuib")})

	address, stop := bus(t)
	h := &host{all: map[string]int{"br0": 7}}
	r := &resolved.Registrar{Bus: address, Index: h.index}
	run(t, r)
	r.Set([]resolved.Link{link("br0", "10.1.2.1", "cuib")})
	f := start(t, address)
	testenv.Eventually(t, "it is told", func() bool { return len(f.told()) == 1 })
	stop()
	r.Set(nil)
}
