package configure

import (
	"os"
	"path/filepath"
	"testing"
)

// TestSavedFiles has what was there before stay until all is whole.
func TestSavedFiles(t *testing.T) {
	t.Parallel()
	for _, whole := range []bool{false, true} {
		dir := t.TempDir()
		name := filepath.Join(dir, "a.tar")
		if err := os.WriteFile(name, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		var s savedFiles
		f, err := s.create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("new"); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		want := "old"
		if whole {
			want = "new"
			if err := s.name(); err != nil {
				t.Fatal(err)
			}
		} else {
			s.drop()
		}
		if got, err := os.ReadFile(name); string(got) != want {
			t.Errorf("whole %v: got %q, %v", whole, got, err)
		}
		if all, err := os.ReadDir(dir); len(all) != 1 {
			t.Errorf("whole %v: left are %v, %v", whole, all, err)
		}
	}
}
