package kit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/errs"
)

func TestParseExpiry(t *testing.T) {
	t.Parallel()
	now := time.Date(2028, 1, 31, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"2030-01-31T12:00:00Z": time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC),
		"2030-01-31":           time.Date(2030, 1, 31, 0, 0, 0, 0, time.Local),
		"2w":                   time.Date(2028, 2, 14, 12, 0, 0, 0, time.UTC),
		"1y 2d 3H":             time.Date(2029, 2, 2, 15, 0, 0, 0, time.UTC),
		"90M":                  now.Add(90 * time.Minute),
		"1m":                   time.Date(2028, 3, 2, 12, 0, 0, 0, time.UTC), // February has no 31st.
	} {
		if got, err := kit.ParseExpiry(in, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: got %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", " ", "w", "2", "-2w", "2x", "2w 3", "99999w", "2030-13-01", "soon"} {
		if got, err := kit.ParseExpiry(in, now); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "want a time") {
			t.Errorf("%q: got %v, %v", in, got, err)
		}
	}
}
