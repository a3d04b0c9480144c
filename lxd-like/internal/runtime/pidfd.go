package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	processes "github.com/cuib/cuib/shared/process"
)

// A process is one of the host's, that cannot be mistaken for a later one with
// the same number.
type process struct {
	pid int
	fd  *os.File // A pidfd, on which reading waits for the end.
}

func openProcess(pid int) (process, error) {
	fd, err := processes.Open(pid)
	return process{pid, fd}, err
}

// wait returns when the process has ended, or with an error when fd was
// closed. It holds no thread meanwhile.
func (p process) wait() error { return processes.Wait(p.fd) }

func (p process) ended() bool { return processes.Ended(p.fd) }

// ends reports whether the process has ended or is about to: it has lost
// namespaces, root and cgroup by then, or is losing them.
func (p process) ends() bool {
	if p.ended() {
		return true
	}
	stat, err := readFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return true
	}
	const at, exiting = 6, 0x4 // The flags, behind the name, and PF_EXITING of them.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) <= at {
		return true
	}
	flags, err := strconv.ParseUint(fields[at], 10, 64)
	return err == nil && flags&exiting != 0
}

// signal sends a signal. It is no error that the process has ended, nor that fd
// was closed since.
func (p process) signal(sig unix.Signal) error { return processes.Signal(p.fd, sig) }

// open opens what /proc has of a process, such as "ns/net". A process that ends
// loses it before its pidfd tells of the end; for that there is an error of kind
// Unavailable.
func (p process) open(what string, flags int) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(procDir(p.pid), what), flags, 0)
	if err == nil && p.ended() { // The number may be another process's by now.
		err = errors.Join(fs.ErrNotExist, file.Close())
	}
	if err != nil && ignoreGone(err) == nil {
		return nil, errs.Newf(errs.Unavailable, "the instance has ended or reboots")
	}
	return file, err
}

// awaitEnd returns when a process to which SIGKILL was sent has ended. That
// takes longer than a moment only where the kernel does not let it go.
func (p process) awaitEnd() {
	const pause, limit = time.Millisecond, 5 * time.Second
	for deadline := time.Now().Add(limit); !p.ended() && time.Now().Before(deadline); {
		<-time.After(pause)
	}
}

// awaitStop returns when a process to which SIGSTOP was sent has stopped or
// ended.
func (p process) awaitStop() {
	const pause, limit = time.Millisecond, 5 * time.Second
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); <-time.After(pause) {
		stat, err := readFile(fmt.Sprintf("/proc/%d/stat", p.pid))
		if err != nil || p.ended() {
			return
		}
		// PID (NAME) STATE; the name can hold anything.
		if _, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " "); strings.HasPrefix(rest, "T") {
			return
		}
	}
}

// childrenOf returns the children of a process of one thread.
func childrenOf(pid int) ([]int, error) {
	data, err := readFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil, err
	}
	var pids []int
	for field := range strings.FieldsSeq(string(data)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return nil, err
		}
		pids = append(pids, child)
	}
	return pids, nil
}

// initOf returns the child of the shim that is PID 1 in a namespace of its
// own, or 0 if there is none at the moment.
func initOf(shim int) (int, error) {
	pids, err := childrenOf(shim)
	if i := slices.IndexFunc(pids, isInit); i >= 0 {
		return pids[i], nil
	}
	return 0, err
}

// isInit reports whether a process is PID 1 of a namespace below ours, and
// runs a program of its own.
func isInit(pid int) bool {
	status, err := readFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			ids := strings.Fields(rest)
			return len(ids) > 1 && ids[len(ids)-1] == "1"
		}
	}
	return false
}
