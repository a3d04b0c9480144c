package profiles_test

import (
	"fmt"
	"testing"

	"github.com/cuib/cuib/profiles"
)

func TestCNIPorts(t *testing.T) {
	for text, want := range map[string]string{
		"8080:80":                    "[{invalid IP 8080 80 false}]",
		"192.0.2.1:53:5353/udp, 1:2": "[{192.0.2.1 53 5353 true} {invalid IP 1 2 false}]",
		"[2001:db8::1]:443:8443/tcp": "[{2001:db8::1 443 8443 false}]",
		"80":                         "",
		"0:80":                       "",
		"80:65536":                   "",
		"80:80/sctp":                 "",
		"host:80:80":                 "",
		"2001:db8::1:443:8443":       "",
		"[fe80::1%eth0]:80:80":       "",
		"80:80\n81:81":               "",
	} {
		got, err := profiles.ParseCNIPorts(text)
		if want == "" && err == nil || want != "" && (err != nil || fmt.Sprint(got) != want) {
			t.Errorf("%q: got %v, %v, want %s", text, got, err, want)
		}
	}
}
