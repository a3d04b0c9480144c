package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attempts are what can be tried. Each returns nil if it was possible.
var attempts = map[string]func(args []string) error{
	"adjtimex":     func([]string) error { return result(unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_TICK, Tick: 10000})) },
	"settimeofday": setTime,
	"swapon":       func(args []string) error { return onPath(unix.SYS_SWAPON, need(args, 1)[0]) },
	"swapoff":      func(args []string) error { return onPath(unix.SYS_SWAPOFF, need(args, 1)[0]) },
	"acct":         func(args []string) error { return unix.Acct(need(args, 1)[0]) },
	"clear-log":    func([]string) error { return result(unix.Klogctl(unix.SYSLOG_ACTION_CLEAR, nil)) },
	"console-log":  func([]string) error { return result(unix.Klogctl(6, nil)) }, // SYSLOG_ACTION_CONSOLE_OFF
	"kexec":        func([]string) error { return call(unix.SYS_KEXEC_LOAD, 0, 0, 0) },
	"init-module":  func([]string) error { return module(unix.SYS_INIT_MODULE) },
	"finit-module": func([]string) error { return module(unix.SYS_FINIT_MODULE) },
	"delete-module": func([]string) error {
		return unix.DeleteModule("cuib_none", unix.O_NONBLOCK)
	},
	"iopl":      func([]string) error { return call(unix.SYS_IOPL, 3, 0, 0) },
	"ioperm":    func([]string) error { return call(unix.SYS_IOPERM, 0x80, 1, 1) },
	"perf":      perf,
	"fanotify":  func([]string) error { return result(unix.FanotifyInit(unix.FAN_CLASS_PRE_CONTENT, unix.O_RDONLY)) },
	"rlimit":    func([]string) error { return raiseLimit() },
	"realtime":  func([]string) error { return realtime() },
	"nice":      func([]string) error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -20) },
	"reboot":    func([]string) error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) },
	"bpf":       loadBPF,
	"audit":     audit,
	"immutable": immutable,
	"trusted":   trusted,
	"handle":    byHandle,
	"abstract":  func(args []string) error { return dial("@" + need(args, 1)[0]) },
	"stop-all":  func([]string) error { return stopAll() },
	"packets": func([]string) error {
		return result(unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, int(unix.ETH_P_ALL<<8&0xff00|unix.ETH_P_ALL>>8)))
	},
	"connect":   func(args []string) error { return dial(need(args, 1)[0]) },
	"mknod":     makeNode,
	"setid":     func(args []string) error { return unix.Setresuid(-1, number(need(args, 1)[0]), -1) },
	"chown":     func(args []string) error { return own(number(need(args, 1)[0])) },
	"strange":   strangeDescriptors,
	"settings":  settings,
	"processes": foreignProcesses,
	"peer-ns":   peerNamespaces,
	"umh":       func(args []string) error { return releaseAgent(need(args, 1)[0]) },
	"link":      func(args []string) error { return os.Link(need(args, 2)[0], args[1]) },
}

func result(_ int, err error) error { return err }

func call(number, a, b, c uintptr) error {
	if _, _, errno := unix.Syscall(number, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

func onPath(number uintptr, path string) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	return call(number, uintptr(unsafe.Pointer(p)), 0, 0) //nolint:gosec // A system call without a function.
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(misused)
	}
	return n
}

// setTime sets the time to what it is.
func setTime([]string) error {
	var now unix.Timeval
	if err := unix.Gettimeofday(&now); err != nil {
		return err
	}
	return unix.Settimeofday(&now)
}

// module tries to load what is no module. A kernel that looks at it would take
// it as possible.
func module(number uintptr) error {
	text := []byte("no module\x00")
	var err error
	if number == unix.SYS_INIT_MODULE {
		err = unix.InitModule(text[:9], "")
	} else {
		var f *os.File
		if f, err = os.Open("/bin/busybox"); err != nil {
			return err
		}
		defer f.Close()
		err = unix.FinitModule(int(f.Fd()), "", 0)
	}
	if errors.Is(err, unix.ENOEXEC) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

// perf watches all processes of a processor, in the kernel too.
func perf([]string) error {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK}
	attr.Size = uint32(unsafe.Sizeof(attr))
	return result(unix.PerfEventOpen(&attr, -1, 0, -1, 0))
}

func raiseLimit() error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l); err != nil {
		return err
	}
	if l.Max == unix.RLIM_INFINITY {
		l.Max = 1 << 30
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: l.Cur & (1<<20 - 1), Max: l.Max}); err != nil {
			return err
		}
	}
	l.Max *= 2
	return unix.Setrlimit(unix.RLIMIT_MEMLOCK, &l)
}

func realtime() error {
	param := struct{ priority int32 }{50}
	return call(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, uintptr(unsafe.Pointer(&param))) //nolint:gosec // A system call without a function.
}

// loadBPF loads a program for kprobes that does nothing.
func loadBPF([]string) error {
	program := []uint64{0xb7, 0x95} // r0 = 0; exit
	license := []byte("GPL\x00")
	attr := struct {
		kind, count      uint32
		program, license uint64
		rest             [96]byte
	}{kind: 2, count: 2} // BPF_PROG_TYPE_KPROBE
	attr.program = uint64(uintptr(unsafe.Pointer(&program[0])))
	attr.license = uint64(uintptr(unsafe.Pointer(&license[0])))
	return call(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr)) //nolint:gosec // A system call without a function.
}

// audit asks the kernel's audit to be switched off.
func audit([]string) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_AUDIT)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // The answer is all that matters.
	const get, ack = 1000, unix.NLM_F_REQUEST | unix.NLM_F_ACK
	message := make([]byte, unix.SizeofNlMsghdr)
	*(*unix.NlMsghdr)(unsafe.Pointer(&message[0])) = unix.NlMsghdr{Len: unix.SizeofNlMsghdr, Type: get, Flags: ack} //nolint:gosec // That is how it is.
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil || n < unix.SizeofNlMsghdr+4 {
		return errors.Join(err, errors.New("no answer"))
	}
	if head := (*unix.NlMsghdr)(unsafe.Pointer(&answer[0])); head.Type == unix.NLMSG_ERROR { //nolint:gosec // As above.
		if errno := *(*int32)(unsafe.Pointer(&answer[unix.SizeofNlMsghdr])); errno != 0 {
			return syscall.Errno(-errno)
		}
	}
	return nil
}

func immutable([]string) error {
	f, err := os.Create("/root/immutable")
	if err != nil {
		return err
	}
	defer f.Close()
	const flag = 0x10
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flag)
}

func trusted([]string) error {
	if err := os.WriteFile("/root/trusted", nil, 0o600); err != nil {
		return err
	}
	return unix.Setxattr("/root/trusted", "trusted.overlay.opaque", []byte("y"), 0)
}

// byHandle opens files by what their handles are, wherever they are.
func byHandle([]string) error {
	var last error
	for _, dir := range []string{"/", "/etc", "/dev/incus", "/proc/1/root"} {
		at, err := os.Open(dir)
		if err != nil {
			continue
		}
		for inode := range uint64(300) {
			data := make([]byte, 8)
			*(*uint64)(unsafe.Pointer(&data[0])) = inode
			for _, kind := range []int32{1, 2, 0x81} {
				if _, last = unix.OpenByHandleAt(int(at.Fd()), unix.NewFileHandle(kind, data), unix.O_RDONLY); last == nil {
					return nil
				}
				if !errors.Is(last, unix.EPERM) {
					return nil // It was allowed, and has not met one.
				}
			}
		}
		_ = at.Close()
	}
	return last
}

func dial(address string) error {
	for _, network := range []string{"unix", "unixgram", "unixpacket"} {
		c, err := new(net.Dialer).DialContext(context.Background(), network, address)
		if err == nil {
			return c.Close()
		}
		if network == "unixpacket" {
			return err
		}
	}
	return nil
}

// makeNode makes a device, by MAJOR, MINOR and KIND, and opens it.
func makeNode(args []string) error {
	args = need(args, 3)
	kind := map[string]uint32{"b": unix.S_IFBLK, "c": unix.S_IFCHR}[args[2]]
	device := unix.Mkdev(uint32(number(args[0])), uint32(number(args[1])))
	for _, dir := range []string{"/root", "/dev", "/tmp", "/dev/shm", "/run"} {
		path := filepath.Join(dir, "node")
		_ = os.Remove(path)
		if err := unix.Mknod(path, kind|0o666, int(device)); err != nil {
			continue
		}
		for _, flags := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR} {
			if fd, err := unix.Open(path, flags|unix.O_NONBLOCK, 0); err == nil {
				return unix.Close(fd)
			}
		}
		_ = os.Remove(path)
	}
	return unix.EPERM
}

// own gives a file to somebody outside.
func own(id int) error {
	f, err := os.Create("/root/own")
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Chown(id, id)
}

// settings writes all settings of the kernel that are not of namespaces, with
// the values that they have.
func settings(args []string) error {
	root := need(args, 1)[0]
	var could []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
		switch {
		case err != nil:
			return fs.SkipDir
		case d.IsDir() && (name == "net" || name == "user" || name == "fs/mqueue"), !d.IsDir() && ofNamespaces[name]:
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		}
		value, err := os.ReadFile(path)
		if err != nil {
			value = []byte("0\n") // It may be for writing only.
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil
		}
		defer f.Close()
		if _, err := f.Write(value); err == nil {
			could = append(could, name)
		}
		return nil
	})
	if err != nil || len(could) == 0 {
		return errors.Join(err, errors.New("none could be written"))
	}
	fmt.Println("written:", could)
	return nil
}

// ofNamespaces are the settings of the kernel that a guest has its own of.
var ofNamespaces = map[string]bool{
	"kernel/hostname": true, "kernel/domainname": true, "kernel/pid_max": true, "kernel/ns_last_pid": true,
	"kernel/auto_msgmni": true, "kernel/msg_next_id": true, "kernel/sem_next_id": true, "kernel/shm_next_id": true,
	"kernel/msgmax": true, "kernel/msgmnb": true, "kernel/msgmni": true, "kernel/sem": true, "kernel/shmall": true,
	"kernel/shmmax": true, "kernel/shmmni": true, "kernel/shm_rmid_forced": true,
}

// releaseAgent mounts cgroups of version 1 in namespaces of its own, and sets
// the program that the host runs when one is empty.
func releaseAgent(controller string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP); err != nil {
		return err
	}
	dir := "/root/cgroup"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("cgroup", dir, "cgroup", 0, controller); err != nil {
		return err
	}
	return os.WriteFile(dir+"/release_agent", []byte("/root/agent\n"), 0)
}
