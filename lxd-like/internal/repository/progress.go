package repository

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cuib/cuib/shared/units"
)

// A summary is what restic says of a backup that it makes.
type summary struct {
	ID    string
	Added int64 // Bytes, before they are compressed.
	at    time.Time
}

// read takes a line of restic's output apart.
func (s *summary) read(line []byte, progress func(string)) {
	var m struct {
		Type  string  `json:"message_type"`
		Done  int64   `json:"bytes_done"`
		Total int64   `json:"total_bytes"`
		ID    string  `json:"snapshot_id"`
		Added int64   `json:"data_added"`
		Ratio float64 `json:"percent_done"`
	}
	if json.Unmarshal(line, &m) != nil {
		return // It is for people.
	}
	switch m.Type {
	case "status":
		if m.Total > 0 {
			progress(fmt.Sprintf("%.0f%% (%s of %s)", 100*m.Ratio, units.FormatBytes(m.Done), units.FormatBytes(m.Total)))
		}
	case "summary":
		s.ID, s.Added, s.at = m.ID, m.Added, time.Now()
	}
}

// jsonLines calls fn with each line that is written.
type jsonLines struct {
	fn   func(line []byte)
	part []byte
}

func (l *jsonLines) Write(p []byte) (int, error) {
	l.part = append(l.part, p...)
	for {
		line, rest, ok := bytes.Cut(l.part, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.fn(line)
		l.part = rest
	}
}
