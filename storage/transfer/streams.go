package transfer

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/cuib/cuib/shared/crash"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// streams copies by the stream of both drivers, to a target that has some
// snapshots. The error is of kind Unsupported if that cannot be done.
func (s session) streams(ctx context.Context, have []string) (err error) {
	out, ok := s.from.Driver.(storage.Streamer)
	in, ok2 := s.to.Driver.(storage.Streamer)
	if !ok || !ok2 || out.Format() != in.Format() {
		return errs.Newf(errs.Unsupported, "the drivers have no stream in common")
	}
	r, err := in.Receive(ctx, s.to.Volume)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Abort(context.WithoutCancel(ctx)))
		}
	}()
	missing := s.missing(have)
	base := ""
	for _, st := range s.states() {
		if slices.Contains(missing, st) {
			if err := s.stream(ctx, out, r, piece{st.from, st.name, base}); err != nil {
				return err
			}
		} else if !slices.Contains(have, st.name) {
			continue // Left out: the target cannot build on it.
		}
		base = st.name
		crash.Point("a state was received")
	}
	return r.Commit(ctx)
}

// A piece is what one stream of a copy has.
type piece struct {
	from       storage.Volume
	name, base string
}

func (s session) stream(ctx context.Context, out storage.Streamer, to storage.Receiver, p piece) error {
	pr, pw := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := out.Send(ctx, counting{pw, s.count}, p.from, p.base)
		_ = pw.CloseWithError(err) // It never fails.
		sent <- err
	}()
	err := to.Next(ctx, pr, p.name, p.base)
	if err == nil {
		_, err = io.Copy(io.Discard, pr)
	}
	_ = pr.CloseWithError(errStopped) // It never fails.
	if serr := <-sent; serr != nil && !errors.Is(serr, errStopped) {
		return serr // It is why the other failed, if that did.
	}
	return err
}

var errStopped = errors.New("the receiver stopped")

// A counting writer tells how much was written.
type counting struct {
	w     io.Writer
	count func(int64)
}

func (c counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if c.count != nil {
		c.count(int64(n))
	}
	return n, err
}
