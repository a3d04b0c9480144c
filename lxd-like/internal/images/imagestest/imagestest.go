// Package imagestest makes images for tests.
package imagestest

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/images"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/testenv"
)

// An Image is the files of a split image.
type Image struct {
	Metadata, Rootfs string
}

// Debian returns an image of Debian bookworm, as the builder makes it of the
// host's mirror. It is built once and kept in the directory that the
// environment variable CUIB_TEST_CACHE names, or in the user's cache.
func Debian(tb testing.TB) Image {
	tb.Helper()
	testenv.Kernel(tb, "mmdebstrap", "unshare", "apt-config")
	dir := os.Getenv("CUIB_TEST_CACHE")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			user = os.TempDir()
		}
		dir = filepath.Join(user, "cuib-test")
	}
	must(tb, os.MkdirAll(dir, 0o700))
	unlock := lock(tb, filepath.Join(dir, "lock"))
	defer unlock()

	dir = filepath.Join(dir, "debian-bookworm-"+images.Recipe())
	image := Image{filepath.Join(dir, "metadata"), filepath.Join(dir, "rootfs")}
	if _, err := os.Stat(dir); err == nil {
		return image
	}
	state, err := os.MkdirTemp(filepath.Dir(dir), "build-") //nolint:usetesting // Files move from there into the cache.
	must(tb, err)
	defer func() { must(tb, os.RemoveAll(state)) }()
	s := &images.Service{DB: dbtest.New(tb), Dir: state, Events: &events.Hub{}, Log: slog.New(slog.DiscardHandler), Projects: Projects{}}
	built, err := s.Build(tb.Context(), "debian:bookworm", nil)
	must(tb, err)
	ready := filepath.Join(state, "ready")
	must(tb, os.Mkdir(ready, 0o700))
	must(tb, os.Rename(filepath.Join(state, "images", built.Fingerprint), filepath.Join(ready, "metadata")))
	must(tb, os.Rename(filepath.Join(state, "images", built.Fingerprint+".rootfs"), filepath.Join(ready, "rootfs")))
	must(tb, os.Rename(ready, dir))
	return image
}

// Projects are projects that have all of their own but profiles.
type Projects struct{}

// View implements [scope.Views].
func (Projects) View(_ context.Context, name string) (scope.View, error) {
	v := scope.Whole(name)
	v.Profiles = project.Default
	return v, nil
}

// Upload opens the image as a client would send it.
func (i Image) Upload(tb testing.TB) images.Upload {
	tb.Helper()
	metadata, rootfs := open(tb, i.Metadata), open(tb, i.Rootfs)
	return images.Upload{
		Filename: "debian.tar.zst", Metadata: metadata,
		NextRootfs: func() (io.Reader, string, error) { return rootfs, "rootfs.tar.zst", nil },
	}
}

// Metadata is a metadata.yaml, with a template of the host name.
const Metadata = `architecture: x86_64
creation_date: 1700000000
properties: {os: Debian, release: test, serial: 20240101}
templates:
  /etc/hostname: {when: [create, copy, rename], template: hostname.tpl}
`

// Small returns a unified image with a few files and nothing that runs, which
// differs for each note.
func Small(tb testing.TB, note string) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range []struct{ name, data string }{
		{"metadata.yaml", Metadata},
		{"templates/", ""},
		{"templates/hostname.tpl", "{{ container.name }}\n"},
		{"rootfs/", ""},
		{"rootfs/etc/", ""},
		{"rootfs/etc/hostname", "unset\n"},
		{"rootfs/etc/note", note},
	} {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o755, Size: int64(len(f.data)), Uid: os.Getuid(), Gid: os.Getgid()}
		if f.name[len(f.name)-1] == '/' {
			h.Typeflag = tar.TypeDir
		}
		must(tb, w.WriteHeader(h))
		_, err := io.WriteString(w, f.data)
		must(tb, err)
	}
	must(tb, w.Close())
	return buf.Bytes()
}

func open(tb testing.TB, file string) *os.File {
	tb.Helper()
	f, err := os.Open(file)
	must(tb, err)
	tb.Cleanup(func() { f.Close() })
	return f
}

// lock locks a file and returns what unlocks it.
func lock(tb testing.TB, file string) (unlock func()) {
	tb.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	must(tb, err)
	must(tb, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	return func() { f.Close() }
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
