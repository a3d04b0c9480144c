package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// swap makes DIR/a, a directory with the file x in it, and DIR/b, a link, and
// exchanges them until it is killed.
func swap(args []string) error {
	args = need(args, 2)
	dir, target := args[0], args[1]
	if err := os.MkdirAll(dir+"/a", 0o777); err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(dir+"/a/x", []byte("guest\n"), 0o666), os.Symlink(target, dir+"/b")); err != nil {
		return err
	}
	for {
		if err := unix.Renameat2(unix.AT_FDCWD, dir+"/a", unix.AT_FDCWD, dir+"/b", unix.RENAME_EXCHANGE); err != nil {
			return err
		}
	}
}

// tree makes many files, and names of all kinds.
func tree(args []string) error {
	dir := need(args, 1)[0]
	if err := os.MkdirAll(dir+"/many", 0o755); err != nil {
		return err
	}
	for i := range 2_000 {
		if err := os.WriteFile(fmt.Sprintf("%s/many/%d", dir, i), nil, 0o644); err != nil {
			return err
		}
	}
	for _, name := range []string{
		"new\nline", "\x1b[31mred\x1b[0m", "invalid \xff\xfe utf-8", " ", "-rf", "\\", "\"'`$(id)", "\t", strings.Repeat("x", 255),
		strings.Repeat("ü", 127), "..x", "...", "a\rb", "\u202egnp.exe", "\x01\x7f",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			return err
		}
	}
	return errors.Join(
		unix.Mkfifo(dir+"/fifo", 0o644),
		os.Symlink("loop", dir+"/loop"),
		os.Symlink(strings.Repeat("x/", 2000), dir+"/long"),
		os.WriteFile(dir+"/sparse", nil, 0o644), os.Truncate(dir+"/sparse", 1<<30),
	)
}

// depth is how many directories are in one another.
const depth = 300

// deep makes directories in one another, deeper than a path can say.
func deep(args []string) error {
	if err := os.Chdir(need(args, 1)[0]); err != nil {
		return err
	}
	for range depth {
		if err := os.Mkdir("deep-directory", 0o755); err != nil {
			return err
		}
		if err := os.Chdir("deep-directory"); err != nil {
			return err
		}
	}
	return os.WriteFile("bottom", nil, 0o644)
}

// bottom goes as deep as deep has made directories, and looks for its file.
func bottom(args []string) error {
	if err := os.Chdir(need(args, 1)[0]); err != nil {
		return err
	}
	for range depth {
		if err := os.Chdir("deep-directory"); err != nil {
			return err
		}
	}
	_, err := os.Stat("bottom")
	return err
}

// fork starts itself twice, as each of those does, until it is killed.
func fork([]string) error {
	for {
		for range 2 {
			if err := exec.Command("/proc/self/exe", "fork").Start(); err != nil { //nolint:noctx // It is to stay.
				continue
			}
		}
	}
}

// hog takes memory and touches it.
func hog([]string) error {
	var all [][]byte
	for {
		some := make([]byte, 1<<20)
		for i := range some {
			some[i] = byte(len(all) + i)
		}
		all = append(all, some)
	}
}
