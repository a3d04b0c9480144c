package instances_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

func TestSurplusIsWhatIsOldest(t *testing.T) {
	at := time.Unix(1000, 0)
	var all []instances.Recorded
	for i, size := range []int64{5, 1, 1, 7, 2} { // e is the newest.
		all = append(all, instances.NewRecorded(string(rune('a'+i)), size, at.Add(time.Duration(i)*time.Second)))
	}
	for _, c := range []struct {
		files int
		bytes int64
		want  string
	}{{5, 16, ""}, {3, 100, "b a"}, {5, 10, "b a"}, {5, 9, "c b a"}, {0, 100, "e d c b a"}, {5, 1, "e d c b a"}} {
		if got := strings.Join(instances.Surplus(all, c.files, c.bytes), " "); got != c.want {
			t.Errorf("%d files, %d bytes: got %q, want %q", c.files, c.bytes, got, c.want)
		}
	}
}
