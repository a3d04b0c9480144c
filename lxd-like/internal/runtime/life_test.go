package runtime_test

import (
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/errs"
)

func TestStartExecKill(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	exits := start(t, r, s)
	running, err := r.Get(s.Name)
	if err != nil || running.PID == 0 || running.Frozen {
		t.Fatalf("%+v, %v", running, err)
	}
	if _, err := r.Start(t.Context(), s, nil); !errs.Is(err, errs.Conflict) {
		t.Errorf("second start: %v", err)
	}
	res := run(t, r, s.Name, "", runtime.Exec{Args: []string{"sh", "-c", "echo $GREETING; id -u; cat /proc/1/comm; hostname; exit 3"}})
	if res.status != 3 || res.out != "good day\n0\ninit\n"+s.Name+"\n" || res.errOut != "" {
		t.Errorf("%+v", res)
	}
	if err := r.Kill(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	if e := wait(t, exits); e.Status != 137 || e.Reboot {
		t.Errorf("%+v", e)
	}
	if _, err := r.Get(s.Name); !errs.Is(err, errs.NotFound) {
		t.Errorf("after the end: %v", err)
	}
	leftovers(t, r, s.Name)
}
