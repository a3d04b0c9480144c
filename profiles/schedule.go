package profiles

import (
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/cuib/cuib/shared/errs"
)

// wantSchedule says what a schedule looks like.
const wantSchedule = `five fields of cron such as "0 */6 * * *" (minute, hour, day, month, day of the week), or names such as "@hourly, @daily": @hourly, @daily, @midnight, @weekly, @monthly, @annually, @yearly, @startup, @never`

// A Schedule says when something is due. The zero value is never.
type Schedule struct {
	Startup bool // When an instance starts.

	rules []cron.Schedule
}

// scheduleNames are the names of rules, but for @startup and @never.
var scheduleNames = map[string]string{
	"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
	"@monthly": "0 0 1 * *", "@annually": "0 0 1 1 *", "@yearly": "0 0 1 1 *",
}

// ParseSchedule reads the value of snapshots.schedule and the like, which can
// be empty.
func ParseSchedule(text string) (Schedule, error) {
	var s Schedule
	text = strings.TrimSpace(text)
	if text == "" {
		return s, nil
	}
	parts := []string{text} // The fields of cron have commas too.
	if strings.HasPrefix(text, "@") || strings.HasPrefix(text, "<") {
		parts = strings.Split(text, ",")
	}
	for _, part := range parts {
		if err := s.add(strings.ToLower(strings.TrimSpace(part))); err != nil {
			return Schedule{}, err
		}
	}
	return s, nil
}

// add adds one rule to the schedule.
func (s *Schedule) add(rule string) error {
	switch rule {
	case "@startup":
		s.Startup = true
		return nil
	case "@never", "<never>":
		return nil
	}
	if fields, ok := scheduleNames[rule]; ok {
		rule = fields
	}
	// The parser also knows time zones, and panics at some.
	if strings.Contains(rule, "=") {
		return errs.Invalidf("got %q, want %s", rule, wantSchedule)
	}
	parsed, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(rule)
	if err != nil {
		return errs.Invalidf("got %q, want %s (%w)", rule, wantSchedule, err)
	}
	s.rules = append(s.rules, parsed)
	return nil
}

// Next returns the first time after another at which something is due, by the
// clock of this host; the zero time if there is none.
func (s Schedule) Next(after time.Time) time.Time {
	var first time.Time
	for _, rule := range s.rules {
		next := rule.Next(after.Local())
		if !next.IsZero() && (first.IsZero() || next.Before(first)) {
			first = next
		}
	}
	return first
}

func checkSchedule(v string) error {
	_, err := ParseSchedule(v)
	return err
}
