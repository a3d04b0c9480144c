package runtime

import (
	"errors"
	"fmt"
	"io/fs"
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
		var kind string
		var s Stall
		var total int64
		n, err := fmt.Sscanf(line, "%s avg10=%f avg60=%f avg300=%f total=%d", &kind, &s.Avg10, &s.Avg60, &s.Avg300, &total)
		if n < 5 && err != nil {
			continue
		}
		s.Total = time.Duration(total) * time.Microsecond
		switch kind {
		case "some":
			p.Some = s
		case "full":
			p.Full = s
		}
	}
	return p
}
