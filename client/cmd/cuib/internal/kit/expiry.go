package kit

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/cuib/cuib/shared/errs"
)

// ExpiryFlag adds the flag that says when a snapshot expires.
func ExpiryFlag(f *pflag.FlagSet, p *string) {
	f.StringVar(p, "expires", "", "when it is deleted: in a time, as \"2w\" or \"3d 12H\", or on a day, as 2030-01-31 or 2030-01-31T12:00:00Z")
	f.StringVar(p, "expiry", "", "another name of --expires")
	_ = f.MarkHidden("expiry") // The flag exists.
}

// ParseExpiry returns the time that a snapshot of now expires at: one that is
// given, or one after a span such as "1m 2w" that the configuration key
// snapshots.expiry takes too.
func ParseExpiry(s string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339, "2006-01-02 15:04"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	spans := strings.Fields(s)
	for _, span := range spans {
		next, ok := after(span, now)
		if !ok {
			return time.Time{}, badExpiry(s)
		}
		now = next
	}
	if len(spans) == 0 {
		return time.Time{}, badExpiry(s)
	}
	return now, nil
}

func badExpiry(s string) error {
	return errs.Invalidf("time of expiry: got %q, want a time such as \"2w\" or \"3d 12H\" (S seconds, M minutes, H hours, d days, w weeks, m months, y years), "+
		"or a day such as 2030-01-31 or 2030-01-31T12:00:00Z", s)
}

// after returns the time that is a span such as "2w" after now.
func after(span string, now time.Time) (time.Time, bool) {
	n, err := strconv.ParseUint(span[:len(span)-1], 10, 16)
	if err != nil {
		return time.Time{}, false
	}
	count := int(n)
	switch span[len(span)-1] {
	case 'S':
		return now.Add(time.Duration(n) * time.Second), true
	case 'M':
		return now.Add(time.Duration(n) * time.Minute), true
	case 'H':
		return now.Add(time.Duration(n) * time.Hour), true
	case 'd':
		return now.AddDate(0, 0, count), true
	case 'w':
		return now.AddDate(0, 0, 7*count), true
	case 'm':
		return now.AddDate(0, count, 0), true
	case 'y':
		return now.AddDate(count, 0, 0), true
	}
	return time.Time{}, false
}
