package instances_test

import (
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/api"
)

// TestEndsWhileTheDaemonIsAway has guests that end when no daemon looks, but
// the host goes on: all is as if one had looked.
func TestEndsWhileTheDaemonIsAway(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		config    api.ConfigMap
		ephemeral bool
		exit      runtime.Exit
		want      string // Power on record; empty for no instance.
	}{
		"halts":                   {exit: runtime.Exit{}, want: "STOPPED"},
		"dies":                    {exit: runtime.Exit{Status: 137}, want: "STOPPED"},
		"dies and restarts":       {config: api.ConfigMap{"boot.autorestart": "true"}, exit: runtime.Exit{Status: 137}, want: "RUNNING"},
		"halts and would restart": {config: api.ConfigMap{"boot.autorestart": "true"}, exit: runtime.Exit{}, want: "STOPPED"},
		"ephemeral":               {ephemeral: true, exit: runtime.Exit{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			req := post("c1", true)
			req.Config, req.Ephemeral = tt.config, tt.ephemeral
			w.ok(w.svc.Create(t.Context(), req))
			w.create("other", true)
			w.rt.mu.Lock()
			delete(w.rt.running, "c1")
			w.rt.away = map[string]runtime.Exit{"c1": tt.exit}
			w.rt.mu.Unlock()

			w.boot()
			w.autostart()
			dump := w.dump()
			if got := w.power()["c1"]; got != tt.want || runs(dump, "c1") != (tt.want == "RUNNING") {
				t.Errorf("on record is %q, want %q:\n%s", got, tt.want, dump)
			}
			if mounted := w.pool.Mounted(); len(mounted) != 1 && tt.want != "RUNNING" {
				t.Errorf("mounted is %v", mounted)
			}
			w.state("other", "stop", true)
		})
	}
}
