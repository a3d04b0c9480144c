package pools_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/pools"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
)

// running runs the service until the test ends.
func running(t *testing.T, s *pools.Service) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	s.WaitUntilRuns()
}

func TestPoolAppears(t *testing.T) {
	s := newService(t, nil)
	source := filepath.Join(t.TempDir(), "disk")
	ok(t, s.Create(t.Context(), post("p", map[string]string{"source": source})))
	ok(t, s.Create(t.Context(), post("other", nil)))
	ok(t, os.Rename(source, source+".away"))

	s = restarted(s)
	var (
		mu       sync.Mutex // Run looks too, as somebody wants the pool.
		appeared []string
	)
	appears := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		appeared = append(appeared, what)
	}
	have := func(want ...string) bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Equal(appeared, want)
	}
	others := t.Context()
	s.Appears = []func(context.Context, string) error{
		func(ctx context.Context, pool string) error {
			if _, err := s.Driver(others, pool); !errs.Is(err, errs.Unavailable) {
				t.Errorf("others get the driver already: %v", err)
			}
			_, err := s.Driver(ctx, pool)
			appears(pool)
			return err
		},
		func(context.Context, string) error { return errors.New("this keeps nobody") },
	}
	s.Appeared = []func(context.Context, string) error{
		func(_ context.Context, pool string) error {
			_, err := s.Driver(others, pool)
			appears("all of " + pool)
			return err
		},
	}
	ok(t, s.Recover(t.Context()))
	_, err := s.Driver(t.Context(), "other")
	ok(t, err)
	running(t, s)
	_, err = s.Driver(t.Context(), "p")
	wantKind(t, err, errs.Unavailable, source)
	got, err := s.Get(t.Context(), "p")
	ok(t, err)
	if got.Status != "Unavailable" || !strings.Contains(got.StatusMessage, source) {
		t.Errorf("without its disk: %+v", got)
	}
	s.Look(t.Context())
	if !have() {
		t.Fatal("it is not there")
	}
	ok(t, os.Rename(source+".away", source))
	s.Look(t.Context())
	_, err = s.Driver(t.Context(), "p")
	ok(t, err)
	s.Look(t.Context())
	if !have("p", "all of p") {
		t.Errorf("appeared: %v", appeared)
	}
}

// TestPoolGoes has a pool be renamed, or its disk be unmounted, while it is
// open.
func TestPoolGoes(t *testing.T) {
	s := newService(t, nil)
	source := filepath.Join(t.TempDir(), "disk")
	ok(t, s.Create(t.Context(), post("p", map[string]string{"source": source})))
	running(t, s)
	ok(t, os.Rename(source, source+".away"))
	s.CheckRoom(t.Context())
	_, err := s.Driver(t.Context(), "p")
	wantKind(t, err, errs.Unavailable, source)
	wantKind(t, s.Update(t.Context(), "p", api.StoragePoolPut{Config: map[string]string{"fake.option": "x"}}), errs.Unavailable, source)
	ok(t, s.Update(t.Context(), "p", api.StoragePoolPut{Description: "away"}))

	ok(t, os.Rename(source+".away", source))
	s.Look(t.Context())
	_, err = s.Driver(t.Context(), "p")
	ok(t, err)

	// One that is away for good can be deleted.
	use(t, s)
	ok(t, os.Rename(source, source+".away"))
	s.CheckRoom(t.Context())
	unuse(t, s)
	ok(t, s.Delete(t.Context(), "p"))
	wantNothing(t, s)
}

func TestSweepsInTheBackground(t *testing.T) {
	s := newService(t, nil)
	ok(t, s.Create(t.Context(), post("p", nil)))
	deep := filepath.Join(s.Dir, "pools", "p", "data", "trash", "0123")
	ok(t, os.MkdirAll(filepath.Join(deep, "a", "b"), 0o700))
	s = restarted(s)
	ok(t, s.Recover(t.Context()))
	if _, err := os.Stat(deep); err != nil {
		t.Errorf("the start waits for the trash: %v", err)
	}
	running(t, s)
	testenv.Eventually(t, "the trash is empty", func() bool {
		s.Look(t.Context())
		_, err := os.Stat(deep)
		return errors.Is(err, os.ErrNotExist)
	})
	ok(t, s.Delete(t.Context(), "p"))
	wantNothing(t, s)
}

func TestLevels(t *testing.T) {
	for _, tt := range []struct {
		used, inodes uint64
		before, want int
	}{
		{0, 0, 0, 0},
		{79, 0, 0, 0},
		{80, 0, 0, 80},
		{94, 0, 80, 90},
		{95, 0, 0, 95},
		{100, 0, 95, 95},
		{10, 96, 0, 95},
		{94, 0, 95, 95},
		{93, 0, 95, 90},
		{88, 0, 90, 80},
		{78, 0, 80, 0},
	} {
		space := storage.Space{UsedBytes: tt.used, TotalBytes: 100, UsedInodes: tt.inodes, TotalInodes: 100}
		if got := pools.Level(space, tt.before); got != tt.want {
			t.Errorf("%+v: got %d", tt, got)
		}
	}
	if got := pools.Level(storage.Space{}, 0); got != 0 {
		t.Errorf("a pool without a size: %d", got)
	}
}

// full is a driver whose pool is as full as it says.
type full struct {
	storage.Driver

	used uint64
}

func (f *full) Space(context.Context) (storage.Space, error) {
	return storage.Space{UsedBytes: f.used, TotalBytes: 100}, nil
}

func TestWarnsOfFullPools(t *testing.T) {
	var log bytes.Buffer
	s := newService(t, nil)
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	d := &full{}
	s.Types["full"] = storage.Type{
		Check:  func(context.Context) error { return nil },
		Make:   func(_ context.Context, cfg storage.Config) (storage.Config, error) { return cfg, nil },
		Open:   func(context.Context, storage.Config) (storage.Driver, error) { return d, nil },
		Remove: func(context.Context, storage.Config) error { return nil },
	}
	ok(t, s.Create(t.Context(), api.StoragePoolsPost{Name: "p", Driver: "full"}))
	running(t, s)
	for _, used := range []uint64{50, 85, 86, 96, 96, 70} {
		d.used = used
		s.CheckRoom(t.Context())
	}
	text := log.String()
	if strings.Count(text, "\n") != 3 || !strings.Contains(text, "level=80") || !strings.Contains(text, "level=95") || !strings.Contains(text, "has room again") {
		t.Errorf("logged:\n%s", text)
	}
}
