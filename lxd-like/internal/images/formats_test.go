package images_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/images"
	"github.com/cuib/cuib/lxd-like/internal/images/imagestest"
	"github.com/cuib/cuib/shared/testenv"
)

func TestFormats(t *testing.T) {
	testenv.Kernel(t, "tar", "gzip", "xz", "zstd", "bzip2", "mksquashfs", "unsquashfs")
	src := t.TempDir()
	testenv.Run(t, "sh", "-ec", `cd "$1"; mkdir -p rootfs/bin rootfs/dev templates; printf %s "$2" > metadata.yaml; echo '{{ name }}' > templates/t.tpl
		echo hi > rootfs/bin/tool; chown 1:2 rootfs/bin/tool; chmod 4711 rootfs/bin/tool; mknod rootfs/dev/sda b 8 0; ln -s /etc rootfs/link`, "sh", src, imagestest.Metadata)
	tarOf := func(flag, file, dir string, names ...string) string {
		args := []string{"tar", "-C", dir}
		if flag != "" {
			args = append(args, flag)
		}
		testenv.Run(t, append(append(args, "-cf", file), names...)...)
		return file
	}
	out := t.TempDir()
	metadata := tarOf("--xz", filepath.Join(out, "meta.tar.xz"), src, "metadata.yaml", "templates")
	squash := filepath.Join(out, "squash")
	testenv.Run(t, "mksquashfs", filepath.Join(src, "rootfs"), squash, "-quiet", "-no-progress", "-comp", "xz")
	flags := map[string]string{".tar": "", ".tar.gz": "--gzip", ".tar.xz": "--xz", ".tar.zst": "--zstd", ".tar.bz2": "--bzip2"}
	w := newWorld(t)
	for ext, flag := range flags {
		t.Run("unified"+ext, func(t *testing.T) {
			w.format(t, ext, tarOf(flag, filepath.Join(out, "u"+ext), src, "./metadata.yaml", "./templates", "./rootfs"))
		})
		t.Run("split"+ext, func(t *testing.T) {
			w.format(t, ext, metadata, tarOf(flag, filepath.Join(out, "r"+ext), filepath.Join(src, "rootfs"), "."))
		})
	}
	t.Run("squashfs", func(t *testing.T) { w.format(t, ".squashfs", metadata, squash) })
}

// format imports an image of the given files and looks at what comes of it.
func (w *world) format(t *testing.T, ext string, files ...string) {
	t.Helper()
	var all []byte
	var readers []io.Reader
	for _, f := range files {
		data, err := os.ReadFile(f)
		must(t, err)
		all = append(all, data...)
		readers = append(readers, bytes.NewReader(data))
	}
	up := images.Upload{Metadata: readers[0]}
	if len(files) == 2 {
		up.NextRootfs = func() (io.Reader, string, error) { return readers[1], "", nil }
	}
	fingerprint := w.add(up)
	if sum := sha256.Sum256(all); fingerprint != hex.EncodeToString(sum[:]) {
		t.Errorf("fingerprint %s, want that of the files in order", fingerprint)
	}
	v, err := w.Volume(t.Context(), fingerprint, "p", nil)
	must(t, err)
	dir, err := w.driver.Mount(t.Context(), v, nil)
	must(t, err)
	got := testenv.Run(t, "sh", "-c", `cd "$1" && find . -mindepth 1 ! -path ./rootfs/dev -printf '%P %y %m %U:%G %l\n' | sort`, "sh", dir)
	want := `metadata.yaml f 644 0:0 
rootfs d 755 0:0 
rootfs/bin d 755 0:0 
rootfs/bin/tool f 4711 1:2 
rootfs/link l 777 0:0 /etc
templates d 755 0:0 
templates/t.tpl f 644 0:0 `
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	must(t, w.driver.Unmount(t.Context(), v))
	exported, err := w.Export(t.Context(), fingerprint)
	must(t, err)
	var names []string
	var back []byte
	for _, f := range exported {
		data, err := io.ReadAll(f.Data)
		must(t, err)
		f.Data.Close()
		back = append(back, data...)
		names = append(names, f.Part+" "+f.Name)
	}
	wantNames := []string{" " + fingerprint + ext}
	if len(files) == 2 {
		wantNames = []string{"metadata meta-" + fingerprint + ".tar.xz", "rootfs " + fingerprint + ext}
	}
	if !slices.Equal(names, wantNames) || !bytes.Equal(back, all) {
		t.Errorf("exported %q, want %q; the bytes are the same: %v", names, wantNames, bytes.Equal(back, all))
	}
}
