package storagetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
)

// KillStreams has a process receive a volume, and then more of it, from one
// pool that make makes to another, and kills it; again and again. After each
// time the volume must be as before or after it. It is to be the whole of a
// test, which that process runs too.
func KillStreams(t *testing.T, typ storage.Type, makePool func(t *testing.T) storage.Config) {
	t.Helper()
	if text := os.Getenv(workerEnv); text != "" {
		var cfgs [2]storage.Config
		ok(t, json.Unmarshal([]byte(text), &cfgs))
		_, err := os.Stdout.WriteString("ready\n")
		ok(t, err)
		var p [2]storage.Driver
		for i, cfg := range cfgs {
			p[i], err = typ.Open(t.Context(), cfg)
			ok(t, err)
		}
		ok(t, receiveForever(t.Context(), streamer(t, p[0]), p[1]))
		return
	}
	testenv.InMemory(t)
	cfgs := [2]storage.Config{makePool(t), makePool(t)}
	from, err := typ.Open(t.Context(), cfgs[0])
	ok(t, err)
	begun := time.Now()
	ok(t, from.Create(t.Context(), c1))
	longest := max(400*time.Millisecond, receiveBeforeKill*time.Since(begun))
	for _, name := range []string{"s0", "s1", "s2", "s3"} {
		in(t, from, c1, func(dir string) { ok(t, os.WriteFile(filepath.Join(dir, "f"), killContents(name), 0o600)) })
		ok(t, from.Snapshot(t.Context(), snapOf(c1, name)))
	}
	text, err := json.Marshal(cfgs)
	ok(t, err)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // A test's choices.
	for range 20 {
		killProcess(t, string(text), time.Duration(rnd.Int64N(int64(longest))))
		to, err := typ.Open(t.Context(), cfgs[1])
		ok(t, err)
		sweep(t, to)
		wantReceived(t, to)
	}
	mounts.Settle()
}

// receiveBeforeKill is changesBeforeKill for a process that receives: it opens
// two pools first, and makes a volume in many steps.
const receiveBeforeKill = 40

func killContents(name string) []byte { return []byte(strings.Repeat(name, 5000)) }

// receiveForever receives until it is killed.
func receiveForever(ctx context.Context, from storage.Streamer, to storage.Driver) error {
	in, _ := to.(storage.Streamer)
	for ctx.Err() == nil {
		if err := receiveSome(ctx, from, in, [][2]string{{"s0", ""}, {"s1", "s0"}}); err != nil {
			return err
		}
		for range rand.IntN(3) {
			if err := receiveSome(ctx, from, in, [][2]string{{"s2", "s1"}, {"s3", "s2"}}); err != nil {
				return err
			}
			for _, name := range []string{"s2", "s3"} {
				if err := to.Delete(ctx, snapOf(c2, name)); err != nil {
					return err
				}
			}
		}
		for _, name := range []string{"s1", "s0", ""} {
			if err := to.Delete(ctx, snapOf(c2, name)); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// receiveSome receives snapshots of c1, and the last of them as the volume
// too. What is there already, from before the process was killed, is deleted.
func receiveSome(ctx context.Context, from, to storage.Streamer, states [][2]string) error {
	d, _ := to.(storage.Driver)
	have, err := d.List(ctx)
	if err != nil {
		return err
	}
	for _, s := range states {
		if v := snapOf(c2, s[0]); slices.Contains(have, v) {
			if err := d.Delete(ctx, v); err != nil {
				return err
			}
		}
	}
	if states[0][1] == "" && slices.Contains(have, c2) {
		for _, name := range []string{"s2", "s3", ""} {
			if err := d.Delete(ctx, snapOf(c2, name)); err != nil {
				return err
			}
		}
	}
	r, err := to.Receive(ctx, c2)
	if err != nil {
		return err
	}
	last := states[len(states)-1][0]
	for _, s := range states {
		if err := next(ctx, from, r, snapOf(c1, s[0]), s[1]); err != nil {
			return err
		}
	}
	var head bytes.Buffer
	if err := from.Send(ctx, &head, snapOf(c1, last), states[0][0]); err != nil {
		return err
	}
	if err := r.Next(ctx, &head, "", states[0][0]); err != nil {
		return err
	}
	return r.Commit(ctx)
}

// wantReceived checks that c2 is whole if it is there.
func wantReceived(t *testing.T, d storage.Driver) {
	t.Helper()
	vols, err := d.List(t.Context())
	ok(t, err)
	for _, v := range vols {
		in(t, d, v, func(dir string) {
			data, err := os.ReadFile(filepath.Join(dir, "f"))
			ok(t, err)
			if v.Snapshot != "" && !bytes.Equal(data, killContents(v.Snapshot)) ||
				v.Snapshot == "" && !bytes.Equal(data, killContents("s1")) && !bytes.Equal(data, killContents("s3")) {
				t.Errorf("%s holds %.20q", v, data)
			}
		})
	}
	if slices.Contains(vols, snapOf(c2, "s2")) && !slices.Contains(vols, snapOf(c2, "s3")) {
		t.Error("one snapshot of two is there: " + fmt.Sprint(vols))
	}
}
