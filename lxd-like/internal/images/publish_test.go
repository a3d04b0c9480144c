package images_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/images"
	"github.com/cuib/cuib/lxd-like/internal/images/imagestest"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
)

// instances are stored instances and snapshots, by name.
type instances struct {
	stored map[string]images.Stored
	open   int
	fail   error // Of Stored.
}

func (i *instances) CheckStored(_ context.Context, source string) error {
	if _, ok := i.stored[source]; !ok {
		return errs.NotFoundf("%q not found", source)
	}
	return nil
}

func (i *instances) Stored(ctx context.Context, source string) (images.Stored, error) {
	if i.fail != nil {
		return images.Stored{}, i.fail
	}
	i.open++
	out := i.stored[source]
	out.Release = func() { i.open-- }
	return out, i.CheckStored(ctx, source)
}

// withInstance gives a world the instance "c1" and its snapshot "c1/s".
func withInstance(w *world) *instances {
	w.t.Helper()
	dir := w.t.TempDir()
	_, err := shell(w.t, dir, `mkdir -p rootfs/bin rootfs/etc templates; chmod 755 . rootfs templates
		echo hi > rootfs/bin/tool; chmod 4755 rootfs/bin/tool; ln rootfs/bin/tool rootfs/bin/same; ln -s /bin/tool rootfs/etc/link
		truncate -s 1M rootfs/etc/holes; printf x >> rootfs/etc/holes; mkfifo rootfs/etc/fifo; chown 1000:1001 rootfs/etc
		echo "{{ instance.name }}" > templates/hostname.tpl`)
	must(w.t, err)
	must(w.t, os.WriteFile(filepath.Join(dir, "metadata.yaml"), []byte(imagestest.Metadata), 0o600))
	one := images.Stored{Dir: dir, Architecture: "x86_64", Properties: map[string]string{"os": "Mine"}}
	all := &instances{stored: map[string]images.Stored{"c1": one, "c1/s": one}}
	w.Instances = all
	return all
}

func publish(name string) api.ImagesPost {
	req := api.ImagesPost{Source: &api.ImagesPostSource{Type: "instance", Name: name}}
	if strings.Contains(name, "/") {
		req.Source.Type = "snapshot"
	}
	return req
}

func TestPublish(t *testing.T) {
	testenv.Kernel(t, "xz", "bzip2", "find")
	for algorithm, ext := range map[string]string{"default": ".tar.zst", "none": ".tar", "gzip": ".tar.gz", "zstd": ".tar.zst", "xz": ".tar.xz", "bzip2": ".tar.bz2"} {
		t.Run(algorithm, func(t *testing.T) {
			w := newWorld(t)
			all := withInstance(w)
			req := publish("c1/s")
			req.CompressionAlgorithm, req.Aliases = strings.TrimPrefix(algorithm, "default"), []api.ImageAlias{{Name: "x"}}
			req.Public, req.Properties = true, map[string]string{"release": "given"}
			req.ExpiresAt = time.Now().Add(time.Hour).UTC().Truncate(time.Second)
			op, err := w.do(w.Make(t.Context(), "default", req))
			must(t, err)
			fingerprint, _ := op.Metadata["fingerprint"].(string)
			image, err := w.Get(t.Context(), fingerprint)
			must(t, err)
			if image.Filename != "c1-s"+ext || !image.Public || !image.ExpiresAt.Equal(req.ExpiresAt) || len(image.Aliases) != 1 || image.Aliases[0].Name != "x" ||
				time.Since(image.CreatedAt) > time.Minute || strings.Join(image.Profiles, " ") != "default" {
				t.Errorf("image %+v", image)
			}
			for key, want := range map[string]string{"os": "Mine", "release": "given", "serial": "20240101"} {
				if image.Properties[key] != want {
					t.Errorf("property %s is %q, want %q", key, image.Properties[key], want)
				}
			}
			if text, _ := op.Metadata["create_image_from_container_pack_progress"].(string); !strings.HasPrefix(text, "Packing image") || all.open != 0 {
				t.Errorf("progress %q, %d open", text, all.open)
			}
			w.equals(fingerprint, all.stored["c1"].Dir)
			req.Aliases = nil
			if again, err := w.do(w.Make(t.Context(), "default", req)); err != nil || again.Metadata["fingerprint"] == fingerprint {
				t.Errorf("again: %v, %v", again.Metadata, err)
			}
		})
	}
}

// equals compares an image with a directory: as it is unpacked for instances,
// and as somebody else would import it.
func (w *world) equals(fingerprint, dir string) {
	w.t.Helper()
	const list = `cd "$1" && find rootfs templates -printf '%p %y %m %U:%G %n %l %T@ ' \( -type f -printf '%s %b' -o -true \) -printf '\\n' | sort`
	want := testenv.Run(w.t, "sh", "-c", list, "sh", dir)
	compare := func(in *world) {
		v, err := in.Volume(w.t.Context(), fingerprint, "p", nil)
		must(w.t, err)
		at, err := in.driver.Mount(w.t.Context(), storage.Volume{Kind: v.Kind, Name: v.Name}, nil)
		must(w.t, err)
		if got := testenv.Run(w.t, "sh", "-c", list, "sh", at); got != want {
			w.t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	compare(w)
	data, err := os.ReadFile(filepath.Join(w.Dir, "images", fingerprint))
	must(w.t, err)
	other := newWorld(w.t)
	if got := other.add(unified(data)); got != fingerprint {
		w.t.Errorf("imported as %s, want %s", got, fingerprint)
	}
	compare(other)
}

func TestPublishRefuses(t *testing.T) {
	w := newWorld(t)
	withInstance(w)
	w.add(unified(imagestest.Small(t, "1"), "taken"))
	for name, tt := range map[string]struct {
		change func(*api.ImagesPost)
		kind   errs.Kind
		want   string
	}{
		"no instance":    {func(r *api.ImagesPost) { r.Source.Name = "c2" }, errs.NotFound, "c2"},
		"no name":        {func(r *api.ImagesPost) { r.Source.Name = "" }, errs.Invalid, "source.name"},
		"a snapshot":     {func(r *api.ImagesPost) { r.Source.Name = "c1/s" }, errs.Invalid, "c1/s"},
		"no snapshot":    {func(r *api.ImagesPost) { r.Source.Type = "snapshot" }, errs.Invalid, "INSTANCE/SNAPSHOT"},
		"format":         {func(r *api.ImagesPost) { r.Format = "flat" }, errs.Invalid, "flat"},
		"algorithm":      {func(r *api.ImagesPost) { r.CompressionAlgorithm = "sh -c x" }, errs.Invalid, "bzip2, gzip, none, xz, zstd"},
		"file name":      {func(r *api.ImagesPost) { r.Filename = "a/b" }, errs.Invalid, "a/b"},
		"alias is taken": {func(r *api.ImagesPost) { r.Aliases = []api.ImageAlias{{Name: "taken"}} }, errs.Conflict, "taken"},
		"profile":        {func(r *api.ImagesPost) { r.Profiles = []string{"none"} }, errs.Invalid, "none"},
		"auto update":    {func(r *api.ImagesPost) { r.AutoUpdate = true }, errs.Unsupported, "auto_update"},
	} {
		req := publish("c1")
		tt.change(&req)
		_, err := w.Make(t.Context(), "default", req)
		if err == nil || errs.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPublishFails(t *testing.T) {
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		before func(w *world, all *instances)
		want   string
	}{
		"not stopped any more": {func(_ *world, all *instances) { all.fail = errs.Invalidf("it is running") }, "it is running"},
		"disk":                 {func(_ *world, all *instances) { all.fail = broken }, "broken"},
		"no rootfs":            {func(_ *world, all *instances) { must(t, os.RemoveAll(filepath.Join(all.stored["c1"].Dir, "rootfs"))) }, "no such file"},
		"bad metadata": {func(_ *world, all *instances) {
			must(t, os.WriteFile(filepath.Join(all.stored["c1"].Dir, "metadata.yaml"), []byte("templates: {/x: {template: ../y}}"), 0o600))
		}, "../y"},
		"no yaml": {func(_ *world, all *instances) {
			must(t, os.WriteFile(filepath.Join(all.stored["c1"].Dir, "metadata.yaml"), []byte("{"), 0o600))
		}, "metadata.yaml"},
		"alias is taken": {func(w *world, _ *instances) {
			w.add(unified(imagestest.Small(t, "1"), "x"))
		}, `"x" already exists`},
	} {
		for _, algorithm := range []string{"none", "gzip", "xz"} {
			w := newWorld(t)
			all := withInstance(w)
			req := publish("c1")
			req.CompressionAlgorithm, req.Aliases = algorithm, []api.ImageAlias{{Name: "x"}}
			job, err := w.Make(t.Context(), "default", req)
			must(t, err)
			tt.before(w, all)
			before := w.files()
			if _, err := w.do(job, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s, %s: %v", name, algorithm, err)
			}
			if w.files() != before || all.open != 0 {
				t.Errorf("%s, %s: files %s, before %s, %d open", name, algorithm, w.files(), before, all.open)
			}
		}
	}
}

// files lists the files of all images.
func (w *world) files() string {
	w.t.Helper()
	all, err := filepath.Glob(filepath.Join(w.Dir, "images", "*"))
	must(w.t, err)
	more, err := filepath.Glob(filepath.Join(w.Dir, "images", ".*"))
	must(w.t, err)
	return strings.Join(append(all, more...), " ")
}

func TestPublishIsCanceled(t *testing.T) {
	for _, algorithm := range []string{"none", "zstd", "xz"} {
		w := newWorld(t)
		all := withInstance(w)
		req := publish("c1")
		req.CompressionAlgorithm = algorithm
		job, err := w.Make(t.Context(), "default", req)
		must(t, err)
		if !job.Cancelable {
			t.Error("it cannot be canceled")
		}
		ctx, cancel := context.WithCancel(t.Context())
		all.stored["c1"] = images.Stored{Dir: all.stored["c1"].Dir, Architecture: "x86_64"}
		w.Instances = cancels{all, cancel}
		if err := job.Run(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", algorithm, err)
		}
		if all.open != 0 {
			t.Errorf("%s: %d open", algorithm, all.open)
		}
		w.empty()
	}
}

// cancels is what instances are when somebody cancels what has opened one.
type cancels struct {
	*instances

	cancel func()
}

func (c cancels) Stored(ctx context.Context, source string) (images.Stored, error) {
	out, err := c.instances.Stored(ctx, source)
	c.cancel()
	return out, err
}

func TestPublishWithoutRoom(t *testing.T) {
	testenv.Kernel(t, "mount", "umount", "xz")
	small := t.TempDir()
	testenv.Run(t, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small)
	t.Cleanup(func() { testenv.Run(t, "umount", small) })
	for _, algorithm := range []string{"none", "zstd", "xz"} {
		w := newWorld(t)
		w.Dir = small
		all := withInstance(w)
		_, err := shell(t, all.stored["c1"].Dir, "head -c 3M /dev/urandom > rootfs/noise")
		must(t, err)
		req := publish("c1")
		req.CompressionAlgorithm = algorithm
		if _, err := w.do(w.Make(t.Context(), "default", req)); !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), small) {
			t.Errorf("%s: %v", algorithm, err)
		}
		if all.open != 0 {
			t.Errorf("%s: %d open", algorithm, all.open)
		}
		w.empty()
	}
}
