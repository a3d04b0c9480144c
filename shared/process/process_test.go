package process_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/process"
)

func TestID(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := process.IDOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	pidfd, err := id.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	if process.Ended(pidfd) {
		t.Error("it has not ended")
	}
	for name, change := range map[string]func(id *process.ID){
		"another beginning": func(id *process.ID) { id.Start += "1" },
		"another boot":      func(id *process.ID) { id.Boot += "1" },
		"no number":         func(id *process.ID) { id.PID = 0 },
	} {
		other := id
		change(&other)
		if f, err := other.Open(); !errors.Is(err, process.ErrGone) {
			t.Errorf("%s: %v, %v; want that it is gone", name, f, err)
		}
	}
	if err := process.Signal(pidfd, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := process.Wait(pidfd); err != nil || !process.Ended(pidfd) {
		t.Errorf("waited: %v, ended %v", err, process.Ended(pidfd))
	}
	if f, err := id.Open(); !errors.Is(err, process.ErrGone) { // It is no more than a number until it is waited for.
		t.Errorf("ended: %v, %v", f, err)
	}
	_ = cmd.Wait() // It was killed.
	if err := process.Signal(pidfd, unix.SIGKILL); err != nil {
		t.Errorf("a signal to what has ended: %v", err)
	}
	pidfd.Close()
	if err := process.Wait(pidfd); err == nil {
		t.Error("a wait for a file that is closed succeeds")
	}
}

func TestRecords(t *testing.T) {
	r := &process.Records{Dir: filepath.Join(t.TempDir(), "records")}
	if all, err := r.Instances(); len(all) != 0 || err != nil {
		t.Errorf("of none: %v, %v", all, err)
	}
	for _, device := range []string{"a", "b", "a"} {
		if err := r.Put("c1", device, map[string]string{"device": device}); err != nil {
			t.Fatal(err)
		}
	}
	// A daemon was killed while it wrote one, and while it wrote one anew.
	for _, name := range []string{"a~", "d~"} {
		if err := os.WriteFile(filepath.Join(r.Dir, "c1", name), []byte(`{"dev`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	if err := r.Get("c1", "a", &got); err != nil || got["device"] != "a" {
		t.Errorf("got %v, %v", got, err)
	}
	if all, err := r.Instances(); !slices.Equal(all, []string{"c1"}) || err != nil {
		t.Errorf("instances: %v, %v", all, err)
	}
	all, err := r.Devices("c1")
	if !slices.Equal(all, []string{"a", "b", "d"}) || err != nil {
		t.Errorf("devices: %v, %v", all, err)
	}
	for _, device := range append(all, "none") {
		if err := r.Forget("c1", device); err != nil {
			t.Errorf("forget %s: %v", device, err)
		}
	}
	if _, err := os.Stat(r.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
}
