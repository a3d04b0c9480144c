package images_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/images"
	"github.com/cuib/cuib/lxd-like/internal/images/imagestest"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/fake"
)

// A world is a service with a pool "p".
type world struct {
	*images.Service

	t      *testing.T
	driver *fake.Driver
	ops    *ops.Manager
}

type pools map[string]storage.Driver

func (p pools) Driver(_ context.Context, pool string) (storage.Driver, error) {
	d, ok := p[pool]
	if !ok {
		return nil, errs.NotFoundf("storage pool %q not found", pool)
	}
	return d, nil
}

func newWorld(t *testing.T) *world {
	t.Helper()
	d, err := fake.New(filepath.Join(t.TempDir(), "pool"))
	must(t, err)
	hub := &events.Hub{}
	w := &world{
		Service: &images.Service{
			DB: dbtest.New(t), Projects: imagestest.Projects{}, Dir: t.TempDir(), Pools: pools{"p": d}, Events: hub, Log: slog.New(slog.DiscardHandler),
		},
		t: t, driver: d, ops: ops.NewManager(t.Context(), hub.Publish),
	}
	must(t, w.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		return db.AddPool(ctx, tx, &db.Pool{Name: "p", Driver: "fake", Status: db.Ready})
	}))
	must(t, w.Recover(t.Context()))
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// do runs a job to its end.
func (w *world) do(job ops.Job, err error) (api.Operation, error) {
	w.t.Helper()
	if err != nil {
		return api.Operation{}, err
	}
	op, err := w.ops.Start(w.t.Context(), job)
	must(w.t, err)
	got := op.Wait(w.t.Context())
	if got.StatusCode != api.Success {
		return got, errs.FromStatus(int(got.ErrCode), got.Err)
	}
	return got, nil
}

// add imports an image and returns its fingerprint.
func (w *world) add(up images.Upload) string {
	w.t.Helper()
	op, err := w.do(w.Import(w.t.Context(), up))
	must(w.t, err)
	fingerprint, _ := op.Metadata["fingerprint"].(string)
	return fingerprint
}

func unified(data []byte, aliases ...string) images.Upload {
	up := images.Upload{Filename: "x.tar", Metadata: bytes.NewReader(data)}
	for _, a := range aliases {
		up.Aliases = append(up.Aliases, api.ImageAlias{Name: a})
	}
	return up
}

// empty checks that nothing is left of images: no row, file or volume.
func (w *world) empty() {
	w.t.Helper()
	files, err := os.ReadDir(filepath.Join(w.Dir, "images"))
	must(w.t, err)
	for _, f := range files {
		w.t.Errorf("left behind: file %s", f.Name())
	}
	must(w.t, w.DB.View(w.t.Context(), func(ctx context.Context, tx *db.Tx) error {
		all, err := db.Images(ctx, tx)
		must(w.t, err)
		volumes, err := db.ImageVolumes(ctx, tx)
		must(w.t, err)
		aliases, err := db.Aliases(ctx, tx)
		must(w.t, err)
		if len(all)+len(volumes)+len(aliases) > 0 {
			w.t.Errorf("left behind: records %v, %v, %v", all, volumes, aliases)
		}
		return nil
	}))
	w.noVolumes()
}

func (w *world) noVolumes() {
	w.t.Helper()
	volumes, err := w.driver.List(w.t.Context())
	must(w.t, err)
	if len(volumes)+len(w.driver.Mounted()) > 0 {
		w.t.Errorf("left behind: volumes %v, mounts %v", volumes, w.driver.Mounted())
	}
}

func TestLifeOfAnImage(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	data := imagestest.Small(t, "one")
	up := unified(data, "a/1", "b")
	up.Put.Properties = map[string]string{"release": "mine"}
	sum := sha256.Sum256(data)
	want := hex.EncodeToString(sum[:])
	up.Fingerprint = want
	op, err := w.do(w.Import(ctx, up))
	must(t, err)
	if op.Metadata["fingerprint"] != want || op.Metadata["size"] == "" {
		t.Errorf("metadata %v, want fingerprint %s", op.Metadata, want)
	}

	image, err := w.Get(ctx, want[:8])
	must(t, err)
	if image.Fingerprint != want || image.Architecture != "x86_64" || image.Size != int64(len(data)) || image.Filename != "x.tar" ||
		image.Properties["release"] != "mine" || image.Properties["serial"] != "20240101" || image.CreatedAt.Unix() != 1700000000 ||
		len(image.Aliases) != 2 || image.Aliases[0].Name != "a/1" || !slices.Equal(image.Profiles, []string{"default"}) {
		t.Errorf("got %+v", image)
	}
	for _, source := range []api.InstanceSource{
		{Alias: "a/1"},
		{Fingerprint: want[:5]},
		{Alias: want[:12]},
		{Properties: map[string]string{"os": "Debian", "release": "mine"}},
	} {
		if got, err := w.Resolve(ctx, source); err != nil || got.Fingerprint != want {
			t.Errorf("resolve %+v: %v, %v", source, got.Fingerprint, err)
		}
	}

	v, err := w.Volume(ctx, want, "p", nil)
	must(t, err)
	dir, err := w.driver.Mount(ctx, v, nil)
	must(t, err)
	for name, want := range map[string]string{"rootfs/etc/note": "one", "templates/hostname.tpl": "{{ container.name }}\n", "metadata.yaml": imagestest.Metadata} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	must(t, w.driver.Unmount(ctx, v))

	files, err := w.Export(ctx, want)
	must(t, err)
	if len(files) != 1 || files[0].Name != want+".tar" || files[0].Part != "" {
		t.Fatalf("exported %+v", files)
	}
	if got, err := io.ReadAll(files[0].Data); err != nil || !bytes.Equal(got, data) {
		t.Errorf("exported %d bytes, %v, want %d", len(got), err, len(data))
	}
	files[0].Data.Close()

	image.Properties["x"] = "y"
	image.Public = true
	must(t, w.Update(ctx, want, image.ImagePut))
	if got, err := w.Get(ctx, want); err != nil || !got.Public || got.Properties["x"] != "y" {
		t.Errorf("updated: %+v, %v", got, err)
	}
	image.Properties["x"] = "" // As clients unset one.
	must(t, w.Update(ctx, want, image.ImagePut))
	if got, err := w.Get(ctx, want); err != nil || got.Properties["release"] == "" || len(got.Properties) != len(image.Properties)-1 {
		t.Errorf("unset: %+v, %v", got, err)
	}
	all, err := w.List(ctx)
	if err != nil || len(all) != 1 || all[0].Fingerprint != want {
		t.Errorf("list: %+v, %v", all, err)
	}
	_, err = w.do(w.Delete(ctx, want))
	must(t, err)
	w.empty()
	if _, err := w.Get(ctx, want); !errs.Is(err, errs.NotFound) {
		t.Errorf("deleted: %v", err)
	}
}

func TestImportRefuses(t *testing.T) {
	good := imagestest.Small(t, "good")
	meta := func(text string) []byte { return packed(t, "metadata.yaml", text, "rootfs/", "") }
	split := func(metadata, rootfs []byte) images.Upload {
		up := unified(metadata)
		up.NextRootfs = func() (io.Reader, string, error) { return bytes.NewReader(rootfs), "r", nil }
		return up
	}
	onlyMeta := packed(t, "metadata.yaml", imagestest.Metadata)
	named := unified(good)
	named.Fingerprint = strings.Repeat("0", 64)
	profile := unified(good)
	profile.Put.Profiles = []string{"none"}
	broken := unified(nil)
	broken.Metadata = io.MultiReader(bytes.NewReader(good[:5000]), lineError{})
	badSquash := split(onlyMeta, []byte("hsqs"+strings.Repeat("\x01", 200)))
	tests := map[string]struct {
		up   images.Upload
		want string
	}{
		"nothing":                 {unified(nil), "not an archive"},
		"a text":                  {unified([]byte("hello")), "not an archive"},
		"cut off":                 {unified(good[:len(good)-1024]), "cut off"},
		"cut off in a file":       {unified(good[:700]), "bad archive"},
		"another fingerprint":     {named, named.Fingerprint},
		"unknown profile":         {profile, "none"},
		"alias with a space":      {unified(good, "a b"), `"a b"`},
		"alias twice":             {unified(good, "a", "a"), "twice"},
		"no metadata":             {unified(packed(t, "rootfs/", "")), "metadata.yaml"},
		"no rootfs":               {unified(onlyMeta), "rootfs"},
		"yaml":                    {unified(meta("{")), "metadata.yaml"},
		"no architecture":         {unified(meta("creation_date: 1")), `architecture is ""`},
		"unknown architecture":    {unified(meta("architecture: pdp11\ncreation_date: 1")), "pdp11"},
		"no date":                 {unified(meta("architecture: x86_64")), "creation_date"},
		"template outside":        {unified(meta("architecture: x86_64\ncreation_date: 1\ntemplates: {/x: {template: ../../etc/shadow}}")), "../../etc/shadow"},
		"empty template":          {unified(meta("architecture: x86_64\ncreation_date: 1\ntemplates: {/x: }")), "/x"},
		"metadata is a link":      {unified(packed(t, "metadata.yaml", "->/etc/shadow", "rootfs/", "")), "metadata.yaml"},
		"templates is a link":     {unified(packed(t, "metadata.yaml", imagestest.Metadata, "templates", "->/etc", "rootfs/", "")), "templates"},
		"a template is a link":    {unified(packed(t, "metadata.yaml", imagestest.Metadata, "templates/x", "->/etc/shadow", "rootfs/", "")), "templates/x"},
		"rootfs is a link":        {unified(packed(t, "metadata.yaml", imagestest.Metadata, "rootfs/", "", "rootfs", "->/")), "rootfs"},
		"a path that leads out":   {unified(packed(t, "metadata.yaml", imagestest.Metadata, "rootfs/../../x", "")), ".."},
		"second file is no image": {split(onlyMeta, []byte("QFI\xfb"+strings.Repeat("x", 1000))), "rootfs"},
		"second file is cut off":  {split(onlyMeta, good[:3000]), "bad archive"},
		"bad squashfs":            {badSquash, "squashfs"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			_, err := w.do(w.Import(t.Context(), tt.up))
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to name %s", err, tt.want)
			}
			w.empty()
		})
	}
	w := newWorld(t)
	if _, err := w.do(w.Import(t.Context(), broken)); !errors.Is(err, lineError{}) {
		t.Errorf("upload breaks off: %v", err)
	}
	w.empty()
}

type lineError struct{}

func (lineError) Read([]byte) (int, error) { return 0, lineError{} }
func (lineError) Error() string            { return "the line is dead" }

func TestImportConflicts(t *testing.T) {
	w := newWorld(t)
	first := w.add(unified(imagestest.Small(t, "1"), "taken"))
	_, err := w.do(w.Import(t.Context(), unified(imagestest.Small(t, "1"))))
	if !errs.Is(err, errs.Conflict) || err.Error() != "Image with same fingerprint already exists" {
		t.Errorf("same image: %v", err)
	}
	_, err = w.do(w.Import(t.Context(), unified(imagestest.Small(t, "2"), "taken")))
	if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), `"taken"`) {
		t.Errorf("same alias: %v", err)
	}
	// Of two uploads of one image at the same time, one is refused.
	job1, err := w.Import(t.Context(), unified(imagestest.Small(t, "3"), "x"))
	must(t, err)
	job2, err := w.Import(t.Context(), unified(imagestest.Small(t, "3"), "y"))
	must(t, err)
	_, err = w.do(job1, nil)
	must(t, err)
	if _, err := w.do(job2, nil); !errs.Is(err, errs.Conflict) {
		t.Errorf("second of two: %v", err)
	}
	// An alias that is taken meanwhile.
	job, err := w.Import(t.Context(), unified(imagestest.Small(t, "4"), "late"))
	must(t, err)
	must(t, w.CreateAlias(t.Context(), api.ImageAliasesEntry{Name: "late", ImageAliasesEntryPut: api.ImageAliasesEntryPut{Target: first}}))
	if _, err := w.do(job, nil); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), `"late"`) {
		t.Errorf("alias taken meanwhile: %v", err)
	}
	files, err := os.ReadDir(filepath.Join(w.Dir, "images"))
	if err != nil || len(files) != 2 {
		t.Errorf("files %v, %v, want those of two images", files, err)
	}
}

func TestVolumeFailsAnywhere(t *testing.T) {
	for n := 1; ; n++ {
		w := newWorld(t)
		fingerprint := w.add(unified(imagestest.Small(t, "1")))
		w.driver.Fail = fake.FailNth(n)
		_, err := w.Volume(t.Context(), fingerprint, "p", nil)
		if err == nil {
			if n < 4 {
				t.Errorf("succeeds if call %d fails", n)
			}
			return
		}
		if !errors.Is(err, fake.ErrInjected) {
			t.Fatalf("call %d: %v", n, err)
		}
		w.driver.Fail = nil
		w.noVolumes()
		_, err = w.Volume(t.Context(), fingerprint, "p", nil)
		must(t, err)
		_, err = w.do(w.Delete(t.Context(), fingerprint))
		must(t, err)
		w.empty()
	}
}

// TestVolumeOfLostDatabase tests that what a pool has of another database's
// image is not in the way.
func TestVolumeOfLostDatabase(t *testing.T) {
	w := newWorld(t)
	fingerprint := w.add(unified(imagestest.Small(t, "1")))
	must(t, w.driver.Create(t.Context(), storage.Volume{Kind: storage.Image, Name: fingerprint}))
	v, err := w.Volume(t.Context(), fingerprint, "p", nil)
	must(t, err)
	dir, err := w.driver.Mount(t.Context(), v, nil)
	must(t, err)
	if _, err := os.Stat(filepath.Join(dir, "rootfs")); err != nil {
		t.Error(err)
	}
}

func TestDeleteFailsAnywhere(t *testing.T) {
	for n := 1; ; n++ {
		w := newWorld(t)
		fingerprint := w.add(unified(imagestest.Small(t, "1")))
		_, err := w.Volume(t.Context(), fingerprint, "p", nil)
		must(t, err)
		w.driver.Fail = fake.FailNth(n)
		if _, err := w.do(w.Delete(t.Context(), fingerprint)); err == nil {
			if n < 2 {
				t.Errorf("succeeds if call %d fails", n)
			}
			w.empty()
			return
		}
		w.driver.Fail = nil
		_, err = w.Volume(t.Context(), fingerprint, "p", nil) // It is still whole.
		must(t, err)
		_, err = w.do(w.Delete(t.Context(), fingerprint))
		must(t, err)
		w.empty()
	}
}

// counting counts how often volumes are made.
type counting struct {
	*fake.Driver

	created atomic.Int32
}

func (c *counting) Create(ctx context.Context, v storage.Volume) error {
	c.created.Add(1)
	return c.Driver.Create(ctx, v)
}

func TestVolumeIsSharedAndDeletedInUse(t *testing.T) {
	w := newWorld(t)
	c := &counting{Driver: w.driver}
	w.Pools = pools{"p": c}
	fingerprint := w.add(unified(imagestest.Small(t, "1")))
	g, ctx := errgroup.WithContext(t.Context())
	for range 16 {
		g.Go(func() error {
			_, err := w.Volume(ctx, fingerprint, "p", nil)
			return err
		})
	}
	must(t, g.Wait())
	if n := c.created.Load(); n != 1 {
		t.Errorf("unpacked %d times", n)
	}
	instance := storage.Volume{Kind: storage.Instance, Name: "c1"}
	must(t, w.driver.Clone(t.Context(), instance, storage.Volume{Kind: storage.Image, Name: fingerprint}))
	_, err := w.do(w.Delete(t.Context(), fingerprint))
	must(t, err)
	dir, err := w.driver.Mount(t.Context(), instance, idmap.Map(nil))
	must(t, err)
	if got, err := os.ReadFile(filepath.Join(dir, "rootfs/etc/note")); err != nil || string(got) != "1" {
		t.Errorf("the instance: %q, %v", got, err)
	}
	if _, err := w.Volume(t.Context(), fingerprint, "p", nil); !errs.Is(err, errs.NotFound) {
		t.Errorf("volume of a deleted image: %v", err)
	}
	if _, err := w.Volume(t.Context(), w.add(unified(imagestest.Small(t, "2"))), "q", nil); !errs.Is(err, errs.NotFound) {
		t.Errorf("volume in no pool: %v", err)
	}
}

func TestImportCannotKeep(t *testing.T) {
	w := newWorld(t)
	data := imagestest.Small(t, "1")
	sum := sha256.Sum256(data)
	inTheWay := filepath.Join(w.Dir, "images", hex.EncodeToString(sum[:]))
	must(t, os.Mkdir(inTheWay, 0o700))
	if _, err := w.do(w.Import(t.Context(), unified(data, "a"))); err == nil {
		t.Error("it was kept")
	}
	w.empty()
	w.add(unified(data, "a"))
}

func TestImportIsCanceled(t *testing.T) {
	w := newWorld(t)
	job, err := w.Import(t.Context(), unified(imagestest.Small(t, "1")))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := job.Run(ctx, nil); !errs.Is(err, errs.Canceled) {
		t.Errorf("got %v", err)
	}
	w.empty()
}

func TestDiskIsFull(t *testing.T) {
	testenv.Kernel(t, "mount", "umount", "mksquashfs", "unsquashfs")
	small := t.TempDir()
	testenv.Run(t, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small)
	t.Cleanup(func() { testenv.Run(t, "umount", small) })
	big := packed(t, "metadata.yaml", imagestest.Metadata, "rootfs/", "", "rootfs/big", strings.Repeat("x", 2<<20))

	w := newWorld(t)
	w.Dir = small
	must(t, w.Recover(t.Context()))
	if _, err := w.do(w.Import(t.Context(), unified(big))); !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), small) {
		t.Errorf("import: %v", err)
	}
	w.empty()

	w = newWorld(t)
	d, err := fake.New(filepath.Join(small, "pool"))
	must(t, err)
	w.driver, w.Pools = d, pools{"p": d}
	src := t.TempDir()
	must(t, os.WriteFile(filepath.Join(src, "big"), []byte(strings.Repeat("x", 2<<20)), 0o600))
	testenv.Run(t, "mksquashfs", src, filepath.Join(src, "squash"), "-quiet", "-no-progress")
	f, err := os.Open(filepath.Join(src, "squash"))
	must(t, err)
	defer f.Close()
	split := unified(packed(t, "metadata.yaml", imagestest.Metadata))
	split.NextRootfs = func() (io.Reader, string, error) { return f, "", nil }
	for name, up := range map[string]images.Upload{"tar": unified(big), "squashfs": split} {
		if _, err := w.Volume(t.Context(), w.add(up), "p", nil); !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), small) {
			t.Errorf("unpack %s: %v", name, err)
		}
		w.noVolumes()
	}
}

func TestRecover(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	whole := w.add(unified(imagestest.Small(t, "1"), "a"))
	half := w.add(unified(imagestest.Small(t, "2"), "b"))
	_, err := w.Volume(ctx, whole, "p", nil)
	must(t, err)
	must(t, w.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		pool, err := db.GetPool(ctx, tx, "p")
		return errors.Join(err, db.SetImageStatus(ctx, tx, half, db.Pending), db.SetImageVolumeStatus(ctx, tx, whole, pool.ID, db.Pending))
	}))
	_, err = w.Import(ctx, unified(imagestest.Small(t, "3"))) // Its job never ran.
	must(t, err)
	must(t, w.Recover(ctx))
	w.noVolumes()
	files, err := os.ReadDir(filepath.Join(w.Dir, "images"))
	if err != nil || len(files) != 1 || files[0].Name() != whole {
		t.Errorf("files %v, %v", files, err)
	}
	if _, err := w.Alias(ctx, "b"); !errs.Is(err, errs.NotFound) {
		t.Errorf("alias of the half-made image: %v", err)
	}
	_, err = w.Volume(ctx, whole, "p", nil)
	must(t, err)

	// The pool is away at the start, and is back when it is needed.
	must(t, w.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		pool, err := db.GetPool(ctx, tx, "p")
		return errors.Join(err, db.SetImageVolumeStatus(ctx, tx, whole, pool.ID, db.Pending))
	}))
	have := w.Pools
	w.Pools = pools{}
	must(t, w.Recover(ctx))
	w.Pools = have
	_, err = w.Volume(ctx, whole, "p", nil)
	must(t, err)
}

func TestAliases(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	one, two := w.add(unified(imagestest.Small(t, "1"))), w.add(unified(imagestest.Small(t, "2")))
	entry := func(name, target string) api.ImageAliasesEntry {
		return api.ImageAliasesEntry{Name: name, ImageAliasesEntryPut: api.ImageAliasesEntryPut{Target: target, Description: "d"}}
	}
	must(t, w.CreateAlias(ctx, entry("debian/12/cloud", one[:10])))
	if got, err := w.Alias(ctx, "debian/12/cloud"); err != nil || got.Target != one || got.Description != "d" || got.Type != "container" {
		t.Errorf("got %+v, %v", got, err)
	}
	must(t, w.UpdateAlias(ctx, "debian/12/cloud", api.ImageAliasesEntryPut{Target: two}))
	must(t, w.RenameAlias(ctx, "debian/12/cloud", "d"))
	must(t, w.CreateAlias(ctx, entry("e", one)))
	all, err := w.Aliases(ctx)
	if err != nil || len(all) != 2 || all[0].Name != "d" || all[0].Target != two {
		t.Errorf("got %+v, %v", all, err)
	}
	for name, tt := range map[string]struct {
		err  error
		kind errs.Kind
	}{
		"taken":           {w.CreateAlias(ctx, entry("d", one)), errs.Conflict},
		"no target":       {w.CreateAlias(ctx, entry("x", "")), errs.Invalid},
		"unknown target":  {w.CreateAlias(ctx, entry("x", "ffffffff")), errs.NotFound},
		"no name":         {w.CreateAlias(ctx, entry("", one)), errs.Invalid},
		"dots":            {w.CreateAlias(ctx, entry("a/../b", one)), errs.Invalid},
		"rename to taken": {w.RenameAlias(ctx, "d", "e"), errs.Conflict},
		"rename badly":    {w.RenameAlias(ctx, "d", "/e"), errs.Invalid},
		"update unknown":  {w.UpdateAlias(ctx, "x", api.ImageAliasesEntryPut{Target: one}), errs.NotFound},
		"delete unknown":  {w.DeleteAlias(ctx, "x"), errs.NotFound},
	} {
		if tt.err == nil || errs.KindOf(tt.err) != tt.kind {
			t.Errorf("%s: %v", name, tt.err)
		}
	}
	must(t, w.DeleteAlias(ctx, "d"))
	for alias, want := range map[string]string{"d": `image alias "d" not found`, "debian:sid": `image alias "debian:sid" not found`, "": "names no image"} {
		if _, err := w.Resolve(ctx, api.InstanceSource{Alias: alias}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("resolve %q: %v", alias, err)
		}
	}
	if _, err := w.Resolve(ctx, api.InstanceSource{Properties: map[string]string{"os": "Plan9"}}); !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "os=Plan9") {
		t.Errorf("resolve by properties: %v", err)
	}
}
