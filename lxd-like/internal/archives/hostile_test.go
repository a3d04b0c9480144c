package archives_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/archives"
	"github.com/cuib/cuib/shared/archive"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/btrfs"
	"github.com/cuib/cuib/storage/dir"
)

// An entry is an entry of a backup that a stranger made.
type entry struct {
	name string
	typ  byte
	data string // Or where a link leads.
}

const (
	indexText = `
name: c1
backend: dir
pool: p
snapshots: [s0]
type: container
config:
  container: {name: c1, type: container, architecture: x86_64}
  snapshots: [{name: s0}]
`
	volumeText = `
name: v1
backend: dir
pool: p
type: custom
config:
  volume: {name: v1, type: custom, content_type: filesystem}
`
)

func index(text string) entry { return entry{"backup/index.yaml", tar.TypeReg, text} }

// bad makes an archive of entries.
func bad(tb testing.TB, entries ...entry) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.typ, Mode: 0o755, Uid: os.Getuid(), Gid: os.Getgid(), Format: tar.FormatPAX}
		switch e.typ {
		case tar.TypeReg:
			h.Size = int64(len(e.data))
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = e.data
		case tar.TypeChar, tar.TypeBlock:
			h.Devmajor, h.Devminor = 1, 3
		}
		must(tb, w.WriteHeader(h))
		if e.typ == tar.TypeReg {
			_, err := io.WriteString(w, e.data)
			must(tb, err)
		}
	}
	must(tb, w.Close())
	return buf.Bytes()
}

// whole is all that a backup of an instance has to have, and what is given.
func whole(more ...entry) []entry {
	return append([]entry{
		index(indexText),
		{"backup/snapshots/s0/rootfs/", tar.TypeDir, ""},
		{"backup/snapshots/s0/rootfs/f", tar.TypeReg, "old"},
		{"backup/container/rootfs/", tar.TypeDir, ""},
	}, more...)
}

func TestHostile(t *testing.T) {
	testenv.Kernel(t)
	testenv.InMemory(t)
	tests := map[string]struct {
		entries []entry
		want    string // In the error; none if it is empty.
	}{
		"good":                          {whole(entry{"backup/container/rootfs/f", tar.TypeReg, "new"}), ""},
		"devices in the root":           {whole(entry{"backup/container/rootfs/null", tar.TypeChar, ""}), ""},
		"what a file system has":        {whole(entry{"backup/container/lost+found/", tar.TypeDir, ""}), ""},
		"nothing":                       {nil, "not an archive"},
		"another archive":               {[]entry{{"etc/passwd", tar.TypeReg, "x"}}, `begins with "etc/passwd"`},
		"the index later":               {[]entry{{"backup/container/rootfs/f", tar.TypeReg, "x"}, index(indexText)}, "begins with"},
		"the index a directory":         {[]entry{{"backup/index.yaml", tar.TypeDir, ""}}, "no regular file"},
		"the index a link":              {[]entry{{"backup/index.yaml", tar.TypeSymlink, "/etc/passwd"}}, "no regular file"},
		"the index twice":               {whole(index(indexText)), "index.yaml"},
		"no YAML":                       {[]entry{index("\tx: [")}, "index.yaml"},
		"YAML of another kind":          {[]entry{index("[1, 2]")}, "index.yaml"},
		"aliases that grow":             {[]entry{index(strings.Replace(indexText, "config:", "config:\n  "+billionLaughs(), 1))}, "index.yaml"},
		"no name":                       {[]entry{index(strings.Replace(indexText, "name: c1\nb", "name: ''\nb", 1))}, "name is missing"},
		"no config":                     {[]entry{index("name: c1\ntype: container\n")}, "no config"},
		"config of the wrong type":      {[]entry{index("name: c1\nconfig: {container: [1]}\n")}, "config"},
		"config of no container":        {[]entry{index("name: c1\nconfig: {pool: {name: p}}\n")}, "container is missing"},
		"a virtual machine":             {[]entry{index(strings.Replace(indexText, "type: container\nconfig", "type: virtual-machine\nconfig", 1))}, "virtual-machine"},
		"a block volume":                {[]entry{index(strings.Replace(volumeText, "filesystem", "block", 1))}, "block"},
		"a snapshot with a slash":       {[]entry{index(strings.Replace(indexText, "[s0]", "[../s0]", 1))}, "../s0"},
		"a snapshot that is hidden":     {[]entry{index(strings.Replace(indexText, "[s0]", "[.s0]", 1))}, ".s0"},
		"a snapshot twice":              {[]entry{index(strings.Replace(indexText, "[s0]", "[s0, s0]", 1))}, "twice"},
		"a snapshot without a document": {[]entry{index(strings.Replace(indexText, "[s0]", "[s0, s1]", 1))}, `"s1" is not described`},
		"a snapshot too many":           {whole(entry{"backup/snapshots/s1/rootfs/f", tar.TypeReg, "x"}), "snapshots/s1"},
		"a snapshot that is missing":    {[]entry{index(indexText), {"backup/container/rootfs/", tar.TypeDir, ""}}, "backup/snapshots/s0"},
		"a snapshot that is late":       {[]entry{index(indexText), {"backup/container/rootfs/", tar.TypeDir, ""}, {"backup/snapshots/s0/rootfs/", tar.TypeDir, ""}}, "comes after"},
		"a snapshot in two places":      {whole(entry{"backup/snapshots/s0/rootfs/g", tar.TypeReg, "x"}), "not all in one place"},
		"no instance":                   {whole()[:3], "backup/container"},
		"a stray file":                  {whole(entry{"backup/evil", tar.TypeReg, "x"}), "backup/evil"},
		"beside the backup":             {whole(entry{"etc/passwd", tar.TypeReg, "x"}), "etc/passwd"},
		"double dots":                   {whole(entry{"backup/container/rootfs/../../../../x", tar.TypeReg, "x"}), ".."},
		"an absolute path":              {whole(entry{"/etc/cron.d/x", tar.TypeReg, "x"}), "etc/cron.d/x"},
		"through a link of the root":    {whole(entry{"backup/container/rootfs/l", tar.TypeSymlink, "HOST"}, entry{"backup/container/rootfs/l/x", tar.TypeReg, "x"}), "l/x"},
		"the root a link":               {whole(entry{"backup/container/rootfs", tar.TypeSymlink, "HOST"}), "of a type"},
		"the metadata a link":           {whole(entry{"backup/container/metadata.yaml", tar.TypeSymlink, "HOST/secret"}), "of a type"},
		"the templates a link":          {whole(entry{"backup/container/templates", tar.TypeSymlink, "HOST"}), "of a type"},
		"a template that is a link":     {whole(entry{"backup/container/templates/", tar.TypeDir, ""}, entry{"backup/container/templates/x", tar.TypeSymlink, "HOST/secret"}), "of a type"},
		"a device beside the root":      {whole(entry{"backup/container/templates/sda", tar.TypeBlock, ""}), "of a type"},
		"a TPM's file":                  {whole(entry{"backup/container/tpm.t/", tar.TypeDir, ""}, entry{"backup/container/tpm.t/x", tar.TypeReg, "x"}), ""},
		"a TPM that is a link":          {whole(entry{"backup/container/tpm.t", tar.TypeSymlink, "HOST"}, entry{"backup/container/tpm.t/x", tar.TypeReg, "x"}), ""},
		"a TPM's file that is a link":   {whole(entry{"backup/container/tpm.t/", tar.TypeDir, ""}, entry{"backup/container/tpm.t/x", tar.TypeSymlink, "HOST/secret"}), ""},
		"a hard link to a TPM's file":   {whole(entry{"backup/container/tpm.t/", tar.TypeDir, ""}, entry{"backup/container/tpm.t/x", tar.TypeReg, "x"}, entry{"backup/container/rootfs/l", tar.TypeLink, "backup/container/tpm.t/x"}), "tpm.t/x"},
		"a hard link to the host":       {whole(entry{"backup/container/rootfs/l", tar.TypeLink, "HOST/secret"}), "secret"},
		"a hard link to the index":      {whole(entry{"backup/container/rootfs/l", tar.TypeLink, "backup/index.yaml"}), "index.yaml"},
		"a hard link to a template": {whole(
			entry{"backup/container/templates/x", tar.TypeReg, "x"},
			entry{"backup/container/rootfs/l", tar.TypeLink, "backup/container/templates/x"}), "templates/x"},
		"a hard link to a snapshot":  {whole(entry{"backup/container/rootfs/l", tar.TypeLink, "backup/snapshots/s0/rootfs/f"}), "s0/rootfs/f"},
		"a type that is not known":   {whole(entry{"backup/container/rootfs/x", 'Q', ""}), "unknown type"},
		"a volume":                   {[]entry{index(volumeText), {"backup/volume/f", tar.TypeReg, "x"}}, ""},
		"a volume, devices":          {[]entry{index(volumeText), {"backup/volume/sda", tar.TypeBlock, ""}}, ""},
		"a volume, double dots":      {[]entry{index(volumeText), {"backup/volume/../../x", tar.TypeReg, "x"}}, ".."},
		"a volume, an absolute path": {[]entry{index(volumeText), {"/etc/cron.d/x", tar.TypeReg, "x"}}, "etc/cron.d/x"},
		"a volume, through a link":   {[]entry{index(volumeText), {"backup/volume/l", tar.TypeSymlink, "HOST"}, {"backup/volume/l/x", tar.TypeReg, "x"}}, "l/x"},
		"a volume, through its root": {[]entry{index(volumeText), {"backup/volume", tar.TypeSymlink, "HOST"}, {"backup/volume/x", tar.TypeReg, "x"}}, "backup/volume"},
		"a volume, a hard link":      {[]entry{index(volumeText), {"backup/volume/l", tar.TypeLink, "HOST/secret"}}, "secret"},
		"a volume, over a link":      {[]entry{index(volumeText), {"backup/volume/l", tar.TypeSymlink, "HOST/secret"}, {"backup/volume/l", tar.TypeReg, "x"}}, ""},
		"a volume, too much":         {[]entry{index(volumeText), {"backup/volume/f", tar.TypeReg, "x"}, {"backup/container/rootfs/f", tar.TypeReg, "x"}}, "backup/container"},
		"a volume, nothing":          {[]entry{index(volumeText)}, "backup/volume"},
		"an image that is a device": {[]entry{
			index(strings.Replace(volumeText, "filesystem", "iso", 1)), {"backup/volume.img", tar.TypeBlock, ""},
		}, "no image"},
		"files in an image": {[]entry{
			index(strings.Replace(volumeText, "filesystem", "iso", 1)), {"backup/volume.img/f", tar.TypeReg, "x"},
		}, "no image"},
		"an image that is a link": {[]entry{
			index(strings.Replace(volumeText, "filesystem", "iso", 1)), {"backup/volume.img", tar.TypeSymlink, "HOST/secret"},
		}, "no image"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			for i := range tt.entries {
				tt.entries[i].data = strings.ReplaceAll(tt.entries[i].data, "HOST", h.dir)
			}
			err := h.unpack(t, bad(t, tt.entries...))
			switch {
			case tt.want == "" && err != nil:
				t.Fatal(err)
			case tt.want == "":
			case !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.Unsupported):
				t.Fatalf("got %v, which does not blame the backup", err)
			case !strings.Contains(err.Error(), tt.want):
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			h.check(t, err)
		})
	}
}

// billionLaughs is YAML of little text and much to hold.
func billionLaughs() string {
	text := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		ref := "*" + string(c-1)
		text += "  " + string(c) + ": &" + string(c) + " [" + strings.Repeat(ref+",", 8) + ref + "]\n"
	}
	return text
}

// A host is a directory that nothing may change, with a pool beside it.
type host struct {
	dir, before string
	pool        storage.Driver
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{dir: t.TempDir()}
	must(t, os.WriteFile(filepath.Join(h.dir, "secret"), []byte("secret"), 0o600))
	h.before = dump(t, h.dir)
	h.pool = openPool(t, dir.Type(), t.TempDir())
	return h
}

func (h *host) unpack(t *testing.T, data []byte) error {
	t.Helper()
	return unpack(t.Context(), h.pool, data)
}

func unpack(ctx context.Context, d storage.Driver, data []byte) error {
	a, err := archives.Open(ctx, bytes.NewReader(data))
	if err != nil {
		return err
	}
	defer a.Close()
	return a.Unpack(ctx, d, storage.Volume{Kind: a.Kind, Name: "x"}, 0)
}

// check checks that nothing was touched, and that nothing is left of what
// failed.
func (h *host) check(t *testing.T, failed error) {
	t.Helper()
	if got := dump(t, h.dir); got != h.before {
		t.Errorf("on the host are now\n%s", got)
	}
	if failed != nil {
		empty(t, pool{"dir", h.pool})
	}
}

// TestDamaged cuts backups off, and flips bits of them.
func TestDamaged(t *testing.T) {
	testenv.Kernel(t)
	testenv.InMemory(t)
	h := newHost(t)
	for _, name := range []string{"lxd-dir.tar.zst", "incus-only.tar.gz", "incus-volume.tar.bz2"} {
		good := readPeers(t, name)
		for _, n := range []int{0, 1, 100, len(good) / 3, len(good) / 2, len(good) - 20, len(good) - 1} {
			err := h.unpack(t, good[:n])
			if !errs.Is(err, errs.Invalid) {
				t.Errorf("%s of %d bytes, cut off at %d: %v", name, len(good), n, err)
			}
			h.check(t, err)
		}
		plain := decompress(t, good)
		for _, n := range []int{511, 1024, len(plain) / 2, len(plain) - 512, len(plain) - 1024} {
			err := h.unpack(t, plain[:n])
			if n < len(plain)-512 && !errs.Is(err, errs.Invalid) {
				t.Errorf("%s, plain, of %d bytes, cut off at %d: %v", name, len(plain), n, err)
			}
			clear2(t, h, err)
		}
		r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // It is to be the same each time.
		for range 30 {
			for _, data := range [][]byte{bytes.Clone(good), bytes.Clone(plain)} {
				at := r.IntN(len(data))
				data[at] ^= 1 << r.IntN(8)
				err := h.unpack(t, data)
				if err != nil && errs.Is(err, errs.Internal) {
					t.Errorf("%s, byte %d of %d flipped: %v", name, at, len(data), err)
				}
				clear2(t, h, err)
			}
		}
	}
}

// clear2 checks, and removes what there is if that came to a good end.
func clear2(t *testing.T, h *host, err error) {
	t.Helper()
	h.check(t, err)
	if err != nil {
		return
	}
	all, err := h.pool.List(t.Context())
	must(t, err)
	for range 2 { // Snapshots first.
		for _, v := range all {
			if (v.Snapshot != "") == (len(all) > 1) || v.Snapshot == "" {
				_ = h.pool.Delete(t.Context(), v)
			}
		}
	}
	empty(t, pool{"dir", h.pool})
}

func decompress(tb testing.TB, data []byte) []byte {
	tb.Helper()
	r, _, err := archive.Decompress(tb.Context(), bytes.NewReader(data))
	must(tb, err)
	defer r.Close()
	plain, err := io.ReadAll(r)
	must(tb, err)
	return plain
}

// below makes a directory for a pool.
func below(t *testing.T, at string) string {
	t.Helper()
	at = filepath.Join(at, "pool")
	must(t, os.Mkdir(at, 0o700))
	return at
}

// holes is a backup of an instance with a file that is nothing but a hole, as
// GNU tar writes it.
func holes(t *testing.T, size string) []byte {
	t.Helper()
	where := "1\n" + size + "\n0\n"
	data := bad(t, whole()...)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	// Those that archive/tar knows the meaning of it does not write.
	records := map[string]string{"XNU.sparse.major": "1", "XNU.sparse.minor": "0", "XNU.sparse.realsize": size, "XNU.sparse.name": "backup/container/rootfs/f"}
	must(t, w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Size: 512, PAXRecords: records}))
	_, err := io.WriteString(w, where+strings.Repeat("\x00", 512-len(where)))
	must(t, err)
	must(t, w.Close())
	return append(data[:len(data)-1024], bytes.ReplaceAll(buf.Bytes(), []byte("XNU."), []byte("GNU."))...)
}

// TestBombs unpacks what is small and becomes large.
func TestBombs(t *testing.T) {
	testenv.Kernel(t)
	testenv.InMemory(t)
	zeros := strings.Repeat("\x00", 1<<20)
	entries := whole()
	for i := range 60 {
		entries = append(entries, entry{"backup/container/rootfs/" + string(rune('a'+i%26)) + strings.Repeat("x", i), tar.TypeReg, zeros})
	}
	var small bytes.Buffer
	z, err := archive.ParseCompression("zstd")
	must(t, err)
	w, err := z.Writer(t.Context(), &small)
	must(t, err)
	_, err = w.Write(bad(t, entries...))
	must(t, err)
	must(t, w.Close())
	if small.Len() > 1<<20 {
		t.Fatalf("%d bytes are no bomb", small.Len())
	}
	t.Run("pool", func(t *testing.T) {
		p := pool{"dir", openPool(t, dir.Type(), below(t, testenv.Mounted(t, "ext4", "40M")))}
		if err := unpack(t.Context(), p, small.Bytes()); !errs.Is(err, errs.Unavailable) {
			t.Errorf("got %v", err)
		}
		empty(t, p)
	})
	t.Run("quota", func(t *testing.T) {
		p := pool{"btrfs", openPool(t, btrfs.Type(), below(t, testenv.Mounted(t, "btrfs", "256M")))}
		a, err := archives.Open(t.Context(), bytes.NewReader(small.Bytes()))
		must(t, err)
		defer a.Close()
		if err := a.Unpack(t.Context(), p.Driver, storage.Volume{Kind: storage.Instance, Name: "x"}, 20<<20); !errs.Is(err, errs.Unavailable) {
			t.Errorf("got %v", err)
		}
		empty(t, p)
	})
	t.Run("header", func(t *testing.T) {
		h := newHost(t)
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		const size = 8 << 20
		must(t, w.WriteHeader(&tar.Header{Name: "x", Typeflag: tar.TypeReg, Size: size, Format: tar.FormatUSTAR}))
		_, err := io.WriteString(w, "8388608 a="+strings.Repeat("x", size-len("8388608 a=")-1)+"\n")
		must(t, err)
		must(t, w.Close())
		data := buf.Bytes()
		// It becomes the extended header of what follows.
		sum := 'x' - int(data[156])
		data[156] = 'x'
		old, err := strconv.ParseInt(string(data[148:154]), 8, 64)
		must(t, err)
		copy(data[148:154], fmt.Sprintf("%06o", int(old)+sum))
		if err := h.unpack(t, data); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "too long") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("holes", func(t *testing.T) {
		h := newHost(t)
		for size, want := range map[string]string{"999999999999999": "at most", "9223372036854775807": "at most", "99999999999999999999": "bad archive"} {
			if err := h.unpack(t, holes(t, size)); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s bytes: %v", size, err)
			}
		}
		h.check(t, errs.Invalidf("all were refused"))
	})
	t.Run("many", func(t *testing.T) {
		p := pool{"dir", openPool(t, dir.Type(), below(t, testenv.Mounted(t, "ext4", "10M")))}
		more := whole()
		for i := range 4000 { // More than the file system has inodes.
			more = append(more, entry{fmt.Sprintf("backup/container/rootfs/%d", i), tar.TypeReg, ""})
		}
		if err := unpack(t.Context(), p, bad(t, more...)); !errs.Is(err, errs.Unavailable) {
			t.Errorf("got %v", err)
		}
		empty(t, p)
	})
	t.Run("index", func(t *testing.T) {
		h := newHost(t)
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		must(t, w.WriteHeader(&tar.Header{Name: "backup/index.yaml", Typeflag: tar.TypeReg, Size: 1 << 40}))
		if err := h.unpack(t, buf.Bytes()); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "that it can have") {
			t.Errorf("got %v", err)
		}
	})
}
