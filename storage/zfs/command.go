package zfs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/run"
)

// zfs runs the program zfs.
func zfs(ctx context.Context, args ...string) (string, error) {
	return program(ctx, append([]string{"zfs"}, args...)...)
}

// zpool runs the program zpool.
func zpool(ctx context.Context, args ...string) (string, error) {
	return program(ctx, append([]string{"zpool"}, args...)...)
}

// program runs a program that dies with the daemon: what the next one finds at
// its start does not change any more.
func program(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	err := run.Program{Args: args, Stdout: &out}.Run(ctx)
	return strings.TrimSuffix(out.String(), "\n"), classify(err)
}

// rows runs the program zfs and returns the lines of its output, apart at the
// tabs.
func rows(ctx context.Context, args ...string) ([][]string, error) {
	out, err := zfs(ctx, args...)
	if err != nil || out == "" {
		return nil, err
	}
	var all [][]string
	for line := range strings.SplitSeq(out, "\n") {
		all = append(all, strings.Split(line, "\t"))
	}
	return all, nil
}

// pipe has what one zfs writes read by another.
func pipe(ctx context.Context, from, to []string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		err := sendTo(ctx, w, from...)
		sent <- errors.Join(err, w.Close())
	}()
	err = receiveFrom(ctx, r, to...)
	err = errors.Join(err, r.Close())
	return errors.Join(<-sent, err)
}

// sendTo has the program zfs write to w, whose error is the one that counts.
func sendTo(ctx context.Context, w io.Writer, args ...string) error {
	var failed failing
	if _, file := w.(*os.File); !file {
		failed.w = w
		w = &failed
	}
	err := classify(run.Program{Args: append([]string{"zfs"}, args...), Stdout: w}.Run(ctx))
	if failed.err != nil {
		return failed.err
	}
	return err
}

// A failing writer remembers an error: the program that cannot write any more
// does not know it.
type failing struct {
	w   io.Writer
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		f.err = err
	}
	return n, err
}

func receiveFrom(ctx context.Context, r io.Reader, args ...string) error {
	return classify(run.Program{Args: append([]string{"zfs"}, args...), Stdin: r}.Run(ctx))
}

// texts are what the programs say when they fail, as far as it makes a
// difference.
var texts = []struct {
	text string
	kind errs.Kind
}{
	{"dataset does not exist", errs.NotFound},
	{"could not find any snapshots", errs.NotFound},
	{"no such pool", errs.NotFound},
	{"dataset already exists", errs.Conflict},
	{"is busy", errs.Conflict},
	{"has children", errs.Conflict},
	{"has dependent clones", errs.Conflict},
	{"more recent snapshots", errs.Conflict},
	{"name is too long", errs.Invalid},
	{"name too long", errs.Invalid},
	{"match incremental source", errs.Unsupported},
	{"invalid stream", errs.Invalid},
	{"checksum mismatch", errs.Invalid},
	{"out of space", errs.Unavailable},
	{"quota exceeded", errs.Unavailable},
}

// classify gives the error of a program its kind.
func classify(err error) error {
	for _, t := range texts {
		if says(err, t.text) {
			return errs.Newf(t.kind, "%w", err)
		}
	}
	return err
}

// says reports whether err is that of a program that wrote the text.
func says(err error, text string) bool {
	e, failed := errors.AsType[*run.Error](err)
	return failed && strings.Contains(e.Stderr, text)
}

func isBusy(err error) bool    { return says(err, "is busy") }
func isMissing(err error) bool { return errs.Is(err, errs.NotFound) }
func exists(err error) bool    { return says(err, "dataset already exists") }
