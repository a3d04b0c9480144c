package units_test

import (
	"testing"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/units"
)

func TestParseSignal(t *testing.T) {
	for in, want := range map[string]int{
		"SIGPWR": 30, "PWR": 30, "sigint": 2, "30": 30, "SIGRTMIN": 34, "SIGRTMIN+3": 37, "rtmin+5": 39, "RTMAX-1": 63, "RTMAX": 64, "1": 1,
	} {
		if got, err := units.ParseSignal(in); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "SIG", "SIGNONE", "0", "65", "-1", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMIN+", "RTMIN+99999", "SIGPWR\n"} {
		if got, err := units.ParseSignal(in); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: got %d, %v", in, got, err)
		}
	}
}
