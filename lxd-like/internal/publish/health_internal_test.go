package publish

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTry tries endpoints that answer and those that do not.
func TestTry(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz":
		case "/moved":
			http.Redirect(w, r, "/sick", http.StatusFound)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	here := netip.MustParseAddrPort(server.Listener.Addr().String())
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	datagrams := netip.MustParseAddrPort(udp.LocalAddr().String())
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := netip.MustParseAddrPort(gone.Addr().String())
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		path string
		ep   endpoint
		want string // Of the error; empty for none.
	}{
		"TCP":              {"", endpoint{protocol: unix.IPPROTO_TCP, target: here}, ""},
		"TCP, refused":     {"", endpoint{protocol: unix.IPPROTO_TCP, target: nobody}, "refused"},
		"HTTP":             {"/healthz", endpoint{protocol: unix.IPPROTO_TCP, target: here}, ""},
		"HTTP, redirected": {"/moved", endpoint{protocol: unix.IPPROTO_TCP, target: here}, ""},
		"HTTP, sick":       {"/sick", endpoint{protocol: unix.IPPROTO_TCP, target: here}, "503"},
		"HTTP, refused":    {"/", endpoint{protocol: unix.IPPROTO_TCP, target: nobody}, "refused"},
		"UDP":              {"", endpoint{protocol: unix.IPPROTO_UDP, target: datagrams}, ""},
		"UDP, refused":     {"", endpoint{protocol: unix.IPPROTO_UDP, target: nobody}, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			// Who takes datagrams says nothing: that is waited for.
			patience := map[bool]time.Duration{true: 500 * time.Millisecond, false: time.Minute}[name == "UDP"]
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := checking{path: tt.path}.try(ctx, tt.ep)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if err := udp.Close(); err != nil {
		t.Error(err)
	}
}

// TestNote follows an endpoint through what is noted of it.
func TestNote(t *testing.T) {
	s, c := &Service{}, checking{failures: 3, successes: 2}
	ep := endpoint{backend: "a", protocol: unix.IPPROTO_TCP}
	var got strings.Builder
	for _, r := range "-++--+---+-++" {
		if s.note(ep, c, r == '+') {
			got.WriteRune('!')
		}
		got.WriteString(map[string]string{"online": "U", "offline": "D"}[s.status(ep)])
	}
	// The first decides alone; then two bring it back, and three take it out.
	if want := "!DD!UUUUUU!DDDD!U"; got.String() != want {
		t.Errorf("got %s, want %s", got.String(), want)
	}
	if s.status(endpoint{backend: "b"}) != "unknown" {
		t.Error("what was never tried is known")
	}
}
