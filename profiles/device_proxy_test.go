package profiles_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

func TestProxyDevice(t *testing.T) {
	for _, tt := range []struct {
		change map[string]string
		want   string // Empty if it is valid.
	}{
		{nil, ""},
		{map[string]string{"listen": "tcp::80"}, ""},
		{map[string]string{"listen": "tcp:[::]:80,90-99", "connect": "udp:[fd42::1]:1-11"}, ""},
		{map[string]string{"listen": "unix:/run/a", "mode": "0600", "uid": "7", "gid": "8"}, ""},
		{map[string]string{"listen": "unix:@a/b", "bind": "container"}, ""},
		{map[string]string{"bind": "guest"}, ""},
		{map[string]string{"listen": "tcp:0.0.0.0:1-65535"}, ""},
		{map[string]string{"nat": "true"}, ""},
		{map[string]string{"nat": "true", "listen": "udp:192.0.2.1:5-6", "connect": "udp:10.0.0.2:53"}, ""},
		{map[string]string{"security.uid": "1000", "security.gid": "1000", "proxy_protocol": "true"}, ""},
		{map[string]string{"listen": ""}, "needs the option listen"},
		{map[string]string{"connect": ""}, "needs the option connect"},
		{map[string]string{"listen": "80"}, `listen: got "80", want "tcp:ADDRESS:PORTS"`},
		{map[string]string{"listen": "sctp:1.2.3.4:80"}, `listen: got "sctp:1.2.3.4:80", want "tcp:`},
		{map[string]string{"listen": "tcp:1.2.3.4"}, "listen: got"},
		{map[string]string{"listen": "tcp:localhost:80"}, "listen: got"},
		{map[string]string{"listen": "tcp:fd42::1:80"}, "listen: got"},
		{map[string]string{"listen": "tcp:[1.2.3.4]:80"}, "listen: got"},
		{map[string]string{"listen": "tcp:[::ffff:1.2.3.4]:80"}, "listen: got"},
		{map[string]string{"listen": "tcp:[fe80::1%eth0]:80"}, "listen: got"},
		{map[string]string{"listen": "tcp:1.2.3.4:0"}, "listen: got"},
		{map[string]string{"listen": "tcp:1.2.3.4:65536"}, "listen: got"},
		{map[string]string{"listen": "tcp:1.2.3.4:90-80"}, "listen: got"},
		{map[string]string{"listen": "tcp:1.2.3.4:80,"}, "listen: got"},
		{map[string]string{"listen": "tcp:1.2.3.4:+80"}, "listen: got"},
		{map[string]string{"listen": "tcp:1.2.3.4:1-65535,1-2"}, "listen: got"},
		{map[string]string{"listen": "tcp:1.2.3.4:80\nx"}, "listen: got"},
		{map[string]string{"listen": "unix:relative"}, "listen: got"},
		{map[string]string{"listen": "unix:/a/../b"}, "listen: got"},
		{map[string]string{"listen": "unix:/a/"}, "listen: got"},
		{map[string]string{"listen": "unix:/a\x00b"}, "listen: got"},
		{map[string]string{"listen": "unix:@"}, "listen: got"},
		{map[string]string{"listen": "unix:/" + strings.Repeat("a", 107)}, "listen: got"},
		{map[string]string{"connect": "tcp:127.0.0.1:80-81"}, "connect: got 2 ports where listen has 1, want as many, or one for all"},
		{map[string]string{"bind": "both"}, `bind: got "both", want host or instance`},
		{map[string]string{"mode": "0600"}, "mode: only a proxy that listens on a socket with a path has it"},
		{map[string]string{"listen": "unix:@a", "uid": "0"}, "uid: only a proxy"},
		{map[string]string{"listen": "unix:/a", "mode": "9"}, `mode: got "9", want an octal mode`},
		{map[string]string{"listen": "unix:/a", "gid": "-1"}, `gid: got "-1", want a group id`},
		{map[string]string{"proxy_protocol": "true", "connect": "unix:/a"}, "proxy_protocol: only a proxy that connects to tcp has it"},
		{map[string]string{"proxy_protocol": "true", "nat": "true"}, "proxy_protocol: a proxy with nat does not have it"},
		{map[string]string{"nat": "true", "security.uid": "1"}, "security.uid: a proxy with nat does not have it"},
		{map[string]string{"nat": "true", "bind": "instance"}, "nat: only a proxy that listens on the host has it"},
		{map[string]string{"nat": "true", "connect": "udp:10.0.0.2:80"}, "want both tcp or both udp"},
		{map[string]string{"nat": "true", "listen": "unix:/a", "connect": "unix:/b"}, "want both tcp or both udp"},
		{map[string]string{"nat": "true", "listen": "tcp:[::]:80"}, "want both IPv4 or both IPv6"},
		{map[string]string{"nat": "true", "listen": "tcp:127.0.0.1:80"}, "want no loopback address"},
		{map[string]string{"nat": "true", "connect": "tcp:127.0.0.1:80"}, "want a static address of a bridged nic"},
		{map[string]string{"security.uid": "root"}, `security.uid: got "root", want a user id`},
		{map[string]string{"listem": "tcp:1.2.3.4:80"}, `did you mean "listen"?`},
	} {
		dev := profiles.Device{"type": "proxy", "listen": "tcp:0.0.0.0:80", "connect": "tcp:10.0.0.2:80"}
		maps.Copy(dev, tt.change)
		for k, v := range dev {
			if v == "" {
				delete(dev, k)
			}
		}
		err := profiles.ValidateDevices(map[string]profiles.Device{"p": dev})
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%v: %v", tt.change, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), `"p"`) || !errs.Is(err, errs.Invalid)):
			t.Errorf("%v: got %v, want %q", tt.change, err, tt.want)
		}
	}
}

func TestProxyAddressesOverlap(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		port uint16
		want bool
	}{
		{"tcp:0.0.0.0:80", "tcp:127.0.0.1:80", 80, true},
		{"tcp:0.0.0.0:80", "tcp:[::]:80", 80, true},
		{"tcp:0.0.0.0:80", "udp:0.0.0.0:80", 0, false},
		{"tcp:127.0.0.1:80", "tcp:127.0.0.2:80", 0, false},
		{"tcp:127.0.0.1:1,70-90", "tcp:127.0.0.1:85-99", 85, true},
		{"tcp:127.0.0.1:1-2", "tcp:127.0.0.1:3", 0, false},
		{"unix:/a", "unix:/a", 0, true},
		{"unix:/a", "unix:@a", 0, false},
	} {
		a, err := profiles.ParseProxyAddress(tt.a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := profiles.ParseProxyAddress(tt.b)
		if err != nil {
			t.Fatal(err)
		}
		if port, got := a.Overlaps(b); got != tt.want || port != tt.port {
			t.Errorf("%s and %s: got %d, %t", tt.a, tt.b, port, got)
		}
	}
}
