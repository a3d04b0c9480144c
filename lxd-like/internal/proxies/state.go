package proxies

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// state is what a later daemon needs to know of a process.
type state struct {
	Rule  Rule
	PID   int
	Start string // When it began, as /proc/PID/stat has it: with PID it is one process of this boot.
	Boot  string // The host's boot.
}

func (s *Service) file(of Owner) string { return filepath.Join(s.Dir, of.Instance, of.Device) }

// remember writes down which process a proxy has.
func (s *Service) remember(of Owner, r Rule, run *process) error {
	start, err := startOf(run.proc.Pid)
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	data, err := json.Marshal(state{r, run.proc.Pid, start, boot})
	if err != nil {
		return err
	}
	s.files.Lock()
	defer s.files.Unlock()
	file := s.file(of)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(file+"~", data, 0o600); err != nil { // No device's name ends so.
		return err
	}
	return os.Rename(file+"~", file)
}

// forget removes what was written down of a proxy, and directories that have
// nothing else.
func (s *Service) forget(of Owner) error {
	s.files.Lock()
	defer s.files.Unlock()
	for _, file := range []string{s.file(of), filepath.Dir(s.file(of)), s.Dir} {
		err := os.Remove(file)
		if errors.Is(err, unix.ENOTEMPTY) {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// instances are those of which there are states.
func (s *Service) instances() ([]string, error) { return names(s.Dir) }

// states are the processes of an instance that were written down, by device.
func (s *Service) states(instance string) (map[string]state, error) {
	files, err := names(filepath.Join(s.Dir, instance))
	out := map[string]state{}
	for _, name := range files {
		data, rerr := os.ReadFile(s.file(Owner{instance, name}))
		var st state
		if rerr == nil && json.Unmarshal(data, &st) != nil {
			st = state{} // It was cut short: no process has begun.
		}
		err = errors.Join(err, rerr)
		out[name] = st
	}
	return out, err
}

func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, err
}

var errGone = errors.New("the process has ended")

// find opens the process, if it still runs.
func (st state) find() (*process, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	if st.PID <= 0 || st.Boot != boot {
		return nil, errGone
	}
	fd, err := unix.PidfdOpen(st.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, errGone
	}
	run := &process{pidfd: os.NewFile(uintptr(fd), "pidfd"), began: time.Now()}
	start, err := startOf(st.PID)
	if err != nil || start != st.Start || hasEnded(fd) {
		run.close()
		return nil, errGone
	}
	return run, nil
}

// discard ends a process that is not wanted, and forgets it.
func (s *Service) discard(of Owner, st state) error {
	if run, err := st.find(); err == nil {
		run.kill()
		run.wait()
		run.close()
	}
	return errors.Join(s.forget(of), removeListen(st.Rule))
}

// startOf returns when a process began, in the kernel's own unit.
func startOf(pid int) (string, error) {
	const field = 19 // Of those after the name, from 0; see proc(5).
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	text := string(data)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) <= field {
		return "", fmt.Errorf("/proc/%d/stat is cut off", pid)
	}
	return fields[field], nil
}

// bootID tells the host's boots apart.
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
}
