// Package units reads and writes sizes and percentages as users write them.
package units

import (
	"math"
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

const (
	prefixes = "kMGTPE" // In order: 1000 or 1024 to the power of index+1.

	wantBytes = `a number of bytes, or one with a unit such as "512MiB" or "10GB"`
)

// ParseBytes reads a size: a whole number, alone or with B, with a unit of
// 1000 (kB, MB, GB, TB, PB, EB) or one of 1024 (KiB, MiB, GiB, TiB, PiB, EiB).
func ParseBytes(s string) (int64, error) {
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, ok := number(s[:end])
	factor, known := factorOf(strings.TrimPrefix(s[end:], " "))
	if !ok || !known {
		return 0, errs.Invalidf("got %q, want %s", s, wantBytes)
	}
	if n > math.MaxInt64/factor {
		return 0, errs.Invalidf("got %q, which is too large", s)
	}
	return n * factor, nil
}

// ParsePercent reads a whole percentage from 0% to 100%.
func ParsePercent(s string) (int, error) {
	digits, ok := strings.CutSuffix(s, "%")
	n, valid := number(digits)
	if !ok || !valid || n > 100 {
		return 0, errs.Invalidf(`got %q, want a percentage from "0%%" to "100%%"`, s)
	}
	return int(n), nil
}

// FormatBytes writes a size with the largest unit of 1024 that it reaches,
// exactly where that takes no fraction and with two digits of one where it
// does.
func FormatBytes(n int64) string {
	unit, i := int64(1), 0
	for i < len(prefixes) && abs(n)/unit >= 1024 {
		unit, i = unit*1024, i+1
	}
	if i == 0 {
		return strconv.FormatInt(n, 10) + "B"
	}
	name := strings.ToUpper(prefixes[i-1:i]) + "iB"
	if n%unit == 0 {
		return strconv.FormatInt(n/unit, 10) + name
	}
	return strconv.FormatFloat(float64(n)/float64(unit), 'f', 2, 64) + name
}

// factorOf returns how many bytes a suffix such as "MiB" stands for.
func factorOf(suffix string) (int64, bool) {
	if suffix == "" || suffix == "B" {
		return 1, true
	}
	prefix, ok := strings.CutSuffix(suffix, "B")
	if !ok {
		return 0, false
	}
	base := int64(1000)
	if p, binary := strings.CutSuffix(prefix, "i"); binary {
		base, prefix = 1024, p
	}
	// Of a thousand the prefix is k and of 1024 it is K, but both are written.
	if prefix == "K" {
		prefix = "k"
	}
	power := strings.Index(prefixes, prefix)
	if len(prefix) != 1 || power < 0 {
		return 0, false
	}
	factor := base
	for range power {
		factor *= base
	}
	return factor, true
}

// number reads digits alone: no sign, no space, no fraction.
func number(s string) (int64, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

func abs(n int64) int64 {
	if n < 0 {
		return -max(n, -math.MaxInt64)
	}
	return n
}
