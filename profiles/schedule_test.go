package profiles_test

import (
	"testing"
	"time"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

func TestSchedule(t *testing.T) {
	t.Parallel()
	at := func(v string) time.Time {
		if v == "" {
			return time.Time{}
		}
		out, err := time.ParseInLocation("2006-01-02 15:04:05", v, time.Local)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	const now = "2026-03-04 05:06:07" // A Wednesday.
	for _, c := range []struct {
		text, next string
		startup    bool
	}{
		{"", "", false},
		{"@never", "", false},
		{"<never>", "", false},
		{"@startup", "", true},
		{"@hourly", "2026-03-04 06:00:00", false},
		{"@daily", "2026-03-05 00:00:00", false},
		{"@Midnight", "2026-03-05 00:00:00", false},
		{"@weekly", "2026-03-08 00:00:00", false},
		{"@monthly", "2026-04-01 00:00:00", false},
		{"@yearly", "2027-01-01 00:00:00", false},
		{"@annually", "2027-01-01 00:00:00", false},
		{"@weekly, @startup,@daily", "2026-03-05 00:00:00", true},
		{"7,9 5 * * *", "2026-03-04 05:07:00", false},
		{" */15 */2 * * mon-fri ", "2026-03-04 06:00:00", false},
		{"0 0 30 2 *", "", false},
	} {
		s, err := profiles.ParseSchedule(c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if got := s.Next(at(now).UTC()); !got.Equal(at(c.next)) || s.Startup != c.startup {
			t.Errorf("%q: next is %v, start-up %v", c.text, got, s.Startup)
		}
	}
	for _, text := range []string{
		"hourly", "@fortnightly", "@every 1h", "* * * *", "* * * * * *", "60 * * * *", "TZ=x", "CRON_TZ=", "TZ=UTC * * * * *",
		"@daily,", ",", "<never", "@reboot", "1-0 * * * *", "*/0 * * * *",
	} {
		if s, err := profiles.ParseSchedule(text); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v, %v", text, s, err)
		}
	}
}

func FuzzSchedule(f *testing.F) {
	f.Add("@hourly, @startup")
	f.Add("1,2-3/4 * 5 jan sun")
	f.Add("TZ=")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := profiles.ParseSchedule(text)
		if err != nil {
			return
		}
		now := time.Unix(1e9, 0)
		if next := s.Next(now); !next.IsZero() && !next.After(now) {
			t.Errorf("%q: %v is not after %v", text, next, now)
		}
	})
}
