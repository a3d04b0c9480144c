package images_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/images"
	"github.com/cuib/cuib/lxd-like/internal/images/imagestest"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage/fake"
)

// An entry is one of a rootfs that a stranger made.
type entry struct {
	name string
	typ  byte
	data string // Or where a link leads; HOST is a directory that is not to be touched.
}

// entriesOf makes a tar, with prefix before the names.
func entriesOf(t *testing.T, prefix string, entries []entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.typ, Mode: 0o755, Uid: os.Getuid(), Gid: os.Getgid(), Format: tar.FormatPAX}
		if !strings.HasPrefix(e.name, "/") {
			h.Name = prefix + e.name
		}
		switch e.typ {
		case tar.TypeReg:
			h.Size = int64(len(e.data))
		case tar.TypeLink:
			h.Linkname = prefix + e.data
		case tar.TypeSymlink:
			h.Linkname = e.data
		case tar.TypeBlock:
			h.Devmajor = 8
		}
		must(t, w.WriteHeader(h))
		if e.typ == tar.TypeReg {
			_, err := io.WriteString(w, e.data)
			must(t, err)
		}
	}
	must(t, w.Close())
	return buf.Bytes()
}

// joined is a tar with what is in two.
func joined(a, b []byte) []byte { return append(a[:len(a)-1024:len(a)-1024], b...) }

// TestHostile imports images whose rootfs leads out of it, of one file and of
// two, and unpacks them: nothing of the host is touched, and nothing stays of
// what is refused.
func TestHostile(t *testing.T) {
	testenv.Kernel(t)
	for name, tt := range map[string]struct {
		entries []entry
		refused bool
	}{
		"through a link":          {[]entry{{"l", tar.TypeSymlink, "HOST"}, {"l/x", tar.TypeReg, "x"}}, true},
		"through a link up":       {[]entry{{"l", tar.TypeSymlink, "../../../.."}, {"l/x", tar.TypeReg, "x"}}, false},
		"over a link":             {[]entry{{"l", tar.TypeSymlink, "HOST/secret"}, {"l", tar.TypeReg, "x"}}, false},
		"an absolute path":        {[]entry{{"/HOST/x", tar.TypeReg, "x"}}, false},
		"double dots":             {[]entry{{"../../../x", tar.TypeReg, "x"}}, true},
		"a hard link out":         {[]entry{{"l", tar.TypeLink, "../../../HOST/secret"}}, true},
		"a hard link to the host": {[]entry{{"l", tar.TypeLink, "HOST/secret"}}, true},
		"a hard link by a link":   {[]entry{{"d", tar.TypeSymlink, "HOST"}, {"l", tar.TypeLink, "d/secret"}}, true},
		"a device":                {[]entry{{"sda", tar.TypeBlock, ""}, {"f", tar.TypeReg, "x"}}, false},
		"an unknown type":         {[]entry{{"x", 'Q', ""}, {"f", tar.TypeReg, "x"}}, true},
		"a file as a directory":   {[]entry{{"f", tar.TypeReg, "x"}, {"f/x", tar.TypeReg, "x"}}, true},
		"a name that is too long": {[]entry{{strings.Repeat("x", 300), tar.TypeReg, "x"}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			host := t.TempDir()
			must(t, os.WriteFile(filepath.Join(host, "secret"), []byte("secret"), 0o600))
			for i := range tt.entries {
				e := &tt.entries[i]
				e.name, e.data = strings.Replace(e.name, "/HOST", host, 1), strings.Replace(e.data, "HOST", host, 1)
			}
			meta := packed(t, "metadata.yaml", imagestest.Metadata)
			top := packed(t, "rootfs/", "")
			split := unified(meta)
			split.NextRootfs = func() (io.Reader, string, error) {
				return bytes.NewReader(entriesOf(t, "", tt.entries)), "r", nil
			}
			one := unified(joined(joined(meta, top), entriesOf(t, "rootfs/", tt.entries)))
			for form, up := range map[string]images.Upload{"of one file": one, "of two files": split} {
				w := newWorld(t)
				err := w.unpacked(up)
				if tt.refused != (err != nil) || err != nil && !errs.Is(err, errs.Invalid) {
					t.Errorf("%s: got %v", form, err)
				}
				if err != nil {
					w.noVolumes()
				}
				w.noDevices(t)
			}
			left, err := os.ReadDir(host)
			must(t, err)
			if text, err := os.ReadFile(filepath.Join(host, "secret")); len(left) != 1 || string(text) != "secret" {
				t.Errorf("on the host are now %v, the file is %q, %v", left, text, err)
			}
		})
	}
}

// unpacked imports an image and unpacks it.
func (w *world) unpacked(up images.Upload) error {
	w.t.Helper()
	op, err := w.do(w.Import(w.t.Context(), up))
	if err != nil {
		w.empty()
		return err
	}
	fingerprint, _ := op.Metadata["fingerprint"].(string)
	_, err = w.Volume(w.t.Context(), fingerprint, "p", nil)
	return err
}

// noDevices checks that no volume has a device in it.
func (w *world) noDevices(t *testing.T) {
	t.Helper()
	all, err := w.driver.List(t.Context())
	must(t, err)
	for _, v := range all {
		at, err := w.driver.Mount(t.Context(), v, nil)
		must(t, err)
		must(t, filepath.WalkDir(at, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type()&os.ModeDevice != 0 {
				t.Errorf("%s is a device", path)
			}
			return err
		}))
		must(t, w.driver.Unmount(t.Context(), v))
	}
}

// TestDamaged imports images that are cut off, and that have bits flipped, of
// each form: what fails blames the image, and leaves nothing behind.
func TestDamaged(t *testing.T) {
	testenv.Kernel(t, "mksquashfs", "unsquashfs")
	testenv.InMemory(t)
	src := t.TempDir()
	must(t, os.WriteFile(filepath.Join(src, "f"), bytes.Repeat([]byte("some text that is not random\n"), 400), 0o600))
	squash := filepath.Join(t.TempDir(), "squash")
	testenv.Run(t, "mksquashfs", src, squash, "-quiet", "-no-progress")
	squashed, err := os.ReadFile(squash)
	must(t, err)
	meta := packed(t, "metadata.yaml", imagestest.Metadata)
	for form, good := range map[string][]byte{
		"unified":  imagestest.Small(t, "1"),
		"split":    packed(t, "bin/", "", "bin/sh", strings.Repeat("x", 5000), "l", "->bin/sh"),
		"squashfs": squashed,
	} {
		up := func(data []byte) images.Upload {
			if form == "unified" {
				return unified(data)
			}
			u := unified(meta)
			u.NextRootfs = func() (io.Reader, string, error) { return bytes.NewReader(data), "r", nil }
			return u
		}
		t.Run(form, func(t *testing.T) {
			w := newWorld(t)
			for i := range 7 { // The padding at the end of a squashfs, and the last block of a tar, tell nothing.
				size := (len(good) - 5000) * i / 6
				if err := w.unpacked(up(good[:max(size, 0)])); !errs.Is(err, errs.Invalid) {
					t.Errorf("%d of %d bytes: %v", size, len(good), err)
				}
				w.empty()
			}
			for i := range 16 {
				bad := bytes.Clone(good)
				at := i * 37
				if i%2 == 1 {
					at = len(bad) * i / 16
				}
				bad[at] ^= 1 << (i % 8)
				w := newWorld(t)
				if err := w.unpacked(up(bad)); err != nil {
					if !errs.Is(err, errs.Invalid) {
						t.Errorf("byte %d of %d flipped: %v", at, len(good), err)
					}
					w.noVolumes()
				}
			}
		})
	}
}

// TestBombs unpacks images that are small and become large.
func TestBombs(t *testing.T) {
	testenv.Kernel(t, "mksquashfs", "unsquashfs")
	src := t.TempDir()
	must(t, os.WriteFile(filepath.Join(src, "f"), make([]byte, 64<<20), 0o600))
	for _, args := range [][]string{
		{"mksquashfs", src, "SQUASH", "-quiet", "-no-progress", "-no-sparse"},
		{"tar", "-C", src, "--gzip", "-cf", "TAR", "f"},
	} {
		t.Run(args[0], func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "rootfs")
			for i := range args {
				args[i] = strings.NewReplacer("SQUASH", file, "TAR", file).Replace(args[i])
			}
			testenv.Run(t, args...)
			data, err := os.ReadFile(file)
			must(t, err)
			if len(data) > 1<<20 {
				t.Fatalf("%d bytes are no bomb", len(data))
			}
			w := newWorld(t)
			d, err := fake.New(filepath.Join(testenv.Mounted(t, "ext4", "20M"), "pool"))
			must(t, err)
			w.driver, w.Pools = d, pools{"p": d}
			up := unified(packed(t, "metadata.yaml", imagestest.Metadata))
			up.NextRootfs = func() (io.Reader, string, error) { return bytes.NewReader(data), "r", nil }
			if err := w.unpacked(up); !errs.Is(err, errs.Unavailable) {
				t.Errorf("got %v", err)
			}
			w.noVolumes()
		})
	}
	t.Run("metadata", func(t *testing.T) {
		laughs := " a: &a [x,x,x,x,x,x,x,x,x]\n"
		for c := 'b'; c < 'k'; c++ {
			ref := "*" + string(c-1)
			laughs += " " + string(c) + ": &" + string(c) + " [" + strings.Repeat(ref+",", 8) + ref + "]\n"
		}
		for name, text := range map[string]string{
			"aliases": "properties:\n" + laughs + imagestest.Metadata, "text": imagestest.Metadata + "\nx: " + strings.Repeat("x", 8<<20),
		} {
			w := newWorld(t)
			if err := w.unpacked(unified(packed(t, "metadata.yaml", text, "rootfs/", ""))); !errs.Is(err, errs.Invalid) {
				t.Errorf("%s: got %v", name, err)
			}
		}
	})
}
