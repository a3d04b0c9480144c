package transfer_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/fake"
	"github.com/cuib/cuib/storage/storagetest"
	"github.com/cuib/cuib/storage/transfer"
)

// over sends and receives at the same time.
func over(t *testing.T, to transfer.Target, from transfer.Source) error {
	t.Helper()
	offer, err := transfer.OfferOf(t.Context(), to)
	ok(t, err)
	return overAs(t, to, from, offer)
}

func overAs(t *testing.T, to transfer.Target, from transfer.Source, offer transfer.Offer) error {
	t.Helper()
	r, w := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := transfer.Send(t.Context(), w, from, offer, transfer.Options{})
		_ = w.CloseWithError(err) // It never fails.
		sent <- err
	}()
	err := transfer.Receive(t.Context(), r, to, transfer.Options{})
	_ = r.CloseWithError(errors.New("the receiver stopped")) // It never fails.
	return errors.Join(err, <-sent)
}

func TestBetweenHosts(t *testing.T) {
	all := pools(t)
	for _, pair := range [][2]string{{"dir", "overlay"}, {"overlay", "btrfs"}, {"btrfs", "dir"}, {"overlay", "overlay"}, {"btrfs", "btrfs"}} {
		t.Run(pair[0]+" to "+pair[1], func(t *testing.T) {
			a, b := all[pair[0]](t), all[pair[1]](t)
			storagetest.FillSource(t, a)
			src := transfer.Source{Driver: a.Driver, Volume: c1, Snapshots: copied}
			dst := transfer.Target{Driver: b.Driver, Volume: c2}
			ok(t, over(t, dst, src))
			wantSame(t, b.Driver, a.Driver, c2, copied...)
			storagetest.ChangeSource(t, a.Driver)
			src.Snapshots = append(slices.Clone(copied), "s3")
			ok(t, over(t, dst, src))
			wantSame(t, b.Driver, a.Driver, c2, src.Snapshots...)
		})
	}
}

func TestHostsWithoutFormat(t *testing.T) {
	a, b := newFake(t), newFake(t)
	fill(t, a)
	to := transfer.Target{Driver: b, Volume: c2}
	if err := overAs(t, to, source(a), transfer.Offer{Formats: []string{"zfs"}}); !errs.Is(err, errs.Unsupported) && err == nil {
		t.Errorf("got %v", err)
	}
	wantContents(t, b, nil)
}

// sentBytes returns the stream of c1.
func sentBytes(t testing.TB, d storage.Driver) []byte {
	t.Helper()
	var buf bytes.Buffer
	ok(t, transfer.Send(t.Context(), &buf, source(d), transfer.Offer{Formats: []string{"tree"}}, transfer.Options{}))
	return buf.Bytes()
}

func TestReceiveDamaged(t *testing.T) {
	a, b := newFake(t), newFake(t)
	fill(t, a)
	whole := sentBytes(t, a)
	to := transfer.Target{Driver: b, Volume: c2}
	for size := 0; size < len(whole); size += 5 {
		if err := transfer.Receive(t.Context(), bytes.NewReader(whole[:size]), to, transfer.Options{}); !errs.Is(err, errs.Invalid) {
			t.Fatalf("%d of %d bytes: %v", size, len(whole), err)
		}
	}
	wantContents(t, b, nil)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // A test's choices.
	for range 60 {
		bad := slices.Clone(whole)
		bad[rnd.IntN(len(bad))] ^= 1 << rnd.IntN(8)
		if err := transfer.Receive(t.Context(), bytes.NewReader(bad), to, transfer.Options{}); err == nil {
			vols, err := b.List(t.Context()) // The damage was to a file's data or owner.
			ok(t, err)
			slices.Reverse(vols)
			for _, v := range vols {
				if v.Snapshot != "" {
					ok(t, b.Delete(t.Context(), v))
				}
			}
			ok(t, b.Delete(t.Context(), vols[slices.IndexFunc(vols, func(v storage.Volume) bool { return v.Snapshot == "" })]))
		}
		wantContents(t, b, nil)
	}
}

func TestReceiveFailsAnywhere(t *testing.T) {
	a := newFake(t)
	fill(t, a)
	whole := sentBytes(t, a)
	failing(t, func(t *testing.T, n int) error {
		b := newFake(t)
		b.Fail = fake.FailNth(n)
		err := transfer.Receive(t.Context(), bytes.NewReader(whole), transfer.Target{Driver: b, Volume: c2}, transfer.Options{})
		b.Fail = nil
		if err != nil {
			wantContents(t, b, nil)
		}
		return err
	})
}

// FuzzReceive looks for a stream that leaves something behind, or that is not
// what an error says is wrong.
func FuzzReceive(f *testing.F) {
	f.Setenv("TMPDIR", testenv.Memory())
	d, err := fake.New(filepath.Join(f.TempDir(), "pool"))
	ok(f, err)
	fill(f, d)
	f.Add(sentBytes(f, d))
	f.Add([]byte("cuib-transfer\x00\x01\nh\x00\x00\x00\x11{\"Format\":\"tree\"}s\x00\x00\x00\x02{}d\x00\x00\x00\x01ez\x00\x00\x00\x00e\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		base := t.TempDir()
		d, err := fake.New(filepath.Join(base, "pool"))
		ok(t, err)
		err = transfer.Receive(t.Context(), bytes.NewReader(data), transfer.Target{Driver: d, Volume: c2}, transfer.Options{})
		if err != nil && !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.Unsupported) && !errors.Is(err, unix.ENOSPC) &&
			!strings.Contains(err.Error(), "the sender failed") {
			t.Errorf("got %v, which does not blame the stream", err)
		}
		vols, lerr := d.List(t.Context())
		ok(t, lerr)
		if err != nil && len(vols) > 0 {
			t.Errorf("after %v there are %v", err, vols)
		}
		if left, err := os.ReadDir(base); err != nil || fmt.Sprint(len(left)) != "1" {
			t.Errorf("outside: %v, %v", left, err)
		}
	})
}
