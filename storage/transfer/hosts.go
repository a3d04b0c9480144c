package transfer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/tree"
)

// treeFormat is what every driver can send and receive: the files of each
// state, or those that changed since the one before.
const treeFormat = "tree"

// An Offer is what a target can take. It goes to the host of the source.
type Offer struct {
	Formats []string // The best first.
	Have    []string // The snapshots that the target has, if it exists.
}

// OfferOf returns the offer of a target, which exists or not.
func OfferOf(ctx context.Context, to Target) (Offer, error) {
	o := Offer{Formats: []string{treeFormat}}
	have, err := snapshots(ctx, to.Driver, to.Volume)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return Offer{}, err
	}
	o.Have = have
	in, ok := to.Driver.(storage.Streamer)
	if !ok {
		return o, nil
	}
	r, err := in.Receive(ctx, to.Volume)
	if errs.Is(err, errs.Unsupported) {
		return o, nil
	}
	if err != nil {
		return Offer{}, err
	}
	o.Formats = append([]string{in.Format()}, o.Formats...)
	return o, r.Abort(ctx)
}

// Send writes the source for [Receive] on another host, in the first format
// of the offer that its driver knows. If that fails there with an error of
// kind Unsupported, since snapshots of the same name are not the same, the
// caller offers "tree" only.
func Send(ctx context.Context, w io.Writer, from Source, offer Offer, o Options) error {
	err := check(Target{}, from)
	if err == nil {
		err = from.held(ctx, func(head storage.Volume) error {
			return send(ctx, w, session{from: from, head: head, o: o, count: counter(o)}, offer)
		})
	}
	if err != nil {
		return fmt.Errorf("send volume %s: %w", from.Volume, err)
	}
	return nil
}

func send(ctx context.Context, w io.Writer, s session, offer Offer) error {
	buf := bufio.NewWriterSize(w, 1<<16)
	out := frameWriter{buf}
	if _, err := buf.WriteString(magic); err != nil {
		return err
	}
	err := s.sendAs(ctx, out, offer)
	if err != nil {
		text := err.Error()
		err = errors.Join(err, out.frame(frameError, []byte(text[:min(len(text), frameMax)])))
	}
	return errors.Join(err, buf.Flush())
}

// sendAs chooses the format.
func (s session) sendAs(ctx context.Context, out frameWriter, offer Offer) error {
	if d, ok := s.from.Driver.(storage.Streamer); ok && slices.Contains(offer.Formats, d.Format()) {
		return s.sendStreams(ctx, out, d, offer.Have)
	}
	if !slices.Contains(offer.Formats, treeFormat) {
		return errs.Newf(errs.Unsupported, "none of the formats %q is known", offer.Formats)
	}
	return s.sendTrees(ctx, out)
}

// namesOf returns the names of the snapshots among states.
func namesOf(states []state) []string {
	names := []string{}
	for _, st := range states {
		if st.name != "" {
			names = append(names, st.name)
		}
	}
	return names
}

func (s session) sendStreams(ctx context.Context, out frameWriter, d storage.Streamer, have []string) error {
	missing := s.missing(have)
	if err := out.json(frameHello, hello{d.Format(), namesOf(missing)}); err != nil {
		return err
	}
	base := ""
	for _, st := range s.states() {
		switch {
		case slices.Contains(missing, st):
			err := s.sendState(out, stateHead{st.name, base}, func(w io.Writer) error { return d.Send(ctx, w, st.from, base) })
			if err != nil {
				return err
			}
		case !slices.Contains(have, st.name):
			continue
		}
		base = st.name
	}
	return out.frame(frameEnd, nil)
}

// sendState sends a state, whose data fn writes.
func (s session) sendState(out frameWriter, head stateHead, fn func(w io.Writer) error) error {
	if err := out.json(frameState, head); err != nil {
		return err
	}
	if err := fn(counting{out, s.count}); err != nil {
		return err
	}
	return out.frame(frameDone, nil)
}

func (s session) sendTrees(ctx context.Context, out frameWriter) error {
	states := s.states()
	if err := out.json(frameHello, hello{treeFormat, namesOf(states)}); err != nil {
		return err
	}
	var before state
	for _, st := range states {
		err := s.sendState(out, stateHead{st.name, before.name}, func(w io.Writer) error {
			return mounted(ctx, s.from.Driver, st.from, func(dir string) error {
				if before.name == "" {
					return tree.WriteOptions{}.Write(ctx, w, dir)
				}
				return mounted(ctx, s.from.Driver, before.from, func(old string) error {
					return tree.WriteOptions{Before: old}.Write(ctx, w, dir)
				})
			})
		})
		if err != nil {
			return err
		}
		before = st
	}
	return out.frame(frameEnd, nil)
}

// Receive makes the target, or what it lacks, of what [Send] wrote. It is seen
// when it is whole; if it fails the target is as it was.
func Receive(ctx context.Context, r io.Reader, to Target, o Options) error {
	in := &frameReader{r: bufio.NewReaderSize(r, 1<<16)}
	if err := receive(ctx, in, to, o); err != nil {
		return fmt.Errorf("receive volume %s: %w", to.Volume, err)
	}
	return nil
}

func receive(ctx context.Context, in *frameReader, to Target, o Options) error {
	if err := check(to, Source{}); err != nil {
		return err
	}
	if err := in.begin(); err != nil {
		return err
	}
	var h hello
	if err := in.json(frameHello, &h); err != nil {
		return err
	}
	if err := h.check(); err != nil {
		return err
	}
	s := session{to: to, o: o, count: counter(o)}
	if h.Format == treeFormat {
		return s.receiveTrees(ctx, in, h)
	}
	d, ok := to.Driver.(storage.Streamer)
	if !ok || d.Format() != h.Format {
		return errs.Newf(errs.Unsupported, "the stream is of format %q, which the pool does not take", h.Format)
	}
	return s.receiveStreams(ctx, in, d, h)
}

// each calls fn with the data of each state that the hello names, and then of
// the volume itself.
func (s session) each(in *frameReader, h hello, fn func(head stateHead, r io.Reader) error) error {
	for _, name := range append(slices.Clone(h.Snapshots), "") {
		var head stateHead
		if err := in.json(frameState, &head); err != nil {
			return err
		}
		if head.Snapshot != name {
			return errs.Invalidf("bad stream: snapshot %q comes instead of %q", head.Snapshot, name)
		}
		in.done, in.left = false, 0
		if err := fn(head, countingReader{in, s.count}); err != nil {
			return err
		}
		if n, err := io.Copy(io.Discard, in); err != nil || n > 0 {
			return errors.Join(errs.Invalidf("bad stream: %d bytes too many", n), err)
		}
	}
	_, err := in.body(frameEnd)
	return err
}

// A countingReader tells how much was read.
type countingReader struct {
	r     io.Reader
	count func(int64)
}

func (c countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.count != nil {
		c.count(int64(n))
	}
	return n, err
}

func (s session) receiveStreams(ctx context.Context, in *frameReader, d storage.Streamer, h hello) (err error) {
	r, err := d.Receive(ctx, s.to.Volume)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Abort(context.WithoutCancel(ctx)))
		}
	}()
	err = s.each(in, h, func(head stateHead, data io.Reader) error { return r.Next(ctx, data, head.Snapshot, head.Base) })
	if err != nil {
		return err
	}
	return r.Commit(ctx)
}

// receiveTrees makes a hidden volume, which becomes the target or, if there is
// one, is what that is refreshed from.
func (s session) receiveTrees(ctx context.Context, in *frameReader, h hello) (err error) {
	name, done := hide(storage.ForCopy)
	defer done()
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	d, whole := s.to.Driver, s.to.Volume
	exists := mustBeFree(ctx, d, s.to.Volume)
	if exists != nil && !errs.Is(exists, errs.Conflict) {
		return exists
	}
	whole.Name = name
	if err := d.Create(ctx, whole); err != nil {
		return err
	}
	u.Push("delete what was received", func(ctx context.Context) error {
		if err := d.Unmount(ctx, whole); err != nil {
			return err
		}
		return remove(ctx, d, whole, h.Snapshots)
	})
	err = s.each(in, h, func(head stateHead, data io.Reader) error {
		err := mounted(ctx, d, whole, func(dir string) error {
			return tree.ReadOptions{}.Read(ctx, bufio.NewReaderSize(data, 1<<16), dir)
		})
		if err != nil || head.Snapshot == "" {
			return err
		}
		return d.Snapshot(ctx, snapshotOf(whole, head.Snapshot))
	})
	if err != nil {
		return err
	}
	if exists == nil {
		if err := settle(ctx, d, whole); err != nil {
			return err
		}
		return d.Rename(ctx, whole, s.to.Volume.Name)
	}
	from := Source{Driver: d, Volume: whole, Snapshots: h.Snapshots}
	if err := Refresh(ctx, s.to, from, Options{Checksum: s.o.Checksum, ExcludeOlder: s.o.ExcludeOlder}); err != nil {
		return err
	}
	_ = remove(ctx, d, whole, h.Snapshots) // The target is whole; the next start tries again.
	return nil
}
