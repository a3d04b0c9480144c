package instance

import (
	"slices"
	"testing"
)

func TestPortDevice(t *testing.T) {
	for v, want := range map[string][3]string{
		"8080:80":                   {"port-8080", "tcp::8080", "tcp::80"},
		"5300:53/udp":               {"port-5300-udp", "udp::5300", "udp::53"},
		"8000-8010:80/tcp":          {"port-8000-8010", "tcp::8000-8010", "tcp::80"},
		"192.0.2.1:80:8080":         {"port-80-192-0-2-1", "tcp:192.0.2.1:80", "tcp::8080"},
		"[2001:db8::1]:5300:53/udp": {"port-5300-udp-2001-db8--1", "udp:[2001:db8::1]:5300", "udp::53"},
		"127.0.0.1:8080:80":         {"port-8080-local", "tcp:127.0.0.1:8080", "tcp::80"},
	} {
		name, dev, err := portDevice(v)
		if err != nil || name != want[0] || dev["listen"] != want[1] || dev["connect"] != want[2] || (dev["nat"] == "true") == (v[:3] == "127") {
			t.Errorf("%s: got %s %v, %v", v, name, dev, err)
		}
	}
	for _, v := range []string{"", "80", "80:", ":80", "x:80", "80:80/sctp", "1.2.3:80:80", "2001:db8::1:80:80", "80,81:80"} {
		if _, dev, err := portDevice(v); err == nil {
			t.Errorf("%s: got %v", v, dev)
		}
	}
	o := createOptions{profiles: []string{"web", "8080:80", "a-1"}, publish: []string{"1:1"}}
	o.takePorts()
	if !slices.Equal(o.profiles, []string{"web", "a-1"}) || !slices.Equal(o.publish, []string{"1:1", "8080:80"}) {
		t.Errorf("got %v and %v", o.profiles, o.publish)
	}
}
