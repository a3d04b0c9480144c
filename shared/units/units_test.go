package units_test

import (
	"testing"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/units"
)

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "1": 1, "17B": 17, "1kB": 1000, "1KB": 1000, "10GB": 10e9, "1KiB": 1024, "1kiB": 1024,
		"512MiB": 512 << 20, "512 MiB": 512 << 20, "1GiB": 1 << 30, "3TiB": 3 << 40, "2PiB": 2 << 50,
		"7EiB": 7 << 60, "7EB": 7e18, "9223372036854775807": 1<<63 - 1, "007": 7,
		"": -1, "x": -1, "-1": -1, "+1": -1, "1.5GiB": -1, "12x": -1, "512M": -1, "512m": -1, "1iB": -1, "1MiBB": -1,
		"1kMB": -1, "8EiB": -1, "9223372036854775808": -1, " 1": -1, "1  B": -1, "1mB": -1, "B": -1, "1_000": -1, "0x10": -1,
	} {
		got, err := units.ParseBytes(in)
		if want < 0 {
			if !errs.Is(err, errs.Invalid) {
				t.Errorf("ParseBytes(%q) = %d, %v, want an error", in, got, err)
			}
			continue
		}
		if got != want || err != nil {
			t.Errorf("ParseBytes(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
}

func TestParsePercent(t *testing.T) {
	for in, want := range map[string]int{
		"0%": 0, "1%": 1, "50%": 50, "100%": 100,
		"": -1, "%": -1, "50": -1, "101%": -1, "-1%": -1, "1.5%": -1, "50 %": -1, "50%%": -1,
	} {
		got, err := units.ParsePercent(in)
		if want < 0 {
			if !errs.Is(err, errs.Invalid) {
				t.Errorf("ParsePercent(%q) = %d, %v, want an error", in, got, err)
			}
			continue
		}
		if got != want || err != nil {
			t.Errorf("ParsePercent(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
}

func TestFormatBytes(t *testing.T) {
	for in, want := range map[int64]string{
		0: "0B", 1023: "1023B", 1024: "1KiB", 1536: "1.50KiB", 512 << 20: "512MiB", 1<<30 + 1: "1.00GiB",
		1<<63 - 1: "8.00EiB", -2048: "-2KiB", -1 << 63: "-8EiB",
	} {
		if got := units.FormatBytes(in); got != want {
			t.Errorf("FormatBytes(%d) = %q, want %q", in, got, want)
		}
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"1", "512MiB", "10GB", "1.5", "-1", "9223372036854775807EiB", "1\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := units.ParseBytes(s)
		if err != nil {
			return
		}
		if n < 0 {
			t.Fatalf("ParseBytes(%q) = %d", s, n)
		}
		if n%1024 != 0 && n >= 1024 {
			return // FormatBytes rounds.
		}
		if text := units.FormatBytes(n); len(text) > 0 && n < 1024 {
			if back, err := units.ParseBytes(text); err != nil || back != n {
				t.Fatalf("%q is %d, written as %q, which is %d, %v", s, n, text, back, err)
			}
		}
	})
}
