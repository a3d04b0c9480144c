package layout

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

var (
	form = Form{Driver: "test"}
	vol  = storage.Volume{Kind: storage.Instance, Name: "v"}
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mark makes a directory that holds a word.
func mark(t *testing.T, dir, word string) {
	t.Helper()
	ok(t, os.MkdirAll(dir, 0o700))
	ok(t, os.WriteFile(filepath.Join(dir, "f"), []byte(word), 0o600))
}

// stagedMerge makes a pool with a volume, and what is to be merged into it.
func stagedMerge(t *testing.T) (b *Base, cfg storage.Config, staged string) {
	t.Helper()
	cfg = storage.Config{Dir: t.TempDir(), Source: filepath.Join(t.TempDir(), "pool")}
	ok(t, os.Mkdir(cfg.Source, 0o700))
	ok(t, form.Make(cfg.Source))
	b, err := form.Open(cfg)
	ok(t, err)
	mark(t, b.Pool.Path(vol), "old")
	staged, err = b.Pool.StageWhole()
	ok(t, err)
	mark(t, Cur(staged), "new")
	for _, name := range []string{"s1", "s2"} {
		mark(t, SnapshotIn(staged, name), name)
	}
	return b, cfg, staged
}

func wantMarks(t *testing.T, b *Base, want map[string]string) {
	t.Helper()
	vols, err := b.List(t.Context())
	ok(t, err)
	if len(vols) != len(want) {
		t.Errorf("there are %v", vols)
	}
	for name, word := range want {
		v := vol
		v.Snapshot = name
		if data, err := os.ReadFile(filepath.Join(b.Pool.Path(v), "f")); err != nil || string(data) != word {
			t.Errorf("%s holds %q, %v", v, data, err)
		}
	}
}

var merged = map[string]string{"": "new", "s1": "s1", "s2": "s2"}

func TestMerge(t *testing.T) {
	b, _, staged := stagedMerge(t)
	ok(t, b.Pool.Merge(staged, vol))
	wantMarks(t, b, merged)
	if data, err := os.ReadFile(filepath.Join(Replaced(staged), "f")); err != nil || string(data) != "old" {
		t.Errorf("what was replaced holds %q, %v", data, err)
	}
}

// TestMergeCrashes leaves the merging at each of its steps.
func TestMergeCrashes(t *testing.T) {
	for crash := range 7 {
		b, cfg, staged := stagedMerge(t)
		dir := b.Pool.dir(vol)
		note, err := json.Marshal(vol)
		ok(t, err)
		steps := []func(){
			func() { ok(t, os.WriteFile(filepath.Join(staged, committing), note, 0o600)) },
			func() { ok(t, os.Mkdir(filepath.Join(dir, snapshots), 0o700)) },
			func() { ok(t, os.Rename(SnapshotIn(staged, "s1"), filepath.Join(dir, snapshots, "s1"))) },
			func() { ok(t, os.Rename(SnapshotIn(staged, "s2"), filepath.Join(dir, snapshots, "s2"))) },
			func() { ok(t, os.Rename(Cur(dir), Replaced(staged))) },
			func() { ok(t, os.Rename(Cur(staged), Cur(dir))) },
		}
		for _, step := range steps[:crash] {
			step()
		}
		want := merged
		if crash == 0 {
			want = map[string]string{"": "old"}
		}
		for range 2 {
			b, err = form.Open(cfg)
			ok(t, err)
			wantMarks(t, b, want)
			ok(t, b.Sweep(t.Context()))
			wantMarks(t, b, want)
		}
		if t.Failed() {
			t.Fatalf("after %d steps", crash)
		}
	}
}

func TestMergeFails(t *testing.T) {
	b, _, staged := stagedMerge(t)
	taken := vol
	taken.Snapshot = "s2"
	mark(t, b.Pool.Path(taken), "taken")
	if err := b.Pool.Merge(staged, vol); !errs.Is(err, errs.Conflict) {
		t.Errorf("onto a snapshot that is there: %v", err)
	}
	wantMarks(t, b, map[string]string{"": "old", "s2": "taken"})
	ok(t, os.RemoveAll(b.Pool.Path(taken)))

	moves := 0
	b.Pool.Move = func(from, to string) error {
		if moves++; moves == 2 {
			return os.ErrPermission
		}
		return os.Rename(from, to)
	}
	if err := b.Pool.Merge(staged, vol); err == nil {
		t.Error("it did not fail")
	}
	wantMarks(t, b, map[string]string{"": "old"})

	gone := storage.Volume{Kind: vol.Kind, Name: "gone"}
	if err := b.Pool.Merge(staged, gone); !errs.Is(err, errs.NotFound) {
		t.Errorf("into what is not there: %v", err)
	}
}

// TestAway looks for what is in a pool, and removes it, while the pool is not
// there: nothing is known of it then.
func TestAway(t *testing.T) {
	b, cfg, _ := stagedMerge(t)
	ok(t, os.Rename(cfg.Source, cfg.Source+".away"))
	for _, err := range []error{b.Pool.MustExist(vol), b.Pool.MustNotExist(vol), b.Pool.Delete(vol)} {
		if !errs.Is(err, errs.Unavailable) {
			t.Errorf("got %v", err)
		}
	}
	ok(t, os.Rename(cfg.Source+".away", cfg.Source))
	wantMarks(t, b, map[string]string{"": "old"})
}
