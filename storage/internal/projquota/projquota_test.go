package projquota_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage/internal/projquota"
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestLimitAgain limits a directory again when that failed before the end: all
// that is in it counts then, and can have another name in it.
func TestLimitAgain(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			dir := filepath.Join(testenv.MountedWithQuotas(t, fs, "512M"), "dir")
			for _, sub := range []string{"a", "b", "c"} {
				ok(t, os.MkdirAll(filepath.Join(dir, sub), 0o700))
				ok(t, os.WriteFile(filepath.Join(dir, sub, "f"), make([]byte, 1<<20), 0o600))
				ok(t, os.Symlink("f", filepath.Join(dir, sub, "link")))
			}
			ok(t, os.Symlink("a", filepath.Join(dir, "link")))
			testenv.Run(t, "chattr", "+i", filepath.Join(dir, "b"))
			if err := projquota.Limit(100<<20, dir); err == nil {
				t.Fatal("nothing is in the way")
			}
			if has, err := projquota.Has(dir); err != nil || has {
				t.Errorf("it has a project: %v, %v", has, err)
			}
			testenv.Run(t, "chattr", "-i", filepath.Join(dir, "b"))
			ok(t, projquota.Limit(100<<20, dir))
			used, known, err := projquota.Usage(dir)
			if err != nil || !known || used < 3<<20 {
				t.Errorf("%d bytes count, %v, %v", used, known, err)
			}
			for i, name := range []string{"a/f", "b/link", "link"} {
				ok(t, os.Rename(filepath.Join(dir, name), filepath.Join(dir, "c", string(rune('0'+i)))))
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 3 {
				t.Errorf("there are %v, %v", left, err)
			}
		})
	}
}
