package run

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"time"
)

// An outlet carries what a program writes to who reads it, however slow that
// is. Package os/exec would give up on what is left when the program has ended
// for a time, even though the reader is about to take it.
type outlet struct {
	r    *os.File
	done chan error
}

// openOutlet has the command write to an outlet in place of its Stdout. The
// caller closes w when the command runs, or cannot.
func openOutlet(cmd *exec.Cmd) (o outlet, w *os.File, err error) {
	if o.r, w, err = os.Pipe(); err != nil {
		return o, nil, os.NewSyscallError("pipe", err)
	}
	o.done = make(chan error, 1)
	to := cmd.Stdout
	cmd.Stdout = w
	go func() {
		o.done <- o.carry(to)
		o.r.Close() // The program is told that nobody reads any more.
	}()
	return o, w, nil
}

// carry copies until nobody has the pipe open any more. It does not wait for
// one who outlives the program and is silent.
func (o outlet) carry(to io.Writer) error {
	buf := make([]byte, 64<<10)
	for {
		began := time.Now()
		n, err := o.r.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded) && time.Since(began) < grace: // It passed while the reader took its time.
			o.hurry()
		case err != nil:
			return errors.Join(exec.ErrWaitDelay, err)
		}
	}
}

// hurry lets a read wait no longer than so.
func (o outlet) hurry() { _ = o.r.SetReadDeadline(time.Now().Add(grace)) } // It fails if all was read.

// wait returns when the reader has all that the program, which has ended, wrote.
// It does not wait for a reader that has stopped when ctx ends.
func (o outlet) wait(ctx context.Context) error {
	o.hurry()
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-o.done:
		return err
	case <-time.After(grace):
		return exec.ErrWaitDelay
	}
}
