package nets_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/testenv"
)

// TestUnread has tables of iptables-legacy, and no program that writes them.
func TestUnread(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "iptables-legacy", "iptables-legacy-save")
	e := newEnv(t)
	e.Warnings = &warnings.Service{DB: e.DB, Events: e.Events, Log: e.Log}
	e.create(t, "br0", api.ConfigMap{"ipv4.address": "10.1.2.1/24", "ipv6.address": "none"})
	e.kernel.links = []host.Link{{Name: "br0", Kind: "bridge"}}
	look := func(unread, status string) {
		t.Helper()
		must(t, nets.LookThrough(t.Context(), e.Service))
		st, err := e.State(t.Context(), "br0")
		must(t, err)
		if got := strings.Join(st.ObstaclesUnread, " "); got != unread {
			t.Errorf("unread: got %q, want %q", got, unread)
		}
		all, err := e.Warnings.List(t.Context())
		must(t, err)
		got := ""
		if i := slices.IndexFunc(all, func(w api.Warning) bool { return w.Type == warnings.FirewallUnread.Name }); i >= 0 {
			got = all[i].Status
			if all[i].EntityURL != "" || !strings.Contains(all[i].LastMessage, "cannot be read without iptables-legacy-save") {
				t.Errorf("got %+v", all[i])
			}
		}
		if got != status {
			t.Errorf("got a warning that is %q, want %q", got, status)
		}
	}
	look("", "")
	testenv.Run(t, "iptables-legacy", "-P", "FORWARD", "DROP")
	path := os.Getenv("PATH")
	t.Setenv("PATH", t.TempDir())
	look("iptables-legacy-save", api.WarningNew)
	t.Setenv("PATH", path)
	look("", api.WarningResolved)
}
