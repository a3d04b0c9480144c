package run_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/run"
)

func TestTerminal(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("in"), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(name + ".out")
	if err != nil {
		t.Fatal(err)
	}
	term := run.Terminal{In: in, Out: out, Err: out}
	if err := term.Run(t.Context(), "sh", "-c", "cat; echo oops >&2"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(name + ".out"); err != nil || string(got) != "inoops\n" {
		t.Errorf("the program wrote %q, %v", got, err)
	}
	if err := term.Run(t.Context(), "sh", "-c", "exit 3"); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("a program that fails: %v", err)
	}
	_, _ = in.Close(), out.Close()
}
