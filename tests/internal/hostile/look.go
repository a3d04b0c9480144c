package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// strangeDescriptors looks for descriptors of this process, its parent and
// init that lead out: to files of other mounts than their own.
func strangeDescriptors([]string) error {
	var found []string
	for _, pid := range []string{"self", strconv.Itoa(os.Getppid()), "1"} {
		fds, err := filepath.Glob("/proc/" + pid + "/fd/*")
		if err != nil {
			return err
		}
		for _, fd := range fds {
			if strange(fd) {
				target, _ := os.Readlink(fd)
				found = append(found, fd+" is "+target)
			}
		}
	}
	if len(found) == 0 {
		return errors.New("there are none")
	}
	fmt.Println(strings.Join(found, "\n"))
	return nil
}

func strange(fd string) bool {
	target, err := os.Readlink(fd)
	if err != nil || !strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "(unreachable)") {
		return false // Pipes, sockets and the like have no place.
	}
	var there, own unix.Stat_t
	if unix.Stat(fd, &there) != nil {
		return false
	}
	if there.Mode&unix.S_IFMT == unix.S_IFCHR {
		return false // The kernel keeps no path of its own to what a device is.
	}
	return unix.Stat(target, &own) != nil || own.Dev != there.Dev || own.Ino != there.Ino
}

// foreignProcesses looks for processes that are in other namespaces, or of
// users who are none here.
func foreignProcesses([]string) error {
	self, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return err
	}
	init, err := os.Readlink("/proc/1/ns/pid")
	if err != nil {
		return err
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, dir := range all {
		if ns, err := os.Readlink(dir + "/ns/pid"); err == nil && ns != self && ns != init {
			fmt.Println(dir, "is in", ns)
			return nil
		}
		status, _ := os.ReadFile(dir + "/status")
		if bytes.Contains(status, []byte("\nUid:\t65534\t65534")) {
			fmt.Printf("%s belongs to nobody here:\n%s", dir, status)
			return nil
		}
	}
	return errors.New("there are none")
}

// peerNamespaces enters the namespaces of whom init descends from.
func peerNamespaces([]string) error {
	fd, err := unix.Open("/proc/1/ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	parent, err := unix.IoctlRetInt(fd, 0xb702) // NS_GET_PARENT
	if err != nil {
		return err
	}
	return unix.Setns(parent, 0)
}

// watch looks for helpers of the host that come into the instance, and tries
// to take their descriptors, their memory and their program.
func watch(args []string) error {
	runtime.LockOSThread() // Who traces is a thread.
	seen := 0
	for end := time.Now().Add(time.Duration(number(need(args, 1)[0])) * time.Second); time.Now().Before(end); {
		all, err := os.ReadDir("/proc")
		if err != nil {
			return err
		}
		for _, e := range all {
			pid, err := strconv.Atoi(e.Name())
			if err != nil || pid <= 1 || pid == os.Getpid() {
				continue
			}
			comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
			if !strings.HasPrefix(string(comm), "cuib-shim") && !strings.HasPrefix(string(comm), "evil") {
				continue
			}
			seen++
			if what := take(pid); what != "" {
				fmt.Println("could", what)
				return nil
			}
		}
	}
	return fmt.Errorf("none of %d could be taken", seen)
}

// take tries to get something of a process, and returns what it got.
func take(pid int) string {
	proc := fmt.Sprintf("/proc/%d", pid)
	if comm, _ := os.ReadFile(proc + "/comm"); !strings.HasPrefix(string(comm), "cuib-shim") {
		return overwrite(proc) // Its interpreter may be the host's program.
	}
	// One that executes the program that it was started for has the name of the
	// helper for a moment longer than its memory and its descriptors.
	if fds, err := os.ReadDir(proc + "/fd"); err == nil && len(fds) > 3 {
		return fmt.Sprintf("list %d descriptors of %s", len(fds), proc)
	}
	if isShim(proc) {
		return "read the memory of " + proc
	}
	if unix.PtraceSeize(pid) == nil {
		shim := isShim(proc)
		_ = unix.PtraceDetach(pid)
		if shim {
			return "trace " + proc
		}
	}
	return overwrite(proc)
}

// isShim tells whether the memory of a process can be seen to be a helper's.
func isShim(proc string) bool {
	maps, _ := os.ReadFile(proc + "/maps")
	return bytes.Contains(maps, []byte("/cuib-shim"))
}

// overwrite opens the program of a process for writing, if it is none of the
// instance's, and keeps at it when the process has ended.
func overwrite(proc string) string {
	f, err := os.OpenFile(proc+"/exe", unix.O_PATH, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	var there, own unix.Stat_t
	target, err := os.Readlink(proc + "/exe")
	if err != nil || unix.Fstat(int(f.Fd()), &there) != nil {
		return ""
	}
	if unix.Stat(target, &own) == nil && own.Ino == there.Ino && own.Dev == there.Dev {
		return "" // It is the guest's.
	}
	for range 2000 {
		w, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY, 0)
		if err == nil {
			_ = w.Close()
			return "write " + target
		}
		if !errors.Is(err, unix.ETXTBSY) {
			return ""
		}
		time.Sleep(time.Millisecond)
	}
	return ""
}

// stopAll tells what looks after each container, by the abstract socket that it
// has in the network namespace, to stop it.
func stopAll() error {
	table, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return err
	}
	asked := 0
	refused := errors.New("nobody did")
	for line := range strings.Lines(string(table)) {
		_, path, some := strings.Cut(line, " @")
		if path = strings.TrimSpace(path); !some || !strings.HasSuffix(path, "/command") {
			continue
		}
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "unix", "@"+path)
		if err != nil {
			continue
		}
		asked++
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		const stop, size = 2, 16 // What liblxc calls LXC_CMD_STOP, and its requests and answers.
		request := make([]byte, size)
		binary.NativeEndian.PutUint32(request, stop)
		answer := make([]byte, size)
		_, err = c.Write(request)
		if err == nil {
			_, err = io.ReadFull(c, answer)
		}
		_ = c.Close()
		if err == nil && binary.NativeEndian.Uint32(answer) == 0 {
			return nil
		}
		refused = fmt.Errorf("%s: %x %w", path, answer, cmp.Or(err, refused))
	}
	if asked == 0 {
		fmt.Fprintln(os.Stderr, "there is nobody to ask")
		os.Exit(misused)
	}
	return refused
}
