package images_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/images"
	"github.com/cuib/cuib/lxd-like/internal/images/imagestest"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage/fake"
)

// in is an upload to a project.
func in(project string, up images.Upload) images.Upload {
	up.Project = project
	return up
}

// inodes are the files of images, with what tells each from another in its
// place.
func (w *world) inodes() string {
	w.t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.Dir, "images"))
	must(w.t, err)
	var out []string
	for _, e := range entries {
		var st unix.Stat_t
		must(w.t, unix.Stat(filepath.Join(w.Dir, "images", e.Name()), &st))
		out = append(out, fmt.Sprint(e.Name(), " ", st.Ino))
	}
	return strings.Join(out, "\n")
}

// usable checks that all of an image is there for who has its key.
func (w *world) usable(key string) {
	w.t.Helper()
	files, err := w.Export(w.t.Context(), key)
	if err != nil || len(files) != 1 {
		w.t.Fatalf("%s: %v, %v", key, files, err)
	}
	files[0].Data.Close()
	v, err := w.Volume(w.t.Context(), key, "p", nil)
	must(w.t, err)
	dir, err := w.driver.Mount(w.t.Context(), v, nil)
	must(w.t, err)
	if _, err := os.Stat(filepath.Join(dir, "rootfs/etc/note")); err != nil {
		w.t.Errorf("%s: %v", key, err)
	}
	must(w.t, w.driver.Unmount(w.t.Context(), v))
}

// TestProjectsShareFiles has two projects with the same image: each has its own
// record, and they have one set of files and one volume.
func TestProjectsShareFiles(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	c := &counting{Driver: w.driver}
	w.Pools = pools{"p": c}
	data := imagestest.Small(t, "1")
	up := unified(data, "tiny")
	up.Put.Properties = map[string]string{"of": "default"}
	fp := w.add(up)
	w.usable(fp)
	before := w.inodes()

	up = in("p", unified(data, "tiny", "more"))
	up.Put.Public = true
	if got := w.add(up); got != fp {
		t.Fatalf("in p it is %s", got)
	}
	own := project.Key("p", fp)
	w.usable(own)
	if now := w.inodes(); now != before || c.created.Load() != 1 {
		t.Errorf("%d volumes were made, files were\n%s\nand are\n%s", c.created.Load(), before, now)
	}
	one, err := w.Get(ctx, own[:8])
	must(t, err)
	if one.Fingerprint != fp || one.Project != "p" || !one.Public || one.Properties["of"] != "" || len(one.Aliases) != 2 || one.LastUsedAt.IsZero() {
		t.Errorf("in p: %+v", one)
	}
	must(t, w.Update(ctx, own, api.ImagePut{Properties: map[string]string{"of": "p"}}))
	must(t, w.RenameAlias(ctx, "p%tiny", "p%small"))
	other, err := w.Get(ctx, fp)
	must(t, err)
	if other.Project != "default" || other.Public || other.Properties["of"] != "default" || len(other.Aliases) != 1 || other.Aliases[0].Name != "tiny" {
		t.Errorf("in the default project: %+v", other)
	}
	all, err := w.List(ctx)
	if err != nil || len(all) != 2 || all[0].Project != "default" || all[1].Project != "p" || all[1].Properties["of"] != "p" {
		t.Errorf("all: %+v, %v", all, err)
	}
	aliases, err := w.Aliases(ctx)
	if err != nil || len(aliases) != 3 || aliases[1].Name != "small" || aliases[1].Project != "p" || aliases[1].Target != fp {
		t.Errorf("aliases: %+v, %v", aliases, err)
	}
	if _, err := w.do(w.Import(ctx, in("p", unified(data)))); !errs.Is(err, errs.Conflict) {
		t.Errorf("again in p: %v", err)
	}
	if w.inodes() != before {
		t.Errorf("files were\n%s\nand are\n%s", before, w.inodes())
	}
}

// TestResolveInOneProject has nobody find what another project has, also not by
// a key.
func TestResolveInOneProject(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	fp := w.add(in("p", unified(imagestest.Small(t, "1"), "tiny")))
	for _, source := range []api.InstanceSource{{Alias: "tiny"}, {Alias: fp[:9]}, {Fingerprint: fp[:9]}, {Properties: map[string]string{"os": "Debian"}}} {
		for _, source.Project = range []string{"p", "", "default", "q"} {
			image, err := w.Resolve(ctx, source)
			if source.Project == "p" && (err != nil || image.Key() != "p%"+fp) || source.Project != "p" && !errs.Is(err, errs.NotFound) {
				t.Errorf("%+v: %s, %v", source, image.Key(), err)
			}
		}
	}
	for _, source := range []api.InstanceSource{{Alias: "p%tiny"}, {Alias: "p%" + fp}, {Fingerprint: "p%" + fp}} {
		if _, err := w.Resolve(ctx, source); !errs.Is(err, errs.NotFound) {
			t.Errorf("%+v: %v", source, err)
		}
	}
	target := api.ImageAliasesEntryPut{Target: fp}
	for name, err := range map[string]error{
		"alias of another's":      w.CreateAlias(ctx, api.ImageAliasesEntry{Name: "mine", ImageAliasesEntryPut: target}),
		"alias of a key":          w.CreateAlias(ctx, api.ImageAliasesEntry{Name: "mine", ImageAliasesEntryPut: api.ImageAliasesEntryPut{Target: "p%" + fp}}),
		"another project's alias": w.UpdateAlias(ctx, "tiny", target),
	} {
		if !errs.Is(err, errs.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"50%", "a/b%c"} {
		if err := w.CreateAlias(ctx, api.ImageAliasesEntry{Name: project.Key("p", name), ImageAliasesEntryPut: target}); !errs.Is(err, errs.Invalid) {
			t.Errorf("alias %s: %v", name, err)
		}
	}
	if err := w.Update(ctx, "p%"+fp, api.ImagePut{Profiles: []string{"q%web"}}); !errs.Is(err, errs.Invalid) {
		t.Errorf("a profile of another project: %v", err)
	}
}

// TestSharedImageIsDeleted has two projects delete the same image, either one
// first, while each step fails in turn: as long as one has it, it is whole.
func TestSharedImageIsDeleted(t *testing.T) {
	for _, order := range [][]string{{"default", "p"}, {"p", "default"}} {
		for n := 1; ; n++ {
			w := newWorld(t)
			data := imagestest.Small(t, "1")
			fp := w.add(in(order[1], unified(data, "a")))
			w.add(in(order[0], unified(data, "a")))
			first, last := project.Key(order[0], fp), project.Key(order[1], fp)
			w.usable(first)

			w.driver.Fail = fake.FailNth(n)
			if _, err := w.do(w.Delete(t.Context(), first)); err != nil { // It needs no driver.
				t.Fatalf("delete %s: %v", first, err)
			}
			_, failed := w.do(w.Delete(t.Context(), last))
			w.driver.Fail = nil
			if failed == nil {
				w.empty()
				if n < 2 {
					t.Errorf("succeeds if call %d fails", n)
				}
				break
			}
			w.usable(last)
			if _, err := w.Get(t.Context(), first); !errs.Is(err, errs.NotFound) {
				t.Errorf("%s is there: %v", first, err)
			}
			w.add(in(order[0], unified(data)))
			w.usable(first)
			for _, key := range []string{last, first} {
				_, err := w.do(w.Delete(t.Context(), key))
				must(t, err)
			}
			w.empty()
		}
	}
}

// TestRecoverSharedImage has a crash leave half an image in one project.
func TestRecoverSharedImage(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	data := imagestest.Small(t, "1")
	fp := w.add(unified(data, "a"))
	w.add(in("p", unified(data, "a")))
	w.usable(fp)
	before := w.inodes()
	half := func(keys ...string) {
		t.Helper()
		must(t, w.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			for _, key := range keys {
				if err := db.SetImageStatus(ctx, tx, key, db.Pending); err != nil {
					return err
				}
			}
			return nil
		}))
		must(t, w.Recover(ctx))
	}
	half(fp)
	if _, err := w.Get(ctx, fp); !errs.Is(err, errs.NotFound) || w.inodes() != before {
		t.Errorf("%v, files are\n%s\nand were\n%s", err, w.inodes(), before)
	}
	w.usable("p%" + fp)
	w.add(unified(data))
	must(t, w.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		pool, err := db.GetPool(ctx, tx, "p")
		if err != nil {
			return err
		}
		return db.SetImageVolumeStatus(ctx, tx, fp, pool.ID, db.Pending)
	}))
	half(fp, "p%"+fp)
	w.empty()
}

// TestProjectsRace has projects import and delete the same image at the same
// time.
func TestProjectsRace(t *testing.T) {
	w := newWorld(t)
	data := imagestest.Small(t, "1")
	fp := w.add(in("stays", unified(data)))
	keys := map[string]bool{}
	var g errgroup.Group
	for n := range 4 {
		name := fmt.Sprint("p", n)
		keys[project.Key(name, fp)] = true
		g.Go(func() error {
			for range 20 {
				job, err := w.Import(t.Context(), in(name, unified(data, "a")))
				if err != nil {
					return err
				}
				if err := job.Run(t.Context(), nil); err != nil {
					return err
				}
				if _, err := w.Volume(t.Context(), project.Key(name, fp), "p", nil); err != nil {
					return err
				}
				if job, err = w.Delete(t.Context(), project.Key(name, fp)); err != nil {
					return err
				}
				if err := job.Run(t.Context(), nil); err != nil {
					return err
				}
			}
			return nil
		})
	}
	// One that has it for a short time only, so that the files go and come.
	g.Go(func() error {
		job, err := w.Delete(t.Context(), "stays%"+fp)
		if err != nil {
			return err
		}
		return job.Run(t.Context(), nil)
	})
	must(t, g.Wait())
	w.empty()
}

// TestCopyOfAnImage copies from one project to another.
func TestCopyOfAnImage(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	up := unified(imagestest.Small(t, "1"), "tiny")
	up.Put.Properties = map[string]string{"a": "1", "b": "1"}
	fp := w.add(up)
	before := w.inodes()
	req := func(change func(*api.ImagesPost)) api.ImagesPost {
		r := api.ImagesPost{Source: &api.ImagesPostSource{Type: "image", Mode: "pull", Project: "default", Fingerprint: fp[:12]}}
		change(&r)
		return r
	}
	for name, tt := range map[string]struct {
		req  api.ImagesPost
		kind errs.Kind
		want string
	}{
		"server":   {req(func(r *api.ImagesPost) { r.Source.Server = "https://images" }), errs.Unsupported, "https://images"},
		"mode":     {req(func(r *api.ImagesPost) { r.Source.Mode = "shove" }), errs.Invalid, "shove"},
		"nothing":  {req(func(r *api.ImagesPost) { r.Source.Fingerprint = "" }), errs.Invalid, "fingerprint"},
		"not here": {req(func(r *api.ImagesPost) { r.Source.Project = "q" }), errs.NotFound, fp[:12]},
		"profile":  {req(func(r *api.ImagesPost) { r.Profiles = []string{"none"} }), errs.Invalid, "none"},
		"alias":    {req(func(r *api.ImagesPost) { r.Aliases = []api.ImageAlias{{Name: "a b"}} }), errs.Invalid, "a b"},
	} {
		if _, err := w.Make(ctx, "p", tt.req); !errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.Make(ctx, "default", req(func(*api.ImagesPost) {})); !errs.Is(err, errs.Conflict) {
		t.Errorf("onto itself: %v", err)
	}

	op, err := w.do(w.Make(ctx, "p", req(func(r *api.ImagesPost) {
		r.Properties, r.Aliases, r.Public = map[string]string{"b": "2"}, []api.ImageAlias{{Name: "tiny"}}, true
	})))
	must(t, err)
	if op.Metadata["fingerprint"] != fp || !slices.Equal(op.Resources["images"], []string{"/1.0/images/" + fp + "?project=p"}) {
		t.Errorf("operation %+v", op)
	}
	image, err := w.Get(ctx, "p%"+fp)
	must(t, err)
	if image.Properties["a"] != "1" || image.Properties["b"] != "2" || image.Properties["serial"] == "" || !image.Public || image.Filename != "x.tar" ||
		image.Architecture != "x86_64" || image.CreatedAt.IsZero() || image.Size == 0 || len(image.Aliases) != 1 {
		t.Errorf("got %+v", image)
	}
	if now := w.inodes(); now != before {
		t.Errorf("files were\n%s\nand are\n%s", before, now)
	}
	w.usable("p%" + fp)

	// What it is of is deleted before the copy is made.
	job, err := w.Make(ctx, "q", req(func(*api.ImagesPost) {}))
	must(t, err)
	for _, key := range []string{fp, "p%" + fp} {
		_, err := w.do(w.Delete(ctx, key))
		must(t, err)
	}
	if _, err := w.do(job, nil); !errs.Is(err, errs.NotFound) {
		t.Errorf("a copy of what was deleted: %v", err)
	}
	w.empty()
}

// TestBuildOfAnotherProject has what one project built not be built again.
func TestBuildOfAnotherProject(t *testing.T) {
	testenv.Kernel(t, "unshare", "apt-config", "tar")
	w := newWorld(t)
	w.Apt = aptDir(t)
	count := filepath.Join(t.TempDir(), "count")
	t.Setenv("COUNT", count)
	fakeTools(t, fakeBuild)
	runs := func() int {
		data, err := os.ReadFile(count)
		must(t, err)
		return strings.Count(string(data), "run")
	}
	ctx := t.Context()
	one, err := w.Build(ctx, "p%debian:sid", nil)
	must(t, err)
	must(t, w.Update(ctx, one.Key(), api.ImagePut{Properties: map[string]string{"secret": "of p"}}))
	for _, source := range []api.InstanceSource{{Alias: "debian:sid"}, {Alias: "debian:sid", Project: "q"}} {
		if _, err := w.Resolve(ctx, source); !errs.Is(err, errs.NotFound) {
			t.Errorf("%+v: %v", source, err)
		}
	}
	two, err := w.Build(ctx, "q%debian:sid", nil)
	must(t, err)
	if runs() != 1 || two.Key() != "q%"+one.Fingerprint || two.Source != one.Source || two.Size != one.Size || two.Filename != one.Filename ||
		two.Architecture != one.Architecture || two.Properties["release"] != "sid" || two.Properties["secret"] != "" || !two.Created.Equal(one.Created) {
		t.Errorf("built %d times: %+v of %+v", runs(), two, one)
	}
	if again, err := w.Build(ctx, "q%debian:sid", nil); err != nil || again.ID != two.ID || runs() != 1 {
		t.Errorf("again: %+v, %v", again, err)
	}
	time.Sleep(time.Until(one.Created.Add(time.Second))) // When they were built is said in seconds.
	req := api.ImagesPost{Source: &api.ImagesPostSource{Type: "build", Name: "debian:sid", Refresh: true}}
	op, err := w.do(w.Make(ctx, "q", req))
	must(t, err)
	if runs() != 2 || op.Metadata["fingerprint"] == one.Fingerprint {
		t.Errorf("refreshed: %d runs, %v", runs(), op.Metadata)
	}
	if three, err := w.Build(ctx, "debian:sid", nil); err != nil || three.Fingerprint != op.Metadata["fingerprint"] || runs() != 2 {
		t.Errorf("the default project has %+v, %v, after %d runs", three, err, runs())
	}

	// A project that has the image as one that was not built, gets a new one.
	must(t, w.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.AddImage(ctx, tx, &db.Image{Project: "r", Fingerprint: fmt.Sprint(op.Metadata["fingerprint"]), Status: db.Ready})
	}))
	if four, err := w.Build(ctx, "r%debian:sid", nil); err != nil || runs() != 3 || four.Project != "r" {
		t.Errorf("r has %+v, %v, after %d runs", four, err, runs())
	}

	// What is not there any more is built.
	all, err := w.List(ctx)
	must(t, err)
	for _, i := range all {
		if err := os.Remove(filepath.Join(w.Dir, "images", i.Fingerprint)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if five, err := w.Build(ctx, "s%debian:sid", nil); err != nil || runs() != 4 || five.Project != "s" {
		t.Errorf("s has %+v, %v, after %d runs", five, err, runs())
	}
}

// TestPublishToAProject makes an image of an instance in another project.
func TestPublishToAProject(t *testing.T) {
	w := newWorld(t)
	all := withInstance(w)
	all.stored["r_c1"] = all.stored["c1"]
	req := publish("r_c1")
	req.Aliases = []api.ImageAlias{{Name: "mine"}}
	op, err := w.do(w.Make(t.Context(), "p", req))
	must(t, err)
	image, err := w.Get(t.Context(), fmt.Sprint("p%", op.Metadata["fingerprint"]))
	if err != nil || image.Project != "p" || !strings.HasPrefix(image.Filename, "c1.") {
		t.Errorf("got %+v, %v", image, err)
	}
	if _, err := w.Alias(t.Context(), "p%mine"); err != nil {
		t.Error(err)
	}
	if _, err := w.Alias(t.Context(), "mine"); !errs.Is(err, errs.NotFound) {
		t.Errorf("in the default project: %v", err)
	}
}
