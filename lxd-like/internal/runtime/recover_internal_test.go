package runtime

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"testing"

	processes "github.com/cuib/cuib/shared/process"
)

// What ends between two looks of the next daemon has ended as what ended before.
func TestEndsWhileItIsRecovered(t *testing.T) {
	r := &Runtime{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	boot, err := processes.Boot()
	if err != nil {
		t.Fatal(err)
	}
	was, err := json.Marshal(state{Boot: boot, Cgroups: []string{r.path("c1", "gone")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(r.path("c1"), 0o700), os.WriteFile(r.path("c1", stateFile), was, 0o600), os.WriteFile(r.path("c1", statusFile), []byte("3\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	shim := exec.Command("true")
	if err := shim.Run(); err != nil {
		t.Fatal(err)
	}
	got, err := r.recoverOne(t.Context(), "c1", shim.Process.Pid, func(Exit) {})
	if err != nil || got.Ended == nil || got.Ended.Status != 3 {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := os.Stat(r.path("c1", stateFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its files are left: %v", err)
	}
}
