package tests

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// guestKinds are what docs/guests.md says to boot: each suite with each init.
var guestKinds = []string{
	"debian:bookworm", "debian:bookworm/sysvinit", "debian:bookworm/openrc", "debian:bookworm/runit",
	"debian:trixie", "debian:trixie/sysvinit", "debian:trixie/openrc", "debian:trixie/runit",
	"debian:sid", "debian:sid/sysvinit", "debian:sid/openrc", "debian:sid/runit",
}

// TestGuests builds each kind of guest and boots it: to a running system without
// a failed unit or service, with an address and names, that restarts and halts
// when it is asked from outside and from inside.
func TestGuests(t *testing.T) {
	if os.Getenv("CUIB_TEST_GUESTS") == "" {
		t.Skip("set CUIB_TEST_GUESTS=1 to build and boot each Debian with each init, which takes half an hour")
	}
	for _, kind := range guestKinds {
		t.Run(strings.TrimPrefix(kind, "debian:"), func(t *testing.T) {
			h := startHost(t)
			if err := h.image(kind, "guest"); err != nil {
				t.Fatal(err)
			}
			h.must(t, "launch", "guest", "c1")
			h.must(t, "wait", "c1", "--for", "ipv4", "--timeout", "180")
			if strings.Contains(kind, "/") {
				h.otherInit(t)
			} else {
				h.systemd(t)
			}
			eventually(t, "its own name is known", func() bool { return h.exec(nil, nil, "getent", "hosts", "c1") == nil })
			h.mark(t)
			h.must(t, "restart", "c1", "--timeout", "120")
			eventually(t, "it has restarted", h.fresh)
			h.mark(t)
			eventually(t, "it restarts from inside", func() bool { return h.fresh() || h.asks("reboot || /sbin/init 6") && h.fresh() })
			if _, err := h.cuib("stop", "c1", "--timeout", "120"); err != nil {
				said, _ := h.cuib("logs", "c1")
				runs, _ := h.cuib("exec", "c1", "--", "ps", "axf")
				t.Fatalf("%v\nIt says: %s\nIts processes: %s", err, said, runs)
			}
			h.must(t, "start", "c1")
			eventually(t, "it halts from inside", func() bool {
				out, err := h.cuib("list", "--format", "csv", "--columns", "s")
				return err == nil && out == "STOPPED\n" || h.asks("poweroff || /sbin/init 0") && false
			})
		})
	}
}

// mark notes something that a boot forgets, and fresh reports whether it has.
func (h *host) mark(t *testing.T) {
	t.Helper()
	if err := h.exec(nil, nil, "sh", "-c", "echo x >/dev/mark"); err != nil {
		t.Fatal(err)
	}
}

func (h *host) fresh() bool { return h.exec(nil, nil, "test", "!", "-e", "/dev/mark") == nil }

// asks has the guest do something. Those that boot forget what they are asked,
// and are asked again after a while.
func (h *host) asks(text string) bool {
	return h.exec(nil, nil, "sh", "-c", "("+text+") && sleep 5") == nil
}

// systemd waits until the guest's systemd is done, and looks for failed units.
func (h *host) systemd(t *testing.T) {
	t.Helper()
	var state string
	eventually(t, "its systemd has booted", func() bool {
		var out strings.Builder
		_ = h.exec(nil, &out, "systemctl", "is-system-running")
		state = strings.TrimSpace(out.String())
		return state == "running" || state == "degraded"
	})
	var failed strings.Builder
	if err := h.exec(nil, &failed, "systemctl", "--failed", "--no-legend"); err != nil || state != "running" {
		t.Errorf("it is %s: %v %s", state, err, failed.String())
	}
}

// complaint is what a service says that has failed.
var complaint = regexp.MustCompile(`failed\.|ERROR|[Ww]arning: |: not found`)

// otherInit waits for the login of a guest with another init, and looks at what
// its services have said.
func (h *host) otherInit(t *testing.T) {
	t.Helper()
	var out string
	eventually(t, "it has a login", func() bool {
		var err error
		out, err = h.cuib("logs", "c1")
		return err == nil && strings.Contains(out, "c1 login:")
	})
	if said := complaint.FindString(out); said != "" {
		t.Errorf("it says %q: %s", said, out)
	}
}
