package zones

import (
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/cuib/cuib/shared/api"
)

// FuzzEntry has values of all kinds: what is taken is one record, of the name
// and the type that were given, and can be sent.
func FuzzEntry(f *testing.F) {
	for _, seed := range [][2]string{
		{"A", "192.0.2.1"},
		{"TXT", "v=spf1; -all"},
		{"TXT", `"a" "b"`},
		{"MX", "10 mail.example.org."},
		{"CAA", `0 issue "ca.example.org"`},
		{"SRV", "0 5 5060 sip.example.org."},
		{"TXT", strings.Repeat(`\`, 300)},
		{"CNAME", "a\n$INCLUDE /etc/passwd"},
		{"A", "( 192.0.2.1 )"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, typ, value string) {
		rr, err := resource("example.org", "www", api.NetworkZoneRecordEntry{Type: typ, Value: value})
		if err != nil {
			return
		}
		if h := rr.Header(); h.Name != "www.example.org." || !strings.EqualFold(dns.TypeToString[h.Rrtype], typ) || h.Class != dns.ClassINET {
			t.Fatalf("%q %q became %v", typ, value, rr)
		}
		m := &dns.Msg{Answer: []dns.RR{rr}}
		raw, err := m.Pack()
		if err != nil {
			t.Fatalf("%q %q: %v", typ, value, err)
		}
		if err := new(dns.Msg).Unpack(raw); err != nil {
			t.Fatalf("%q %q: %v", typ, value, err)
		}
	})
}
