package archives_test

import (
	"context"
	"testing"

	"github.com/cuib/cuib/storage"
)

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// openPool makes a pool of the given type.
func openPool(tb testing.TB, typ storage.Type, source string) storage.Driver {
	tb.Helper()
	cfg, err := typ.Make(tb.Context(), storage.Config{Name: "p", Dir: tb.TempDir(), Source: source, Options: map[string]string{}})
	must(tb, err)
	d, err := typ.Open(tb.Context(), cfg)
	must(tb, err)
	tb.Cleanup(func() {
		ctx := context.WithoutCancel(tb.Context())
		all, err := d.List(ctx)
		if err != nil {
			tb.Error(err)
		}
		for _, v := range all {
			if err := d.Unmount(ctx, v); err != nil {
				tb.Error(err)
			}
		}
	})
	return d
}

func mount(tb testing.TB, d storage.Driver, v storage.Volume) string {
	tb.Helper()
	at, err := d.Mount(tb.Context(), v, nil)
	must(tb, err)
	return at
}

// mounter mounts volumes that stay mounted.
func mounter(d storage.Driver) func(context.Context, storage.Volume) (string, func(), error) {
	return func(ctx context.Context, v storage.Volume) (string, func(), error) {
		at, err := d.Mount(ctx, v, nil)
		return at, func() {}, err
	}
}
