package storagetest

import (
	"bytes"
	"testing"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

var recordTests = []test{
	{"a record is kept with its volume", testRecord},
	{"a record goes with its volume", testRecordGoes},
	{"a record of the pool", testPoolRecord},
	{"a record of what does not exist", testRecordOfNothing},
}

// recorder returns the driver as one, and skips the test if it is none.
func recorder(t *testing.T, d storage.Driver) storage.Recorder {
	t.Helper()
	r, can := d.(storage.Recorder)
	if !can {
		t.Skip("the driver keeps no records")
	}
	return r
}

func wantRecord(t *testing.T, d storage.Driver, v storage.Volume, want []byte) {
	t.Helper()
	got, err := recorder(t, d).Record(t.Context(), v)
	ok(t, err)
	if !bytes.Equal(got, want) {
		t.Fatalf("the record of %s has %d bytes, %.40q, want %d, %.40q", v, len(got), got, len(want), want)
	}
}

func testRecord(t *testing.T, p Pool) {
	d := p.Driver
	r := recorder(t, d)
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, "one")
	wantRecord(t, d, c1, nil)
	long := bytes.Repeat([]byte("config: {user.a: \"ünï\\0\\x01\"}\n"), 10_000)
	for _, doc := range [][]byte{[]byte("one"), long, []byte("two")} {
		ok(t, r.SetRecord(t.Context(), c1, doc))
		wantRecord(t, d, c1, doc)
	}
	ok(t, d.Snapshot(t.Context(), snap))
	write(t, d, c1, "two")
	ok(t, r.SetRecord(t.Context(), c1, long))
	ok(t, d.Clone(t.Context(), c2, c1))
	ok(t, d.Clone(t.Context(), c3, snap))
	wantRecord(t, d, c2, nil)
	wantRecord(t, d, c3, nil)
	ok(t, d.Restore(t.Context(), snap)) // The files, and not what is known of them.
	wantRecord(t, d, c1, long)
	wantFile(t, d, c1, "one")
	in(t, d, c1, func(dir string) {
		if names := list(t, dir); len(names) != 1 {
			t.Errorf("the volume holds %q", names)
		}
	})

	d = p.Reopen(t)
	wantRecord(t, d, c1, long)
	ok(t, d.Delete(t.Context(), c2))
	ok(t, d.Rename(t.Context(), c1, "c2"))
	wantRecord(t, d, c2, long)
	wantList(t, d, c2, c3, storage.Volume{Kind: c2.Kind, Name: "c2", Snapshot: "s0"})
}

func testRecordGoes(t *testing.T, p Pool) {
	d := p.Driver
	r := recorder(t, d)
	ok(t, d.Create(t.Context(), c1))
	ok(t, r.SetRecord(t.Context(), c1, []byte("one")))
	ok(t, d.Delete(t.Context(), c1))
	_, err := r.Record(t.Context(), c1)
	wantKind(t, err, errs.NotFound)
	ok(t, d.Create(t.Context(), c1))
	wantRecord(t, d, c1, nil)
}

func testPoolRecord(t *testing.T, p Pool) {
	d := p.Driver
	r := recorder(t, d)
	wantRecord(t, d, storage.Volume{}, nil)
	for _, doc := range []string{"one", "two"} {
		ok(t, r.SetRecord(t.Context(), storage.Volume{}, []byte(doc)))
		wantRecord(t, d, storage.Volume{}, []byte(doc))
	}
	wantList(t, d)
	wantRecord(t, p.Reopen(t), storage.Volume{}, []byte("two"))
}

func testRecordOfNothing(t *testing.T, p Pool) {
	d := p.Driver
	r := recorder(t, d)
	wantKind(t, r.SetRecord(t.Context(), c1, []byte("one")), errs.NotFound)
	_, err := r.Record(t.Context(), c1)
	wantKind(t, err, errs.NotFound)
	ok(t, d.Create(t.Context(), c1))
	ok(t, d.Snapshot(t.Context(), snap))
	wantKind(t, r.SetRecord(t.Context(), snap, []byte("one")), errs.Invalid)
	wantRecord(t, d, c1, nil)
}

var tuneTests = []test{{"options of a volume", testTune}}

func testTune(t *testing.T, p Pool) {
	d := p.Driver
	tuner, can := d.(storage.Tuner)
	if !can {
		t.Skip("the driver's volumes have no options")
	}
	wantKind(t, tuner.Tune(t.Context(), c1, p.Tunes), errs.NotFound)
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, "one")
	wantKind(t, tuner.Tune(t.Context(), c1, map[string]string{"no.such": "key"}), errs.Invalid)
	for key := range p.Tunes {
		wantKind(t, tuner.Tune(t.Context(), c1, map[string]string{key: "no such value"}), errs.Invalid)
	}
	for _, options := range []map[string]string{p.Tunes, p.Tunes, nil, {}, p.Tunes} {
		ok(t, tuner.Tune(t.Context(), c1, options))
		wantFile(t, d, c1, "one")
	}
	ok(t, d.Snapshot(t.Context(), snap))
	ok(t, d.Clone(t.Context(), c2, snap))
	ok(t, d.Restore(t.Context(), snap))
	ok(t, tuner.Tune(t.Context(), c1, nil))
	if p.Plain {
		return
	}
	_, err := d.Mount(t.Context(), c1, ids) // A guest may be at work.
	ok(t, err)
	ok(t, tuner.Tune(t.Context(), c1, p.Tunes))
	ok(t, d.Unmount(t.Context(), c1))
	wantFile(t, d, c1, "one")
}

// Adopt tests that pools of the type are found again when all that is known is
// where they are. newPool returns the configuration of a pool that is not made
// yet; reboot unmounts what Open mounted.
func Adopt(t *testing.T, typ storage.Type, newPool func(t *testing.T) storage.Config, reboot func(t *testing.T, cfg storage.Config)) {
	t.Helper()
	bare := newPool(t)
	_, err := typ.Adopt(t.Context(), bare)
	wantKind(t, err, errs.NotFound)
	cfg, err := typ.Make(t.Context(), bare)
	ok(t, err)
	d, err := typ.Open(t.Context(), cfg)
	ok(t, err)
	r := recorder(t, d)
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, "one")
	ok(t, d.Snapshot(t.Context(), snap))
	ok(t, r.SetRecord(t.Context(), c1, []byte("c1")))
	ok(t, r.SetRecord(t.Context(), storage.Volume{}, []byte("pool")))

	for _, again := range []func(){func() {}, func() { reboot(t, cfg) }} {
		again()
		found, err := typ.Adopt(t.Context(), storage.Config{Name: bare.Name, Dir: bare.Dir, Source: bare.Source})
		ok(t, err)
		d, err = typ.Open(t.Context(), found)
		ok(t, err)
		wantList(t, d, c1, snap)
		wantRecord(t, d, c1, []byte("c1"))
		wantRecord(t, d, storage.Volume{}, []byte("pool"))
		wantFile(t, d, c1, "one")
	}
	if bare.Source != "" {
		_, err = typ.Make(t.Context(), bare)
		if !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.Conflict) {
			t.Errorf("to make a pool where one with volumes is: %v", err)
		}
		wantFile(t, d, c1, "one")
	}
	ok(t, d.Delete(t.Context(), snap))
	ok(t, d.Delete(t.Context(), c1))
	ok(t, typ.Remove(t.Context(), cfg))
	_, err = typ.Adopt(t.Context(), bare)
	wantKind(t, err, errs.NotFound)
}
