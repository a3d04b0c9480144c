package storagetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/storage"
)

// workerEnv names the pool in the environment of the process that is killed.
const workerEnv = "CUIB_TEST_STORAGE_WORKER"

// contents is what each volume of the killed process has in its file.
var contents = bytes.Repeat([]byte("whole"), 10000)

// changesBeforeKill is how often the time of one change the process has at
// most before it is killed.
const changesBeforeKill = 15

// Kill has a process change volumes of the pool cfg, which Make returned, and
// kills it; again and again. After each time all volumes must be whole. It is
// to be the whole of a test, which that process runs too.
func Kill(t *testing.T, typ storage.Type, makePool func(t *testing.T) storage.Config) {
	t.Helper()
	if text := os.Getenv(workerEnv); text != "" {
		var cfg storage.Config
		ok(t, json.Unmarshal([]byte(text), &cfg))
		work(t, typ, cfg)
		return
	}
	cfg := makePool(t)
	d, err := typ.Open(t.Context(), cfg)
	ok(t, err)
	// The worker is to get some changes far, however long one takes here.
	begun := time.Now()
	ok(t, d.Create(t.Context(), img))
	longest := max(60*time.Millisecond, changesBeforeKill*time.Since(begun))
	in(t, d, img, func(dir string) { ok(t, os.WriteFile(filepath.Join(dir, "f"), contents, 0o600)) })
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // A test's choices.
	for round := range 25 {
		killWorker(t, cfg, time.Duration(rnd.Int64N(int64(longest))))
		d, err := typ.Open(t.Context(), cfg)
		ok(t, err)
		wantWhole(t, d)
		if round%5 == 4 {
			sweep(t, d)
			empty(t, d)
		}
	}
	mounts.Settle()
}

// killWorker starts the process and kills it that long after it began to work.
func killWorker(t *testing.T, cfg storage.Config, after time.Duration) {
	t.Helper()
	text, err := json.Marshal(cfg)
	ok(t, err)
	killProcess(t, string(text), after)
}

// killProcess is killWorker for a worker that is told more.
func killProcess(t *testing.T, text string, after time.Duration) {
	t.Helper()
	name, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+name+"$")
	cmd.Env = append(os.Environ(), workerEnv+"="+text)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	buf := make([]byte, 1)
	_, err = out.Read(buf)
	ok(t, err)
	<-time.After(after)
	ok(t, cmd.Process.Kill())
	_ = cmd.Wait() // It was killed.
}

// work changes volumes until it is killed.
func work(t *testing.T, typ storage.Type, cfg storage.Config) {
	t.Helper()
	d, err := typ.Open(t.Context(), cfg)
	ok(t, err)
	_, err = os.Stdout.WriteString("ready\n")
	ok(t, err)
	volume := func() storage.Volume {
		return storage.Volume{Kind: storage.Instance, Name: fmt.Sprint("v", rand.IntN(4))}
	}
	for t.Context().Err() == nil {
		v := volume()
		s := v
		s.Snapshot = fmt.Sprint("s", rand.IntN(2))
		for _, err := range []error{
			d.Clone(t.Context(), v, img),
			change(t.Context(), d, v),
			d.Snapshot(t.Context(), s),
			d.Clone(t.Context(), volume(), s),
			change(t.Context(), d, v),
			d.Restore(t.Context(), s),
			d.Rename(t.Context(), volume(), volume().Name),
			d.Delete(t.Context(), s),
			d.Delete(t.Context(), volume()),
		} {
			if err != nil && !errs.Is(err, errs.Conflict) && !errs.Is(err, errs.NotFound) {
				_, _ = fmt.Fprintln(os.Stderr, "worker:", err)
				os.Exit(1)
			}
		}
	}
}

// change replaces the file of a volume by one that is the same.
func change(ctx context.Context, d storage.Driver, v storage.Volume) error {
	dir, err := d.Mount(ctx, v, nil)
	if err != nil {
		return err
	}
	fresh := filepath.Join(dir, "fresh")
	if err := os.WriteFile(fresh, contents, 0o600); err != nil {
		return err
	}
	if err := os.Rename(fresh, filepath.Join(dir, "f")); err != nil {
		return err
	}
	return d.Unmount(ctx, v)
}

// wantWhole unmounts all volumes and checks that each has its file.
func wantWhole(t *testing.T, d storage.Driver) {
	t.Helper()
	vols, err := d.List(t.Context())
	ok(t, err)
	for _, v := range vols {
		ok(t, d.Unmount(t.Context(), v))
		in(t, d, v, func(dir string) {
			b, err := os.ReadFile(filepath.Join(dir, "f"))
			if err != nil || !bytes.Equal(b, contents) {
				t.Errorf("the file of %s has %d bytes, %v", v, len(b), err)
			}
		})
	}
}

// empty deletes all volumes but the image.
func empty(t *testing.T, d storage.Driver) {
	t.Helper()
	vols, err := d.List(t.Context())
	ok(t, err)
	for _, v := range vols {
		if v.Snapshot != "" {
			ok(t, d.Delete(t.Context(), v))
		}
	}
	for _, v := range vols {
		if v.Snapshot == "" && v != img {
			ok(t, d.Delete(t.Context(), v))
		}
	}
	wantList(t, d, img)
	in(t, d, img, func(string) {})
}
