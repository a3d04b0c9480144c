package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
)

// mostPublished is how many ports are tried: each that fails takes seconds.
const mostPublished = 32

// Published connects to what is published of the network namespace of the calling
// thread, as another host would: to the first of the ports of TCP that are
// published together, if something listens where they lead.
func Published(ctx context.Context, list []networks.Published) ([]Check, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	host, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer host.Close()

	t := &trial{host: host}
	for i, e := range slices.DeleteFunc(slices.Clone(list), func(e networks.Published) bool { return e.Protocol != unix.IPPROTO_TCP }) {
		name := fmt.Sprintf("published port %s (%s)", netip.AddrPortFrom(e.Listen, e.First), familyOf(e.Listen))
		if i == mostPublished {
			t.skip("published ports", fmt.Sprintf("no more than %d are tried", mostPublished))
			break
		}
		t.published(ctx, name, e)
	}
	return t.checks, ctx.Err()
}

func familyOf(a netip.Addr) string {
	if a.Is6() {
		return "IPv6"
	}
	return "IPv4"
}

// published tries one port.
func (t *trial) published(ctx context.Context, name string, e networks.Published) {
	if why := kept(e.Gate); why != "" {
		t.skip(name, why)
		return
	}
	if len(e.Targets) == 0 {
		t.skip(name, "it leads nowhere: no back end answers")
		return
	}
	for _, to := range e.Targets {
		if to.Port() == 0 {
			to = netip.AddrPortFrom(to.Addr(), e.First)
		}
		err := t.onHost(func() error { return connect(ctx, to) })
		if errors.Is(err, unix.ECONNREFUSED) {
			t.skip(name, fmt.Sprintf("nothing listens at %s, where it leads", to))
			return
		}
		if err != nil {
			t.skip(name, fmt.Sprintf("%s, where it leads, does not answer the host: %v", to, err))
			return
		}
	}
	suffix := " (" + familyOf(e.Listen) + ")"
	needs := []string{"connections from other networks to instances" + suffix, "answers of instances to other networks" + suffix}
	t.try(Check{Name: name, Needs: needs}, func() (string, error) {
		to := netip.AddrPortFrom(e.Listen, e.First)
		if e.Listen.IsUnspecified() { // Any address of the host will do.
			own := outside4.Addr()
			if e.Listen.Is6() {
				own = outside6.Addr()
			}
			to = netip.AddrPortFrom(own, e.First)
		}
		return "another host is let through to " + targets(e), t.outside(to.Addr(), func() error { return connect(ctx, to) })
	})
}

func targets(e networks.Published) string {
	var all []string
	for _, to := range e.Targets {
		all = append(all, to.Addr().String())
	}
	return strings.Join(all, ", ")
}

// kept tells why a port cannot be tried from anywhere: the host's firewall lets in
// some alone, or nobody. It is empty for a port that is open to all.
func kept(g networks.Gate) string {
	var open []string
	for _, p := range g {
		if !p.Open {
			continue
		}
		from := strings.TrimSpace("anybody " + p.In)
		if p.Source.IsValid() {
			from = strings.TrimSpace(p.Source.String() + " " + p.In)
		}
		open = append(open, from)
	}
	switch {
	case len(g) == 0:
		return ""
	case len(open) == 0:
		return "the host's firewall (hook input) lets nobody connect to the port, so it leads nowhere; let it in there, or publish it with expose=public"
	}
	return "the host's firewall (hook input) lets in only " + strings.Join(open, ", ")
}

// connect connects from the namespace of the calling thread.
func connect(ctx context.Context, to netip.AddrPort) error {
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	return conn.Close()
}
