package images_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/images/imagestest"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

func TestMakeRefuses(t *testing.T) {
	w := newWorld(t)
	w.add(unified(imagestest.Small(t, "1"), "taken"))
	build := func(name string) *api.ImagesPostSource { return &api.ImagesPostSource{Type: "build", Name: name} }
	for name, tt := range map[string]struct {
		req  api.ImagesPost
		kind errs.Kind
		want string
	}{
		"no source":   {api.ImagesPost{}, errs.Invalid, "source"},
		"type":        {api.ImagesPost{Source: &api.ImagesPostSource{Type: "disk", Name: "c1"}}, errs.Invalid, `source.type is "disk": want build`},
		"no name":     {api.ImagesPost{Source: build("")}, errs.Invalid, "source.name"},
		"other":       {api.ImagesPost{Source: build("plan9:4")}, errs.Invalid, "plan9:4"},
		"compression": {api.ImagesPost{Source: build("debian:sid"), CompressionAlgorithm: "lzma"}, errs.Invalid, "lzma"},
		"alias taken": {api.ImagesPost{Source: build("debian:sid"), Aliases: []api.ImageAlias{{Name: "taken"}}}, errs.Conflict, "taken"},
		"bad alias":   {api.ImagesPost{Source: build("debian:sid"), Aliases: []api.ImageAlias{{Name: " "}}}, errs.Invalid, "alias"},
		"bad profile": {api.ImagesPost{Source: build("debian:sid"), ImagePut: api.ImagePut{Profiles: []string{"x"}}}, errs.Invalid, "x"},
	} {
		_, err := w.Make(t.Context(), "default", tt.req)
		if err == nil || errs.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// fakeTools puts an mmdebstrap that runs a script before all others.
func fakeTools(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "mmdebstrap"), []byte("#!/bin/sh\nset -e\n"+script), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// aptDir makes a host's configuration of apt.
func aptDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "sources.list"), []byte("deb http://mirror/debian bookworm main\n"), 0o644))
	return dir
}

const fakeBuild = `echo run >> "$COUNT"
echo "I: running apt-get update..." >&2
mkdir -p "$TMPDIR/r/etc" && date +%s.%N > "$TMPDIR/r/etc/f" && tar -C "$TMPDIR/r" -c .
`

func TestBuildIsCached(t *testing.T) {
	testenv.Kernel(t, "unshare", "apt-config", "tar")
	w := newWorld(t)
	w.Apt = aptDir(t)
	count := filepath.Join(t.TempDir(), "count")
	t.Setenv("COUNT", count)
	fakeTools(t, fakeBuild)
	g, ctx := errgroup.WithContext(t.Context())
	for range 4 {
		g.Go(func() error {
			_, err := w.Build(ctx, "debian/12", nil)
			return err
		})
	}
	must(t, g.Wait())
	image, err := w.Resolve(t.Context(), api.InstanceSource{Alias: "debian:bookworm"})
	must(t, err)
	runs := func() int {
		data, err := os.ReadFile(count)
		must(t, err)
		return strings.Count(string(data), "run")
	}
	if runs() != 1 || image.Source != "debian:bookworm" || image.Properties["os"] != "Debian" || image.Properties["release"] != "bookworm" {
		t.Errorf("built %d times: %+v", runs(), image)
	}
	req := api.ImagesPost{Source: &api.ImagesPostSource{Type: "build", Name: "debian:bookworm"}, Aliases: []api.ImageAlias{{Name: "debian/12"}}}
	op, err := w.do(w.Make(t.Context(), "default", req))
	must(t, err)
	if op.Metadata["fingerprint"] != image.Fingerprint || runs() != 1 {
		t.Errorf("built again: %v", op.Metadata)
	}
	req.Source.Refresh = true
	op, err = w.do(w.Make(t.Context(), "default", req))
	must(t, err)
	alias, err := w.Alias(t.Context(), "debian/12")
	must(t, err)
	if runs() != 2 || alias.Target == image.Fingerprint || alias.Target != op.Metadata["fingerprint"] {
		t.Errorf("refreshed: %d runs, alias %+v, operation %v", runs(), alias, op.Metadata)
	}
	if text, _ := op.Metadata["build_image_progress"].(string); !strings.Contains(text, "debian:bookworm: running apt-get update") {
		t.Errorf("progress %q", text)
	}
	v, err := w.Volume(t.Context(), alias.Target, "p", nil)
	must(t, err)
	dir, err := w.driver.Mount(t.Context(), v, nil)
	must(t, err)
	for _, name := range []string{"metadata.yaml", "templates/hostname.tpl", "rootfs/etc/f"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestBuildFails(t *testing.T) {
	testenv.Kernel(t, "unshare", "apt-config")
	for name, tt := range map[string]struct {
		script string
		kind   errs.Kind
		want   string
	}{
		"no such suite":  {`echo "E: The repository 'http://m x Release' does not have a Release file." >&2; exit 1`, errs.NotFound, `no suite "bookworm"`},
		"no key":         {`echo "W: NO_PUBKEY 123" >&2; exit 1`, errs.Unsupported, "debian-archive-keyring"},
		"no network":     {`echo "Temporary failure resolving 'm'" >&2; exit 1`, errs.Unavailable, "mirror"},
		"something else": {`echo "E: boom" >&2; exit 1`, errs.Internal, "boom"},
		"fails late":     {`head -c 100000 /dev/zero; echo "E: late" >&2; exit 1`, errs.Internal, "late"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Apt = aptDir(t)
			fakeTools(t, tt.script)
			_, err := w.Build(t.Context(), "debian:bookworm", nil)
			if err == nil || errs.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
			w.empty()
		})
	}
	w := newWorld(t)
	t.Setenv("PATH", t.TempDir())
	if _, err := w.Build(t.Context(), "debian:bookworm", nil); !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "install mmdebstrap") {
		t.Errorf("without mmdebstrap: %v", err)
	}
	w.empty()
}

func TestBuildIsCanceled(t *testing.T) {
	testenv.Kernel(t, "unshare", "apt-config", "sleep")
	w := newWorld(t)
	w.Apt = aptDir(t)
	fifo := filepath.Join(t.TempDir(), "fifo")
	testenv.Run(t, "mkfifo", fifo)
	t.Setenv("FIFO", fifo)
	// What it leaves running holds the fifo open: its end is theirs.
	fakeTools(t, `setsid sh -c 'echo started; exec sleep 1000' > "$FIFO" & sleep 1000`)
	job, err := w.Make(t.Context(), "default", api.ImagesPost{Source: &api.ImagesPostSource{Type: "build", Name: "debian:bookworm"}})
	must(t, err)
	op, err := w.ops.Start(t.Context(), job)
	must(t, err)
	f, err := os.Open(fifo)
	must(t, err)
	defer f.Close()
	_, err = f.Read(make([]byte, 1))
	must(t, err)
	must(t, op.Cancel())
	if got := op.Wait(t.Context()); got.StatusCode != api.Canceled {
		t.Errorf("got %+v", got)
	}
	_, err = io.ReadAll(f)
	must(t, err)
	w.empty()
}

func TestBuildDebian(t *testing.T) {
	image := imagestest.Debian(t)
	w := newWorld(t)
	fingerprint := w.add(image.Upload(t))
	v, err := w.Volume(t.Context(), fingerprint, "p", nil)
	must(t, err)
	dir, err := w.driver.Mount(t.Context(), v, nil)
	must(t, err)
	root := filepath.Join(dir, "rootfs")
	for script, want := range map[string]string{
		"stat -c %s etc/machine-id":                                    "0",
		"readlink etc/resolv.conf":                                     "../run/systemd/resolve/stub-resolv.conf",
		"readlink sbin/init":                                           "/lib/systemd/systemd",
		"cat etc/hostname":                                             "localhost",
		"ls etc/ssh 2> /dev/null || echo none":                         "none",
		"ls etc/apt/sources.list.d":                                    "debian.sources",
		"cat etc/default/locale":                                       "LANG=C.UTF-8",
		"find dev -type b -o -type c":                                  "",
		"find var/lib/apt/lists -type f":                               "",
		"ls etc/dpkg/dpkg.cfg.d":                                       "",
		"stat -c %a:%u:%g usr/bin/passwd":                              "4755:0:0",
		"getfattr --only-values -n security.capability bin/ping|wc -c": "20",
	} {
		got, err := shell(t, root, script)
		if err != nil || strings.TrimSpace(got) != want {
			t.Errorf("%s: %q, %v, want %q", script, got, err, want)
		}
	}
	must(t, w.DB.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		got, err := db.GetImage(ctx, tx, fingerprint)
		if err != nil || !strings.HasPrefix(got.Properties["description"], "Debian bookworm ") {
			t.Errorf("got %+v, %v", got, err)
		}
		return nil
	}))
}
