package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestPagesAreCurrent fails if a table was changed and the pages were not
// made again.
func TestPagesAreCurrent(t *testing.T) {
	dir := t.TempDir()
	if err := run([]string{dir}); err != nil {
		t.Fatal(err)
	}
	for name := range pages {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("docs/%s is not current: make gen", name)
		}
	}
}
