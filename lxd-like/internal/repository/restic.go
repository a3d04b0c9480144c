package repository

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/pause"
	"github.com/cuib/cuib/shared/run"
	"github.com/cuib/cuib/shared/units"
)

// Look returns an error that names the package if restic is not installed.
func Look() error { return run.Look("restic", "restic") }

// A call is one run of restic.
type call struct {
	args   []string
	stdout io.Writer
	line   func(line string) // Called with each line on standard error, if not nil.
	stage  *stage            // nil for none.
}

// restic runs restic on a repository. Locks that a program of this daemon
// left when it was killed do not keep it from its work. Another run says what is
// wrong where one panics, as 0.14 can when a disk is full, also twice in a row.
func (s *Service) restic(ctx context.Context, r db.Repository, c call) error {
	p, err := s.program(r, c)
	if err != nil {
		return err
	}
	err = p.Run(ctx)
	for i := 0; i < unlocks && err != nil && ctx.Err() == nil; i++ {
		again := said(err, saysLocked) && (i == 0 || s.locked(err)) || said(err, saysPanic)
		if !again {
			break
		}
		if i > 0 && said(err, saysLocked) {
			_ = pause.For(ctx, time.Duration(i)*300*time.Millisecond)
		}
		if uerr := s.unlock(ctx, r); uerr != nil {
			return uerr
		}
		err = p.Run(ctx)
	}
	err = explain(r, err)
	s.heard(r.Name, err)
	return err
}

// idleFor is how long restic may do nothing: when a disk is full 0.14 can wait
// for itself for ever. It tries again what fails, after a minute at most, and
// says so.
const idleFor = 5 * time.Minute

// unlocks is how often stale locks are looked for, for some 15 s: a process
// that was killed exists until the host's init has taken note of its end.
const unlocks = 10

// locked reports whether a lock of this daemon is in the way.
func (s *Service) locked(err error) bool {
	id, ierr := s.identity()
	return ierr == nil && said(err, saysLocked) && said(err, " on "+id+" ")
}

// unlock removes stale locks: those of this daemon's host name, which no
// other daemon has, whose process is gone; and those of others that nobody
// has renewed for half an hour, which restic does every five minutes.
func (s *Service) unlock(ctx context.Context, r db.Repository) error {
	p, err := s.program(r, call{args: []string{"unlock", "--quiet"}})
	if err != nil {
		return err
	}
	return explain(r, p.Run(ctx))
}

// program is restic with all that it is told of the repository. Secrets are
// in its environment, which only root can read.
func (s *Service) program(r db.Repository, c call) (run.Program, error) {
	if err := Look(); err != nil {
		return run.Program{}, err
	}
	id, err := s.identity()
	if err != nil {
		return run.Program{}, err
	}
	args, env, err := s.options(r)
	if err != nil {
		return run.Program{}, err
	}
	p := run.Program{
		Args: append(append([]string{"restic"}, args...), c.args...), Env: env,
		Stdout: c.stdout, Line: c.line, Stop: os.Interrupt, Idle: cmp.Or(s.idle, idleFor),
	}
	p.Cage = func() error {
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if err := unix.Sethostname([]byte(id)); err != nil {
			return os.NewSyscallError("sethostname", err)
		}
		if c.stage == nil {
			return nil
		}
		return c.stage.mount()
	}
	if c.stage != nil {
		p.Dir = c.stage.dir()
	}
	return p, nil
}

// options returns the arguments and the environment that say where the
// repository is.
func (s *Service) options(r db.Repository) (args, env []string, err error) {
	config := r.Config
	env = []string{
		"RESTIC_REPOSITORY=" + config[keyLocation], "RESTIC_REPOSITORY_FILE=",
		"RESTIC_PASSWORD=" + config[keyPassword], "RESTIC_PASSWORD_FILE=", "RESTIC_PASSWORD_COMMAND=",
		"RESTIC_CACHE_DIR=" + s.cacheDir(r.Name), "RESTIC_KEY_HINT=", "RESTIC_PROGRESS_FPS=1",
	}
	if os.Getenv("HOME") == "" {
		env = append(env, "HOME=/root") // Where ssh and others look for what they know.
	}
	for name, variable := range map[string]string{keyAccess: "AWS_ACCESS_KEY_ID", keySecret: "AWS_SECRET_ACCESS_KEY", keyRegion: "AWS_DEFAULT_REGION"} {
		if config[name] != "" {
			env = append(env, variable+"="+config[name])
		}
	}
	if isLocal(config[keyLocation]) {
		args = append(args, "--no-cache")
	}
	for name, flag := range map[string]string{keyUpload: "--limit-upload", keyDownload: "--limit-download"} {
		if config[name] == "" {
			continue
		}
		n, err := units.ParseBytes(config[name])
		if err != nil {
			return nil, nil, fmt.Errorf("configuration key %q: %w", name, err)
		}
		args = append(args, flag, strconv.FormatInt(n/1024, 10)) // In KiB.
	}
	if command := sftpCommand(config); command != "" {
		args = append(args, "-o", "sftp.command="+command)
	}
	return args, env, nil
}

// sftpCommand returns the command that speaks SFTP with the host of a
// location; empty for other locations. It is one that asks nobody anything.
func sftpCommand(config map[string]string) string {
	location, ok := strings.CutPrefix(config[keyLocation], "sftp:")
	if !ok || config[keySFTP] != "" {
		return config[keySFTP]
	}
	host, port := sftpHost(location)
	words := []string{"ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=60", "-o", "ServerAliveCountMax=4"}
	if port != "" {
		words = append(words, "-p", port)
	}
	if key := config[keySFTPKey]; key != "" {
		words = append(words, "-i", "'"+key+"'", "-o", "IdentitiesOnly=yes")
	}
	return strings.Join(append(words, "-s", "--", "'"+host+"'", "sftp"), " ")
}

// sftpHost returns the host of a location, with the user, and the port.
func sftpHost(location string) (host, port string) {
	u, err := url.Parse("sftp:" + location)
	if err != nil || !strings.HasPrefix(location, "//") {
		host, _, _ = strings.Cut(location, ":")
		return host, ""
	}
	host = u.Hostname()
	if name := u.User.Username(); name != "" {
		host = name + "@" + host
	}
	return host, u.Port()
}

func (s *Service) dir() string { return filepath.Join(s.Dir, "repositories") }

func (s *Service) cacheDir(repository string) string {
	return filepath.Join(s.dir(), "cache", repository)
}

// stagePoint returns the directory on which stages are mounted.
func (s *Service) stagePoint() (string, error) {
	dir := filepath.Join(s.dir(), "stage")
	return dir, os.MkdirAll(dir, 0o700)
}

// identity returns the host name that restic has when this daemon runs it,
// and writes into its locks: nobody else has it, so that a lock with it whose
// process is gone is left over. It is made up at the first use.
func (s *Service) identity() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id != "" {
		return s.id, nil
	}
	path := filepath.Join(s.dir(), "id")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		data = []byte(strings.ToLower(rand.Text()[:12]))
		if err = os.MkdirAll(s.dir(), 0o700); err == nil {
			err = os.WriteFile(path, data, 0o600)
		}
	}
	if err != nil {
		return "", err
	}
	const room = 64 - len("-cuib-") - 12 // Linux has 64 bytes for a host name.
	s.id = s.Host[:min(len(s.Host), room)] + "-cuib-" + strings.TrimSpace(string(data))
	return s.id, nil
}

// heard remembers whether a repository could be used.
func (s *Service) heard(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down == nil {
		s.down = map[string]error{}
	}
	if errs.Is(err, errs.Canceled) {
		return
	}
	s.down[name] = nil
	if errs.Is(err, errs.Unavailable) {
		s.down[name] = err
	}
}

// What restic says, in all its versions: until 0.17 it has one exit status
// for all that goes wrong.
const (
	saysLocked   = "already locked"
	saysPassword = "wrong password or no key found"
	saysMissing  = "Is there a repository at the following location"
	saysDamaged  = "repository contains errors"
	saysPanic    = "goroutine "
	saysFatal    = "Fatal: "
)

// errMissing is in the error for a location at which there is none.
var errMissing = errors.New("there is no repository")

func said(err error, text string) bool {
	failed, ok := errors.AsType[*run.Error](err)
	return ok && strings.Contains(failed.Stderr, text)
}

// An explained error has other words than its cause.
type explained struct {
	error

	cause error
}

func (e explained) Unwrap() []error { return []error{e.error, e.cause} }

// explain gives what restic says its kind, and leaves out what is of no use.
func explain(r db.Repository, err error) error {
	failed, ok := errors.AsType[*run.Error](err)
	if !ok {
		return err
	}
	return explained{reword(r, failed), err}
}

func reword(r db.Repository, failed *run.Error) error {
	err := error(failed)
	if errs.Is(err, errs.Canceled) || errors.Is(err, context.DeadlineExceeded) && failed.Stderr == "" {
		return fmt.Errorf("backup repository %q: %w", r.Name, failed.Err)
	}
	switch location := r.Config[keyLocation]; {
	case errors.Is(err, run.ErrIdle):
		return errs.Newf(errs.Unavailable, "backup repository %q: restic hangs, and was ended: %w; see whether there is room at %s", r.Name, failed.Err, location)
	case said(err, saysPassword):
		return errs.Invalidf("backup repository %q: the password is not that of the repository at %s", r.Name, location)
	case said(err, saysLocked):
		return errs.Conflictf("backup repository %q is in use: %s", r.Name, essence(failed.Stderr))
	case said(err, saysMissing):
		return errs.Newf(errs.Unavailable, "backup repository %q: %w at %s: %s", r.Name, errMissing, location, essence(failed.Stderr))
	case said(err, saysDamaged):
		return errs.Newf(errs.Internal, "backup repository %q is damaged: %s", r.Name, faults(failed.Stderr))
	case said(err, syscall.ENOSPC.Error()), said(err, syscall.EDQUOT.Error()):
		return errs.Newf(errs.Unavailable, "backup repository %q: %s", r.Name, lack(failed.Stderr))
	case said(err, saysPanic):
		return errs.Newf(errs.Unavailable, "backup repository %q: restic ends in a panic, as it does at times where there is no room: see whether there is some at %s: %s", r.Name, location, essence(failed.Stderr))
	}
	if failed.Stderr == "" {
		return errs.Newf(errs.Unavailable, "backup repository %q: %w", r.Name, failed)
	}
	return errs.Newf(errs.Unavailable, "backup repository %q: %s", r.Name, essence(failed.Stderr))
}

// faults returns the first lines that say what is wrong.
func faults(text string) string {
	var out []string
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		if !strings.HasPrefix(line, saysFatal) && len(out) < 3 {
			out = append(out, line)
		}
	}
	return strings.Join(out, "; ")
}

// lack returns the line that says that there is no room: others can say what
// came of it.
func lack(text string) string {
	for line := range strings.SplitSeq(text, "\n") {
		if strings.Contains(line, syscall.ENOSPC.Error()) || strings.Contains(line, syscall.EDQUOT.Error()) {
			return strings.TrimPrefix(line, saysFatal)
		}
	}
	return essence(text)
}

// essence returns the line that says what is wrong, and what a program said
// that restic ran.
func essence(text string) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	var others []string
	for _, line := range all {
		if strings.HasPrefix(line, "subprocess ") {
			others = append(others, line)
		}
	}
	for _, line := range all {
		if reason, ok := strings.CutPrefix(line, saysFatal); ok && !strings.Contains(reason, "errors") {
			return strings.Join(append([]string{reason}, others...), "; ")
		}
	}
	// What comes before the number of errors is one of them.
	for _, line := range all {
		if !strings.HasPrefix(line, saysFatal) {
			return line
		}
	}
	return text
}
