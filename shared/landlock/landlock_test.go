package landlock_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cuib/cuib/shared/landlock"
	"github.com/cuib/cuib/shared/run"
	"github.com/cuib/cuib/shared/testenv"
)

func TestWriteBelow(t *testing.T) {
	testenv.Kernel(t, "sh", "mkdir", "mknod", "ln")
	in, out := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(out, "f"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	try := func(script string) error {
		return run.Program{
			Args: []string{"sh", "-ec", script, "sh", in, out},
			Cage: func() error { return landlock.WriteBelow(in) },
		}.Run(t.Context())
	}
	for _, script := range []string{`echo > "$1/f"`, `mkdir "$1/d"`, `mknod "$1/n" c 1 3`, `ln -s / "$1/l"`, `ln "$1/f" "$1/d/g"`, `cat "$2/f"`, `rm "$1/f"`} {
		if err := try(script); err != nil {
			t.Errorf("inside: %v", err)
		}
	}
	for _, script := range []string{`echo new > "$2/f"`, `echo >> "$2/f"`, `mkdir "$2/d"`, `mknod "$2/n" c 1 3`, `ln -s / "$2/l"`, `rm "$2/f"`, `ln "$2/f" "$1/h"`, `echo > "$1/l/$2/f"`} {
		if err := try(script); err == nil {
			t.Errorf("it can do %s", script)
		}
	}
	data, err := os.ReadFile(filepath.Join(out, "f"))
	if err != nil || string(data) != "old" {
		t.Errorf("the file outside: %q, %v", data, err)
	}
	if err := os.WriteFile(filepath.Join(out, "f"), nil, 0o600); err != nil {
		t.Errorf("the cage holds more than the program: %v", err)
	}
}
