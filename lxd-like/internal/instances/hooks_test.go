package instances_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/shared/api"
)

const hookSpecification = `{"cdiVersion": "0.6.0", "kind": "vendor.com/gpu", "devices": [
  {"name": "plain", "containerEdits": {"env": ["WHICH=1"]}},
  {"name": "zero", "containerEdits": {"env": ["WHICH=0"], "hooks": [
    {"hookName": "createContainer", "path": "/bin/tool", "args": ["tool", "update-ldcache", "--folder", "/usr/lib/vendor"]}]}}]}`

// TestHooksAreNotRun has devices whose specification has hooks: whoever adds one
// is told, and so are administrators for as long as it is there.
func TestHooksAreNotRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.svc.Warnings = &warnings.Service{DB: w.db}
	w.svc.CDI = []string{t.TempDir()}
	must(t, os.WriteFile(filepath.Join(w.svc.CDI[0], "vendor.json"), []byte(hookSpecification), 0o600))
	w.create("c1", true)
	const want = `device "d": the hooks of the CDI specification of vendor.com/gpu=zero are not run, ` +
		`do inside what they would: createContainer "tool update-ldcache --folder /usr/lib/vendor"`
	for _, tt := range []struct {
		what   string
		device api.DevicesMap
		told   string
		open   string
	}{
		{"without hooks", api.DevicesMap{"d": {"type": "gpu", "id": "vendor.com/gpu=plain"}}, "", ""},
		{"with one", api.DevicesMap{"d": {"type": "gpu", "id": "vendor.com/gpu=zero"}}, want, want},
		{"unchanged", api.DevicesMap{"d": {"type": "gpu", "id": "vendor.com/gpu=zero"}}, "", want},
		{"removed", api.DevicesMap{}, "", ""},
	} {
		job, err := w.update(t.Context(), "c1", api.InstancePut{Profiles: []string{"default"}, Devices: tt.device})
		must(t, err)
		op, err := ops.NewManager(t.Context(), func(string, string, any) {}).Start(t.Context(), job)
		must(t, err)
		desc := op.Wait(t.Context())
		if told, _ := desc.Metadata[api.OperationWarning].(string); desc.Err != "" || told != tt.told {
			t.Errorf("%s: told %q, want %q; %s", tt.what, told, tt.told, desc.Err)
		}
		if got := w.openWarnings(); got != tt.open {
			t.Errorf("%s: the warning is %q, want %q", tt.what, got, tt.open)
		}
	}
	must(t, w.setDevices(api.DevicesMap{"d": {"type": "gpu", "id": "vendor.com/gpu=zero"}}))
	w.state("c1", "stop", true)
	w.state("c1", "start", false)
	if got := w.openWarnings(); got != want {
		t.Errorf("after a start the warning is %q", got)
	}
}

// openWarnings returns the messages of warnings that are not resolved.
func (w *world) openWarnings() string {
	w.tb.Helper()
	all, err := w.svc.Warnings.List(w.tb.Context())
	must(w.tb, err)
	var out []string
	for _, one := range all {
		if one.Status != api.WarningResolved {
			out = append(out, one.LastMessage)
		}
	}
	return strings.Join(out, "\n")
}
