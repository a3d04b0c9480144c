package tests

import (
	"os"
	"path/filepath"
	"testing"
)

// matrixZFS are the steps at which the daemon is killed on ZFS: before each
// change of the pool, and of the database. The programs of ZFS are too slow in
// the lab for those that change nothing.
const matrixZFS = "^before (a write of the database|zpool (create|destroy)|zfs (clone|create|destroy|inherit|promote|receive|rename|rollback|send|set|snapshot))"

// TestCrashMatrixZFS is TestCrashMatrix on OpenZFS. The lab runs it.
func TestCrashMatrixZFS(t *testing.T) {
	if os.Getenv("CUIB_TEST_ZFS") == "" || binDir == "" {
		t.Skip("it needs OpenZFS: TestLab runs it")
	}
	t.Setenv("CUIB_CRASH_ONLY", matrixZFS)
	m := newMatrix(t, filepath.Join(binDir, "crash", "cuibd"), "zfs", "size=512MiB")
	m.slow = true
	m.all(t)
}
