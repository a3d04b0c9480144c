package proxies_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/proxies"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/run"
	"github.com/cuib/cuib/shared/testenv"
)

func owner(g *guest, device string) proxies.Owner {
	return proxies.Owner{Instance: g.name, Device: device}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func start(t testing.TB, s *proxies.Service, of proxies.Owner, r proxies.Rule) {
	t.Helper()
	if err := s.Start(t.Context(), of, r); err != nil {
		t.Fatal(err)
	}
}

// later is the service of a daemon that is started after that of s.
func later(t testing.TB, s *proxies.Service) *proxies.Service {
	t.Helper()
	n := &proxies.Service{Dir: s.Dir, Shim: s.Shim, Forward: s.Forward, Guest: s.Guest, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	return n
}

// TestRestart has another daemon come, which finds the proxies that are as
// they are wanted, with the connections that they have, and changes others.
func TestRestart(t *testing.T) {
	g := newGuest(t)
	s := newService(t, g)
	var killed atomic.Bool
	s.Guest = func(name string) (int, *os.File, error) {
		if killed.Load() {
			return 0, nil, errs.NotFoundf("this daemon is no more")
		}
		return g.init(name)
	}
	host := side{}
	side{g}.serve(t, "tcp:127.0.0.1:80", echo)
	same := proxies.Rule{Listen: "tcp:127.0.0.1:8000", Connect: "tcp:127.0.0.1:80"}
	before := proxies.Rule{Listen: "tcp:127.0.0.1:8001", Connect: "tcp:127.0.0.1:80"}
	after := proxies.Rule{Listen: "tcp:127.0.0.1:8002", Connect: "tcp:127.0.0.1:80"}
	start(t, s, owner(g, "same"), same)
	start(t, s, owner(g, "changed"), before)
	start(t, s, owner(g, "gone"), proxies.Rule{Listen: "tcp:127.0.0.1:8003", Connect: "tcp:127.0.0.1:80"})
	c := host.dial(t, "tcp:127.0.0.1:8000")
	talk(t, c, "before")
	pids := processes(t, s)

	killed.Store(true)
	n := later(t, s)
	n.Guest = g.init
	want := map[string]proxies.Rule{"same": same, "changed": after, "new": {Listen: "tcp:127.0.0.1:8004", Connect: "tcp:127.0.0.1:80"}}
	if err := n.Recover(t.Context(), g.name, want); err != nil {
		t.Fatal(err)
	}
	talk(t, c, "after")
	for _, port := range []int{8000, 8002, 8004} {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		testenv.Eventually(t, "a proxy at "+address, func() bool { return open(t, address) })
		talk(t, host.dial(t, "tcp:"+address), "good day")
	}
	for _, port := range []int{8001, 8003} {
		if open(t, fmt.Sprintf("127.0.0.1:%d", port)) {
			t.Errorf("port %d is open still", port)
		}
	}
	if now := processes(t, s); len(now) != 3 || !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(pids, pid) }) {
		t.Errorf("there were the processes %v, and are %v", pids, now)
	}
	if err := n.Settle(func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	// The first service must not start again what the second has ended.
	if err := s.End(t.Context(), g.name); err != nil {
		t.Fatal(err)
	}
	if err := n.End(t.Context(), g.name); err != nil {
		t.Fatal(err)
	}
	if left := processes(t, s); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if left, err := filepath.Glob(s.Dir + "/*"); err != nil || len(left) > 0 {
		t.Errorf("states are left: %v, %v", left, err)
	}
}

// openDir returns a new directory that all users of the host can look into.
func openDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cuib-proxies-") //nolint:usetesting // Only we can look into that of the test.
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func open(t testing.TB, address string) bool {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// TestKilled kills a proxy, which comes back, also where it listens on a
// socket with a path.
func TestKilled(t *testing.T) {
	g := newGuest(t)
	s := newService(t, g)
	side{g}.serve(t, "tcp:127.0.0.1:80", echo)
	side{}.serve(t, "tcp:127.0.0.1:80", echo)
	start(t, s, owner(g, "p"), proxies.Rule{Listen: "tcp:127.0.0.1:8000", Connect: "tcp:127.0.0.1:80"})
	start(t, s, owner(g, "q"), proxies.Rule{Inside: true, Listen: "unix:/run/q", Connect: "tcp:127.0.0.1:80"})
	for range 2 {
		pids := processes(t, s)
		if len(pids) != 2 {
			t.Fatalf("got processes %v", pids)
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		testenv.Eventually(t, "other processes", func() bool {
			now := processes(t, s)
			return len(now) == 2 && !slices.Contains(pids, now[0]) && !slices.Contains(pids, now[1])
		})
		testenv.Eventually(t, "the proxies", func() bool {
			c, err := (&net.Dialer{}).DialContext(t.Context(), "unix", g.root+"/run/q")
			if err == nil {
				_ = c.Close()
			}
			return err == nil && open(t, "127.0.0.1:8000")
		})
		talk(t, side{}.dial(t, "tcp:127.0.0.1:8000"), "again")
		talk(t, side{g}.dial(t, "unix:/run/q"), "again")
	}
	if err := s.Stop(t.Context(), owner(g, "q")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(g.root + "/run/q"); err == nil {
		t.Error("the socket in the guest is left")
	}
}

// TestHidden has the guest mount something over the directory of a socket, as
// systems do when they boot, and remove it.
func TestHidden(t *testing.T) {
	g := newGuest(t)
	s := newService(t, g)
	side{}.serve(t, "tcp:127.0.0.1:80", echo)
	start(t, s, owner(g, "p"), proxies.Rule{Inside: true, Listen: "unix:/run/socket", Connect: "tcp:127.0.0.1:80", Mode: "0666", UID: "5"})
	old := side{g}.dial(t, "unix:/run/socket")
	talk(t, old, "good day")
	for _, what := range []string{"mount -t tmpfs none /run", "rm /run/socket"} {
		args := append([]string{"nsenter", "-U", "-m", "-p", "-S", "0", "-G", "0", "-t", fmt.Sprint(g.cmd.Process.Pid), "/bin/busybox"}, strings.Fields(what)...)
		testenv.Run(t, args...)
		path := fmt.Sprintf("/proc/%d/root/run/socket", g.cmd.Process.Pid)
		testenv.Eventually(t, "the socket after "+what, func() bool {
			c, err := (&net.Dialer{}).DialContext(t.Context(), "unix", path)
			if err == nil {
				talk(t, c, what)
				_ = c.Close()
			}
			return err == nil
		})
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != firstID+5 || info.Mode().Perm() != 0o666 {
			t.Errorf("the new socket is %v", info.Sys())
		}
	}
	talk(t, old, "and again")
	if err := s.Stop(t.Context(), owner(g, "p")); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the end of all processes", func() bool {
		out, err := run.Cmd(t.Context(), "pgrep", "-f", "^cuib-shim proxy "+s.Dir)
		return err != nil && out == ""
	})
	if _, err := os.Lstat(fmt.Sprintf("/proc/%d/root/run/socket", g.cmd.Process.Pid)); err == nil {
		t.Error("the socket is left")
	}
}

// TestGuestEnds ends the guest, and with it the proxies; also without a daemon.
func TestGuestEnds(t *testing.T) {
	g := newGuest(t)
	s := newService(t, g)
	path := t.TempDir() + "/socket"
	start(t, s, owner(g, "p"), proxies.Rule{Listen: "unix:" + path, Connect: "tcp:127.0.0.1:80"})
	start(t, s, owner(g, "q"), proxies.Rule{Inside: true, Listen: "tcp:127.0.0.1:90", Connect: "tcp:127.0.0.1:80"})
	g.kill()
	testenv.Eventually(t, "the end of the proxies", func() bool { return len(processes(t, s)) == 0 })
	if err := s.End(t.Context(), g.name); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket on the host is left")
	}
	// The next daemon removes what is left when there was none; but not what
	// another has made there since.
	for _, others := range []bool{false, true} {
		g.start(t)
		last := later(t, s)
		start(t, last, owner(g, "p"), proxies.Rule{Listen: "unix:" + path, Connect: "tcp:127.0.0.1:80"})
		g.kill()
		testenv.Eventually(t, "the end of the proxies", func() bool { return len(processes(t, s)) == 0 })
		if others {
			must(t, os.Remove(path))
			side{}.serve(t, "unix:"+path, echo)
		}
		must(t, later(t, s).Settle(func(string) bool { return false }))
		if _, err := os.Lstat(path); (err == nil) != others {
			t.Errorf("another listens there: %t, and the socket: %v", others, err)
		}
		must(t, last.End(t.Context(), g.name))
	}
}

// TestGuestReboots gives the guest another init, in other namespaces.
func TestGuestReboots(t *testing.T) {
	g := newGuest(t)
	s := newService(t, g)
	// Between two inits a service is made to wait.
	reboots := make(chan struct{}, 1)
	reboots <- struct{}{}
	s.Guest = func(name string) (int, *os.File, error) {
		<-reboots
		return g.init(name)
	}
	start(t, s, owner(g, "p"), proxies.Rule{Listen: "tcp:127.0.0.1:8000", Connect: "tcp:127.0.0.1:80"})
	old := g.cmd.Process.Pid
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_, _ = g.cmd.Process.Wait()
	g.start(t)
	side{g}.serve(t, "tcp:127.0.0.1:80", echo)
	close(reboots)
	// The one of before may not have noticed yet.
	testenv.Eventually(t, "the proxy", func() bool {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", "127.0.0.1:8000")
		if err != nil {
			return false
		}
		defer func() { _ = c.Close() }()
		_, werr := io.WriteString(c, "x")
		n, rerr := c.Read(make([]byte, 1))
		return werr == nil && rerr == nil && n == 1
	})
}

// TestTaken wants ports that others have, and is told who.
func TestTaken(t *testing.T) {
	g := newGuest(t)
	s := newService(t, g)
	dir := t.TempDir()
	side{}.serve(t, "tcp:127.0.0.1:8000", echo)
	side{}.echoDatagrams(t, "udp:127.0.0.1:8001")
	side{}.serve(t, "unix:"+dir+"/taken", echo)
	side{g}.serve(t, "tcp:127.0.0.1:8002", echo)
	start(t, s, owner(g, "first"), proxies.Rule{Listen: "tcp:127.0.0.1:9000-9010", Connect: "tcp:127.0.0.1:80"})
	self := fmt.Sprintf("process %d (", os.Getpid())
	for name, tt := range map[string]struct {
		rule proxies.Rule
		want string
	}{
		"process":        {proxies.Rule{Listen: "tcp:127.0.0.1:7999-8000", Connect: "tcp:127.0.0.1:80"}, "port 8000 of tcp:127.0.0.1:7999-8000 is taken by " + self},
		"wildcard":       {proxies.Rule{Listen: "tcp:0.0.0.0:8000", Connect: "tcp:127.0.0.1:80"}, "port 8000 of tcp:0.0.0.0:8000 is taken by " + self},
		"udp":            {proxies.Rule{Listen: "udp:127.0.0.1:8001", Connect: "tcp:127.0.0.1:80"}, "port 8001 of udp:127.0.0.1:8001 is taken by " + self},
		"proxy":          {proxies.Rule{Listen: "tcp:0.0.0.0:80,9005-9020", Connect: "tcp:127.0.0.1:80"}, `port 9005 of tcp:0.0.0.0:80,9005-9020 is taken by device "first" of instance "` + g.name + `"`},
		"path":           {proxies.Rule{Listen: "unix:" + dir + "/taken", Connect: "tcp:127.0.0.1:80"}, "somebody listens on " + dir + "/taken already"},
		"in the guest":   {proxies.Rule{Inside: true, Listen: "tcp:127.0.0.1:8002", Connect: "tcp:127.0.0.1:80"}, "port 8002 of tcp:127.0.0.1:8002 is taken by a program in the instance"},
		"no address":     {proxies.Rule{Listen: "tcp:192.0.2.1:80", Connect: "tcp:127.0.0.1:80"}, "listen on port 80: Cannot assign requested address"},
		"no directory":   {proxies.Rule{Listen: "unix:" + dir + "/none/x", Connect: "tcp:127.0.0.1:80"}, "listen: No such file or directory"},
		"no such inside": {proxies.Rule{Inside: true, Listen: "unix:/none/x", Connect: "tcp:127.0.0.1:80"}, "listen: No such file or directory"},
	} {
		err := s.Start(t.Context(), owner(g, "second"), tt.rule)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
		kind := errs.Conflict
		if strings.HasPrefix(name, "no ") {
			kind = errs.Invalid
		}
		if errs.KindOf(err) != kind {
			t.Errorf("%s: got kind %v", name, errs.KindOf(err))
		}
	}
	if n := len(processes(t, s)); n != 1 {
		t.Errorf("%d processes run", n)
	}
	// A file of another kind is not removed.
	if err := os.WriteFile(dir+"/file", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := s.Start(t.Context(), owner(g, "third"), proxies.Rule{Listen: "unix:" + dir + "/file", Connect: "tcp:127.0.0.1:80"})
	if data, _ := os.ReadFile(dir + "/file"); err == nil || string(data) != "x" {
		t.Errorf("got %v, and the file has %q", err, data)
	}
}

// TestHeader has servers see who their client is.
func TestHeader(t *testing.T) {
	g := newGuest(t)
	s := newService(t, g)
	path := t.TempDir() + "/socket"
	side{g}.serve(t, "tcp:127.0.0.1:80", echo)
	for i, tt := range []struct{ listen, dial, want string }{
		{"tcp:127.0.0.1:8000", "tcp:127.0.0.1:8000", "PROXY TCP4 127.0.0.1 127.0.0.1 %d 8000\r\n"},
		{"tcp:[::1]:8001", "tcp:[::1]:8001", "PROXY TCP6 ::1 ::1 %d 8001\r\n"},
		{"tcp:[::]:8002", "tcp:127.0.0.1:8002", "PROXY TCP4 127.0.0.1 127.0.0.1 %d 8002\r\n"},
		{"tcp:0.0.0.0:8003", "tcp:[::1]:8003", "PROXY TCP6 ::1 ::1 %d 8003\r\n"},
		{"unix:" + path, "unix:" + path, "PROXY UNKNOWN\r\n"},
		{"udp:127.0.0.1:8004", "udp:127.0.0.1:8004", "PROXY UNKNOWN\r\n"},
	} {
		start(t, s, owner(g, fmt.Sprint(i)), proxies.Rule{Listen: tt.listen, Connect: "tcp:127.0.0.1:80", Header: true})
		c := side{}.dial(t, tt.dial)
		want := tt.want
		if tcp, ok := c.LocalAddr().(*net.TCPAddr); ok {
			want = fmt.Sprintf(tt.want, tcp.Port)
		}
		if _, err := io.WriteString(c, "hello"); err != nil {
			t.Fatal(err)
		}
		got, buf := "", make([]byte, 256)
		for got != want+"hello" {
			n, err := c.Read(buf)
			got += string(buf[:n])
			if err != nil || !strings.HasPrefix(want+"hello", got) {
				t.Fatalf("%s: got %q, %v, want %q", tt.listen, got, err, want+"hello")
			}
		}
	}
}

// TestPorts maps a list of ports to another, or to one.
func TestPorts(t *testing.T) {
	g := newGuest(t)
	s := newService(t, g)
	name := func(n int) func(net.Conn) {
		return func(c net.Conn) { fmt.Fprint(c, n) }
	}
	for _, port := range []int{80, 81, 82, 90} {
		side{g}.serve(t, fmt.Sprintf("tcp:127.0.0.1:%d", port), name(port))
	}
	start(t, s, owner(g, "each"), proxies.Rule{Listen: "tcp:127.0.0.1:1000,2000-2002", Connect: "tcp:127.0.0.1:90,80-82"})
	start(t, s, owner(g, "one"), proxies.Rule{Listen: "tcp:127.0.0.1:3000-3999", Connect: "tcp:127.0.0.1:80"})
	for port, want := range map[int]string{1000: "90", 2000: "80", 2001: "81", 2002: "82", 3000: "80", 3999: "80"} {
		if got, err := io.ReadAll(side{}.dial(t, fmt.Sprintf("tcp:127.0.0.1:%d", port))); err != nil || string(got) != want {
			t.Errorf("port %d: got %q, %v", port, got, err)
		}
	}
}

// TestWho looks at whose sockets are, and as whom a proxy connects.
func TestWho(t *testing.T) {
	g := newGuest(t)
	s := newService(t, g)
	dir := openDir(t)
	who := func(c net.Conn) {
		u, ok := c.(*net.UnixConn)
		if !ok {
			return
		}
		raw, err := u.SyscallConn()
		if err != nil {
			return
		}
		_ = raw.Control(func(fd uintptr) {
			cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
			if err == nil {
				fmt.Fprintf(c, "%d:%d", cred.Uid, cred.Gid)
			}
		})
	}
	side{g}.serve(t, "unix:/run/who", who)
	side{}.serve(t, "unix:"+dir+"/who", who)
	for _, path := range []string{g.root + "/run/who", dir + "/who"} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for i, tt := range []struct {
		inside         bool
		as, want, mode string
		uid, gid       uint32
	}{
		{false, "", fmt.Sprintf("%d:%d", firstID, firstID), "", 0, 0},
		{false, "1000", fmt.Sprintf("%d:%d", firstID+1000, firstID+1001), "0660", 1000, 1001},
		{true, "", "0:0", "", firstID, firstID},
		{true, "1000", "1000:1001", "0666", firstID + 1000, firstID + 1001},
	} {
		r := proxies.Rule{Inside: tt.inside, Listen: fmt.Sprintf("unix:%s/listen%d", dir, i), Connect: "unix:/run/who", Mode: tt.mode}
		from := side{}
		if tt.inside {
			r.Listen, r.Connect, from = fmt.Sprintf("unix:/run/listen%d", i), "unix:"+dir+"/who", side{g}
		}
		if tt.as != "" {
			r.AsUID, r.AsGID, r.UID, r.GID = tt.as, "1001", "1000", "1001"
		}
		start(t, s, owner(g, fmt.Sprint(i)), r)
		_, path := from.split(r.Listen)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		st, _ := info.Sys().(*syscall.Stat_t)
		mode := os.FileMode(0o644)
		if tt.mode != "" {
			_, _ = fmt.Sscanf(tt.mode, "%o", &mode)
		}
		if st.Uid != tt.uid || st.Gid != tt.gid || info.Mode().Perm() != mode {
			t.Errorf("%d: the socket is %d:%d's, %v", i, st.Uid, st.Gid, info.Mode())
		}
		if got, err := io.ReadAll(from.dial(t, r.Listen)); err != nil || string(got) != tt.want {
			t.Errorf("%d: connects as %q, want %q, %v", i, got, tt.want, err)
		}
	}
}

// TestHostileGuest has the guest put links in the way of the sockets that a
// proxy connects to, makes and removes: they lead to nothing of the host's.
func TestHostileGuest(t *testing.T) {
	g := newGuest(t)
	s := newService(t, g)
	dir := openDir(t)
	side{}.serve(t, "unix:"+dir+"/victim", func(c net.Conn) { fmt.Fprint(c, "the host's") })
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, g.root+name); err != nil {
			t.Fatal(err)
		}
	}
	link(dir+"/victim", "/run/absolute")
	link("../../../../../../../../"+dir+"/victim", "/run/dots")
	link("/proc/1/root"+dir+"/victim", "/run/magic")
	link(dir, "/run/directory")
	for i, path := range []string{"/run/absolute", "/run/dots", "/run/magic", "/run/directory/victim"} {
		listen := fmt.Sprintf("tcp:127.0.0.1:%d", 8000+i)
		start(t, s, owner(g, fmt.Sprint(i)), proxies.Rule{Listen: listen, Connect: "unix:" + path})
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(listen, "tcp:"))
		if err != nil {
			continue // It was broken off already.
		}
		if got, _ := io.ReadAll(c); len(got) > 0 {
			t.Errorf("%s leads to %q", path, got)
		}
		_ = c.Close()
	}
	// What it is to listen on leads to the host's socket, or to where one
	// could be made.
	for _, path := range []string{"/run/absolute", "/run/directory/new", "/run/directory/victim"} {
		err := s.Start(t.Context(), owner(g, "listen"), proxies.Rule{Inside: true, Listen: "unix:" + path, Connect: "tcp:127.0.0.1:80"})
		if err == nil {
			t.Errorf("it listens on %s", path)
			_ = s.Stop(t.Context(), owner(g, "listen"))
		}
	}
	// The guest swaps the socket while the proxy has it.
	start(t, s, owner(g, "swapped"), proxies.Rule{Inside: true, Listen: "unix:/tmp/socket", Connect: "tcp:127.0.0.1:80"})
	if err := os.Remove(g.root + "/tmp/socket"); err != nil {
		t.Fatal(err)
	}
	link(dir+"/victim", "/tmp/socket")
	if err := s.Stop(t.Context(), owner(g, "swapped")); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "victim" {
		t.Errorf("the host's directory has %v, %v", entries, err)
	}
	if got, _ := io.ReadAll(side{}.dial(t, "unix:"+dir+"/victim")); string(got) != "the host's" {
		t.Errorf("the host's socket says %q", got)
	}
}

// TestConfined looks at what a proxy may do while it runs.
func TestConfined(t *testing.T) {
	g := newGuest(t)
	s := newService(t, g)
	for device, tt := range map[string]struct {
		rule proxies.Rule
		caps string
	}{
		"tcp":  {proxies.Rule{Listen: "tcp:127.0.0.1:8000", Connect: "tcp:127.0.0.1:80"}, "0000000000000000"},
		"in":   {proxies.Rule{Inside: true, Listen: "unix:/run/x", Connect: "tcp:127.0.0.1:80"}, "0000000000000000"},
		"path": {proxies.Rule{Inside: true, Listen: "unix:/run/y", Connect: "unix:/run/y"}, "0000000000000002"},
		"user": {proxies.Rule{Inside: true, Listen: "unix:/run/z", Connect: "unix:/run/y", AsUID: "1000"}, "0000000000000000"},
	} {
		start(t, s, owner(g, device), tt.rule)
		pids := processes(t, s)
		if len(pids) != 1 {
			t.Fatalf("%s: got processes %v", device, pids)
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pids[0]))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"CapInh:\t0000000000000000", "CapPrm:\t" + tt.caps, "CapEff:\t" + tt.caps, "CapBnd:\t0000000000000000",
			"NoNewPrivs:\t1", "Seccomp:\t2", "Groups:\t \n",
		} {
			testenv.Eventually(t, device+" has "+want, func() bool {
				status, err = os.ReadFile(fmt.Sprintf("/proc/%d/status", pids[0]))
				return err == nil && strings.Contains(string(status), "\n"+want)
			})
		}
		if err := s.Stop(context.WithoutCancel(t.Context()), owner(g, device)); err != nil {
			t.Fatal(err)
		}
	}
}
