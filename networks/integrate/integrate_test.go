package integrate_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/networks/integrate"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/shared/testenv"
)

const guestNet = "br0"

// lost returns what the host's firewall drops of what the bridge needs.
func lost(t *testing.T) []firewall.Obstacle {
	t.Helper()
	cfg := networks.Config{Name: guestNet}
	f := networks.Family{NAT: true, DHCP: true, Routing: true}
	cfg.IPv4, cfg.IPv6 = f, f
	cfg.IPv4.Address, cfg.IPv6.Address = netip.MustParsePrefix("10.7.8.1/24"), netip.MustParsePrefix("fd42::1/64")
	packets, err := firewall.Needs(cfg)
	must(t, err)
	r, err := firewall.Read(func(string) bool { return false })
	must(t, err)
	_, err = r.ReadLegacy(t.Context())
	must(t, err)
	all, err := r.Obstacles(packets)
	must(t, err)
	return all
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A wall is a firewall that is there for one test, in namespaces of its own.
type wall struct {
	name    string
	raise   func(t *testing.T)
	picture func(t *testing.T) string // All that is in its configuration.
}

func walls() []wall {
	var all []wall
	for _, suffix := range []string{"-nft", "-legacy"} {
		all = append(all, wall{
			"Docker" + suffix, func(t *testing.T) { t.Helper(); networkstest.Docker(t, suffix) },
			func(t *testing.T) string {
				t.Helper()
				return testenv.Run(t, "iptables"+suffix, "-S") + testenv.Run(t, "ip6tables"+suffix, "-S")
			},
		})
	}
	zones := func(t *testing.T) string {
		t.Helper()
		return testenv.Run(t, "firewall-cmd", "--get-active-zones") + testenv.Run(t, "sh", "-c", "cat /etc/firewalld/zones/*; ls -R /etc/firewalld")
	}
	return append(
		all,
		wall{"ufw", func(t *testing.T) { t.Helper(); networkstest.UFW(t) }, func(t *testing.T) string { t.Helper(); return testenv.Run(t, "ufw", "show", "added") }},
		wall{"firewalld with our zone", func(t *testing.T) { t.Helper(); networkstest.Firewalld(t, zone(t)) }, zones},
	)
}

// zone is the zone that comes with Cuib.
func zone(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../scripts/firewalld/cuib.xml")
	must(t, err)
	return path
}

func each(t *testing.T, fn func(t *testing.T, w wall)) {
	t.Helper()
	for _, w := range walls() {
		t.Run(w.name, func(t *testing.T) {
			networkstest.Host(t)
			w.raise(t)
			testenv.Run(t, "ip", "link", "add", guestNet, "type", "bridge")
			testenv.Run(t, "ip", "link", "add", "docker0", "type", "bridge")
			fn(t, w)
		})
	}
}

// TestWalls has each kind of firewall.
func TestWalls(t *testing.T) {
	each(t, func(t *testing.T, w wall) {
		opens(t, w)
		failsAnywhere(t, w)
	})
}

// opens lets pass what is lost, and takes that out again.
func opens(t *testing.T, w wall) {
	t.Helper()
	h, other := integrate.New("/one"), integrate.New("/two")
	before := w.picture(t)
	some := lost(t)
	if len(some) == 0 {
		t.Fatal("nothing is lost")
	}
	must(t, h.Open(t.Context(), guestNet, networks.IntegrateNever, some))
	if got := w.picture(t); got != before {
		t.Errorf("changed without being allowed to: %s", got)
	}
	must(t, h.Open(t.Context(), guestNet, networks.IntegrateSafe, some))
	if left := lost(t); len(left) > 0 {
		t.Errorf("lost still: %v", left)
	}
	opened := w.picture(t)
	must(t, h.Open(t.Context(), guestNet, networks.IntegrateSafe, nil))
	must(t, h.Open(t.Context(), guestNet, networks.IntegrateSafe, some))
	if got := w.picture(t); got != opened {
		t.Errorf("again: got\n%s\nwant\n%s", got, opened)
	}
	if !strings.HasPrefix(w.name, "firewalld") {
		must(t, other.Close(t.Context(), guestNet))
	}
	must(t, h.Close(t.Context(), "br"))
	if got, err := h.Bridges(t.Context()); err != nil || !slices.Equal(got, []string{guestNet}) {
		t.Errorf("got bridges %q, %v", got, err)
	}
	for range 2 {
		must(t, h.Close(t.Context(), guestNet))
		if got := w.picture(t); got != before {
			t.Errorf("closed: got\n%s\nwant\n%s", got, before)
		}
	}
	if got, err := h.Bridges(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("got bridges %q, %v", got, err)
	}
}

// failsAnywhere has each program that is run fail in turn.
func failsAnywhere(t *testing.T, w wall) {
	t.Helper()
	h := integrate.New("/one")
	before := w.picture(t)
	some := lost(t)
	for n := 1; ; n++ {
		if n > 30 {
			t.Fatal("it never succeeds")
		}
		heal := failing(t, n)
		err := h.Open(t.Context(), guestNet, networks.IntegrateSafe, some)
		heal()
		if err == nil {
			break
		}
		if got := w.picture(t); got != before {
			t.Fatalf("the failure of program %d left something: %v: got\n%s\nwant\n%s", n, err, got, before)
		}
	}
	if left := lost(t); len(left) > 0 {
		t.Errorf("lost still: %v", left)
	}
	// What failed to be taken out is found, and taken out later.
	for n := 1; ; n++ {
		heal := failing(t, n)
		err := h.Close(t.Context(), guestNet)
		heal()
		if err == nil {
			break
		}
	}
	if got := w.picture(t); got != before {
		t.Errorf("closed: got\n%s\nwant\n%s", got, before)
	}
}

// failing makes the n-th program from now on fail, of those that change or show
// firewalls, and returns what ends that.
func failing(t *testing.T, n int) (heal func()) {
	t.Helper()
	dir, path := t.TempDir(), os.Getenv("PATH")
	count := filepath.Join(dir, "count")
	for _, p := range []string{"iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy", "ufw", "firewall-cmd"} {
		script := "#!/bin/sh\necho >>" + count + "\n[ $(wc -l <" + count + ") = " + strconv.Itoa(n) + " ] && { echo broken >&2; exit 9; }\nPATH=" + path + " exec " + p + ` "$@"` + "\n"
		must(t, os.WriteFile(filepath.Join(dir, p), []byte(script), 0o755))
	}
	t.Setenv("PATH", dir+":"+path)
	return func() { t.Setenv("PATH", path) }
}

// TestOthers finds that rules of others are as they were, and are obeyed.
func TestOthers(t *testing.T) {
	networkstest.Host(t)
	networkstest.Docker(t, "-nft")
	for _, r := range []string{"-D DOCKER-USER -j RETURN", "-A DOCKER-USER -i br0 -p tcp --dport 25 -j DROP", "-A DOCKER-USER -j RETURN"} {
		testenv.Run(t, append([]string{"iptables-nft"}, strings.Fields(r)...)...)
	}
	testenv.Run(t, "ip", "link", "add", "docker0", "type", "bridge")
	h := integrate.New("/one")
	must(t, h.Open(t.Context(), guestNet, networks.IntegrateSafe, lost(t)))
	const want = `-N DOCKER-USER
-A DOCKER-USER -i br0 -p tcp -m tcp --dport 25 -j DROP
-A DOCKER-USER -i br0 -o docker0 -m comment --comment "MARK" -j RETURN
-A DOCKER-USER -i br0 -m comment --comment "MARK" -j ACCEPT
-A DOCKER-USER -o br0 -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -m comment --comment "MARK" -j ACCEPT
-A DOCKER-USER -j RETURN`
	got := testenv.Run(t, "iptables-nft", "-S", "DOCKER-USER")
	_, mark, _ := strings.Cut(got, `"`)
	mark, _, _ = strings.Cut(mark, `"`)
	if got := strings.ReplaceAll(got, mark, "MARK"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// Docker makes another network.
	testenv.Run(t, "ip", "link", "add", "br-0123456789ab", "type", "bridge")
	must(t, h.Open(t.Context(), guestNet, networks.IntegrateSafe, nil))
	if got := testenv.Run(t, "iptables-nft", "-S", "DOCKER-USER"); !strings.Contains(got, "-o br-0123456789ab") {
		t.Errorf("got\n%s", got)
	}
}

// TestZones leaves a bridge where its user has put it, and else takes a zone that
// fits.
func TestZones(t *testing.T) {
	networkstest.Host(t)
	networkstest.Firewalld(t, zone(t))
	testenv.Run(t, "ip", "link", "add", guestNet, "type", "bridge")
	some := lost(t)
	testenv.Run(t, "firewall-cmd", "--zone=dmz", "--add-interface="+guestNet)
	h := integrate.New(t.TempDir())
	must(t, h.Open(t.Context(), guestNet, networks.IntegrateAlways, some))
	if got := testenv.Run(t, "firewall-cmd", "--get-zone-of-interface="+guestNet); got != "dmz" {
		t.Errorf("it is in %q", got)
	}
	testenv.Run(t, "firewall-cmd", "--zone=dmz", "--remove-interface="+guestNet)
	must(t, h.Open(t.Context(), guestNet, networks.IntegrateSafe, some))
	testenv.Run(t, "firewall-cmd", "--permanent", "--zone=cuib", "--add-interface="+guestNet)
	must(t, h.Close(t.Context(), guestNet))
	if got := testenv.Run(t, "firewall-cmd", "--get-zone-of-interface="+guestNet); got != "cuib" {
		t.Errorf("it was taken out of %q", got)
	}
	// Without our zone there is only firewalld's own.
	testenv.Run(t, "rm", "/etc/firewalld/zones/cuib.xml")
	testenv.Run(t, "firewall-cmd", "--reload")
	must(t, h.Open(t.Context(), guestNet, networks.IntegrateSafe, some))
	if left := lost(t); len(left) == 0 {
		t.Error("more was let pass than is needed")
	}
	must(t, h.Open(t.Context(), guestNet, networks.IntegrateAlways, some))
	if left := lost(t); len(left) > 0 {
		t.Errorf("lost still: %v", left)
	}
}
