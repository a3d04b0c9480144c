package runtime

import (
	"os"
	"path/filepath"
	"testing"
)

// The kernel takes no write of nothing for one: what takes a set of processors
// back, too, must write something.
func TestWriteOfNothing(t *testing.T) {
	dir := t.TempDir()
	at := filepath.Join(dir, "cpuset.cpus")
	if err := os.WriteFile(at, []byte("0"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (Setting{File: "cpuset.cpus"}).write(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(at); err != nil || string(got) != "\n" {
		t.Errorf("it has %q, %v", got, err)
	}
}
