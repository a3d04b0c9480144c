package profiles

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cuib/cuib/shared/errs"
)

// defaultPattern names the snapshots of instances without snapshots.pattern.
const defaultPattern = "snap%d"

// SnapshotName makes the name of a snapshot from the value of
// snapshots.pattern, which can be empty. taken are the instance's snapshots. A
// pattern without a number gets one where it is taken.
func SnapshotName(pattern string, taken []string, now time.Time) (string, error) {
	name, err := snapshotName(pattern, taken, now)
	if err != nil {
		return "", errs.Invalidf("snapshots.pattern: %w", err)
	}
	return name, nil
}

func snapshotName(pattern string, taken []string, now time.Time) (string, error) {
	if pattern == "" {
		pattern = defaultPattern
	}
	name, err := expandPattern(pattern, now)
	if err != nil {
		return "", err
	}
	before, after, counted := strings.Cut(name, "%d")
	switch {
	case counted:
		name = before + strconv.Itoa(next(before, after, taken)) + after
	case slices.Contains(taken, name):
		name += "-" + strconv.Itoa(next(name+"-", "", taken))
	}
	if err := CheckSnapshotName(name); err != nil {
		return "", errs.Invalidf("it makes a bad %w", err)
	}
	return name, nil
}

// next returns the number after the highest one between before and after.
func next(before, after string, taken []string) int {
	n := 0
	for _, t := range taken {
		rest, ok1 := strings.CutPrefix(t, before)
		middle, ok2 := strings.CutSuffix(rest, after)
		if i, err := strconv.ParseUint(middle, 10, 31); ok1 && ok2 && err == nil {
			n = max(n, int(i)+1)
		}
	}
	return n
}

// expandPattern puts the time in place of what is between {{ and }}.
func expandPattern(pattern string, now time.Time) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(pattern, "{{")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		expr, after, closed := strings.Cut(rest, "}}")
		if !closed {
			return "", errs.Invalidf("%q has no }}", "{{"+rest)
		}
		value, err := expandDate(strings.TrimSpace(expr), now)
		if err != nil {
			return "", err
		}
		out.WriteString(value)
		pattern = after
	}
}

func expandDate(expr string, now time.Time) (string, error) {
	name, filter, filtered := strings.Cut(expr, "|")
	if strings.TrimSpace(name) != "creation_date" {
		return "", errs.Invalidf("unknown name %q, want creation_date", strings.TrimSpace(name))
	}
	if !filtered {
		return now.Format("2006-01-02_15-04-05"), nil
	}
	layout, ok := strings.CutPrefix(strings.TrimSpace(filter), "date:")
	if n := len(layout); !ok || n < 2 || layout[0] != layout[n-1] || layout[0] != '\'' && layout[0] != '"' {
		return "", errs.Invalidf("unknown filter %q, want one such as date:'2006-01-02'", strings.TrimSpace(filter))
	}
	return now.Format(layout[1 : len(layout)-1]), nil
}

func checkPattern(v string) error {
	_, err := snapshotName(v, nil, time.Unix(0, 0).UTC())
	return err
}

// Expiry returns when a snapshot of now expires by the value of
// snapshots.expiry; never, the zero time, if that is empty.
func Expiry(value string, now time.Time) (time.Time, error) {
	steps, err := parseExpiry(value)
	if err != nil || len(steps) == 0 {
		return time.Time{}, err
	}
	for _, s := range steps {
		now = s(now)
	}
	return now, nil
}

// parseExpiry reads times such as "1M 2H" as the steps from one time to
// another.
func parseExpiry(value string) ([]func(time.Time) time.Time, error) {
	var steps []func(time.Time) time.Time
	for f := range strings.FieldsSeq(value) {
		n, err := strconv.ParseUint(f[:len(f)-1], 10, 16)
		if err != nil {
			return nil, errNo
		}
		step, ok := expiryStep(f[len(f)-1], int(n))
		if !ok {
			return nil, fmt.Errorf("%q: %w", f, errNo)
		}
		steps = append(steps, step)
	}
	return steps, nil
}

func expiryStep(unit byte, n int) (func(time.Time) time.Time, bool) {
	date := func(y, m, d int) func(time.Time) time.Time {
		return func(t time.Time) time.Time { return t.AddDate(y, m, d) }
	}
	add := func(u time.Duration) func(time.Time) time.Time {
		return func(t time.Time) time.Time { return t.Add(time.Duration(n) * u) }
	}
	switch unit {
	case 'S':
		return add(time.Second), true
	case 'M':
		return add(time.Minute), true
	case 'H':
		return add(time.Hour), true
	case 'd':
		return date(0, 0, n), true
	case 'w':
		return date(0, 0, 7*n), true
	case 'm':
		return date(0, n, 0), true
	case 'y':
		return date(n, 0, 0), true
	}
	return nil, false
}
