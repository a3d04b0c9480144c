package tests

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// matrixZFS are the steps at which the daemon is killed on ZFS: before each
// change of the pool, and of the database. The programs of ZFS are too slow in
// the lab for those that change nothing.
const matrixZFS = "^before (a write of the database|" + matrixZFSPart + ")"

// matrixZFSPart are those that are changes of the pool.
const matrixZFSPart = "the program (zpool (create|destroy)|zfs (clone|create|destroy|inherit|promote|receive|rename|rollback|send|set|snapshot))"

// TestCrashMatrixZFS is TestCrashMatrix on OpenZFS. The lab runs it.
func TestCrashMatrixZFS(t *testing.T) {
	crashOnZFS(t, matrixZFS).all(t)
}

// TestCrashMatrixZFSPart is the part of it that there is always time for: the
// changes of the pool of those operations that ZFS has several for.
func TestCrashMatrixZFSPart(t *testing.T) {
	m := crashOnZFS(t, "^before ("+matrixZFSPart+")")
	for _, op := range matrixOps {
		if slices.Contains([]string{"restore", "move a volume", "delete", "refresh", "restore a volume"}, op.name) {
			t.Run(op.name, func(t *testing.T) { m.each(t, op) })
		}
	}
}

func crashOnZFS(t *testing.T, steps string) *matrix {
	t.Helper()
	if os.Getenv("CUIB_TEST_ZFS") == "" || binDir == "" {
		t.Skip("it needs OpenZFS: TestLab runs it")
	}
	t.Setenv("CUIB_CRASH_ONLY", steps)
	m := newMatrix(t, filepath.Join(binDir, "crash", "cuibd"), "zfs", "size=512MiB")
	m.slow = true
	return m
}
