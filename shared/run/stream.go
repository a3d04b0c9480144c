package run

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/cuib/cuib/shared/crash"
	"github.com/cuib/cuib/shared/thread"
)

// stderrLines is how many last lines of a program's complaints are kept.
const stderrLines = 20

// A Program is a program with its surroundings.
type Program struct {
	Args   []string
	Env    []string // Beyond the daemon's own and LC_ALL=C.
	Stdin  io.Reader
	Stdout io.Writer
	Line   func(line string) // Called with each line on standard error, if not nil.
	Dir    string            // Where it runs; the daemon's own directory if it is empty.

	// Stop is the signal that asks the program to end when ctx does; it is
	// killed if it goes on for some seconds. nil kills it at once.
	Stop os.Signal

	// Idle is how long the program may do nothing before it is asked to stop;
	// 0 for ever. What it writes to its standard output does not count: that
	// can be how far it has not come.
	Idle time.Duration

	// Cage is called on the thread that starts the program, and on which
	// nothing else runs before or after: what it takes from the thread, the
	// program does not have.
	Cage func() error
}

// Run runs the program. It ends when ctx does, and is killed if the daemon is.
func (p Program) Run(ctx context.Context) error {
	crash.Point("before the program", p.Args...)
	defer crash.Point("after the program", p.Args...)
	done := make(chan error)
	go func() {
		// The program gets its signal when the thread that started it ends,
		// which must not be before the program does.
		var err error
		thread.Do(func() { err = p.run(ctx) })
		done <- err
	}()
	crash.During("during the program", p.Args...)
	return <-done
}

func (p Program) run(ctx context.Context) error {
	if p.Cage != nil {
		if err := p.Cage(); err != nil {
			return err
		}
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	stderr := &lines{fn: p.Line}
	cmd := command(ctx, p.Args)
	cmd.Env, cmd.Dir = append(cmd.Env, p.Env...), p.Dir
	if p.Stop != nil {
		cmd.Cancel = func() error { return cmd.Process.Signal(p.Stop) }
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.Stdin, p.Stdout, stderr
	if p.Stdout == nil {
		cmd.Stdout = io.Discard // Not /dev/null, which is outside of the cage.
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	watch := func() {}
	if p.Idle > 0 {
		watch = (&guarded{patience: p.Idle}).watch(ctx, cmd, end)
	}
	if err := carried(ctx, cmd, watch); err != nil {
		return &Error{p.Args, stderr.last(), errors.Join(err, context.Cause(ctx))}
	}
	return nil
}

// carried runs a command, and calls started once it runs.
func carried(ctx context.Context, cmd *exec.Cmd, started func()) error {
	if _, isFile := cmd.Stdout.(*os.File); isFile { // The program writes there itself.
		return waited(cmd, started)
	}
	out, w, err := openOutlet(cmd)
	if err != nil {
		return err
	}
	err = waited(cmd, func() { w.Close(); started() })
	w.Close() // If it could not be started.
	if oerr := out.wait(ctx); err == nil {
		err = oerr
	}
	return err
}

func waited(cmd *exec.Cmd, started func()) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	started()
	return cmd.Wait()
}

// Filter returns what a program makes of in. The error of a program that
// fails comes from Read, in place of [io.EOF].
func Filter(ctx context.Context, in io.Reader, args ...string) (io.ReadCloser, error) {
	return Program{Args: args, Stdin: in}.Output(ctx), nil
}

// Output runs the program and returns what it writes to its standard output.
// The error of a program that fails comes from Read, in place of [io.EOF].
// Close ends it.
func (p Program) Output(ctx context.Context) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	p.Stdout = w
	go func() {
		err := p.Run(ctx)
		_ = w.CloseWithError(err) // It never fails.
	}()
	return &filter{r, cancel}
}

type filter struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (f *filter) Close() error {
	f.cancel()
	return f.PipeReader.Close()
}

// lines takes standard error apart.
type lines struct {
	fn   func(string)
	part []byte
	all  []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.part = append(l.part, p...)
	for {
		// Programs redraw their progress bars with a carriage return.
		i := bytes.IndexAny(l.part, "\r\n")
		if i < 0 {
			break
		}
		l.line(string(l.part[:i]))
		l.part = l.part[i+1:]
	}
	return len(p), nil
}

func (l *lines) line(s string) {
	if s = strings.TrimSpace(s); s == "" {
		return
	}
	if l.fn != nil {
		l.fn(s)
	}
	l.all = append(l.all, s)
	if len(l.all) > stderrLines {
		l.all = l.all[1:]
	}
}

func (l *lines) last() string {
	l.line(string(l.part))
	l.part = nil
	return strings.Join(l.all, "\n")
}
