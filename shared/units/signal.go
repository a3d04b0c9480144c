package units

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// The real-time signals, as glibc counts them: the first two are its own.
const (
	rtMin = 34
	rtMax = 64
)

// ParseSignal parses the name or the number of a signal, as kill(1) and liblxc
// take them: SIGPWR, PWR, SIGRTMIN+3, RTMAX-1 or 30.
func ParseSignal(s string) (int, error) {
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	var n int
	ok := true
	switch {
	case name == "RTMIN":
		n = rtMin
	case name == "RTMAX":
		n = rtMax
	case strings.HasPrefix(name, "RTMIN+"):
		n, ok = relative(rtMin, 1, name[len("RTMIN+"):])
	case strings.HasPrefix(name, "RTMAX-"):
		n, ok = relative(rtMax, -1, name[len("RTMAX-"):])
	default:
		var err error
		if n, err = strconv.Atoi(name); err != nil {
			n = int(unix.SignalNum("SIG" + name))
		}
	}
	if !ok || n < 1 || n > rtMax {
		return 0, errs.Invalidf("signal is %q: want a name such as SIGPWR or SIGRTMIN+3, or a number from 1 to %d", s, rtMax)
	}
	return n, nil
}

// relative returns base plus or minus a number of one or two digits that stays
// among the real-time signals.
func relative(base, sign int, digits string) (int, bool) {
	d, err := strconv.ParseUint(digits, 10, 8)
	n := base + sign*int(d) //nolint:gosec // It has 8 bits.
	return n, err == nil && n >= rtMin && n <= rtMax
}
