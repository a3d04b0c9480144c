package bridge_test

import (
	"net/netip"
	"os"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/bridge"
	"github.com/cuib/cuib/shared/testenv"
)

func TestSmoke(t *testing.T) {
	testenv.NetNS(t)
	testenv.Run(t, "ip", "link", "set", "lo", "up")
	dir, _ := os.MkdirTemp("/var/tmp/w/net", "x")
	os.Chmod(dir, 0o755)
	f := networks.Family{NAT: true, Routing: true, Firewall: true, DHCP: true}
	cfg := networks.Config{Name: "br0", Dir: dir, IPv4: f, IPv6: f, DNS: networks.DNS{Domain: "cuib"}}
	cfg.IPv4.Address = netip.MustParsePrefix("10.7.8.1/24")
	cfg.IPv6.Address = netip.MustParsePrefix("fd42::1/64")
	d := bridge.Driver{}
	h := networks.Host{Name: "web", MAC: "10:66:6a:01:02:03", IPv4: netip.MustParseAddr("10.7.8.9")}
	cfg.Hosts = []networks.Host{h}
	for range 2 {
		if err := d.Apply(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		t.Log(testenv.Run(t, "sh", "-c", "ip a; cat "+dir+"/dnsmasq.conf; ps -eo pid,user,args|grep [d]nsmasq; ls -lR "+dir+"; ss -lnup"))
	}
	if err := d.UnsetHost(t.Context(), cfg, h); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Log(testenv.Run(t, "sh", "-c", "ip a; ps -eo pid,user,args|grep [d]nsmasq; ls -lR "+dir))
}
