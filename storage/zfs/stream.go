package zfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strconv"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// Format implements [storage.Streamer].
func (d *driver) Format() string { return "zfs" }

// Send implements [storage.Streamer]. What is not of the past of v, such as a
// base that is newer than the snapshot that v was restored to, is not built
// on: the stream is whole.
func (d *driver) Send(ctx context.Context, w io.Writer, v storage.Volume, base string) error {
	name, err := d.locate(ctx, v)
	if err != nil {
		return err
	}
	if v.Snapshot == "" {
		name += "@" + copyPrefix + newID()
		if _, err := zfs(ctx, "snapshot", name); err != nil {
			return wrapf(missing(err, v), "send volume %s", v)
		}
		defer d.release(ctx, name)
	}
	send := sendCommand()
	if base == "" {
		return wrapf(missing(sendTo(ctx, w, append(send, name)...), v), "send volume %s", v)
	}
	from, err := d.locate(ctx, storage.Volume{Kind: v.Kind, Name: v.Name, Snapshot: base})
	if err != nil {
		return err
	}
	count := &counter{w: w}
	err = sendTo(ctx, count, append(send, "-i", from, name)...)
	if count.n == 0 && says(err, "not an earlier snapshot") {
		err = sendTo(ctx, w, append(send, name)...)
	}
	return wrapf(missing(err, v), "send volume %s", v)
}

// sendCommand returns the beginning of what sends a snapshot. It must not have
// the option -e, nor -w, which implies it: OpenZFS 2.4 loses long symbolic
// links and attributes on the way if their blocks are so small that they are
// embedded.
func sendCommand() []string { return []string{"send", "-L", "-c"} }

// A counter counts what goes through it.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// A receiver makes a volume of datasets in staging/ID: one for each past.
type receiver struct {
	d      *driver
	v      storage.Volume
	id     string
	update bool // Whether the volume exists.

	got  map[string]string // Where the snapshots are that were received.
	tips map[string]string // The newest snapshot of each dataset.
	head string            // The snapshot that has what the volume is to be.
	done bool
}

// Receive implements [storage.Streamer].
func (d *driver) Receive(ctx context.Context, v storage.Volume) (storage.Receiver, error) {
	r := &receiver{d: d, v: v, id: newID(), got: map[string]string{}, tips: map[string]string{}}
	err := mustBeFree(ctx, d.dataset(v))
	if errs.Is(err, errs.Conflict) {
		r.update, err = true, d.mustNotBeMounted(v)
	}
	if err != nil {
		return nil, err
	}
	_, err = zfs(ctx, "create", "-o", "canmount=off", r.stage())
	return r, wrapf(err, "receive volume %s", v)
}

func (r *receiver) stage() string { return r.d.in(stagingDir + "/" + r.id) }

// Next implements [storage.Receiver].
func (r *receiver) Next(ctx context.Context, in io.Reader, snapshot, base string) error {
	begin, err := readBegin(in)
	if err != nil {
		return wrapf(err, "receive volume %s", r.v)
	}
	snap := copyPrefix + r.id
	if snapshot != "" {
		snap = snapName(snapshot)
	}
	target, options, err := r.target(ctx, begin, base)
	if err != nil {
		return err
	}
	name := target + "@" + snap
	stream := io.MultiReader(bytes.NewReader(begin.raw), in)
	if err := receiveFrom(ctx, stream, append(args("receive", options), name)...); err != nil {
		return wrapf(badStream(err), "receive volume %s", r.v)
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // What the archive has behind it.
		return err
	}
	r.tips[target] = name
	if snapshot == "" {
		r.head = name
	} else {
		r.got[snapshot] = name
	}
	return nil
}

// target returns the dataset to receive a stream in, and the options for it.
func (r *receiver) target(ctx context.Context, begin beginning, base string) (dataset string, options []string, err error) {
	dataset, options = r.stage()+"/"+strconv.Itoa(len(r.tips)), args("-u", own)
	if !begin.incremental {
		return dataset, options, nil
	}
	from, err := r.baseOf(ctx, base)
	if err != nil {
		return "", nil, err
	}
	if of, _ := cut(from); r.tips[of] == from { // It goes on.
		return of, []string{"-u"}, nil
	}
	return dataset, append(options, "-o", "origin="+from), nil
}

// badStream makes an error that says that the stream is of no use one of kind
// Invalid.
func badStream(err error) error {
	for _, text := range []string{"cannot receive", "invalid", "incomplete", "checksum"} {
		if says(err, text) && errs.KindOf(err) == errs.Internal {
			return errs.Newf(errs.Invalid, "%w", err)
		}
	}
	return err
}

// baseOf returns the snapshot that a stream builds on.
func (r *receiver) baseOf(ctx context.Context, base string) (string, error) {
	if name, ok := r.got[base]; ok {
		return name, nil
	}
	if !r.update || base == "" {
		return "", errs.Newf(errs.Unsupported, "receive volume %s: the stream builds on a snapshot %q that is not there", r.v, base)
	}
	v := storage.Volume{Kind: r.v.Kind, Name: r.v.Name, Snapshot: base}
	name, err := r.d.locate(ctx, v)
	if err == nil {
		_, err = zfs(ctx, "list", "-H", "-o", "name", name)
	}
	if err != nil {
		if isMissing(err) {
			err = errs.Newf(errs.Unsupported, "the stream builds on the snapshot %s, which is not there", v)
		}
		return "", err
	}
	return name, nil
}

// A beginning is that of a stream.
type beginning struct {
	raw         []byte
	incremental bool
}

// The record that a stream begins with.
const (
	beginSize    = 312
	beginMagic   = 0x2F5bacbac
	magicAt      = 8
	versionAt    = 16
	fromGUIDAt   = 48
	versionBits  = 3
	singleStream = 1
)

// readBegin reads the first record of a stream.
func readBegin(r io.Reader) (beginning, error) {
	b := beginning{raw: make([]byte, beginSize)}
	_, err := io.ReadFull(r, b.raw)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return b, errs.Invalidf("the stream ends at its beginning")
	}
	if err != nil {
		return b, err
	}
	var order binary.ByteOrder = binary.LittleEndian
	if order.Uint64(b.raw[magicAt:]) != beginMagic {
		order = binary.BigEndian
	}
	if order.Uint64(b.raw[magicAt:]) != beginMagic {
		return b, errs.Invalidf("it is no stream of zfs send")
	}
	if kind := order.Uint64(b.raw[versionAt:]) & versionBits; kind != singleStream {
		return b, errs.Invalidf("it is a stream of several snapshots: send them one by one")
	}
	b.incremental = order.Uint64(b.raw[fromGUIDAt:]) != 0
	return b, nil
}

// Commit implements [storage.Receiver].
func (r *receiver) Commit(ctx context.Context) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if r.head == "" {
		return errs.Invalidf("receive volume %s: the streams are of its snapshots only", r.v)
	}
	head, _ := cut(r.head)
	if _, err := zfs(ctx, "destroy", r.head); err != nil {
		return err
	}
	for dataset := range r.tips {
		if dataset == head {
			continue
		}
		to := head + "/" + historyPrefix + newID()
		if _, err := zfs(ctx, "rename", dataset, to); err != nil {
			return err
		}
		u.Push("move the history back", func(ctx context.Context) error { return ifThere(zfs(ctx, "rename", to, dataset)) })
	}
	if err := r.publish(ctx, head); err != nil {
		return wrapf(existing(err, r.v), "receive volume %s", r.v)
	}
	r.done = true
	if len(r.tips) > 1 {
		r.d.facts.update(r.d.dataset(r.v), func(f *fact) { f.history = true })
	}
	_, _ = zfs(ctx, "destroy", "-r", r.stage()) // Else Sweep does.
	return nil
}

// publish gives the volume what was received.
func (r *receiver) publish(ctx context.Context, head string) error {
	place := r.d.dataset(r.v)
	if !r.update {
		_, err := zfs(ctx, "rename", head, place)
		return err
	}
	if err := r.d.mustNotBeMounted(r.v); err != nil {
		return err
	}
	props, err := localProperties(ctx, place)
	if err != nil {
		return err
	}
	id := newID()
	set := append([]string{"set", swapProp + "=" + id + " " + relative(r.v)}, props...)
	if _, err := zfs(ctx, append(set, head)...); err != nil {
		return err
	}
	fresh := r.d.in(stagingDir + "/" + id) // Where a crash has it looked for.
	if _, err := zfs(ctx, "rename", head, fresh); err != nil {
		return err
	}
	if err := r.d.swap(ctx, fresh, id, place); err != nil {
		return errors.Join(err, ifThere(zfs(context.WithoutCancel(ctx), "rename", fresh, head)))
	}
	return nil
}

// Abort implements [storage.Receiver].
func (r *receiver) Abort(ctx context.Context) error {
	if r.done {
		return nil
	}
	r.done = true
	err := ifThere(zfs(ctx, "destroy", "-r", r.stage()))
	if isBusy(err) || says(err, "dependent clones") {
		r.d.trash.leave(r.stage())
		return nil
	}
	return err
}
