package images_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/images"
)

func TestSetMachineID(t *testing.T) {
	old, id := strings.Repeat("0a", 16), strings.Repeat("f1", 16)
	tests := map[string]struct{ before, want string }{
		"copied":         {"printf '%s\\n' " + old + " > etc/machine-id", id + "\n"},
		"empty":          {": > etc/machine-id", ""},
		"none":           {"", "none"},
		"uninitialized":  {"echo uninitialized > etc/machine-id", "uninitialized\n"},
		"no id":          {"printf '%s\\n' 0123456789abcdef0123456789abcdeX > etc/machine-id", "0123456789abcdef0123456789abcdeX\n"},
		"a link to it":   {"echo " + old + " > etc/other; ln -s other etc/machine-id", old + "\n"},
		"a link outside": {"ln -s ../../../secret etc/machine-id", old + "\n"},
		"a fifo":         {"mkfifo etc/machine-id", "none"},
		"a directory":    {"mkdir etc/machine-id", "none"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			root := filepath.Join(dir, "a/rootfs")
			must(t, os.MkdirAll(filepath.Join(root, "etc"), 0o755))
			must(t, os.WriteFile(filepath.Join(dir, "secret"), []byte(old+"\n"), 0o600))
			if _, err := shell(t, root, tt.before); err != nil {
				t.Fatal(err)
			}
			must(t, images.SetMachineID(filepath.Join(dir, "a"), id))
			got, err := shell(t, root, "if [ -f etc/machine-id ]; then cat etc/machine-id; else printf none; fi")
			if err != nil || got != strings.TrimSpace(tt.want) {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
			if data, _ := os.ReadFile(filepath.Join(dir, "secret")); string(data) != old+"\n" {
				t.Errorf("the host's file has become %q", data)
			}
		})
	}
	if err := images.SetMachineID(t.TempDir(), id); err != nil {
		t.Errorf("without a root: %v", err)
	}
}
