package kit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/errs"
)

// tick is how often a [Meter] shows what has passed.
const tick = 100 * time.Millisecond

// A Meter shows how many bytes of something have passed. One that is nil shows
// nothing.
type Meter struct {
	Progress *output.Progress
	Label    string
	Size     int64 // Of all; 0 if nobody knows.

	passed      int64
	skipped     int64 // Of that: nothing had to be moved for it.
	start, last time.Time
}

// Begin makes it a meter of something else.
func (m *Meter) Begin(label string, size int64) {
	if m != nil {
		*m = Meter{Progress: m.Progress, Label: label, Size: size, last: m.last}
	}
}

// Skip counts what is passed over, such as a hole of a file.
func (m *Meter) Skip(n int64) {
	if m != nil {
		m.passed, m.skipped = m.passed+n, m.skipped+n
	}
}

func (m *Meter) add(n int) {
	m.passed += int64(n)
	now := time.Now()
	if m.start.IsZero() {
		m.start = now
	}
	if now.Sub(m.last) < tick {
		return
	}
	m.last = now
	much := Size(m.passed)
	if m.Size > 0 {
		much = fmt.Sprintf("%d%%", min(100, 100*m.passed/m.Size))
	}
	speed := ""
	if took := now.Sub(m.start); took >= tick {
		speed = fmt.Sprintf(" (%s/s)", Size(int64(float64(m.passed-m.skipped)/took.Seconds())))
	}
	m.Progress.Show("%s: %s%s", m.Label, much, speed)
}

// Reader returns r with a meter.
func (m *Meter) Reader(r io.Reader) io.Reader {
	if m == nil {
		return r
	}
	return &metered{r: r, m: m}
}

// Writer returns w with a meter.
func (m *Meter) Writer(w io.Writer) io.Writer {
	if m == nil {
		return w
	}
	return &metered{w: w, m: m}
}

type metered struct {
	r io.Reader
	w io.Writer
	m *Meter
}

func (t *metered) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.m.add(n)
	return n, err
}

func (t *metered) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	t.m.add(n)
	return n, err
}

// Send hands what a file or, for "-", the standard input holds to send, shows
// how much of it has gone, and waits for the operation that it began.
func (e *Env) Send(ctx context.Context, source string, send func(context.Context, io.Reader) (*client.Operation, error)) (*client.Operation, error) {
	in, label := e.In, "standard input"
	if source == "-" {
		if IsTerminal(e.In) {
			return nil, errs.Invalidf("the standard input is a terminal: redirect an archive to it")
		}
	} else {
		f, err := os.Open(source)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in, label = f, filepath.Base(source)
	}
	info, err := in.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errs.Invalidf("%s is a directory: want an archive, as export makes them", source)
	}
	m := Meter{Progress: e.Progress(), Label: "Sending " + label}
	if info.Mode().IsRegular() {
		m.Size = info.Size()
	}
	defer m.Progress.Clear()
	sending, stop := Interruptible(ctx)
	op, err := send(sending, m.Reader(unblocked(sending, in)))
	stop()
	m.Progress.Clear()
	return op, e.Wait(ctx, op, err)
}

// chunk is how much passes at a time.
const chunk = 256 << 10

// unblocked returns r with reads that end when ctx does, also those of a pipe
// that nobody writes to.
func unblocked(ctx context.Context, r io.Reader) io.Reader {
	out, in := io.Pipe()
	go func() {
		_, err := io.CopyBuffer(in, r, make([]byte, chunk)) // It may never end, but for the program.
		in.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { in.CloseWithError(context.Cause(ctx)) })
	return out
}

// A Download is a file that is made of what the daemon sends.
type Download struct {
	What   string // For the progress and the message, such as "instance web".
	Target string // A file, a directory, "-" for the standard output, or "" for a file of that name here.
	Name   string // Of the file, without an ending, if the target does not say it.
	Plain  bool   // It is no archive: its name has no ending beside that of Name.

	Doing, Done string // What is said instead of "Exporting" and "Exported".
	Fill        func(ctx context.Context, w io.Writer) error
}

// Save makes the file, whole or not at all, and says its name.
func (e *Env) Save(ctx context.Context, d Download) error {
	m := &Meter{Progress: e.Progress(), Label: cmp.Or(d.Doing, "Exporting") + " " + d.What}
	defer m.Progress.Clear()
	info, err := os.Stat(d.Target)
	switch {
	case d.Target == "-" && IsTerminal(e.Out):
		return errs.Invalidf("the standard output is a terminal: redirect it, or name a file")
	case d.Target == "-":
		return d.fillUnblocked(ctx, e.Out, m)
	case d.Target == "":
		d.Target = "."
	case errors.Is(err, os.ErrNotExist) || err == nil && info.Mode().IsRegular():
		d.Name = ""
	case err != nil:
		return err
	case !info.IsDir():
		return fillOpen(ctx, d, m)
	}
	name, err := fillNew(ctx, d, m)
	if err != nil {
		return err
	}
	m.Progress.Clear()
	e.Say("%s %s to %s", cmp.Or(d.Done, "Exported"), d.What, name)
	return nil
}

// fillUnblocked fills w, and comes back when the user interrupts although
// nobody reads what is written, as from a pipe.
func (d Download) fillUnblocked(ctx context.Context, w io.Writer, m *Meter) error {
	ctx, stop := Interruptible(ctx)
	defer stop()
	out, in := io.Pipe()
	written := make(chan error, 1)
	go func() {
		_, err := io.CopyBuffer(w, out, make([]byte, chunk))
		out.CloseWithError(err) // Nothing more is written.
		written <- err
	}()
	context.AfterFunc(ctx, func() { in.CloseWithError(context.Cause(ctx)) })
	err := d.Fill(ctx, m.Writer(in))
	in.CloseWithError(err)
	if err != nil {
		return err
	}
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
		return errs.Newf(errs.Canceled, "%w", context.Cause(ctx))
	}
}

// fillOpen writes to what is no regular file, such as a pipe.
func fillOpen(ctx context.Context, d Download, m *Meter) error {
	f, err := os.OpenFile(d.Target, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(d.fillUnblocked(ctx, f, m), f.Close())
}

// fillNew makes a file that takes its name when it is whole. Nobody else may
// read it, as it has what only root of the instance may read.
func fillNew(ctx context.Context, d Download, m *Meter) (name string, err error) {
	ctx, stop := Interruptible(ctx)
	defer stop()
	var files NewFiles
	defer files.Drop()
	name = d.Target
	if d.Name != "" {
		name = filepath.Join(d.Target, d.Name)
	}
	f, err := files.Create(name, 0o600)
	if err != nil {
		return "", err
	}
	var head beginning
	if err := d.Fill(ctx, m.Writer(io.MultiWriter(f, &head))); err != nil {
		return "", err
	}
	if d.Name != "" && !d.Plain {
		f.Name += head.ending()
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	return f.Name, files.Rename()
}

// A beginning keeps the first bytes that are written to it.
type beginning []byte

// enough is how many bytes tell what compressed a file.
const enough = 6

func (b *beginning) Write(p []byte) (int, error) {
	*b = append(*b, p[:min(len(p), enough-min(enough, len(*b)))]...)
	return len(p), nil
}

// ending returns the usual ending for a tarball that begins so.
func (b *beginning) ending() string {
	for magic, ending := range map[string]string{
		"\x1f\x8b": ".tar.gz", "\x28\xb5\x2f\xfd": ".tar.zst", "\xfd7zXZ\x00": ".tar.xz", "BZh": ".tar.bz2", "\x04\x22\x4d\x18": ".tar.lz4", "\x5d\x00\x00": ".tar.lzma",
	} {
		if bytes.HasPrefix(*b, []byte(magic)) {
			return ending
		}
	}
	return ".tar"
}

// What the flags of exports say.
const (
	OptimizedHelp   = "a stream of the storage driver's own, for pools of the same driver"
	CompressionHelp = "program that compresses it, with options if need be, such as zstd, \"gzip -9\", xz or none"
)

// ModeFlag adds the flag --mode, which matters between hosts only.
func ModeFlag(cmd *cobra.Command) {
	cmd.Flags().Var(&choice{"pull", []string{"pull", "push", "relay"}}, "mode", "pull, push or relay, which are the same on one host")
}

// A choice is a flag whose values change nothing.
type choice struct {
	value string
	from  []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return "string" }

// Set takes a value that can be chosen.
func (c *choice) Set(s string) error {
	if !slices.Contains(c.from, s) {
		return errs.Invalidf("got %q, want %s", s, strings.Join(c.from, " or "))
	}
	c.value = s
	return nil
}

// SpanOf returns what changes are asked for by none, one or two snapshots.
func SpanOf(snapshots []string) client.Span {
	var s client.Span
	if len(snapshots) > 0 {
		s.From = snapshots[0]
	}
	if len(snapshots) > 1 {
		s.To = snapshots[1]
	}
	return s
}
