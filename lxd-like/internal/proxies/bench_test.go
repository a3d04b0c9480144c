package proxies_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/proxies"
	"github.com/cuib/cuib/shared/testenv"
)

// memory returns how much memory a process has for itself, in KiB.
func memory(t testing.TB, pid int) (private int) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); strings.HasPrefix(line, "Private_") && len(fields) > 1 {
			n, _ := strconv.Atoi(fields[1])
			private += n
		}
	}
	return private
}

// TestManyConnections has a thousand clients at once, each of which has sent
// what nobody takes yet, and looks at what that costs.
func TestManyConnections(t *testing.T) {
	const clients, most = 1000, 2048 // KiB
	g := newGuest(t)
	s := newService(t, g)
	release := make(chan struct{})
	side{g}.serve(t, "tcp:127.0.0.1:80", func(c net.Conn) {
		<-release
		echo(c)
	})
	start(t, s, owner(g, "p"), proxies.Rule{Listen: "tcp:127.0.0.1:8000", Connect: "tcp:127.0.0.1:80"})
	pid := processes(t, s)[0]
	before := memory(t, pid)
	var all []net.Conn
	for range clients {
		c := side{}.dial(t, "tcp:127.0.0.1:8000")
		if _, err := io.WriteString(c, "good day"); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	testenv.Eventually(t, "all connections", func() bool {
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		return err == nil && len(files) >= 2*clients
	})
	after := memory(t, pid)
	t.Logf("%d KiB without connections, %d KiB with %d", before, after, clients)
	if after > most {
		t.Errorf("%d connections take %d KiB", clients, after)
	}
	close(release)
	var wg sync.WaitGroup
	for _, c := range all {
		wg.Go(func() {
			buf := make([]byte, len("good day"))
			if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "good day" {
				t.Errorf("heard %q, %v", buf, err)
			}
			_ = c.Close()
		})
	}
	wg.Wait()
	testenv.Eventually(t, "the end of all connections", func() bool {
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		return err == nil && len(files) < 64
	})
}

// TestBackpressure has a server that takes nothing: neither does the proxy then.
func TestBackpressure(t *testing.T) {
	g := newGuest(t)
	s := newService(t, g)
	wait := make(chan struct{})
	defer close(wait)
	side{g}.serve(t, "tcp:127.0.0.1:80", func(net.Conn) { <-wait })
	start(t, s, owner(g, "p"), proxies.Rule{Listen: "tcp:127.0.0.1:8000", Connect: "tcp:127.0.0.1:80"})
	pid := processes(t, s)[0]
	c := side{}.dial(t, "tcp:127.0.0.1:8000")
	data, total := make([]byte, 1<<20), 0
	for {
		if err := c.SetWriteDeadline(time.Now().Add(2 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Write(data)
		total += n
		if err != nil {
			break
		}
		if total > 64<<20 {
			t.Fatal("it takes all")
		}
	}
	t.Logf("it takes %d KiB, and has %d KiB of memory", total>>10, memory(t, pid))
	if m := memory(t, pid); m > 1024 {
		t.Errorf("it has %d KiB of memory", m)
	}
}

// TestManyDatagrams has more clients of UDP than a proxy remembers.
func TestManyDatagrams(t *testing.T) {
	g := newGuest(t)
	s := newService(t, g)
	side{g}.echoDatagrams(t, "udp:127.0.0.1:53")
	start(t, s, owner(g, "p"), proxies.Rule{Listen: "udp:127.0.0.1:5300", Connect: "udp:127.0.0.1:53"})
	pid := processes(t, s)[0]
	for i := range 5000 {
		c, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 1, byte(i>>8), byte(i))}}).DialContext(t.Context(), "udp", "127.0.0.1:5300")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "x")
		_ = c.Close()
	}
	c := side{}.dial(t, "udp:127.0.0.1:5300")
	buf := make([]byte, 16)
	testenv.Eventually(t, "an answer", func() bool { // What was sent before can fill the sockets, and a datagram be lost.
		_, _ = io.WriteString(c, "good day")
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := c.Read(buf)
		return err == nil && string(buf[:n]) == "good day"
	})
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil || len(files) > 4200 {
		t.Errorf("%d files are open, %v", len(files), err)
	}
	t.Logf("%d KiB with %d files", memory(t, pid), len(files))
}

// BenchmarkProxy measures what a proxy costs, beside a connection without one
// and a relay that copies, as others do it.
func BenchmarkProxy(b *testing.B) {
	g := newGuest(b)
	s := newService(b, g)
	side{g}.serve(b, "tcp:127.0.0.1:80", echo)
	side{g}.serve(b, "tcp:127.0.0.1:81", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	for _, port := range []string{"80", "81"} {
		start(b, s, owner(g, port), proxies.Rule{Listen: "tcp:127.0.0.1:80" + port, Connect: "tcp:127.0.0.1:" + port})
	}
	ours := processes(b, s)
	theirs := []int{copied(b, g, "80"), copied(b, g, "81")}
	ways := []struct {
		name   string
		from   side
		prefix string
		pids   []int
	}{{"none", side{g}, "", nil}, {"proxy", side{}, "80", ours}, {"copying", side{}, "90", theirs}}
	for _, way := range ways {
		b.Run("latency/"+way.name, func(b *testing.B) {
			c := way.from.dial(b, "tcp:127.0.0.1:"+way.prefix+"80")
			took, used := make([]time.Duration, 0, b.N), processor(b, way.pids)
			for b.Loop() {
				began := time.Now()
				talk(b, c, "x")
				took = append(took, time.Since(began))
			}
			b.ReportMetric(float64((processor(b, way.pids)-used).Microseconds())/float64(len(took)), "cpu-us/op")
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "us/median")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "us/p99")
		})
		b.Run("throughput/"+way.name, func(b *testing.B) {
			c := way.from.dial(b, "tcp:127.0.0.1:"+way.prefix+"81")
			data := make([]byte, 1<<20)
			b.SetBytes(int64(len(data)))
			used := processor(b, way.pids)
			for b.Loop() {
				if _, err := c.Write(data); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((processor(b, way.pids)-used).Milliseconds())/float64(b.N)*1024, "cpu-ms/GiB")
		})
	}
	b.Run("start and stop", func(b *testing.B) {
		for b.Loop() {
			start(b, s, owner(g, "p"), proxies.Rule{Listen: "tcp:127.0.0.1:8100", Connect: "tcp:127.0.0.1:80"})
			must(b, s.Stop(b.Context(), owner(g, "p")))
		}
	})
	for _, pid := range ours {
		b.Logf("a proxy takes %d KiB", memory(b, pid))
	}
}

// processor is how much processor time processes have had.
func processor(b *testing.B, pids []int) (used time.Duration) {
	b.Helper()
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			b.Fatal(err)
		}
		const user, system, tick = 11, 12, 10 * time.Millisecond // Of the fields after the name, see proc(5).
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		for _, field := range []int{user, system} {
			n, _ := strconv.Atoi(fields[field])
			used += time.Duration(n) * tick
		}
	}
	return used
}

// copied is a relay to a port of a guest, as a process that reads and writes.
func copied(b *testing.B, g *guest, port string) (pid int) {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", relayVariable, g.cmd.Process.Pid, port))
	cmd.Stderr = b.Output()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		b.Logf("a process that copies takes %d KiB", memory(b, cmd.Process.Pid))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	testenv.Eventually(b, "the relay", func() bool { return open(b, "127.0.0.1:90"+port) })
	return cmd.Process.Pid
}

const relayVariable = "CUIB_TEST_RELAY"

// relay is the process of copied.
func relay(ctx context.Context, what string) error {
	type plain struct{ io.Writer }
	pid, port, _ := strings.Cut(what, " ")
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:90"+port)
	if err != nil {
		return err
	}
	ns, err := os.Open("/proc/" + pid + "/ns/net")
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			runtime.LockOSThread() // For good.
			if unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET) != nil {
				return
			}
			server, err := (&net.Dialer{}).DialContext(ctx, "tcp", "127.0.0.1:"+port)
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(plain{c}, struct{ io.Reader }{server}) }()
			go func() { _, _ = io.Copy(plain{server}, struct{ io.Reader }{c}) }()
		}()
	}
}
