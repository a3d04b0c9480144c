package publish_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/publish"
	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// env is a service with the bridges br0 and br1, the overlay mesh and wire, and what is applied of them.
type env struct {
	*publish.Service

	fail    error // Of what applies.
	mu      sync.Mutex
	applied map[string][]networks.Published
}

func newEnv(t *testing.T) *env {
	t.Helper()
	e := &env{applied: map[string][]networks.Published{}}
	e.Service = &publish.Service{DB: dbtest.New(t), Nets: e, Events: &events.Hub{}, Log: slog.New(slog.DiscardHandler)}
	must(t, e.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		for name, address := range map[string]string{"br0": "10.0.0.1/24", "br1": "10.1.0.1/24"} {
			n := db.Network{Name: name, Type: "bridge", Status: db.Ready, Config: map[string]string{"ipv4.address": address, "ipv6.address": "none"}}
			if err := db.AddNetwork(ctx, tx, &n); err != nil {
				return err
			}
		}
		mesh := db.Network{Name: "mesh", Type: "vxlan", Status: db.Ready, Config: map[string]string{"ipv4.address": "10.2.0.1/24", "ipv6.address": "none", "vxlan.id": "7"}}
		wire := db.Network{Name: "wire", Type: "macvlan", Status: db.Ready, Config: map[string]string{"parent": "eth0"}}
		return errors.Join(db.AddNetwork(ctx, tx, &mesh), db.AddNetwork(ctx, tx, &wire))
	}))
	return e
}

func (e *env) Exists(ctx context.Context, name string) error {
	return e.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.GetNetwork(ctx, tx, name)
		return err
	})
}

func (e *env) Reapply(ctx context.Context, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.fail; err != nil {
		e.fail = nil
		return err
	}
	return e.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := db.GetNetwork(ctx, tx, name)
		if err != nil {
			return err
		}
		cfg, err := netkeys.Parse(n.Type, n.Config)
		if err != nil {
			return err
		}
		if err := e.Part(ctx, tx, n, &cfg); err != nil {
			return err
		}
		e.applied[name] = cfg.Published
		return nil
	})
}

// picture is all that is there of forwards.
func (e *env) picture(t *testing.T) string {
	t.Helper()
	all, err := e.Forwards(t.Context(), "br0")
	must(t, err)
	return fmt.Sprintf("%+v %+v", all, e.applied["br0"])
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func forward(port string) api.NetworkForwardPut {
	return api.NetworkForwardPut{Ports: []api.NetworkForwardPort{{Protocol: "tcp", ListenPort: port, TargetAddress: "10.0.0.9"}}}
}

// TestFailureUnwinds fails each change where the network is to follow it.
func TestFailureUnwinds(t *testing.T) {
	e := newEnv(t)
	must(t, e.CreateForward(t.Context(), "br0", api.NetworkForwardsPost{NetworkForwardPut: forward("80-81,90"), ListenAddress: "192.0.2.1"}))
	if got := len(e.applied["br0"]); got != 2 {
		t.Errorf("applied %+v", e.applied["br0"])
	}
	before, boom := e.picture(t), errors.New("boom")
	for name, change := range map[string]func() error{
		"create": func() error {
			return e.CreateForward(t.Context(), "br0", api.NetworkForwardsPost{NetworkForwardPut: forward("80"), ListenAddress: "192.0.2.2"})
		},
		"update": func() error { return e.UpdateForward(t.Context(), "br0", "192.0.2.1", forward("99")) },
		"delete": func() error { return e.DeleteForward(t.Context(), "br0", "192.0.2.1") },
	} {
		e.fail = boom
		if err := change(); !errors.Is(err, boom) {
			t.Errorf("%s: got %v", name, err)
		}
		if got := e.picture(t); got != before {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, before)
		}
	}
	must(t, e.UpdateForward(t.Context(), "br0", "192.0.2.1", forward("99")))
	must(t, e.DeleteForward(t.Context(), "br0", "192.0.2.1"))
	if len(e.applied["br0"]) != 0 {
		t.Errorf("left %+v", e.applied["br0"])
	}
}

func TestForwardRefuses(t *testing.T) {
	e := newEnv(t)
	e.Taken = func(p networks.Published) string {
		if p.First == 8090 {
			return `device "web" of instance "c1"`
		}
		return ""
	}
	must(t, e.CreateForward(t.Context(), "br1", api.NetworkForwardsPost{ListenAddress: "192.0.2.9", NetworkForwardPut: api.NetworkForwardPut{
		Ports: []api.NetworkForwardPort{{Protocol: "tcp", ListenPort: "70-79", TargetAddress: "10.1.0.9"}},
	}}))
	port := func(protocol, listen, address, target string) api.NetworkForwardPut {
		return api.NetworkForwardPut{Ports: []api.NetworkForwardPort{{Protocol: protocol, ListenPort: listen, TargetAddress: address, TargetPort: target}}}
	}
	config := func(key, value string) api.NetworkForwardPut {
		return api.NetworkForwardPut{Config: api.ConfigMap{key: value}}
	}
	for _, tt := range []struct {
		listen string
		put    api.NetworkForwardPut
		kind   errs.Kind
		want   string
	}{
		{"x", forward("80"), errs.Invalid, `got "x", want an IP address`},
		{"fe80::1", forward("80"), errs.Invalid, "others route to"},
		{"10.0.0.7", forward("80"), errs.Invalid, `is in network "br0" itself`},
		{"2001:db8::1", forward("80"), errs.Invalid, "whose ipv6.address is none"},
		{"192.0.2.1", forward("0"), errs.Invalid, `listen_port: got "0"`},
		{"192.0.2.1", forward("80,80"), errs.Invalid, "port 80 is in ports[0] too"},
		{"192.0.2.1", port("icmp", "80", "10.0.0.9", ""), errs.Invalid, `protocol: got "icmp"`},
		{"192.0.2.1", port("tcp", "80", "", ""), errs.Invalid, "target_address is missing"},
		{"192.0.2.1", port("tcp", "80", "10.1.0.9", ""), errs.Invalid, `outside of network "br0"`},
		{"192.0.2.1", port("tcp", "80", "10.0.0.1", ""), errs.Invalid, "host's own"},
		{"192.0.2.1", port("tcp", "80", "10.0.0.255", ""), errs.Invalid, "stands for the whole network"},
		{"192.0.2.1", port("tcp", "80-82", "10.0.0.9", "1-2"), errs.Invalid, "got 2 ports where listen_port has 3"},
		{"192.0.2.1", config("expose", "x"), errs.Invalid, "host-firewall or public"},
		{"192.0.2.1", config("target_address", "x"), errs.Invalid, "want the IP address of an instance"},
		{"192.0.2.1", config("x", "y"), errs.Invalid, `"x" is not known`},
		{"0.0.0.0", config("target_address", "10.0.0.9"), errs.Invalid, "all ports"},
		{"192.0.2.9", forward("75"), errs.Conflict, `port 75 of 192.0.2.9 is taken by the network forward 192.0.2.9 of network "br1"`},
		{"0.0.0.0", forward("79-90"), errs.Conflict, "port 79 of 0.0.0.0 is taken"},
		{"192.0.2.1", forward("8090"), errs.Conflict, `taken by device "web" of instance "c1"`},
	} {
		err := e.CreateForward(t.Context(), "br0", api.NetworkForwardsPost{NetworkForwardPut: tt.put, ListenAddress: tt.listen})
		if !errs.Is(err, tt.kind) || !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%s %+v: got %v, want %q", tt.listen, tt.put, err, tt.want)
		}
	}
	if who, err := e.Takes(t.Context(), networks.Published{Listen: netip.IPv4Unspecified(), Protocol: 6, First: 1, Last: 70}); err != nil || !strings.Contains(who, "192.0.2.9") {
		t.Errorf("got %q, %v", who, err)
	}
}

// TestOverlay publishes on an overlay, whose instances are on any host.
// TestListeners publishes what processes of the host have: nothing new, and what
// was published before they came stays.
func TestListeners(t *testing.T) {
	e := newEnv(t)
	must(t, e.CreateForward(t.Context(), "br0", api.NetworkForwardsPost{NetworkForwardPut: forward("22"), ListenAddress: "192.0.2.1"}))
	e.Listener = func(p networks.Published) (string, error) {
		switch {
		case p.First <= 22 && p.Last >= 22:
			return "process 812 (sshd), which listens on 192.0.2.1:22", nil
		case p.First == 99:
			return "", errors.New("boom")
		}
		return "", nil
	}
	before := e.picture(t)
	taken := func(err error) {
		t.Helper()
		if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "ports[0]: port") || !strings.Contains(err.Error(), "is taken by process 812 (sshd)") {
			t.Errorf("got %v", err)
		}
	}
	taken(e.CreateForward(t.Context(), "br0", api.NetworkForwardsPost{NetworkForwardPut: forward("22"), ListenAddress: "192.0.2.2"}))
	taken(e.UpdateForward(t.Context(), "br0", "192.0.2.1", forward("20-23")))
	if err := e.UpdateForward(t.Context(), "br0", "192.0.2.1", forward("99")); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("got %v", err)
	}
	if got := e.picture(t); got != before {
		t.Errorf("got\n%s\nwant\n%s", got, before)
	}
	same := forward("22")
	same.Description = "ssh"
	must(t, e.UpdateForward(t.Context(), "br0", "192.0.2.1", same))
}

func TestOverlay(t *testing.T) {
	e := newEnv(t)
	put := api.NetworkForwardPut{Ports: []api.NetworkForwardPort{{Protocol: "tcp", ListenPort: "80", TargetAddress: "10.2.0.9"}}}
	must(t, e.CreateForward(t.Context(), "mesh", api.NetworkForwardsPost{ListenAddress: "192.0.2.1", NetworkForwardPut: put}))
	if len(e.applied["mesh"]) != 1 {
		t.Errorf("applied %+v", e.applied["mesh"])
	}
	put.Ports[0].SNAT = true
	err := e.UpdateForward(t.Context(), "mesh", "192.0.2.1", put)
	if want := `ports[0]: snat: network "mesh" is of type vxlan: what 10.2.0.9 begins`; !errs.Is(err, errs.Invalid) || !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	err = e.CreateForward(t.Context(), "wire", api.NetworkForwardsPost{ListenAddress: "192.0.2.1"})
	if want := `network "wire" is of type macvlan: only networks of type bridge and vxlan have a network forward`; !errs.Is(err, errs.Invalid) || !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}
