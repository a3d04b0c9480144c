package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// shimProcess is a cuib-shim that runs for us.
type shimProcess struct {
	proc *os.Process
	done chan struct{}    // Closed when it has ended.
	end  *os.ProcessState // Set then; nil if it could not be waited for.
}

// programsDir is below Dir, and the shim's PATH. It has nothing but what liblxc
// needs to make AppArmor profiles; above all not newuidmap, which takes 6 ms
// and refuses ids that /etc/subuid does not have, where liblxc alone just maps.
const programsDir = ".programs"

func (r *Runtime) shimEnv() []string {
	return []string{"PATH=" + filepath.Join(r.Dir, programsDir), "LC_ALL=C"}
}

// linkPrograms fills programsDir, where AppArmor is in use.
func (r *Runtime) linkPrograms(h Host) error {
	if h.AppArmorParser == "" {
		return nil
	}
	dir := filepath.Join(r.Dir, programsDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err := os.Symlink(h.AppArmorParser, filepath.Join(dir, appArmorParser))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// spawnShim starts cuib-shim. files are its descriptors from 3 on; its
// messages go to log, which is the null device if it is nil. It outlives us.
func (r *Runtime) spawnShim(log *os.File, files []*os.File, args ...string) (*shimProcess, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	if log == nil {
		log = null
	}
	// Not by shared/run, which is for programs that come back.
	proc, err := os.StartProcess(r.Shim, append([]string{"cuib-shim"}, args...), &os.ProcAttr{
		Dir:   "/",
		Env:   r.shimEnv(),
		Files: append([]*os.File{null, log, log}, files...),
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", r.Shim, err)
	}
	s := &shimProcess{proc: proc, done: make(chan struct{})}
	return s, nil
}

// reap waits for the end of the process, on a goroutine of its own. Until it
// is called the process's number is certain to be its.
func (s *shimProcess) reap() {
	go func() {
		defer close(s.done)
		s.end, _ = s.proc.Wait()
	}()
}

// runShim starts cuib-shim as by spawnShim, and waits for its end.
func (r *Runtime) runShim(log *os.File, files []*os.File, args ...string) (*shimProcess, error) {
	s, err := r.spawnShim(log, files, args...)
	if err == nil {
		s.reap()
	}
	return s, err
}

// openLog opens a log of the container anew.
func (r *Runtime) openLog(name, file string) (*os.File, error) {
	return os.OpenFile(r.path(name, file), os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
}

// firstLines returns what a log says first, as a part of an error: what comes
// after are consequences.
func firstLines(path string, keep func(line string) string) string {
	const enough = 2
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		line = keep(strings.TrimSpace(line))
		if line != "" && len(lines) < enough {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// lxcError returns the message of a line of liblxc's log if it is an error
// that tells something.
func lxcError(line string) string {
	// lxc NAME TIME LEVEL PART - FILE:FUNCTION:LINE - MESSAGE
	_, rest, ok := strings.Cut(line, " ERROR ")
	part, rest, ok2 := strings.Cut(rest, " - ")
	_, message, ok3 := strings.Cut(rest, " - ")
	if !ok || !ok2 || !ok3 {
		return ""
	}
	switch strings.TrimSpace(part) {
	case "af_unix", "commands", "sync": // The conversation between liblxc's processes.
		return ""
	}
	for _, less := range []string{"Failed to spawn container", "Script exited with", "Failed to run lxc.hook"} {
		if strings.HasPrefix(message, less) { // What a hook says is in the shim's log.
			return ""
		}
	}
	return message
}
