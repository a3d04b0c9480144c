package proxies_test

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/proxies"
	"github.com/cuib/cuib/shared/testenv"
)

// TestPairs passes what is said on between each two kinds of address, from
// either side.
func TestPairs(t *testing.T) {
	g := newGuest(t)
	s := newService(t, g)
	dir := t.TempDir()
	kinds := func(path string, port int) []string {
		return []string{
			fmt.Sprintf("tcp:127.0.0.1:%d", port), fmt.Sprintf("tcp:[::1]:%d", port), fmt.Sprintf("udp:127.0.0.1:%d", port),
			fmt.Sprintf("udp:[::1]:%d", port), "unix:" + path, fmt.Sprintf("unix:@cuib-%d", port),
		}
	}
	n := 0
	for _, inside := range []bool{false, true} {
		from, to := side{}, side{g}
		if inside {
			from, to = to, from
		}
		for i := range kinds("", 0) {
			for j := range kinds("", 0) {
				n++
				paths := []string{fmt.Sprintf("%s/a%d", dir, n), fmt.Sprintf("/run/b%d", n)}
				if inside {
					paths[0], paths[1] = paths[1], paths[0]
				}
				listen, connect := kinds(paths[0], 1000+n)[i], kinds(paths[1], 2000+n)[j]
				of := proxies.Owner{Instance: g.name, Device: fmt.Sprint(n)}
				t.Run(fmt.Sprintf("inside %t/%s to %s", inside, listen, connect), func(t *testing.T) {
					if network, _ := to.split(connect); network == "udp" {
						to.echoDatagrams(t, connect)
					} else {
						to.serve(t, connect, echo)
					}
					if err := s.Start(t.Context(), of, proxies.Rule{Inside: inside, Listen: listen, Connect: connect}); err != nil {
						t.Fatal(err)
					}
					for range 2 {
						c := from.dial(t, listen)
						talk(t, c, "good day")
						talk(t, c, "and again")
						_ = c.Close()
					}
					if err := s.Stop(t.Context(), of); err != nil {
						t.Fatal(err)
					}
				})
			}
		}
	}
	if left := processes(t, s); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}

// TestHalfClose has a client end what it says, and hear the answer after that.
func TestHalfClose(t *testing.T) {
	g := newGuest(t)
	s := newService(t, g)
	side{g}.serve(t, "tcp:127.0.0.1:80", func(c net.Conn) {
		all, _ := io.ReadAll(c)
		fmt.Fprintf(c, "%d bytes", len(all))
	})
	if err := s.Start(t.Context(), proxies.Owner{Instance: g.name, Device: "p"}, proxies.Rule{Listen: "tcp:127.0.0.1:80", Connect: "tcp:127.0.0.1:80"}); err != nil {
		t.Fatal(err)
	}
	c := side{}.dial(t, "tcp:127.0.0.1:80")
	big := make([]byte, 10<<20)
	if _, err := c.Write(big); err != nil {
		t.Fatal(err)
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		t.Fatalf("got %T", c)
	}
	if err := tcp.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != fmt.Sprintf("%d bytes", len(big)) {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestLargestDatagrams passes on datagrams that are as large as they can be,
// which of IPv6 is larger than of IPv4.
func TestLargestDatagrams(t *testing.T) {
	g := newGuest(t)
	s := newService(t, g)
	heard := make(chan int)
	side{g}.serve(t, "tcp:127.0.0.1:80", func(c net.Conn) {
		for buf := make([]byte, 64<<10); ; {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			heard <- n
		}
	})
	of := proxies.Owner{Instance: g.name, Device: "p"}
	for listen, size := range map[string]int{"udp:127.0.0.1:53": 65507, "udp:[::1]:53": 65527} {
		if err := s.Start(t.Context(), of, proxies.Rule{Listen: listen, Connect: "tcp:127.0.0.1:80"}); err != nil {
			t.Fatal(err)
		}
		c := side{}.dial(t, listen)
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		for n := 0; n != size; {
			select {
			case more := <-heard:
				n += more
			case <-time.After(testenv.Patience):
				t.Fatalf("%s: %d bytes of %d came", listen, n, size)
			}
			if n > size {
				t.Fatalf("%s: %d bytes came instead of %d", listen, n, size)
			}
		}
		if err := s.Stop(t.Context(), of); err != nil {
			t.Fatal(err)
		}
	}
}
