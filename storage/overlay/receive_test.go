package overlay_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/overlay"
)

// sent are streams: of an image, of a snapshot of an instance that was made of
// one, and of what changed since.
func sent(f *testing.F) [][]byte {
	f.Helper()
	p := newPool(f, storage.Config{})
	img, v := storage.Volume{Kind: storage.Image, Name: "img"}, vol("v")
	ok(f, p.Driver.Create(f.Context(), img))
	at, err := p.Driver.Mount(f.Context(), img, nil)
	ok(f, err)
	ok(f, os.MkdirAll(filepath.Join(at, "d/e"), 0o700))
	ok(f, os.WriteFile(filepath.Join(at, "d/f"), []byte("x"), 0o600))
	ok(f, errors.Join(p.Driver.Unmount(f.Context(), img), p.Driver.Clone(f.Context(), v, img)))
	at, err = p.Driver.Mount(f.Context(), v, nil)
	ok(f, err)
	ok(f, errors.Join(os.RemoveAll(filepath.Join(at, "d/e")), os.Mkdir(filepath.Join(at, "d/e"), 0o700), os.Remove(filepath.Join(at, "d/f"))))
	ok(f, p.Driver.Unmount(f.Context(), v))
	s0 := v
	s0.Snapshot = "s0"
	ok(f, p.Driver.Snapshot(f.Context(), s0))
	var all [][]byte
	for _, state := range []struct {
		v    storage.Volume
		base string
	}{{img, ""}, {s0, ""}, {v, "s0"}} {
		var buf bytes.Buffer
		d, _ := p.Driver.(storage.Streamer)
		ok(f, d.Send(f.Context(), &buf, state.v, state.base))
		all = append(all, buf.Bytes())
	}
	return all
}

// FuzzReceive looks for a stream that leaves something behind, or that is not
// what an error says is wrong.
func FuzzReceive(f *testing.F) {
	testenv.Kernel(f)
	f.Setenv("TMPDIR", testenv.Memory())
	for _, data := range sent(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		base := t.TempDir()
		cfg, err := overlay.Type().Make(t.Context(), storage.Config{Name: "p", Dir: base})
		ok(t, err)
		d, err := overlay.Type().Open(t.Context(), cfg)
		ok(t, err)
		r, err := d.(storage.Streamer).Receive(t.Context(), vol("v")) //nolint:forcetypeassert // It is one.
		ok(t, err)
		err = r.Next(t.Context(), bytes.NewReader(data), "", "")
		if err == nil {
			err = r.Commit(t.Context())
		}
		ok(t, r.Abort(t.Context()))
		if err != nil && !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.Unsupported) && !errors.Is(err, unix.ENOSPC) {
			t.Errorf("got %v, which does not blame the stream", err)
		}
		all, lerr := d.List(t.Context())
		if lerr != nil || (err == nil) != (len(all) == 1) {
			t.Errorf("after %v there are %v, %v", err, all, lerr)
		}
		left, lerr := filepath.Glob(filepath.Join(base, "data/staging/*"))
		layers, lerr2 := filepath.Glob(filepath.Join(base, "data/layers/*"))
		if lerr = errors.Join(lerr, lerr2); lerr != nil || len(left) > 0 || err != nil && len(layers) > 0 {
			t.Errorf("left behind: %v, %v, %v", left, layers, lerr)
		}
		if outside, err := os.ReadDir(base); err != nil || len(outside) != 1 {
			t.Errorf("outside: %v, %v", outside, err)
		}
	})
}
