package mounts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
)

// mapper shows a directory with other owners, where the kernel does not let
// us: in a container, whose file systems are those of its host.
const mapper = "/usr/bin/fuse-overlayfs"

// aside is beside a directory that the mapper writes to: it needs a directory
// of its own on the same file system, and an empty one.
const aside = ".mapped"

// errForeign says that a file system is another user namespace's.
var errForeign = errors.New("the file system belongs to the host of this container")

// contained reports whether we are in a user namespace that is not the host's.
var contained = sync.OnceValue(func() bool {
	ids, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(ids)), " ") != "0 0 4294967295"
})

// treeByProgram is [Tree] where the kernel maps no owners for us. The program
// ends when the mount does.
func treeByProgram(path string, o Options) (*os.File, error) {
	if unix.Access(mapper, unix.X_OK) != nil {
		return nil, errs.Newf(errs.Unsupported, "owners in %s cannot be mapped: this host is a container itself, in which that takes the package fuse-overlayfs", path)
	}
	if strings.ContainsAny(filepath.Base(path), `:,\`) {
		return nil, errs.Invalidf("directory %q: its name has a character of \":,\\\"", path)
	}
	opts, err := mapperOptions(path, o)
	if err != nil {
		return nil, err
	}
	conn, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	f, err := fuse(conn, o)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	err = errors.Join(startMapper(filepath.Dir(path), opts, conn), conn.Close()) // So that its end is the mount's.
	if err == nil {
		var st unix.Stat_t
		err = unix.Fstatat(int(f.Fd()), "", &st, unix.AT_EMPTY_PATH) // It waits for the program.
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map the owners in %s: %w", path, err), f.Close())
	}
	return f, nil
}

func mapperOptions(path string, o Options) (string, error) {
	opts := []string{"uidmapping=" + mapperIDs(o.IDs, uidOf), "gidmapping=" + mapperIDs(o.IDs, gidOf)}
	if o.ReadOnly {
		return strings.Join(append(opts, "lowerdir="+filepath.Base(path)), ","), nil
	}
	for _, dir := range []string{"none", "work"} {
		if err := os.MkdirAll(filepath.Join(filepath.Dir(path), aside, dir), 0o700); err != nil {
			return "", err
		}
	}
	opts = append(opts, "lowerdir="+aside+"/none", "workdir="+aside+"/work", "upperdir="+filepath.Base(path))
	return strings.Join(opts, ","), nil
}

// mapperIDs is a map as the program takes it.
func mapperIDs(ids idmap.Map, has func(idmap.Entry) bool) string {
	return strings.Join(strings.Fields(mapText(ids, has)), ":")
}

// fuse returns a detached mount of what is to be served by conn.
func fuse(conn *os.File, o Options) (*os.File, error) {
	fsfd, err := unix.Fsopen("fuse", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen fuse", err)
	}
	fs := os.NewFile(uintptr(fsfd), "fuse")
	defer fs.Close()
	for _, opt := range [][2]string{
		{"source", filepath.Base(mapper)},
		{"subtype", filepath.Base(mapper)},
		{"fd", strconv.Itoa(int(conn.Fd()))},
		{"rootmode", "40000"},
		{"user_id", "0"},
		{"group_id", "0"},
	} {
		if err := unix.FsconfigSetString(fsfd, opt[0], opt[1]); err != nil {
			return nil, fmt.Errorf("configure fuse: %s: %w", opt[0], explain(fs, err))
		}
	}
	for _, flag := range []string{"allow_other", "default_permissions"} {
		if err := unix.FsconfigSetFlag(fsfd, flag); err != nil {
			return nil, fmt.Errorf("configure fuse: %s: %w", flag, explain(fs, err))
		}
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return nil, fmt.Errorf("mount fuse: %w", explain(fs, err))
	}
	attrs := 0
	if o.ReadOnly {
		attrs = unix.MOUNT_ATTR_RDONLY
	}
	fd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	return os.NewFile(uintptr(fd), mapper), nil
}

// startMapper starts the program in dir. It outlives us.
func startMapper(dir, opts string, conn *os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	// Not by shared/run, which is for programs that come back.
	proc, err := os.StartProcess(mapper, []string{mapper, "-f", "-o", opts, "/dev/fd/3"}, &os.ProcAttr{
		Dir: dir, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"},
		Files: []*os.File{null, null, null, conn}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", mapper, err)
	}
	go func() { _, _ = proc.Wait() }() // How it ends, those who use the mount see.
	return nil
}
