package storage_test

import (
	"testing"

	"github.com/cuib/cuib/storage"
)

// TestFleeting has only what nobody comes back to do without the disk.
func TestFleeting(t *testing.T) {
	for name, want := range map[string]bool{
		storage.NewHidden(storage.ForReading): true,
		storage.NewHidden(storage.ForCopy):    true,
		storage.NewHidden(storage.ForDiff):    true,
		storage.NewHidden("backup"):           false,
		storage.NewHidden("refresh") + "-old": false,
		"":                                    false,
		"still-1":                             false,
		"copy-1":                              false,
		".still":                              false,
	} {
		if got := storage.Fleeting(name); got != want {
			t.Errorf("%q: got %t, want %t", name, got, want)
		}
	}
}
