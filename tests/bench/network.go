package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A space is a network namespace.
type space struct{ path string }

// do runs fn on a thread in the namespace, which ends with it.
func (s space) do(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		f, err := os.Open(s.path)
		if err == nil {
			err = errors.Join(unix.Setns(int(f.Fd()), unix.CLONE_NEWNET), f.Close())
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	return <-done
}

// A way is from one namespace to an address of another, in a network of ours and in
// one of the same shape made by hand.
type way struct {
	name       string
	ours, hand hop
	least      float64 // The ratio of throughput that is wanted.
}

// A hop is a connection: who makes it, where to, and where somebody listens.
type hop struct {
	from, to space
	dial     string
	listen   string
}

// How long and how often each is measured.
const (
	streamTime = 400 * time.Millisecond
	turns      = 25
	pings      = 1000
	dialTime   = 5 * time.Second
)

// network measures what passes networks, by turns with one made by hand.
func (b *bench) network(ctx context.Context) error {
	m := &meter{b: b, host: space{"/run/netns/" + b.host.spaces.Name()}}
	defer func() { _ = m.close(context.WithoutCancel(ctx)) }()
	if err := m.attach(ctx); err != nil {
		return err
	}
	ways, err := m.ways(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("\n%-36s %9s %9s %8s %8s %8s\n", "by turns", "Gbit/s", "by hand", "ratio", "budget", "latency")
	for _, w := range ways {
		if err := w.measure(ctx); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return nil
}

func (w way) measure(ctx context.Context) error {
	var ours, hand, ratios, late []float64
	for i := range turns {
		order := []struct {
			h  hop
			to *[]float64
		}{{w.ours, &ours}, {w.hand, &hand}}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, o := range order {
			rate, err := o.h.stream(ctx)
			if err != nil {
				return err
			}
			*o.to = append(*o.to, rate)
		}
		ratios = append(ratios, ours[i]/hand[i])
		a, err := w.ours.latency(ctx)
		if err != nil {
			return err
		}
		c, err := w.hand.latency(ctx)
		if err != nil {
			return err
		}
		late = append(late, c/a)
	}
	note := ""
	if middle(ratios) < w.least {
		note = " missed"
	}
	fmt.Printf("%-36s %9.2f %9.2f %8.2f %8.2f %8.2f%s\n", w.name, middle(ours), middle(hand), middle(ratios), w.least, middle(late), note)
	return nil
}

func middle(all []float64) float64 { return slices.Sorted(slices.Values(all))[len(all)/2] }

// connect makes one connection; what listens gets the other end.
func (h hop) connect(ctx context.Context) (near, far net.Conn, err error) {
	var l net.Listener
	listen := func() (err error) {
		l, err = new(net.ListenConfig).Listen(ctx, "tcp", h.listen)
		return err
	}
	if err := h.to.do(listen); err != nil {
		return nil, nil, err
	}
	defer func() { _ = l.Close() }()
	accepted := make(chan error, 1)
	go func() {
		var err error
		far, err = l.Accept()
		accepted <- err
	}()
	err = h.from.do(func() (err error) {
		near, err = (&net.Dialer{Timeout: dialTime}).DialContext(ctx, "tcp", h.dial)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return near, far, <-accepted
}

// stream sends for a while, and returns how much has come, in Gbit/s.
func (h hop) stream(ctx context.Context) (float64, error) {
	near, far, err := h.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = errors.Join(near.Close(), far.Close()) }()
	go func() {
		data := make([]byte, 128<<10)
		for {
			if _, err := near.Write(data); err != nil {
				return
			}
		}
	}()
	begun, total, data := time.Now(), 0, make([]byte, 256<<10)
	for time.Since(begun) < streamTime {
		n, err := far.Read(data)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return float64(total) * 8 / float64(time.Since(begun).Nanoseconds()), nil
}

// latency is the time for a byte there and back, in microseconds.
func (h hop) latency(ctx context.Context) (float64, error) {
	near, far, err := h.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = errors.Join(near.Close(), far.Close()) }()
	go func() {
		b := make([]byte, 1)
		for {
			if _, err := far.Read(b); err != nil {
				return
			}
			if _, err := far.Write(b); err != nil {
				return
			}
		}
	}()
	all, b := make([]float64, 0, pings), make([]byte, 1)
	for range pings {
		begun := time.Now()
		if _, err := near.Write(b); err != nil {
			return 0, err
		}
		if _, err := near.Read(b); err != nil {
			return 0, err
		}
		all = append(all, float64(time.Since(begun).Nanoseconds())/1e3)
	}
	return middle(all), nil
}

// A meter is what is made to measure networks.
type meter struct {
	b      *bench
	host   space
	spaces []string // Names of namespaces.
}

// sh runs a script in the host's network namespace.
func (m *meter) sh(ctx context.Context, script string, args ...string) error {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + m.host.path, "sh", "-ec", script, "sh"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", script, err, out)
	}
	return nil
}

// space makes a namespace.
func (m *meter) space(ctx context.Context, name string) (space, error) {
	name = m.b.host.spaces.Name() + name
	if out, err := exec.CommandContext(ctx, "ip", "netns", "add", name).CombinedOutput(); err != nil {
		return space{}, fmt.Errorf("make a namespace: %w: %s", err, out)
	}
	m.spaces = append(m.spaces, name)
	return space{"/run/netns/" + name}, nil
}

func (m *meter) close(ctx context.Context) error {
	var failed []error
	for _, name := range m.spaces {
		failed = append(failed, exec.CommandContext(ctx, "ip", "netns", "del", name).Run())
	}
	return errors.Join(failed...)
}

// attach measures how long a running instance waits for one more interface,
// beside others on the bridge.
func (m *meter) attach(ctx context.Context) error {
	b := m.b
	if err := b.once(ctx, []string{"launch", b.tiny, "b0"}); err != nil {
		return err
	}
	added := func(i int) []string {
		return []string{"config", "device", "add", "b0", "n" + strconv.Itoa(i), "nic", "network=cuibbr0", "name=n" + strconv.Itoa(i), "security.ipv4_filtering=true"}
	}
	removed := func(i int) []string { return []string{"config", "device", "remove", "b0", "n" + strconv.Itoa(i)} }
	have := 0
	for _, n := range []int{0, 200} {
		for ; have < n; have++ {
			if err := m.sh(ctx, `ip link add "v$1" type veth peer name "w$1"; ip link set "v$1" master cuibbr0 up; ip link set "w$1" up`, strconv.Itoa(have)); err != nil {
				return err
			}
		}
		err := b.steps(ctx, []step{
			{name: fmt.Sprintf("add a NIC, %d beside", n), measured: added},
			{name: fmt.Sprintf("remove a NIC, %d beside", n), measured: removed},
		})
		if err != nil {
			return err
		}
	}
	return m.sh(ctx, `for l in $(ip -br link show type veth | awk '/^v[0-9]+@/ {sub("@.*", "", $1); print $1}'); do ip link del "$l"; done`)
}

// guest is the namespace of an instance and its address.
func (m *meter) guest(ctx context.Context, name string) (space, string, error) {
	cmd := exec.CommandContext(ctx, m.b.client, "query", "/1.0/instances/"+name+"/state")
	cmd.Env = append(os.Environ(), m.b.env...)
	out, err := cmd.Output()
	if err != nil {
		return space{}, "", fmt.Errorf("state of %s: %w", name, err)
	}
	var st struct {
		Pid     int
		Network map[string]struct {
			Addresses []struct{ Family, Scope, Address string }
		}
	}
	if err := json.Unmarshal(out, &st); err != nil {
		return space{}, "", err
	}
	for _, a := range st.Network["eth0"].Addresses {
		if a.Family == "inet" && a.Scope == "global" {
			return space{fmt.Sprintf("/proc/%d/ns/net", st.Pid)}, a.Address, nil
		}
	}
	return space{}, "", fmt.Errorf("%s has no address", name)
}

// byHand makes a network as that of ours is, with nothing but what a packet
// needs: a bridge, pairs, NAT and a forward.
const byHand = `ip link add hand0 type bridge
ip addr add 10.250.0.1/24 dev hand0
ip link set hand0 up
i=2
for ns in "$1" "$2"; do
	ip link add "hand$i" type veth peer name eth0 netns "$ns"
	ip link set "hand$i" master hand0 up
	ip -n "$ns" link set lo up
	ip -n "$ns" addr add "10.250.0.$i/24" dev eth0
	ip -n "$ns" link set eth0 up
	ip -n "$ns" route add default via 10.250.0.1
	i=$((i + 1))
done
ip link add world0 type veth peer name eth0 netns "$3"
ip addr add 192.0.2.1/24 dev world0
ip link set world0 up
ip -n "$3" link set lo up
ip -n "$3" addr add 192.0.2.2/24 dev eth0
ip -n "$3" link set eth0 up
sysctl -qw net.ipv4.ip_forward=1
nft -f - <<'END'
table inet hand {
	chain post { type nat hook postrouting priority srcnat; ip saddr 10.250.0.0/24 ip daddr != 10.250.0.0/24 masquerade; }
	chain pre { type nat hook prerouting priority dstnat; ip daddr 192.0.2.1 tcp dport 7001 dnat ip to 10.250.0.2:7000; }
}
END
`

// ways makes all that is measured.
func (m *meter) ways(ctx context.Context) ([]way, error) {
	b := m.b
	var hand [3]space
	names := make([]string, len(hand))
	for i, name := range []string{"a", "b", "w"} {
		var err error
		if hand[i], err = m.space(ctx, name); err != nil {
			return nil, err
		}
		names[i] = strings.TrimPrefix(hand[i].path, "/run/netns/")
	}
	if err := m.sh(ctx, byHand, names...); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"launch", b.tiny, "b1"},
		{"wait", "b0", "--for", "ipv4"},
		{"wait", "b1", "--for", "ipv4"},
	} {
		if err := b.once(ctx, args); err != nil {
			return nil, err
		}
	}
	g0, a0, err := m.guest(ctx, "b0")
	if err != nil {
		return nil, err
	}
	g1, _, err := m.guest(ctx, "b1")
	if err != nil {
		return nil, err
	}
	gateway := a0[:strings.LastIndexByte(a0, '.')] + ".1"
	for _, args := range [][]string{
		{"network", "forward", "create", "cuibbr0", "192.0.2.1"},
		{"network", "forward", "port", "add", "cuibbr0", "192.0.2.1", "tcp", "7002", a0, "7000"},
		{"config", "device", "override", "b0", "eth0", "ipv4.address=" + a0},
		{"config", "device", "add", "b0", "nat", "proxy", "nat=true", "listen=tcp:192.0.2.1:7004", "connect=tcp:" + a0 + ":7000"},
		{"config", "device", "add", "b0", "user", "proxy", "listen=tcp:127.0.0.1:7003", "connect=tcp:127.0.0.1:7000"},
	} {
		if err := b.once(ctx, args); err != nil {
			return nil, err
		}
	}
	const least, leastUser, listen = 0.97, 0.7, "0.0.0.0:7000"
	w := hand[2]
	return []way{
		{"guest to guest", hop{g1, g0, a0 + ":7000", listen}, hop{hand[1], hand[0], "10.250.0.2:7000", listen}, least},
		{"guest to host", hop{g1, m.host, gateway + ":7000", listen}, hop{hand[1], m.host, "10.250.0.1:7000", listen}, least},
		{"guest to world, NAT", hop{g0, w, "192.0.2.2:7000", listen}, hop{hand[0], w, "192.0.2.2:7000", listen}, least},
		{"world to guest, forward", hop{w, g0, "192.0.2.1:7002", listen}, hop{w, hand[0], "192.0.2.1:7001", listen}, least},
		{"world to guest, proxy with nat", hop{w, g0, "192.0.2.1:7004", listen}, hop{w, hand[0], "192.0.2.1:7001", listen}, least},
		{"proxy in user mode, and direct", hop{m.host, g0, "127.0.0.1:7003", listen}, hop{m.host, g0, a0 + ":7000", listen}, leastUser},
	}, nil
}
