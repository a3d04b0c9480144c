package run

import "time"

// Idle reports whether a program is idle that did so much in five minutes.
func Idle(cpu time.Duration, moved, said int64) bool {
	before := pulse{time.Hour, 1 << 40}
	return pulse{before.cpu + cpu, before.moved + moved}.idle(before, 5*time.Minute, said)
}

// Moved returns how many bytes a process has read and written.
func Moved(pid int) (int64, error) {
	p, err := feel(pid)
	return p.moved, err
}
