package zones_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

const secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="

// loopback is an address of this host that nobody else uses.
func loopback() netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(1 + rand.IntN(254)), byte(rand.IntN(256)), byte(1 + rand.IntN(254))})
}

// serve serves the zones until the test ends, and returns where.
func (e env) serve(t *testing.T) netip.AddrPort {
	t.Helper()
	at := netip.AddrPortFrom(loopback(), 53)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx, at.String()) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-ended)
	})
	testenv.Eventually(t, "zones are served", func() bool {
		c, err := net.Dial("tcp", at.String())
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return at
}

func dig(t *testing.T, at netip.AddrPort, args ...string) string {
	t.Helper()
	return testenv.Run(t, slices.Concat([]string{"dig", "@" + at.Addr().String(), "-p", fmt.Sprint(at.Port()), "+nocookie"}, args)...)
}

// nsd starts a name server that has the zone from a primary, and returns where
// it answers.
func nsd(t *testing.T, zone string, primary netip.AddrPort, at netip.Addr) {
	t.Helper()
	dir := t.TempDir()
	conf := fmt.Sprintf(`server:
	ip-address: %[1]s
	username: ""
	chroot: ""
	zonesdir: "%[2]s"
	database: ""
	pidfile: "%[2]s/pid"
	logfile: "%[2]s/log"
	xfrdfile: "%[2]s/xfrd"
	xfrdir: "%[2]s"
	zonelistfile: "%[2]s/zones"
	server-count: 1
	xfrd-reload-timeout: 0
remote-control:
	control-enable: no
key:
	name: "%[3]s_ns1."
	algorithm: hmac-sha256
	secret: "%[4]s"
zone:
	name: "%[3]s"
	zonefile: "zone"
	allow-notify: 127.0.0.0/8 %[3]s_ns1.
	request-xfr: %[5]s@%[6]d %[3]s_ns1.
	outgoing-interface: %[1]s
`, at, dir, zone, secret, primary.Addr(), primary.Port())
	must(t, os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o600))
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "nsd", "-d", "-c", filepath.Join(dir, "conf"))
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("nsd: %s", log)
		}
	})
}

// TestSecondary has a name server of others take a zone, and follow it.
func TestSecondary(t *testing.T) {
	testenv.Kernel(t, "nsd", "dig")
	e := fill(t)
	secondary := loopback()
	must(t, e.Update(t.Context(), "c.example.org", api.NetworkZonePut{Config: api.ConfigMap{
		"dns.nameservers": "ns1.example.org", "peers.ns1.address": secondary.String(), "peers.ns1.key": secret,
	}}))
	at := e.serve(t)
	nsd(t, "c.example.org", at, secondary)
	has := func(name, typ, want string) {
		t.Helper()
		testenv.Eventually(t, fmt.Sprintf("the secondary has %s %s: %q", name, typ, want), func() bool {
			got, err := exec.Command("dig", "@"+secondary.String(), "+short", "+time=1", "+tries=1", name, typ).Output()
			return err == nil && strings.TrimSpace(string(got)) == want
		})
	}
	has("web.c.example.org", "AAAA", "2001:db8::7")
	has("br0.gw.c.example.org", "A", "10.1.2.1")
	must(t, e.record(t, "c.example.org", "www", "CNAME web.c.example.org."))
	has("www.c.example.org", "CNAME", "web.c.example.org.")
	e.addresses.add("br0", "new", "10.1.2.77") // Nobody says so.
	has("new.c.example.org", "A", "10.1.2.77")
	must(t, e.DeleteRecord(t.Context(), "c.example.org", "www"))
	has("www.c.example.org", "CNAME", "")
}

func TestDig(t *testing.T) {
	testenv.Kernel(t, "dig")
	e := fill(t)
	must(t, e.Update(t.Context(), "c.example.org", api.NetworkZonePut{Config: api.ConfigMap{"peers.me.key": secret}}))
	at := e.serve(t)
	key := []string{"-y", "hmac-sha256:c.example.org_me:" + secret}
	got := dig(t, at, append(key, "c.example.org", "AXFR", "+noall", "+answer")...)
	if !strings.Contains(got, "web.c.example.org.\t300\tIN\tAAAA\t2001:db8::7") || strings.Count(got, "SOA") != 2 {
		t.Errorf("got %s", got)
	}
	if got := dig(t, at, append(key, "c.example.org", "SOA", "+short")...); !strings.HasPrefix(got, "c.example.org. hostmaster.c.example.org. ") {
		t.Errorf("got %s", got)
	}
	if got := dig(t, at, "c.example.org", "SOA"); !strings.Contains(got, "status: REFUSED") {
		t.Errorf("without the key: got %s", got)
	}
	if got := dig(t, at, "c.example.org", "AXFR"); !strings.Contains(got, "Transfer failed") {
		t.Errorf("without the key: got %s", got)
	}
	if got := dig(t, at, append(key, "public.example.org", "SOA")...); !strings.Contains(got, "status: REFUSED") {
		t.Errorf("another zone: got %s", got)
	}
}

// TestAddressChanges serves zones once the host has the address.
func TestAddressChanges(t *testing.T) {
	e := newEnv(t)
	e.Warnings = &warnings.Service{DB: e.DB, Events: e.Events, Log: e.Log}
	e.create(t, "c.example.org", api.ConfigMap{"peers.me.key": secret})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx, taken.Addr().String()) }()
	state := func() string {
		all, err := e.Warnings.List(t.Context())
		must(t, err)
		if len(all) == 0 {
			return ""
		}
		return all[0].Status
	}
	testenv.Eventually(t, "a warning", func() bool { return state() == api.WarningNew })
	if err := e.Listen(t.Context(), taken.Addr().String()); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "core.dns_address") {
		t.Errorf("got %v", err)
	}
	must(t, taken.Close())
	testenv.Eventually(t, "the warning is resolved", func() bool { return state() == api.WarningResolved })
	must(t, e.Listen(t.Context(), ""))
	cancel()
	must(t, <-ended)
}
