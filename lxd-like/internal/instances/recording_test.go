package instances_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/instances"
)

// What a guest writes is its choice, and the disk is the host's.
func TestARecordingHasAnEnd(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	to, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer w.Close()
		chunk := make([]byte, 1<<20)
		for range instances.MaxRecording/len(chunk) + 2 {
			if _, err := w.Write(chunk); err != nil { // It is never stopped.
				t.Error(err)
				return
			}
		}
	}()
	if _, err := instances.Record(t.Context(), done, r, to); err != nil {
		t.Fatal(err)
	}
	if st, err := to.Stat(); err != nil || st.Size() != instances.MaxRecording {
		t.Errorf("%v, %v are kept, want %d", st.Size(), err, instances.MaxRecording)
	}
}
