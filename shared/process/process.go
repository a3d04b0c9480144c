// Package process tells processes apart from later ones with the same number,
// and keeps on record which ones a later daemon has to find.
package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrGone says that a process has ended.
var ErrGone = errors.New("the process has ended")

// Open returns a pidfd of a process, on which reading waits for the end.
func Open(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// Wait returns when the process of a pidfd of [Open] has ended, or with an error
// when the file was closed. It holds no thread meanwhile.
func Wait(pidfd *os.File) error {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Read(func(fd uintptr) bool { return hasEnded(int(fd)) })
}

// Ended tells whether the process has ended, or the file was closed.
func Ended(pidfd *os.File) bool {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return true
	}
	ended := true
	err = conn.Control(func(fd uintptr) { ended = hasEnded(int(fd)) })
	return ended || err != nil
}

func hasEnded(pidfd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0) //nolint:gosec // Descriptors are small.
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// Signal sends a signal. It is no error that the process has ended, nor that the
// file was closed since.
func Signal(pidfd *os.File, sig unix.Signal) error {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	// An error of its own says that the file is closed.
	_ = conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	if errors.Is(sent, unix.ESRCH) {
		return nil
	}
	return sent
}

// An ID is that of one process of all that ever ran on a host.
type ID struct {
	PID   int
	Start string // When it began, as /proc/PID/stat has it.
	Boot  string // The host's boot.
}

// IDOf returns the ID of a process that runs.
func IDOf(pid int) (ID, error) {
	start, err := startOf(pid)
	if err != nil {
		return ID{}, err
	}
	boot, err := Boot()
	return ID{pid, start, boot}, err
}

// Open returns a pidfd of the process. The error is [ErrGone] if it has ended.
func (id ID) Open() (*os.File, error) {
	boot, err := Boot()
	if err != nil {
		return nil, err
	}
	if id.PID <= 0 || id.Boot != boot {
		return nil, ErrGone
	}
	pidfd, err := Open(id.PID)
	if err != nil {
		return nil, ErrGone
	}
	// It has not ended since, so that the number is still its own.
	start, err := startOf(id.PID)
	if err != nil || start != id.Start || Ended(pidfd) {
		pidfd.Close()
		return nil, ErrGone
	}
	return pidfd, nil
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

// Boot tells the host's boots apart.
func Boot() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
}
