package kit_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/errs"
)

// TestReplacement has the old one be there until the new one is.
func TestReplacement(t *testing.T) {
	t.Parallel()
	stuck := errors.New("no room")
	for _, tt := range []struct {
		name string
		old  bool
		fail error
		want string // What there is in the end.
	}{
		{"none before", false, nil, "s=new"},
		{"one before", true, nil, "s=new"},
		{"it fails", true, stuck, "s=old"},
		{"it fails with none before", false, stuck, ""},
	} {
		there := map[string]string{}
		if tt.old {
			there["s"] = "old"
		}
		r := kit.Replacement{
			Name: "s",
			Rename: func(_ context.Context, name, to string) error {
				if there[name] == "" {
					return errs.NotFoundf("no %s", name)
				}
				there[to] = there[name]
				delete(there, name)
				return nil
			},
			Make: func(context.Context) error {
				if tt.old && len(there) != 1 {
					t.Errorf("%s: the old one is gone too early", tt.name)
				}
				if tt.fail == nil {
					there["s"] = "new"
				}
				return tt.fail
			},
			Delete: func(_ context.Context, name string) error { delete(there, name); return nil },
		}
		if err := r.Do(t.Context()); !errors.Is(err, tt.fail) {
			t.Errorf("%s: %v", tt.name, err)
		}
		var got []string
		for _, name := range slices.Sorted(maps.Keys(there)) {
			got = append(got, name+"="+there[name])
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: there is %v, want %s", tt.name, got, tt.want)
		}
	}
}
