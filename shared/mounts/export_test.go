package mounts

import "testing"

// EachWay runs fn with overlays mounted as on new and as on old kernels.
func EachWay(t *testing.T, fn func(*testing.T)) {
	t.Helper()
	t.Run("by descriptors", func(t *testing.T) {
		fn(t)
		if byPaths.Load() {
			t.Log("the kernel takes no descriptors")
		}
	})
	t.Run("by paths", func(t *testing.T) {
		defer byPaths.Store(byPaths.Swap(true))
		fn(t)
	})
}
