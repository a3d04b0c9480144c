package btrfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/cuib/cuib/shared/crash"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/landlock"
	"github.com/cuib/cuib/shared/run"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/layout"
	"github.com/cuib/cuib/storage/internal/tree"
)

// Format implements [storage.Streamer].
func (d *driver) Format() string { return "btrfs" }

// Send implements [storage.Streamer].
func (d *driver) Send(ctx context.Context, w io.Writer, v storage.Volume, base string) error {
	err := d.readOnly(v, func(path string) error {
		if base == "" {
			return send(ctx, w, path)
		}
		from := v.Parent()
		from.Snapshot = base
		if err := d.Pool.MustExist(from); err != nil {
			return err
		}
		return send(ctx, w, "-p", d.Pool.Path(from), path)
	})
	if err != nil {
		return fmt.Errorf("send volume %s: %w", v, err)
	}
	return nil
}

// readOnly runs fn with a read-only subvolume that has what v has.
func (d *driver) readOnly(v storage.Volume, fn func(path string) error) (err error) {
	if err := d.Pool.MustExist(v); err != nil {
		return err
	}
	if v.Snapshot != "" {
		return fn(d.Pool.Path(v))
	}
	staged, err := d.Pool.Stage()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Pool.Discard(staged)) }()
	if err := snapshot(layout.Cur(staged), d.Pool.Path(v), subvolReadOnly); err != nil {
		return err
	}
	return fn(layout.Cur(staged))
}

// send writes the stream that the arguments ask for.
func send(ctx context.Context, w io.Writer, args ...string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	out := &keeping{w: w}
	err := run.Program{Args: slices.Concat([]string{"btrfs", "send", "-q"}, args), Stdout: out}.Run(ctx)
	if out.err != nil {
		return out.err // It is why the program failed.
	}
	return err
}

// A keeping writer keeps its error.
type keeping struct {
	w   io.Writer
	err error
}

func (k *keeping) Write(p []byte) (int, error) {
	crash.Within("a subvolume is sent")
	n, err := k.w.Write(p)
	if err != nil {
		k.err = err
	}
	return n, err
}

// Receive implements [storage.Streamer].
func (d *driver) Receive(_ context.Context, v storage.Volume) (storage.Receiver, error) {
	if err := run.Look("btrfs", "btrfs-progs"); err != nil {
		return nil, err
	}
	staged, fresh, err := d.Stage(v)
	if err != nil {
		return nil, err
	}
	return &receiver{d: d, v: v, staged: staged, fresh: fresh}, nil
}

// A receiver has what came in a staged directory.
type receiver struct {
	d      *driver
	v      storage.Volume
	staged string // Empty when it is done.
	fresh  bool   // There is no v.
}

// Next implements [storage.Receiver].
func (r *receiver) Next(ctx context.Context, in io.Reader, name, base string) error {
	if err := r.next(ctx, in, name, base); err != nil {
		return fmt.Errorf("receive volume %s: %w", storage.Volume{Kind: r.v.Kind, Name: r.v.Name, Snapshot: name}, err)
	}
	return nil
}

func (r *receiver) next(ctx context.Context, in io.Reader, name, base string) (err error) {
	rule := &streamRule{}
	if base != "" {
		if rule.base, err = r.baseOf(base); err != nil {
			return err
		}
	}
	scratch, err := r.d.Pool.Stage()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.d.Pool.Discard(scratch)) }()
	if err := receive(ctx, scratch, in, rule); err != nil {
		return err
	}
	got := filepath.Join(scratch, rule.name)
	if name == "" {
		return snapshot(layout.Cur(r.staged), got, 0)
	}
	// A read-only subvolume cannot be moved to another directory.
	return snapshot(layout.SnapshotIn(r.staged, name), got, subvolReadOnly)
}

// baseOf returns what is known of the snapshot that a stream builds on.
func (r *receiver) baseOf(name string) (*subvolInfo, error) {
	at := layout.SnapshotIn(r.staged, name)
	if _, err := os.Lstat(at); errors.Is(err, fs.ErrNotExist) {
		s := r.v
		s.Snapshot = name
		at = r.d.Pool.Path(s)
	}
	info, err := infoOf(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Newf(errs.Unsupported, "the stream builds on snapshot %q, which %s does not have", name, r.v)
	}
	return info, err
}

// receive makes a subvolume of a stream in the empty directory dir.
func receive(ctx context.Context, dir string, in io.Reader, rule *streamRule) error {
	pr, pw, err := os.Pipe()
	if err != nil {
		return err
	}
	passed := make(chan error, 1)
	go func() {
		err := rule.pass(pw, in)
		pw.Close()
		passed <- err
	}()
	err = run.Program{
		Args: []string{"btrfs", "receive", "-q", "-e", dir}, Stdin: pr,
		// Whatever links there are in what came.
		Cage: func() error { return landlock.WriteBelow(dir) },
	}.Run(ctx)
	pr.Close()
	// If the stream was bad, the program was only told that it ended.
	if perr := <-passed; perr != nil && !errors.Is(perr, errPassed) {
		return perr
	}
	return receiveError(ctx, err)
}

// receiveError tells a stream that cannot be received from a pool that can
// receive none: the program fails in the same way.
func receiveError(ctx context.Context, err error) error {
	failed, ok := errors.AsType[*run.Error](err)
	if !ok || errs.KindOf(err) != errs.Internal || ctx.Err() != nil {
		return err
	}
	for _, cause := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS, syscall.ENOMEM} {
		if strings.Contains(strings.ToLower(failed.Stderr), cause.Error()) {
			return fmt.Errorf("%w: %w", cause, err)
		}
	}
	return errs.Newf(errs.Invalid, "bad stream: %w", err)
}

// errPassed is that of a program that took no more.
var errPassed = errors.New("the program took no more of the stream")

// A streamRule is what a stream has to keep to.
type streamRule struct {
	base *subvolInfo // What it builds on, if it does.
	name string      // What it calls its subvolume.
	uuid []byte
}

// pass copies a stream to its end, and no further, unless it is bad.
func (s *streamRule) pass(w io.Writer, in io.Reader) error {
	r, head, err := newCommandReader(in)
	if err != nil {
		return err
	}
	write := func(p []byte) error {
		if _, err := w.Write(p); err != nil {
			return errors.Join(errPassed, err)
		}
		return nil
	}
	if err := write(head); err != nil {
		return err
	}
	for {
		crash.Within("a subvolume is received")
		c, err := r.next()
		if err != nil {
			return err
		}
		if err := s.check(c); err != nil {
			return err
		}
		if err := write(c.raw); err != nil || c.cmd == cmdEnd {
			return err
		}
	}
}

func (s *streamRule) check(c command) error {
	first := s.name == ""
	if first != (c.cmd == cmdSubvol || c.cmd == cmdSnapshot) {
		return errs.Invalidf("bad stream: it is not of one subvolume")
	}
	if first {
		return s.begin(c)
	}
	paths := [][]byte{c.attrs[attrPath], c.attrs[attrPathTo], c.attrs[attrClonePath]}
	if c.cmd != cmdSymlink {
		paths = append(paths, c.attrs[attrPathLink])
	}
	for _, p := range paths {
		if !isBelow(string(p)) {
			return errs.Invalidf("bad stream: the path %q leads out of it", p)
		}
	}
	if c.cmd == cmdClone && !bytes.Equal(c.attrs[attrCloneUUID], s.uuid) && !s.base.is(c.attrs[attrCloneUUID]) {
		return errs.Invalidf("bad stream: it has data of another volume")
	}
	return nil
}

// begin checks the command that says what the stream is of.
func (s *streamRule) begin(c command) error {
	name := c.path()
	if name != path.Base(name) || !isBelow(name) || name == "" || name == "." {
		return errs.Invalidf("bad stream: the subvolume's name is %q", name)
	}
	s.name, s.uuid = name, bytes.Clone(c.attrs[attrUUID])
	if s.base == nil {
		if c.cmd == cmdSnapshot {
			return errs.Newf(errs.Unsupported, "the stream builds on a snapshot that is not named")
		}
		return nil
	}
	if c.cmd == cmdSnapshot && !s.base.is(c.attrs[attrCloneUUID]) {
		return errs.Newf(errs.Unsupported, "the stream builds on another snapshot of that name")
	}
	return nil
}

// isBelow reports whether a path leads to what is below where it begins.
func isBelow(p string) bool {
	return !strings.HasPrefix(p, "/") && !slices.Contains(strings.Split(p, "/"), "..") && !strings.ContainsRune(p, 0)
}

// Commit implements [storage.Receiver].
func (r *receiver) Commit(context.Context) error {
	if err := r.commit(); err != nil {
		return fmt.Errorf("receive volume %s: %w", r.v, err)
	}
	return nil
}

func (r *receiver) commit() error {
	// What it replaces, or is a copy of, may go away next.
	if err := tree.Sync(r.staged); err != nil {
		return err
	}
	head := layout.Cur(r.staged)
	_, err := os.Lstat(head)
	if r.fresh {
		if err != nil {
			return errs.Invalidf("the volume itself was not received: %w", err)
		}
		err = r.d.Pool.Publish(r.staged, r.v)
		if err == nil {
			r.staged = ""
		}
		return err
	}
	if err := r.d.MustNotBeMounted(r.v); err != nil {
		return err
	}
	if err == nil {
		if err := copyLimit(head, r.d.Pool.Path(r.v)); err != nil {
			return err
		}
	}
	if err := r.d.Pool.Merge(r.staged, r.v); err != nil {
		return err
	}
	// It is done. What is left over goes away later at last.
	_ = r.d.Pool.Discard(r.staged)
	r.staged = ""
	return nil
}

// copyLimit gives a subvolume the limit that another has.
func copyLimit(to, from string) error {
	limit, err := limitOf(from)
	if err != nil || limit == noLimit {
		return err
	}
	return setLimit(to, limit)
}

// Abort implements [storage.Receiver].
func (r *receiver) Abort(context.Context) error {
	if r.staged == "" {
		return nil
	}
	err := r.d.Pool.Discard(r.staged)
	if err == nil {
		r.staged = ""
	}
	return err
}

// moveSubvol moves a read-only subvolume, which the kernel does not do.
func moveSubvol(from, to string) error {
	if err := snapshot(to, from, subvolReadOnly); err != nil {
		return err
	}
	return destroySubvol(from)
}

var _ storage.Streamer = (*driver)(nil)
