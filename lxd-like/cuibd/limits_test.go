package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMakeRoom(t *testing.T) {
	dir := t.TempDir()
	instances, watches := filepath.Join(dir, "fs/inotify/max_user_instances"), filepath.Join(dir, "fs/inotify/max_user_watches")
	keys := filepath.Join(dir, "kernel/keys/maxkeys")
	for file, text := range map[string]string{instances: "128\n", watches: "2000000\n", keys: "many\n"} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var said bytes.Buffer
	makeRoom(t.Context(), slog.New(slog.NewTextHandler(&said, nil)), dir)
	for file, want := range map[string]string{instances: "65536", watches: "2000000\n", keys: "many\n"} {
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s has %q, want %q (%v)", file, got, want, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "kernel/keys/maxbytes")); err == nil {
		t.Error("a limit was made that the kernel does not have")
	}
	for _, want := range []string{`level=INFO msg="raised a limit`, "fs.inotify.max_user_instances to=65536", `level=WARN msg="cannot raise`, "kernel.keys.maxkeys"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, &said)
		}
	}
	if n := strings.Count(said.String(), "\n"); n != 2 {
		t.Errorf("%d lines of log, want 2:\n%s", n, &said)
	}
}
