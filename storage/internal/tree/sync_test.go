package tree_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage/internal/tree"
)

// TestFlush looks for data of a file system on its disk, past the cache of
// the file system.
func TestFlush(t *testing.T) {
	testenv.Kernel(t, "mkfs.ext4", "mount", "umount")
	dir := t.TempDir()
	disk, mnt := filepath.Join(dir, "disk"), filepath.Join(dir, "mnt")
	ok(t, os.WriteFile(disk, nil, 0o600))
	ok(t, os.Truncate(disk, 32<<20))
	testenv.Run(t, "mkfs.ext4", "-q", disk)
	ok(t, os.Mkdir(mnt, 0o700))
	testenv.Run(t, "mount", "-o", "loop", disk, mnt)
	t.Cleanup(func() { testenv.Run(t, "umount", "-l", mnt) })
	onDisk := func(text string) bool {
		data, err := os.ReadFile(disk)
		ok(t, err)
		return strings.Contains(string(data), text)
	}

	ok(t, os.WriteFile(filepath.Join(mnt, "a"), []byte("for one who waits"), 0o600))
	ok(t, tree.Sync(mnt))
	if !onDisk("for one who waits") {
		t.Error("not on the disk after Sync")
	}
	var f tree.Flusher
	for _, text := range []string{"for nobody", "for nobody either"} {
		ok(t, os.WriteFile(filepath.Join(mnt, "b"), []byte(text), 0o600))
		f.Flush(mnt)
	}
	testenv.Eventually(t, "it is on the disk after Flush", func() bool { return onDisk("for nobody either") })
	if err := tree.Sync(filepath.Join(mnt, "none")); err == nil {
		t.Error("synced what is not there")
	}
}
