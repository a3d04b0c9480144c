package runtime

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pressure reads what cgroup v2 measures, also where v1 has the controllers.
func pressure(dirs map[string]string, u *Usage) error {
	dir := dirs[""]
	if !isOurs(dir) {
		return nil
	}
	for _, what := range []string{"cpu", "memory", "io"} {
		text, err := readValue(dir, what+".pressure")
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // The kernel is built or booted without.
		}
		if err != nil {
			return err
		}
		if u.Pressure == nil {
			u.Pressure = map[string]Pressure{}
		}
		u.Pressure[what] = parsePressure(text)
	}
	return nil
}

func parsePressure(text string) Pressure {
	var p Pressure
	for line := range strings.Lines(text) {
		kind, rest, _ := strings.Cut(line, " ")
		s, err := parseStall(rest)
		switch {
		case err != nil: // A kernel that we do not know.
		case kind == "some":
			p.Some = s
		case kind == "full":
			p.Full = s
		}
	}
	return p
}

// parseStall reads "avg10=0.00 avg60=0.00 avg300=0.00 total=0".
func parseStall(text string) (s Stall, err error) {
	for word := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "avg10":
			s.Avg10, err = strconv.ParseFloat(value, 64)
		case "avg60":
			s.Avg60, err = strconv.ParseFloat(value, 64)
		case "avg300":
			s.Avg300, err = strconv.ParseFloat(value, 64)
		case "total":
			var n int64
			n, err = strconv.ParseInt(value, 10, 64)
			s.Total = time.Duration(n) * time.Microsecond
		}
		if err != nil {
			return s, err
		}
	}
	return s, nil
}
