// Package doctor looks for what Cuib needs on a host, and knows how to get
// what is missing.
//
// It looks from outside, without privileges and without a running daemon, so
// that it can tell why there is none.
package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"strings"

	"golang.org/x/sys/unix"
)

// A Status says how bad a finding is.
type Status string

// The statuses, the worst last.
const (
	OK      Status = "ok"
	Advice  Status = "advice"  // Something works less well, or not at all.
	Missing Status = "missing" // Nothing works without it.
)

// A Result is what one check has found.
type Result struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Found  string `json:"found"`            // What is there, or what is missing.
	Remedy string `json:"remedy,omitempty"` // What helps, if it is not ok.
}

// A Host is what the checks look at. All fields are required.
type Host struct {
	Files   fs.FS // The root directory.
	Release string
	User    string
	Program func(name string) bool          // Tells whether a program is installed.
	Daemon  func(ctx context.Context) error // Asks the daemon for a sign of life.
}

// ThisHost returns the host that the program runs on.
func ThisHost(daemon func(ctx context.Context) error) Host {
	var uts unix.Utsname
	_ = unix.Uname(&uts) // It fails only for a bad pointer.
	name := "root"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return Host{
		Files: os.DirFS("/"), Release: unix.ByteSliceToString(uts.Release[:]), User: name,
		Program: installed, Daemon: daemon,
	}
}

// installed looks for a program, also where those for administrators are.
func installed(name string) bool {
	if _, err := exec.LookPath(name); err == nil {
		return true
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/", "/usr/local/sbin/"} {
		if info, err := os.Stat(dir + name); err == nil && info.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
}

// Examine runs all checks.
func Examine(ctx context.Context, h Host) []Result {
	out := []Result{h.daemon(ctx), h.group(), h.kernel()}
	for _, check := range []func() Result{h.userNamespaces, h.overlay, h.btrfs, h.seccomp, h.fuse, h.nftables} {
		out = append(out, check())
	}
	out = append(out, h.controllers()...)
	for _, p := range programs {
		out = append(out, h.program(p))
	}
	for _, check := range []func() Result{h.liblxc, h.plugins, h.lxcfs, h.versionTwo, h.pressure, h.ids, h.forwarding, h.docker} {
		out = append(out, check())
	}
	for _, l := range limits {
		out = append(out, h.limit(l))
	}
	return out
}

// Worst returns the worst status of results.
func Worst(results []Result) Status {
	worst := OK
	for _, r := range results {
		if r.Status == Missing || r.Status == Advice && worst == OK {
			worst = r.Status
		}
	}
	return worst
}

func ok(name, format string, args ...any) Result {
	return Result{Name: name, Status: OK, Found: fmt.Sprintf(format, args...)}
}

// read returns the content of a small file, without space around it.
func (h Host) read(name string) (string, bool) {
	data, err := fs.ReadFile(h.Files, name)
	return strings.TrimSpace(string(data)), err == nil
}

func (h Host) exists(name string) bool {
	_, err := fs.Stat(h.Files, name)
	return err == nil
}
