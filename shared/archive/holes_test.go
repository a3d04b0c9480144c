package archive_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/archive"
	"github.com/cuib/cuib/shared/testenv"
)

// TestLargeHoles unpacks a file that is all holes but for a word here and there,
// as GNU tar has packed it in each of its ways.
func TestLargeHoles(t *testing.T) {
	testenv.Kernel(t, "tar")
	src := t.TempDir()
	const size = 20<<30 + 12345
	words := map[int64]string{0: "first", 1<<30 - 2: "across", 10<<30 + 77: "middle", size - 4: "last"}
	f, err := os.Create(filepath.Join(src, "f"))
	must(t, err)
	for at, word := range words {
		_, err := f.WriteAt([]byte(word), at)
		must(t, err)
	}
	must(t, f.Close())
	for _, args := range [][]string{
		{"--format=gnu"}, {"--format=pax", "--sparse-version=0.0"}, {"--format=pax", "--sparse-version=0.1"}, {"--format=pax", "--sparse-version=1.0"},
	} {
		file, dest := filepath.Join(t.TempDir(), "a"), t.TempDir()
		testenv.Run(t, append(append([]string{"tar", "--sparse", "-C", src}, args...), "-cf", file, "f")...)
		in, err := os.Open(file)
		must(t, err)
		must(t, archive.Extract(t.Context(), in, archive.Root{Dir: dest}))
		must(t, in.Close())
		got, err := os.Open(filepath.Join(dest, "f"))
		must(t, err)
		for at, word := range words {
			buf := make([]byte, len(word))
			if _, err := got.ReadAt(buf, at); err != nil || string(buf) != word {
				t.Errorf("%v: at %d it has %q, %v", args, at, buf, err)
			}
		}
		var st unix.Stat_t
		must(t, unix.Fstat(int(got.Fd()), &st))
		if st.Size != size || st.Blocks > 1000 {
			t.Errorf("%v: it is of %d bytes in %d blocks", args, st.Size, st.Blocks)
		}
		must(t, got.Close())
	}
}
