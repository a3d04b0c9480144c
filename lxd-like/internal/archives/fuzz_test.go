package archives_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/dir"
)

// summed returns a tar whose headers have the right checksums, which what
// changes bytes at random does not hit upon: each block where a header is due
// gets one, so that what is wrong with the header is seen by what reads it.
func summed(data []byte) []byte {
	const block, sumAt, sumEnd = 512, 148, 156
	out := bytes.Clone(data)
	for at := 0; at+block <= len(out); {
		h := out[at : at+block]
		size, err := strconv.ParseInt(strings.Trim(string(h[124:136]), " \x00"), 8, 64)
		if err != nil || size < 0 {
			size = 0
		}
		sum := 8 * int(' ')
		for i, b := range h {
			if i < sumAt || i >= sumEnd {
				sum += int(b)
			}
		}
		if sum > 8*int(' ') { // It is not of the end.
			copy(h[sumAt:sumEnd], fmt.Sprintf("%06o\x00 ", sum))
		}
		if size > int64(len(out)) {
			break
		}
		at += block + int(size+block-1)/block*block
	}
	return out
}

// FuzzBackup looks for what makes the reader fail in other ways than with an
// error that blames the backup, or leave something behind.
func FuzzBackup(f *testing.F) {
	f.Setenv("TMPDIR", testenv.Memory())
	files, err := filepath.Glob(filepath.Join(peers, "*.tar.*"))
	must(f, err)
	for _, name := range files {
		data, err := os.ReadFile(name)
		must(f, err)
		if strings.HasSuffix(name, ".gz") || strings.HasSuffix(name, ".zst") {
			f.Add(data)
		}
		f.Add(decompress(f, data))
	}
	f.Add(bad(f, whole()...))
	f.Add(bad(f, whole(entry{"backup/container/rootfs/l", '2', "/"}, entry{"backup/container/rootfs/h", '1', "backup/container/rootfs/l"})...))
	f.Add(bad(f, index(volumeText), entry{"backup/volume/f", '0', "x"}, entry{"backup/volume/n", '3', ""}))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, magic := range []string{"\xfd7zXZ", "BZh", "\x5d\x00\x00"} {
			if strings.HasPrefix(string(data), magic) {
				t.Skip() // A process for each.
			}
		}
		base := t.TempDir()
		at := filepath.Join(base, "pool")
		must(t, os.Mkdir(at, 0o700))
		d := openPool(t, dir.Type(), at)
		err := unpack(t.Context(), d, summed(data))
		if err != nil {
			empty(t, pool{"dir", d})
		}
		if err != nil && !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.Unsupported) && !errors.Is(err, unix.ENOSPC) {
			t.Errorf("got %v, which does not blame the backup", err)
		}
		if left, err := os.ReadDir(base); err != nil || len(left) != 1 {
			t.Errorf("outside: %v, %v", left, err)
		}
		gone(t, d)
	})
}

// gone removes what came to a good end.
func gone(t *testing.T, d storage.Driver) {
	t.Helper()
	all, err := d.List(t.Context())
	must(t, err)
	for _, v := range all {
		must(t, d.Unmount(t.Context(), v))
	}
}
